//! The stand-in against what is known of the gateway, over real sockets, with a client of these tests' own.
#![allow(clippy::unwrap_used)]

use std::sync::{Arc, Mutex};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use qpay_sim::{Call, Fault, Kind, Numbers, Options, QpaySim};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

const LIMIT: Duration = Duration::from_secs(20);

/// One request over a socket of its own: status, headers and body.
async fn send(method: &str, url: &str, authorization: &str, body: &str) -> std::io::Result<(u16, String, String)> {
    let (host, path) = url.strip_prefix("http://").unwrap().split_once('/').unwrap();
    let mut socket = TcpStream::connect(host).await?;
    let length = body.len();
    let head = format!(
        "{method} /{path} HTTP/1.0\r\nHost: {host}\r\nAuthorization: {authorization}\r\nContent-Length: {length}\r\n\r\n"
    );
    socket.write_all((head + body).as_bytes()).await?;
    let mut answer = String::new();
    timeout(LIMIT, socket.read_to_string(&mut answer)).await??;
    let (head, body) = answer.split_once("\r\n\r\n").ok_or(std::io::ErrorKind::UnexpectedEof)?;
    Ok((head[9..12].parse().unwrap(), head.to_lowercase(), body.to_owned()))
}

/// A merchant with a token and a door for callbacks.
struct Merchant {
    sim: QpaySim,
    bearer: String,
    /// The paths that were called back.
    called: Arc<Mutex<Vec<String>>>,
    door: String,
}

impl Merchant {
    async fn new(options: Options) -> Self {
        let sim = QpaySim::spawn(options).await.unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let door = format!("http://{}", listener.local_addr().unwrap());
        let called: Arc<Mutex<Vec<String>>> = Arc::default();
        tokio::spawn(answer_callbacks(listener, called.clone()));
        let mut merchant = Self { sim, bearer: String::new(), called, door };
        merchant.bearer = format!("Bearer {}", merchant.login().await["access_token"].as_str().unwrap());
        merchant
    }

    async fn login(&self) -> Value {
        let options = self.sim.options();
        let basic = STANDARD.encode(format!("{}:{}", options.client_id, options.client_secret));
        let (status, answer) = self.with("POST", "/auth/token", &format!("Basic {basic}"), &Value::Null).await;
        assert_eq!(status, 200);
        answer
    }

    async fn with(&self, method: &str, path: &str, authorization: &str, body: &Value) -> (u16, Value) {
        let url = self.sim.url() + path;
        let (status, _, body) = send(method, &url, authorization, &body.to_string()).await.unwrap();
        (status, serde_json::from_str(&body).unwrap())
    }

    async fn call(&self, method: &str, path: &str, body: Value) -> (u16, Value) {
        self.with(method, path, &self.bearer, &body).await
    }

    fn body(&self, number: &str) -> Value {
        json!({
            "invoice_code": "TEST_INVOICE", "sender_invoice_no": number, "invoice_receiver_code": "terminal",
            "invoice_description": "Charging <b>", "amount": 100, "callback_url": format!("{}/c?a=b", self.door),
        })
    }

    async fn invoice(&self, number: &str) -> String {
        let (status, answer) = self.call("POST", "/invoice", self.body(number)).await;
        assert_eq!(status, 200, "{answer}");
        answer["invoice_id"].as_str().unwrap().to_owned()
    }

    async fn check(&self, invoice: &str) -> Value {
        let offset = json!({ "page_number": 1, "page_limit": 100 });
        let body = json!({ "object_type": "INVOICE", "object_id": invoice, "offset": offset });
        let (status, answer) = self.call("POST", "/payment/check", body).await;
        assert_eq!(status, 200, "{answer}");
        answer
    }
}

async fn answer_callbacks(listener: TcpListener, called: Arc<Mutex<Vec<String>>>) {
    while let Ok((mut socket, _)) = listener.accept().await {
        let called = called.clone();
        tokio::spawn(async move {
            let mut request = Vec::new();
            while !request.ends_with(b"\r\n\r\n") {
                request.push(socket.read_u8().await.unwrap());
            }
            let request = String::from_utf8(request).unwrap();
            called.lock().unwrap().push(request.split(' ').nth(1).unwrap().to_owned());
            socket.write_all(b"HTTP/1.0 200 OK\r\n\r\nSUCCESS").await.unwrap();
        });
    }
}

fn key(answer: (u16, Value)) -> (u16, String) {
    (answer.0, answer.1["error"].as_str().unwrap_or_default().to_owned())
}

#[tokio::test]
async fn tokens_are_given_refreshed_and_refused() {
    let merchant = Merchant::new(Options::default()).await;
    let first = merchant.login().await;
    assert!(first["expires_in"].as_u64().unwrap() > 1_700_000_000, "absolute UNIX seconds");
    let refresh = format!("Bearer {}", first["refresh_token"].as_str().unwrap());
    let (status, second) = merchant.with("POST", "/auth/refresh", &refresh, &Value::Null).await;
    assert!(status == 200 && second["access_token"] != first["access_token"]);
    let wrong = (401, "AUTHENTICATION_FAILED".to_owned());
    assert_eq!(key(merchant.with("POST", "/auth/refresh", &refresh, &Value::Null).await), wrong);
    assert_eq!(key(merchant.with("POST", "/auth/token", "Basic eDp5", &Value::Null).await), wrong);
    merchant.sim.expire_tokens();
    let (status, answer) = merchant.call("GET", "/invoice/x", Value::Null).await;
    assert_eq!((status, answer["error"].as_str()), (401, Some("NO_CREDENDIALS")));

    let relative = Merchant::new(Options { absolute_expiry: false, ..Options::default() }).await;
    assert_eq!(relative.login().await["expires_in"], 24 * 3600);
}

#[tokio::test]
async fn invoices_are_checked_like_at_the_gateway() {
    let merchant = Merchant::new(Options::default()).await;
    let id = merchant.invoice("A-1").await;
    let duplicate = merchant.call("POST", "/invoice", merchant.body("A-1")).await;
    assert_eq!(duplicate.0, 409);
    for (name, odd) in [
        ("amount", json!(0)),
        ("amount", json!(-5)),
        ("amount", json!("100")),
        ("amount", serde_json::from_str("100.5").unwrap()),
        ("sender_invoice_no", json!("A_1")),
        ("sender_invoice_no", json!("x".repeat(46))),
        ("invoice_receiver_code", json!("x".repeat(46))),
        ("invoice_description", json!("x".repeat(256))),
        ("callback_url", json!("x".repeat(256))),
        ("callback_url", json!(null)),
        ("invoice_code", json!("OTHER")),
    ] {
        let mut body = merchant.body("A-2");
        body[name] = odd;
        assert_eq!(merchant.call("POST", "/invoice", body).await.0, 400, "{name}");
    }
    assert_eq!(merchant.sim.invoices().len(), 1);
    for (method, path, error) in [
        ("GET", "/invoice/nothing", "INVOICE_NOTFOUND"),
        ("DELETE", "/invoice/nothing", "INVOICE_NOTFOUND"),
        ("GET", "/payment/17", "PAYMENT_NOTFOUND"),
        ("DELETE", "/payment/refund/17", "PAYMENT_NOTFOUND"),
        ("DELETE", "/payment/cancel/17", "PAYMENT_NOTFOUND"),
    ] {
        assert_eq!(key(merchant.call(method, path, Value::Null).await), (422, error.to_owned()));
    }
    let path = format!("/invoice/{id}");
    assert_eq!(merchant.call("GET", &path, Value::Null).await.1["invoice_status"], "OPEN");
    assert_eq!(merchant.call("DELETE", &path, Value::Null).await, (200, json!({})));
    assert_eq!(key(merchant.call("DELETE", &path, Value::Null).await), (400, "INVOICE_ALREADY_CANCELED".into()));
}

#[tokio::test]
async fn payments_are_told_and_found() {
    let merchant = Merchant::new(Options::default()).await;
    let id = merchant.invoice("A-1").await;
    assert_eq!(merchant.check(&id).await, json!({ "count": 0, "rows": [] }));
    let paid = merchant.sim.pay(&id, 10_000, Kind::Card).await.unwrap();
    assert_eq!(paid.answer.unwrap().body, "SUCCESS");
    assert_eq!(*merchant.called.lock().unwrap(), [format!("/c?a=b&qpay_payment_id={}", paid.payment_id)]);
    let answer = merchant.check(&id).await;
    assert_eq!((&answer["count"], answer["paid_amount"].to_string().as_str()), (&json!(1), "100.00"));
    let row = &answer["rows"][0];
    assert_eq!((&row["payment_id"], &row["payment_status"]), (&json!(paid.payment_id), &json!("PAID")));
    assert_eq!((&row["payment_amount"], &row["trx_fee"]), (&json!("100.00"), &json!("1.00")));
    assert_eq!((&row["payment_type"], &row["payment_currency"]), (&json!("CARD"), &json!("MNT")));
    merchant.sim.set_numbers(Numbers::Numbers);
    assert_eq!(merchant.check(&id).await["rows"][0]["payment_amount"].to_string(), "100.00");
    merchant.sim.set_numbers(Numbers::Texts);
    assert_eq!(merchant.check(&id).await["count"], "1");

    assert_eq!(
        key(merchant.call("DELETE", &format!("/invoice/{id}"), Value::Null).await),
        (400, "INVOICE_PAID".into())
    );
    let (_, payment) = merchant.call("GET", &format!("/payment/{}", paid.payment_id), Value::Null).await;
    assert_eq!((&payment["object_id"], &payment["object_type"]), (&json!(id), &json!("INVOICE")));
    let bank = merchant.sim.pay_silently(&id, 10_000, Kind::P2p).unwrap();
    assert_eq!(merchant.call("DELETE", &format!("/payment/refund/{bank}"), Value::Null).await.0, 400);
    let refund = format!("/payment/refund/{}", paid.payment_id);
    assert_eq!(merchant.call("DELETE", &refund, json!({ "note": "" })).await, (200, json!({})));
    assert_eq!(key(merchant.call("DELETE", &refund, Value::Null).await), (400, "PAYMENT_ALREADY_CANCELED".into()));
    assert_eq!(merchant.check(&id).await["rows"][0]["payment_status"], "REFUNDED");
}

#[tokio::test]
async fn callbacks_come_early_often_and_with_lies() {
    let merchant = Merchant::new(Options::default()).await;
    merchant.sim.pay_before_answering(1);
    let early = merchant.invoice("A-1").await;
    assert_eq!(merchant.called.lock().unwrap().len(), 1, "called back before the answer");
    assert_eq!(merchant.check(&early).await["count"], 1);
    let other = merchant.invoice("A-2").await;
    assert_eq!(merchant.called.lock().unwrap().len(), 1);
    let payment = merchant.sim.pay_silently(&other, 5_000, Kind::P2p).unwrap();
    let answers = merchant.sim.call_back_at_once(&early, &payment, 100).await.unwrap();
    assert!(answers.iter().all(|answer| answer.as_ref().is_ok_and(|answer| answer.status == 200)));
    assert_eq!(merchant.called.lock().unwrap().len(), 101);
    merchant.sim.call_back(&early, "forged").await.unwrap().unwrap();
    assert!(merchant.called.lock().unwrap().last().unwrap().ends_with("qpay_payment_id=forged"));
}

#[tokio::test]
async fn it_fails_as_told() {
    let merchant = Merchant::new(Options::default()).await;
    let id = merchant.invoice("A-1").await;
    let (url, sim) = (format!("{}/invoice/{id}", merchant.sim.url()), &merchant.sim);
    sim.forget_seen();
    sim.fault(Call::GetInvoice, 1, Fault::Status(503));
    sim.fault_any(1, Fault::NotJson);
    sim.fault(Call::GetInvoice, 1, Fault::Cut);
    assert_eq!(send("GET", &url, &merchant.bearer, "").await.unwrap().0, 503);
    assert!(send("GET", &url, &merchant.bearer, "").await.unwrap().2.starts_with("<html>"));
    assert!(send("GET", &url, &merchant.bearer, "").await.is_err());
    assert_eq!(send("GET", &url, &merchant.bearer, "").await.unwrap().0, 200);
    let statuses: Vec<_> = sim.seen().iter().map(|seen| seen.status).collect();
    assert_eq!(statuses, [Some(503), Some(200), None, Some(200)]);

    sim.fault(Call::CreateInvoice, 1, Fault::LostAnswer);
    let create = format!("{}/invoice", sim.url());
    assert!(send("POST", &create, &merchant.bearer, &merchant.body("A-2").to_string()).await.is_err());
    assert!(sim.invoice_numbered("A-2").is_some());

    sim.down().await;
    assert!(TcpStream::connect(url.split('/').nth(2).unwrap()).await.is_err());
    sim.up().await.unwrap();
    assert_eq!(send("GET", &url, &merchant.bearer, "").await.unwrap().0, 200);
}

#[tokio::test]
async fn a_person_pays_on_the_page() {
    let merchant = Merchant::new(Options::default()).await;
    let mut news = merchant.sim.subscribe();
    let (_, answer) = merchant.call("POST", "/invoice", merchant.body("A-1")).await;
    let (page, id) = (answer["qPay_shortUrl"].as_str().unwrap(), answer["invoice_id"].as_str().unwrap());
    let show = async || send("GET", page, "", "").await.unwrap().2;
    let html = show().await;
    for part in ["100.00 MNT", "A-1", "Charging &lt;b&gt;", "width=device-width", "Not paid yet."] {
        assert!(html.contains(part), "{part}\n{html}");
    }
    let labels: Vec<_> = html.split("<button").skip(1).map(|rest| rest.split(['>', '<']).nth(1).unwrap()).collect();
    assert_eq!(labels, ["Pay", "Pay half", "Cancel"]);
    assert!(!html.contains("<script") && !html.contains("src=") && !html.contains("://"), "{html}");
    let press = async |deed: &str| {
        let button = format!("action=\"{id}/{deed}\"");
        assert!(show().await.contains(&button), "{deed}");
        let (status, head, _) = send("POST", &format!("{page}/{deed}"), "", "").await.unwrap();
        assert!(status == 303 && head.contains(&format!("location: ../{id}")));
    };
    press("half").await;
    let half = show().await;
    for part in ["50.00 MNT (PAID)", "200 SUCCESS", "50.00 MNT are paid, 50.00 MNT are left"] {
        assert!(half.contains(part), "{part}\n{half}");
    }
    press("pay").await;
    let paid = show().await;
    assert!(paid.contains("Paid. Thank you!") && !paid.contains("<button"), "{paid}");
    // A browser that sends the form once more.
    send("POST", &format!("{page}/pay"), "", "").await.unwrap();
    assert_eq!(merchant.sim.invoice(id).unwrap().paid(), 10_000);
    assert_eq!(merchant.called.lock().unwrap().len(), 2);
    for paid in [0, 5_000, 10_000] {
        assert_eq!(news.recv().await.unwrap().paid(), paid);
    }
    for odd in ["twice", "x%00"] {
        assert_eq!(send("POST", &format!("{page}/{odd}"), "", "").await.unwrap().0, 404);
    }
    for missing in ["nothing", "nothing/pay"] {
        let method = if missing.contains('/') { "POST" } else { "GET" };
        assert_eq!(send(method, &merchant.sim.page_url(missing), "", "").await.unwrap().0, 404);
    }
}

#[tokio::test]
async fn a_person_cancels_on_the_page() {
    let merchant = Merchant::new(Options::default()).await;
    for (number, paid, told) in [("A-1", 0, "Nothing was paid"), ("A-2", 5_000, "50.00 MNT were paid")] {
        let id = merchant.invoice(number).await;
        let page = merchant.sim.page_url(&id);
        let before: &[&str] = if paid > 0 { &["half"] } else { &[] };
        for deed in before.iter().chain(&["cancel", "pay", "half"]) {
            send("POST", &format!("{page}/{deed}"), "", "").await.unwrap();
        }
        let invoice = merchant.sim.invoice(&id).unwrap();
        assert_eq!((invoice.canceled, invoice.paid()), (true, paid));
        let html = send("GET", &page, "", "").await.unwrap().2;
        assert!(html.contains(told) && !html.contains("<button"), "{html}");
    }
    let called = merchant.called.lock().unwrap().clone();
    assert_eq!(called.iter().filter(|path| path.ends_with("/c?a=b")).count(), 2, "without a payment: {called:?}");
    assert_eq!(called.len(), 3, "{called:?}");
}
