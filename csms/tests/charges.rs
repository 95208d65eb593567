//! Charges that the central system itself ends or looks after, with the simulator over real sockets.
#![allow(clippy::unwrap_used)]

use std::time::Duration;

use evm_bus::Bus;
use evm_domain::{ChargerId, CustomerId, DeviceId, Money};
use evm_store::devices::NewDevice;
use evm_store::frames::{self, Frame};
use evm_store::operator::{self, Page, SessionLine};
use evm_store::sessions::{self, NewRequest};
use evm_store::{Store, audit, cards, chargers, customers, devices, purchases, settle};
use futures_util::{SinkExt, StreamExt};
use ocpp_sim::{Charger, ChargerConfig, Version};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_util::sync::CancellationToken;

const SOON: Duration = Duration::from_secs(30);
const CARD: &str = "04AB";

struct System {
    store: Store,
    station: ChargerId,
    device: DeviceId,
    customer: CustomerId,
    url: String,
    shutdown: CancellationToken,
    task: tokio::task::JoinHandle<()>,
    _folder: tempfile::TempDir,
}

/// A central system with one charger, whose one connector is a device, and a customer with a card.
async fn system(change: impl FnOnce(&mut csms::Config)) -> System {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(&format!("sqlite://{}", folder.path().join("evm.db").display())).await.unwrap();
    store.migrate().await.unwrap();
    let now = evm_store::now();
    let mut db = store.begin().await.unwrap();
    let station = chargers::upsert(&mut db, "CP-1", None, 0, None, now).await.unwrap();
    let device = NewDevice { device_number: "N-1".into(), connector: 1, price: Money(50_000), ..NewDevice::default() };
    devices::register(&mut db, station, &[device], now).await.unwrap();
    let device = devices::of_charger(&mut db, station).await.unwrap()[0].id;
    let customer = customers::of_phone(&mut db, "+97686661488", now).await.unwrap().id;
    cards::put(&mut db, CARD, customer, false, now).await.unwrap();
    db.commit().await.unwrap();

    let listener = csms::bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let url = format!("ws://{}/ocpp", listener.local_addr().unwrap());
    let shutdown = CancellationToken::new();
    let mut config = csms::Config::new([7; 32]);
    change(&mut config);
    let run = csms::run(listener, store.clone(), Bus::local(), config, shutdown.clone());
    let task = tokio::spawn(async move { run.await.unwrap() });
    System { store, station, device, customer, url, shutdown, task, _folder: folder }
}

impl System {
    /// The charger, with a charge by the card under way.
    async fn charging(&self, version: Version, sample_interval: Duration) -> Charger {
        let mut config = ChargerConfig::new(&self.url, "CP-1", version);
        (config.speed, config.sample_interval) = (100, sample_interval);
        config.reconnect_min = Duration::from_millis(50);
        let charger = Charger::spawn(config);
        charger.wait_until(SOON, |state| state.booted).await.unwrap();
        charger.plug_in(1).await;
        charger.present_card(1, CARD).await;
        let delivers = |state: &ocpp_sim::ChargerState| state.connector(1).is_some_and(|one| one.delivered_wh > 200);
        charger.wait_until(SOON, delivers).await.unwrap();
        charger
    }

    async fn session(&self, what: &str, wish: impl Fn(&SessionLine) -> bool) -> SessionLine {
        let deadline = tokio::time::Instant::now() + SOON;
        loop {
            let mut db = self.store.read().await.unwrap();
            let (_, all) = operator::sessions(&mut db, None, Page { offset: 0, limit: 10 }).await.unwrap();
            drop(db);
            assert!(tokio::time::Instant::now() < deadline, "not in time: {what}: {all:?}");
            if let Some(session) = all.into_iter().next().filter(&wish) {
                return session;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    async fn billed_wh(&self) -> i64 {
        let mut db = self.store.read().await.unwrap();
        let (_, bought) = purchases::page(&mut db, Some(self.customer), 0, 10).await.unwrap();
        assert_eq!(bought.len(), 1);
        bought[0].energy_wh
    }

    async fn frames(&self, action: &str) -> Vec<Frame> {
        let mut db = self.store.read().await.unwrap();
        let mut all = frames::newest(&mut db, self.station, None, 1000, i32::MAX).await.unwrap();
        all.retain(|frame| frame.action == action);
        all
    }

    async fn end(self) {
        let mut db = self.store.read().await.unwrap();
        assert_eq!(audit::run(&mut db).await.unwrap().violations, Vec::<String>::new());
        drop(db);
        self.shutdown.cancel();
        self.task.await.unwrap();
        self.store.close().await;
    }
}

async fn silence_ends_a_charge_and_a_late_word_corrects_it(version: Version) {
    let system = system(|config| config.silence_limit = Duration::from_secs(2)).await;
    let charger = system.charging(version, Duration::from_secs(1)).await;
    system.session("some energy told", |session| session.energy_wh > 0).await;
    charger.go_offline().await;
    let ended = system.session("the end", |session| session.status == "finished").await;
    assert_eq!((ended.stop_reason.as_deref(), ended.ended_at), (Some("silence"), None));
    assert_eq!(system.billed_wh().await, ended.energy_wh);

    charger.unplug(1).await;
    charger.go_online().await;
    let told = charger.wait_until(SOON, |state| state.online && state.queued == 0).await.unwrap();
    let delivered = told.connector(1).unwrap().delivered_wh;
    assert!(delivered > ended.energy_wh);
    system.session("the charger's own end", |session| session.ended_at.is_some()).await;
    assert_eq!(system.billed_wh().await, delivered);
    charger.shutdown().await;
    system.end().await;
}

#[tokio::test]
async fn silence_ends_a_charge_and_a_late_word_corrects_it_16() {
    silence_ends_a_charge_and_a_late_word_corrects_it(Version::V16).await;
}

#[tokio::test]
async fn silence_ends_a_charge_and_a_late_word_corrects_it_201() {
    silence_ends_a_charge_and_a_late_word_corrects_it(Version::V201).await;
}

/// Another node, or the customer's finish on an offline charger, ends what this writer saved a moment ago.
async fn what_others_change_between_samples_is_not_written_over(version: Version) {
    let system = system(|_| {}).await;
    let charger = system.charging(version, Duration::from_millis(20)).await;
    let running = system.session("samples", |session| session.energy_wh > 0).await;
    let mut db = system.store.begin().await.unwrap();
    let settled = settle::settle_by_id(&mut db, running.id.parse().unwrap(), "other", evm_store::now()).await.unwrap();
    db.commit().await.unwrap();
    let billed = settled.unwrap().bill.energy.0;
    // It goes on charging: it is stopped, and its own end corrects the bill.
    let later = system.session("the charger's own end", |session| session.ended_at.is_some()).await;
    assert_eq!((later.status.as_str(), later.stop_reason.as_deref()), ("finished", Some("Remote")));
    assert!(later.energy_wh > billed);
    let stop = match version {
        Version::V16 => "RemoteStopTransaction",
        Version::V201 => "RequestStopTransaction",
    };
    assert_eq!(system.frames(stop).await.len(), 1);
    let told =
        charger.wait_until(SOON, |state| state.queued == 0 && !state.connectors[0].in_transaction).await.unwrap();
    assert_eq!(system.billed_wh().await, told.connector(1).unwrap().delivered_wh);
    assert!(system.frames("MeterValues").await.iter().all(|frame| frame.problem.is_none()));
    charger.shutdown().await;
    system.end().await;
}

#[tokio::test]
async fn what_others_change_between_samples_is_not_written_over_16() {
    what_others_change_between_samples_is_not_written_over(Version::V16).await;
}

#[tokio::test]
async fn what_others_change_between_samples_is_not_written_over_201() {
    what_others_change_between_samples_is_not_written_over(Version::V201).await;
}

async fn a_charge_without_samples_is_asked_for_them(version: Version, action: &str, payload: &str) {
    let system = system(|_| {}).await;
    let charger = system.charging(version, Duration::from_secs(3600)).await;
    system.session("samples", |session| session.energy_wh > 0).await;
    let asked = system.frames(action).await;
    let intervals: Vec<_> = asked.iter().filter(|frame| frame.payload.contains("Interval")).collect();
    assert_eq!(intervals.len(), 1, "{asked:?}");
    assert!(!intervals[0].incoming && intervals[0].payload.contains(payload), "{asked:?}");
    charger.unplug(1).await;
    system.session("the end", |session| session.status == "finished").await;
    charger.shutdown().await;
    system.end().await;
}

#[tokio::test]
async fn a_charge_without_samples_is_asked_for_them_16() {
    let payload = r#""MeterValueSampleInterval","value":"5""#;
    a_charge_without_samples_is_asked_for_them(Version::V16, "ChangeConfiguration", payload).await;
}

#[tokio::test]
async fn a_charge_without_samples_is_asked_for_them_201() {
    a_charge_without_samples_is_asked_for_them(Version::V201, "SetVariables", r#""attributeValue":"5""#).await;
}

#[tokio::test]
async fn a_request_that_never_begins_frees_its_device() {
    let system = system(|config| config.start_limit = Duration::from_secs(1)).await;
    let mut db = system.store.begin().await.unwrap();
    let device = devices::by_id(&mut db, system.device, false).await.unwrap().unwrap();
    let request = NewRequest {
        device: device.id,
        customer: system.customer,
        charger: device.charger,
        connector: device.connector,
        tariff_id: device.tariff_id,
        now: evm_store::now(),
    };
    sessions::request(&mut db, &request).await.unwrap();
    db.commit().await.unwrap();
    let session = system.session("the release", |session| session.status == "failed").await;
    assert_eq!(session.fail_reason.as_deref(), Some("not_begun"));
    let mut db = system.store.begin().await.unwrap();
    let again = NewRequest { now: evm_store::now(), ..request };
    sessions::request(&mut db, &again).await.unwrap();
    db.commit().await.unwrap();
    system.end().await;
}

/// Another node takes this one for dead while it pauses.
#[tokio::test]
async fn a_node_that_paused_says_that_it_still_holds_its_chargers() {
    let system = system(|_| {}).await;
    let charger = Charger::spawn(ChargerConfig::new(&system.url, "CP-1", Version::V16));
    charger.wait_until(SOON, |state| state.booted).await.unwrap();
    let mut db = system.store.begin().await.unwrap();
    let epoch = chargers::by_id(&mut db, system.station).await.unwrap().unwrap().epoch;
    chargers::disconnect(&mut db, &[(system.station, epoch)], evm_store::now()).await.unwrap();
    db.commit().await.unwrap();
    let deadline = tokio::time::Instant::now() + SOON;
    loop {
        let mut db = system.store.read().await.unwrap();
        let noted = chargers::by_id(&mut db, system.station).await.unwrap().unwrap();
        assert_eq!(noted.epoch, epoch, "it never left");
        if noted.online {
            break;
        }
        assert!(tokio::time::Instant::now() < deadline, "still offline");
        drop(db);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    charger.shutdown().await;
    system.end().await;
}

type Socket = tokio_tungstenite::WebSocketStream<tokio_tungstenite::MaybeTlsStream<tokio::net::TcpStream>>;

async fn connect(url: &str, protocol: &'static str) -> Socket {
    let mut request = format!("{url}/CP-1").into_client_request().unwrap();
    request.headers_mut().insert("sec-websocket-protocol", protocol.parse().unwrap());
    tokio_tungstenite::connect_async(request).await.unwrap().0
}

/// Sends a start with this tag; gives the answer.
async fn start(socket: &mut Socket, protocol: &str, tag: &str) -> String {
    let at = chrono::Utc::now().to_rfc3339();
    let payload = if protocol == "ocpp1.6" {
        format!(r#""StartTransaction",{{"connectorId":1,"idTag":"{tag}","meterStart":0,"timestamp":"{at}"}}"#)
    } else {
        format!(
            r#""TransactionEvent",{{"eventType":"Started","timestamp":"{at}","triggerReason":"Authorized","seqNo":0,"evse":{{"id":1}},"transactionInfo":{{"transactionId":"{tag}"}},"idToken":{{"idToken":"{tag}","type":"ISO14443"}}}}"#
        )
    };
    socket.send(Message::text(format!(r#"[2,"{tag}",{payload}]"#))).await.unwrap();
    loop {
        let answer = tokio::time::timeout(SOON, socket.next()).await.unwrap().unwrap().unwrap();
        // Stops that it is asked for stand between them.
        if let Ok(text) = answer.to_text()
            && text.starts_with(&format!(r#"[3,"{tag}","#))
        {
            return text.to_owned();
        }
    }
}

async fn guesses_by_starts(protocol: &'static str) {
    let pause = Duration::from_millis(300);
    let system = system(|config| config.guess_pause = pause).await;
    let mut socket = connect(&system.url, protocol).await;
    for n in 0..21 {
        let answer = start(&mut socket, protocol, &format!("04FF{n:02}")).await;
        assert!(answer.contains("Invalid"), "{answer}");
    }
    let began = std::time::Instant::now();
    start(&mut socket, protocol, "04FF97").await;
    // To come again gains nothing.
    let mut socket = connect(&system.url, protocol).await;
    start(&mut socket, protocol, "04FF98").await;
    let answer = start(&mut socket, protocol, CARD).await;
    assert!(answer.contains("Accepted"), "{answer}");
    assert!(began.elapsed() > pause * 2, "three waited {:?}", began.elapsed());
    system.session("its charge", |session| session.review.as_deref() == Some("guessed_card")).await;
    system.shutdown.cancel();
    system.task.await.unwrap();
}

#[tokio::test]
async fn wrong_starts_let_the_next_ones_wait_16() {
    guesses_by_starts("ocpp1.6").await;
}

#[tokio::test]
async fn wrong_starts_let_the_next_ones_wait_201() {
    guesses_by_starts("ocpp2.0.1").await;
}
