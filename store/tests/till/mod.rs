//! One customer with purchases at 850 MNT a kWh, and what a gateway says about them.
#![allow(dead_code, clippy::unwrap_used)]

use evm_domain::bounds::points_of;
use evm_domain::ledger::credit_by_operator;
use evm_domain::{
    CustomerId, InvoiceId, Money, Phase, Point, PointKind, PurchaseId, SessionId, Timestamp, TransactionUpdate,
};
use evm_store::devices::{self, NewDevice};
use evm_store::gateway::{self, Findings, Kind, Received};
use evm_store::invoices::{self, Begun, Invoice, State};
use evm_store::ledger::{self, Booking, Filter};
use evm_store::operator::Page;
use evm_store::purchases::{self, FromBalance, Paid, Purchase, Unpayable};
use evm_store::refunds::{self, Refund, Unrefundable};
use evm_store::sessions::{self, NewRequest};
use evm_store::{Store, audit, chargers, checks, customers, new_id, now, outbox, settle};

pub(crate) struct Till {
    pub(crate) store: Store,
    pub(crate) customer: CustomerId,
    request: NewRequest,
}

/// A payment as the gateway tells it, with a fee of a hundredth.
pub(crate) fn paid(payment_id: &str, amount: i64, kind: Kind) -> Received {
    Received { payment_id: payment_id.into(), amount: Money(amount), fee: Money(amount / 100), kind }
}

impl Till {
    pub(crate) async fn open(store: Store) -> Self {
        store.migrate().await.unwrap();
        let mut db = store.begin().await.unwrap();
        let charger = chargers::upsert(&mut db, "CP-1", None, 0, None, now()).await.unwrap();
        let device = NewDevice {
            device_number: "T-1".into(),
            connector: 1,
            price: Money(85_000),
            vat_bp: 1000,
            ..NewDevice::default()
        };
        devices::register(&mut db, charger, &[device], now()).await.unwrap();
        let device = devices::of_charger(&mut db, charger).await.unwrap().remove(0);
        let customer = customers::of_phone(&mut db, "+97686661488", now()).await.unwrap().id;
        db.commit().await.unwrap();
        let request = NewRequest {
            device: device.id,
            customer,
            charger,
            connector: 1,
            tariff_id: device.tariff_id,
            now: Timestamp(0),
        };
        Self { store, customer, request }
    }

    /// When invoices of these tests expire.
    pub(crate) fn later(&self) -> Timestamp {
        now().plus_millis(3_600_000)
    }

    /// A charge that took so much energy.
    pub(crate) async fn charge(&self, wh: i64) -> (PurchaseId, SessionId) {
        let mut db = self.store.begin().await.unwrap();
        let made = sessions::request(&mut db, &NewRequest { now: now(), ..self.request.clone() }).await.unwrap();
        let mut session = sessions::by_id(&mut db, made.id).await.unwrap().unwrap();
        for (phase, at, kind, value) in
            [(Phase::Started, 0, PointKind::MeterStart, 0), (Phase::Ended, 3_600_000, PointKind::End, wh)]
        {
            let update = update(made.id, phase, now().plus_millis(at - 3_600_000), kind, value);
            session.apply(&update, &points_of(&update));
        }
        settle::settle(&mut db, &mut [&mut session], now()).await.unwrap();
        sessions::save(&mut db, &[&session], now()).await.unwrap();
        db.commit().await.unwrap();
        (session.purchase, session.id)
    }

    /// The purchase of a charge.
    pub(crate) async fn bill(&self, wh: i64) -> PurchaseId {
        self.charge(wh).await.0
    }

    /// Late news: the charge took so much.
    pub(crate) async fn correct(&self, session: SessionId, wh: i64) {
        let mut db = self.store.begin().await.unwrap();
        let mut session = sessions::by_id(&mut db, session).await.unwrap().unwrap();
        let (began, ended) = (session.started_at.unwrap(), session.ended_at.unwrap());
        session.fold(vec![Point::new(began, PointKind::MeterStart, 0), Point::new(ended, PointKind::End, wh)]);
        settle::correct(&mut db, &session, now()).await.unwrap();
        sessions::save(&mut db, &[&session], now()).await.unwrap();
        db.commit().await.unwrap();
    }

    /// An invoice for what is due of a purchase, made at the gateway.
    pub(crate) async fn invoice(&self, purchase: PurchaseId) -> Invoice {
        let mut db = self.store.begin().await.unwrap();
        let begun =
            invoices::begin_purchase(&mut db, self.customer, purchase, self.later(), false, now()).await.unwrap();
        db.commit().await.unwrap();
        let Ok(Begun::New(invoice)) = begun else { panic!("{begun:?}") };
        self.opened(invoice.id).await
    }

    pub(crate) async fn opened(&self, invoice: InvoiceId) -> Invoice {
        let mut db = self.store.begin().await.unwrap();
        let url = Some("https://s.example/x");
        let opened = invoices::opened(&mut db, invoice, &format!("G-{invoice}"), url, now()).await.unwrap();
        db.commit().await.unwrap();
        opened
    }

    pub(crate) async fn top_up(&self, amount: Money) -> Option<Invoice> {
        let mut db = self.store.begin().await.unwrap();
        let invoice = invoices::begin_replenish(&mut db, self.customer, amount, self.later(), now()).await.unwrap();
        db.commit().await.unwrap();
        Some(self.opened(invoice?.id).await)
    }

    /// The gateway tells of these payments.
    pub(crate) async fn settle(&self, invoice: InvoiceId, received: &[Received]) -> State {
        let mut db = self.store.begin().await.unwrap();
        let findings = Findings { received: received.to_vec(), refunded: vec![] };
        let settled = gateway::settle(&mut db, invoice, &findings, now()).await.unwrap();
        db.commit().await.unwrap();
        assert_eq!(self.find(invoice).await, settled.invoice, "what comes back is what is stored");
        settled.invoice.state
    }

    pub(crate) async fn find(&self, invoice: InvoiceId) -> Invoice {
        let mut db = self.store.read().await.unwrap();
        invoices::by_id(&mut db, Some(self.customer), invoice).await.unwrap().unwrap()
    }

    /// The gateway canceled it.
    pub(crate) async fn close(&self, invoice: InvoiceId) {
        let mut db = self.store.begin().await.unwrap();
        checks::closed(&mut db, invoice, now()).await.unwrap();
        db.commit().await.unwrap();
    }

    pub(crate) async fn pay(&self, purchase: PurchaseId) -> Result<Money, Unpayable> {
        let mut db = self.store.begin().await.unwrap();
        let how = FromBalance { despite_invoice: true, ..FromBalance::default() };
        let paid = purchases::pay_from_evm(&mut db, self.customer, purchase, how, now()).await.unwrap();
        db.commit().await.unwrap();
        paid.map(|paid| paid.balance)
    }

    /// Pays what the balance has.
    pub(crate) async fn pay_part(&self, purchase: PurchaseId) -> Result<Paid, Unpayable> {
        let mut db = self.store.begin().await.unwrap();
        let how = FromBalance { despite_invoice: true, partial: true };
        let paid = purchases::pay_from_evm(&mut db, self.customer, purchase, how, now()).await.unwrap();
        db.commit().await.unwrap();
        paid
    }

    pub(crate) async fn refund(&self, purchase: PurchaseId) -> Result<Refund, Unrefundable> {
        let mut db = self.store.begin().await.unwrap();
        let refund = refunds::book(&mut db, purchase, None, "broken cable", now()).await.unwrap();
        db.commit().await.unwrap();
        refund
    }

    pub(crate) async fn refund_part(&self, purchase: PurchaseId, amount: i64) -> Result<Refund, Unrefundable> {
        let mut db = self.store.begin().await.unwrap();
        let refund = refunds::book(&mut db, purchase, Some(Money(amount)), "broken cable", now()).await.unwrap();
        db.commit().await.unwrap();
        refund
    }

    pub(crate) async fn credit(&self, amount: Money) {
        let mut db = self.store.begin().await.unwrap();
        let booking = Booking {
            key: format!("credit:{}", new_id()),
            kind: "credit",
            customer: Some(self.customer),
            purchase: None,
            note: None,
            postings: credit_by_operator(amount),
        };
        ledger::post(&mut db, booking, now()).await.unwrap();
        db.commit().await.unwrap();
    }

    pub(crate) async fn purchase(&self, id: PurchaseId) -> Purchase {
        let mut db = self.store.read().await.unwrap();
        purchases::by_id(&mut db, self.customer, id).await.unwrap().unwrap()
    }

    pub(crate) async fn balance(&self) -> Money {
        let mut db = self.store.read().await.unwrap();
        customers::by_id(&mut db, self.customer).await.unwrap().unwrap().balance
    }

    /// Sum of an account.
    pub(crate) async fn account(&self, account: &str) -> i64 {
        let mut db = self.store.read().await.unwrap();
        let (_, lines) = ledger::list(&mut db, &Filter::default(), Page { offset: 0, limit: 1000 }).await.unwrap();
        lines.iter().flat_map(|line| &line.entries).filter(|entry| entry.account == account).map(|e| e.amount).sum()
    }

    /// Why the operator should look at the payments, oldest first.
    pub(crate) async fn flags(&self) -> Vec<Option<String>> {
        let mut db = self.store.read().await.unwrap();
        let (_, mut lines) = gateway::page(&mut db, false, Page { offset: 0, limit: 1000 }).await.unwrap();
        lines.sort_by(|a, b| (a.credited_at, &a.payment_id).cmp(&(b.credited_at, &b.payment_id)));
        lines.into_iter().map(|line| line.flag).collect()
    }

    /// The payloads of these events, oldest first.
    pub(crate) async fn events(&self, name: &str) -> Vec<String> {
        let mut db = self.store.read().await.unwrap();
        let all = outbox::waiting(&mut db, 1000).await.unwrap();
        all.into_iter().filter(|event| event.name == name).map(|event| event.payload).collect()
    }

    pub(crate) async fn audit(&self) {
        let mut db = self.store.read().await.unwrap();
        assert_eq!(audit::run(&mut db).await.unwrap().violations, Vec::<String>::new());
    }
}

fn session_start(now: Timestamp) -> i64 {
    now.0 - 3_600_000
}

fn update(session: SessionId, phase: Phase, at: Timestamp, kind: PointKind, value: i64) -> TransactionUpdate {
    TransactionUpdate {
        phase,
        transaction: Some(session.to_string()),
        own_id: false,
        connector: Some(1),
        id_tag: None,
        stops: false,
        remote_start_id: None,
        seq_no: None,
        at,
        start_key: None,
        timeless: false,
        points: vec![Point::new(at, kind, value)],
        reason: None,
    }
}
