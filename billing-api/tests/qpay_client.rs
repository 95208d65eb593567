//! The QPay client against a gateway that misbehaves.
#![allow(clippy::unwrap_used)]

use std::io::Write;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use billing_api::payments::qpay::{
    Canceled, NewInvoice, PaymentKind, PaymentStatus, QpayClient, QpayConfig, QpayError,
};
use evm_domain::Money;
use futures_util::future::join_all;
use qpay_sim::{Call, Fault, Invoice, Kind, Numbers, Options, QpaySim};

const NUMBER: &str = "EVM-1";
const SECOND: Duration = Duration::from_secs(1);

fn config(sim: &QpaySim) -> QpayConfig {
    let options = sim.options();
    QpayConfig::new(&sim.url(), &options.client_id, &options.client_secret, &options.invoice_code)
}

async fn with(options: Options, change: impl FnOnce(&mut QpayConfig)) -> (QpaySim, QpayClient) {
    let sim = QpaySim::spawn(options).await.unwrap();
    let mut config = config(&sim);
    change(&mut config);
    (sim, QpayClient::new(config).unwrap())
}

async fn usual() -> (QpaySim, QpayClient) {
    with(Options::default(), |_| {}).await
}

fn new(number: &str) -> NewInvoice<'_> {
    NewInvoice {
        sender_invoice_no: number,
        receiver_code: "terminal",
        description: "Charging",
        amount_mnt: 100,
        // Nobody listens there: who pays in these tests does not call back.
        callback_url: "http://127.0.0.1:1/callback/token",
    }
}

async fn invoice(sim: &QpaySim, client: &QpayClient) -> Invoice {
    let made = client.create_invoice(&new(NUMBER)).await.unwrap();
    sim.invoice(&made.invoice_id).unwrap()
}

/// Polls until something is so.
async fn until(what: &str, mut so: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + 20 * SECOND;
    while !so().await {
        assert!(Instant::now() < deadline, "waited in vain for: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

fn unknown<T>(outcome: Result<T, QpayError>) -> bool {
    outcome.is_err_and(|error| error.may_have_reached())
}

fn not_sent<T>(outcome: Result<T, QpayError>) -> bool {
    outcome.is_err_and(|error| matches!(error, QpayError::NotSent(_)))
}

#[tokio::test]
async fn an_invoice_is_made_paid_and_found_paid() {
    let (sim, client) = usual().await;
    let made = client.create_invoice(&new(NUMBER)).await.unwrap();
    let held = sim.last_invoice().unwrap();
    assert_eq!((held.amount, held.sender_invoice_no.as_str()), (10_000, NUMBER));
    assert_eq!(made.short_url, sim.page_url(&made.invoice_id));
    assert!(made.qr_image.is_some() && !made.qr_text.is_empty());
    assert_eq!(client.check(&made.invoice_id).await, Ok(vec![]));
    assert_eq!(client.get_invoice(&made.invoice_id).await.unwrap().status, "OPEN");

    let payment_id = sim.pay_silently(&made.invoice_id, 10_000, Kind::Card).unwrap();
    let paid = client.check(&made.invoice_id).await.unwrap();
    assert_eq!(paid.len(), 1);
    assert_eq!((paid[0].payment_id.as_str(), paid[0].counts()), (payment_id.as_str(), Money(10_000)));
    assert_eq!((paid[0].fee, paid[0].kind), (Money(100), PaymentKind::Card));
    let state = client.get_invoice(&made.invoice_id).await.unwrap();
    assert_eq!((state.status.as_str(), state.amount), ("CLOSED", Some(Money(10_000))));
    assert_eq!(state.sender_invoice_no.as_deref(), Some(NUMBER));
    let origin = client.get_payment(&payment_id).await.unwrap();
    assert_eq!((&origin.payment, origin.invoice_id.as_deref()), (&paid[0], Some(made.invoice_id.as_str())));

    let again = client.create_invoice(&new(NUMBER)).await;
    assert!(matches!(again, Err(QpayError::Refused { status: 409, .. })), "{again:?}");
    assert_eq!(client.check("nothing").await, Err(QpayError::NotFound));
    assert_eq!(client.get_payment("17").await, Err(QpayError::NotFound));
}

#[tokio::test]
async fn every_spelling_of_numbers_and_every_status_is_read() {
    let (sim, client) = usual().await;
    let made = invoice(&sim, &client).await.invoice_id;
    sim.pay_silently(&made, 10_050, Kind::P2p).unwrap();
    for status in ["NEW", "FAILED", "PARTIAL", "REFUNDED", "UNHEARD_OF"] {
        sim.pay_with_status(&made, 700, Kind::Card, status).unwrap();
    }
    let dollars = sim.pay_silently(&made, 900, Kind::Card).unwrap();
    sim.set_currency(&dollars, "USD").unwrap();
    let mixed = client.check(&made).await.unwrap();
    assert_eq!(mixed.len(), 7);
    assert_eq!(mixed.iter().map(|payment| payment.counts()).sum::<Money>(), Money(10_050));
    assert_eq!(mixed[3].status, PaymentStatus::Partial);
    assert_eq!(mixed[5].status, PaymentStatus::Other("UNHEARD_OF".into()));
    for numbers in [Numbers::Texts, Numbers::Numbers] {
        sim.set_numbers(numbers);
        assert_eq!(client.check(&made).await.unwrap(), mixed);
        assert_eq!(client.get_invoice(&made).await.unwrap().amount, Some(Money(10_000)));
    }
}

#[tokio::test]
async fn all_pages_of_payments_are_read() {
    let (sim, client) = with(Options { page_limit: 3, ..Options::default() }, |_| {}).await;
    let made = invoice(&sim, &client).await.invoice_id;
    for payments in 1..=7 {
        sim.pay_silently(&made, 100, Kind::P2p).unwrap();
        assert_eq!(client.check(&made).await.unwrap().len(), payments);
    }
}

#[tokio::test]
async fn fifty_calls_at_once_fetch_one_token() {
    let (sim, client) = usual().await;
    sim.fault(Call::Token, 1, Fault::Slow(Duration::from_millis(200)));
    let answers = join_all((0..50).map(|_| client.check("nothing"))).await;
    assert!(answers.iter().all(|answer| *answer == Err(QpayError::NotFound)), "{answers:?}");
    assert_eq!((sim.count(Call::Token), sim.count(Call::Refresh), sim.count(Call::Check)), (1, 0, 50));
}

#[tokio::test]
async fn a_caller_that_goes_away_does_not_waste_the_token() {
    let (sim, client) = usual().await;
    sim.fault(Call::Token, 1, Fault::Slow(Duration::from_millis(300)));
    let gone = tokio::time::timeout(Duration::from_millis(100), client.check("nothing")).await;
    assert!(gone.is_err());
    assert_eq!(client.check("nothing").await, Err(QpayError::NotFound));
    assert_eq!(sim.count(Call::Token), 1);
}

#[tokio::test]
async fn tokens_are_renewed_before_they_end_by_either_clock() {
    for absolute_expiry in [true, false] {
        let options = Options { token_life: 4 * SECOND, absolute_expiry, ..Options::default() };
        let (sim, client) = with(options, |_| {}).await;
        let made = invoice(&sim, &client).await.invoice_id;
        until("a renewal", async || {
            client.check(&made).await.unwrap();
            sim.count(Call::Refresh) > 0
        })
        .await;
        let refused = sim.seen().iter().filter(|seen| seen.status == Some(401)).count();
        assert_eq!((sim.count(Call::Token), refused), (1, 0));
    }
}

#[tokio::test]
async fn a_renewal_that_fails_harms_nobody_while_the_token_is_good() {
    let (sim, client) = with(Options { token_life: 8 * SECOND, ..Options::default() }, |_| {}).await;
    let made = invoice(&sim, &client).await.invoice_id;
    sim.fault(Call::Refresh, 100, Fault::Status(500));
    until("a renewal", async || {
        client.check(&made).await.unwrap();
        sim.count(Call::Refresh) > 0
    })
    .await;
    for _ in 0..10 {
        client.check(&made).await.unwrap();
    }
    assert_eq!((sim.count(Call::Refresh), sim.count(Call::Token)), (1, 1));
}

#[tokio::test]
async fn a_token_that_ends_in_the_middle_is_renewed_once() {
    let (sim, client) = usual().await;
    let made = invoice(&sim, &client).await.invoice_id;
    sim.expire_tokens();
    let answers = join_all((0..20).map(|_| client.check(&made))).await;
    assert!(answers.iter().all(|answer| *answer == Ok(vec![])), "{answers:?}");
    assert_eq!((sim.count(Call::Token), sim.count(Call::Refresh)), (1, 1));

    sim.expire_tokens();
    sim.expire_refresh_tokens();
    client.create_invoice(&new("EVM-2")).await.unwrap();
    assert_eq!((sim.count(Call::Token), sim.count(Call::Refresh)), (2, 2));
    assert_eq!(sim.invoices().len(), 2);
}

#[tokio::test]
async fn a_merchant_who_is_shut_out_does_not_hammer() {
    let (sim, client) = usual().await;
    let made = invoice(&sim, &client).await.invoice_id;
    sim.refuse_tokens(true);
    for _ in 0..10 {
        assert_eq!(client.check(&made).await, Err(QpayError::Unauthorised));
    }
    // The token of the first call, one refresh, one login; each tried once.
    assert_eq!((sim.count(Call::Token), sim.count(Call::Refresh), sim.count(Call::Check)), (2, 1, 3));

    let (sim, client) = usual().await;
    let made = invoice(&sim, &client).await.invoice_id;
    sim.refuse_tokens(true);
    sim.expire_refresh_tokens();
    for _ in 0..10 {
        assert_eq!(client.check(&made).await, Err(QpayError::Unauthorised));
    }
    // The refresh was refused, so the login came at once and is not tried again.
    assert_eq!((sim.count(Call::Token), sim.count(Call::Refresh), sim.count(Call::Check)), (2, 1, 2));

    let (sim, client) = usual().await;
    let made = invoice(&sim, &client).await.invoice_id;
    sim.expire_tokens();
    sim.expire_refresh_tokens();
    sim.fault(Call::Token, 1, Fault::Status(401));
    for _ in 0..10 {
        assert_eq!(client.check(&made).await, Err(QpayError::Unauthorised));
    }
    assert_eq!((sim.count(Call::Token), sim.count(Call::Refresh), sim.count(Call::Check)), (2, 1, 1));

    let (sim, client) = with(Options::default(), |config| config.client_secret = "wrong".into()).await;
    for _ in 0..10 {
        assert_eq!(client.check("nothing").await, Err(QpayError::Unauthorised));
    }
    assert_eq!((sim.count(Call::Token), sim.count(Call::Check)), (1, 0));
}

#[tokio::test]
async fn an_answer_that_is_too_slow_is_not_known() {
    let (sim, client) = with(Options::default(), |config| config.timeout = SECOND).await;
    let made = invoice(&sim, &client).await.invoice_id;
    sim.set_delay(30 * SECOND);
    let began = Instant::now();
    assert!(unknown(client.create_invoice(&new("EVM-2")).await));
    assert!(unknown(client.check(&made).await));
    assert!(began.elapsed() < 10 * SECOND);
    assert_eq!(sim.count(Call::CreateInvoice), 2);
}

#[tokio::test]
async fn a_token_that_is_too_slow_means_that_nothing_was_sent() {
    let (sim, client) = with(Options::default(), |config| config.timeout = SECOND).await;
    sim.fault(Call::Token, 1, Fault::Slow(30 * SECOND));
    assert!(not_sent(client.create_invoice(&new(NUMBER)).await));
    assert_eq!(sim.count(Call::CreateInvoice), 0);
}

#[tokio::test]
async fn only_what_is_safe_is_sent_again() {
    let (sim, client) = with(Options::default(), |config| config.breaker_failures = 100).await;
    let made = invoice(&sim, &client).await.invoice_id;
    let card = sim.pay_silently(&made, 10_000, Kind::Card).unwrap();
    let faults = [Fault::Status(500), Fault::Status(503), Fault::NotJson, Fault::Cut, Fault::LostAnswer];
    for (n, fault) in faults.into_iter().enumerate() {
        sim.forget_seen();
        sim.fault(Call::CreateInvoice, 1, fault);
        let number = format!("EVM-{}", n + 2);
        assert!(unknown(client.create_invoice(&new(&number)).await), "{fault:?}");
        assert_eq!(sim.count(Call::CreateInvoice), 1, "{fault:?}");
        assert_eq!(sim.invoice_numbered(&number).is_some(), fault == Fault::LostAnswer);

        sim.fault(Call::Check, 2, fault);
        let answer = client.check(&made).await;
        // An answer that came whole but makes no sense is asked for again too.
        assert!(answer.is_ok_and(|payments| payments.len() == 1), "{fault:?}");
        assert_eq!(sim.count(Call::Check), 3, "{fault:?}");
    }
    sim.forget_seen();
    sim.fault(Call::Refund, 1, Fault::LostAnswer);
    assert!(unknown(client.refund(&card).await));
    assert_eq!(sim.count(Call::Refund), 1);
    assert_eq!(client.check(&made).await.unwrap()[0].status, PaymentStatus::Refunded);

    sim.fault(Call::Check, 3, Fault::TooLarge);
    assert!(unknown(client.check(&made).await));
    sim.fault(Call::Check, 1, Fault::Status(400));
    assert!(matches!(client.check(&made).await, Err(QpayError::Refused { status: 400, .. })));
    assert_eq!(sim.count(Call::Check), 5);
}

#[tokio::test]
async fn canceling_says_what_became_of_the_invoice() {
    let (sim, client) = usual().await;
    let made = invoice(&sim, &client).await.invoice_id;
    sim.fault(Call::CancelInvoice, 1, Fault::LostAnswer);
    assert_eq!(client.cancel_invoice(&made).await, Ok(Canceled::Canceled));
    assert_eq!(sim.count(Call::CancelInvoice), 2);
    assert!(sim.invoice(&made).unwrap().canceled);
    assert_eq!(client.cancel_invoice(&made).await, Ok(Canceled::Canceled));

    let paid = client.create_invoice(&new("EVM-2")).await.unwrap().invoice_id;
    sim.pay_silently(&paid, 1, Kind::P2p).unwrap();
    assert_eq!(client.cancel_invoice(&paid).await, Ok(Canceled::Paid));
    assert_eq!(client.cancel_invoice("nothing").await, Err(QpayError::NotFound));
}

#[tokio::test]
async fn only_card_payments_are_given_back_and_once() {
    let (sim, client) = usual().await;
    let made = invoice(&sim, &client).await.invoice_id;
    let card = sim.pay_silently(&made, 10_000, Kind::Card).unwrap();
    let bank = sim.pay_silently(&made, 10_000, Kind::P2p).unwrap();
    for _ in 0..2 {
        assert_eq!(client.refund(&card).await, Ok(()), "given back before is given back");
    }
    let no = client.refund(&bank).await.unwrap_err();
    assert!(matches!(no, QpayError::Refused { status: 400, .. }) && no.is_clear());
    for status in [403, 422] {
        sim.fault(Call::Refund, 1, Fault::Keyless(status));
        let doubtful = client.refund(&bank).await.unwrap_err();
        assert!(doubtful == QpayError::Refused { status, key: String::new() } && !doubtful.is_clear());
    }
    let statuses: Vec<PaymentStatus> = client.check(&made).await.unwrap().into_iter().map(|p| p.status).collect();
    assert_eq!(statuses, [PaymentStatus::Refunded, PaymentStatus::Paid]);
}

#[tokio::test]
async fn a_gateway_that_is_down_was_not_reached() {
    let (sim, client) = usual().await;
    let made = invoice(&sim, &client).await.invoice_id;
    sim.down().await;
    assert!(not_sent(client.create_invoice(&new("EVM-2")).await));
    assert!(not_sent(client.check(&made).await));
    sim.up().await.unwrap();
    client.create_invoice(&new("EVM-2")).await.unwrap();
    assert_eq!(sim.invoices().len(), 2);
}

#[tokio::test]
async fn https_means_tls() {
    let (sim, client) = with(Options::default(), |config| config.url = config.url.replace("http:", "https:")).await;
    assert!(not_sent(client.create_invoice(&new(NUMBER)).await));
    assert!(sim.seen().is_empty());
}

#[tokio::test]
async fn a_try_that_did_not_arrive_hides_no_earlier_one() {
    let (sim, client) = usual().await;
    let made = invoice(&sim, &client).await.invoice_id;
    sim.fault(Call::CancelInvoice, 10, Fault::LostAnswer);
    let cancel = tokio::spawn({
        let (client, made) = (client.clone(), made.clone());
        async move { client.cancel_invoice(&made).await }
    });
    until("the first try", async || sim.count(Call::CancelInvoice) > 0).await;
    sim.down().await;
    assert!(unknown(cancel.await.unwrap()));
}

#[tokio::test]
async fn the_breaker_opens_after_failures_and_closes_after_a_good_call() {
    let (sim, client) = with(Options::default(), |config| {
        (config.retries, config.breaker_failures, config.breaker_pause) = (0, 3, SECOND);
    })
    .await;
    let made = invoice(&sim, &client).await.invoice_id;
    sim.fault(Call::Check, 4, Fault::Status(500));
    for _ in 0..3 {
        assert!(unknown(client.check(&made).await));
    }
    for _ in 0..50 {
        assert_eq!(client.check(&made).await, Err(QpayError::BreakerOpen));
        assert_eq!(client.create_invoice(&new("EVM-2")).await, Err(QpayError::BreakerOpen));
    }
    assert_eq!((sim.count(Call::Check), sim.count(Call::CreateInvoice)), (3, 1));
    let mut outcomes = Vec::new();
    until("a good call", async || {
        outcomes.push(client.check(&made).await);
        outcomes.last().is_some_and(Result::is_ok)
    })
    .await;
    let probes: Vec<_> = outcomes.iter().filter(|outcome| **outcome != Err(QpayError::BreakerOpen)).collect();
    assert_eq!((probes.len(), sim.count(Call::Check)), (2, 5), "one probe that fails, one that does not");
    client.create_invoice(&new("EVM-2")).await.unwrap();
}

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn no_log_line_holds_a_secret_or_a_token() {
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_ansi(false)
        .with_writer(move || writer.clone())
        .finish();
    let _guard = tracing::subscriber::set_default(subscriber);
    let (sim, client) = usual().await;
    let made = invoice(&sim, &client).await.invoice_id;
    let mut secrets = sim.tokens();
    sim.expire_tokens();
    sim.fault(Call::Check, 1, Fault::Status(500));
    client.check(&made).await.unwrap();
    sim.refuse_tokens(true);
    assert_eq!(client.check(&made).await, Err(QpayError::Unauthorised));
    sim.down().await;
    assert!(client.check(&made).await.is_err());
    secrets.extend(sim.tokens());
    secrets.push(sim.options().client_secret.clone());
    let text = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    assert!(text.contains("does not accept the tokens"), "the log was read");
    for secret in secrets {
        assert!(!text.contains(&secret), "a secret is in the log");
    }
}
