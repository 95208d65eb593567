//! The page behind the short URL, where a person plays the payer.

use axum::Router;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{Html, IntoResponse, Redirect, Response};
use axum::routing::{get, post};

use crate::control::QpaySim;
use crate::rows::mnt;
use crate::state::{Invoice, Kind};

const STYLE: &str = "body{font:1.1rem/1.5 system-ui,sans-serif;max-width:28rem;margin:1.5rem auto;padding:0 1rem;\
    color:#1b1b1b;background:#fff}h1{font-size:2rem;margin:.2em 0}button{font:inherit;width:100%;padding:.8rem;\
    margin:.3rem 0;border:1px solid #767676;border-radius:.5rem;background:#f4f4f4;color:inherit}\
    button.main{background:#0a5fb4;border-color:#0a5fb4;color:#fff}dt{color:#555}dd{margin:0 0 .5rem;\
    overflow-wrap:anywhere}p.state{font-weight:bold}";

pub(crate) fn router() -> Router<QpaySim> {
    Router::new().route("/pay/{id}", get(show)).route("/pay/{id}/{deed}", post(act))
}

async fn show(State(sim): State<QpaySim>, Path(id): Path<String>) -> Response {
    match sim.invoice(&id) {
        Some(invoice) => Html(html(&invoice)).into_response(),
        None => missing(),
    }
}

fn missing() -> Response {
    let page = layout("No such invoice", "<p class=state>There is no such invoice.</p>");
    (StatusCode::NOT_FOUND, Html(page)).into_response()
}

async fn act(State(sim): State<QpaySim>, Path((id, deed)): Path<(String, String)>) -> Response {
    let Some(invoice) = sim.invoice(&id) else { return missing() };
    let (times, amount) = match deed.as_str() {
        "all" => (1, invoice.amount),
        "half" => (1, invoice.amount / 2),
        "twice" => (2, invoice.amount),
        "cancel" => {
            let _ = sim.cancel(&id);
            (0, 0)
        }
        _ => return StatusCode::NOT_FOUND.into_response(),
    };
    // A canceled invoice cannot be paid by an honest payer; tests can.
    for _ in 0..if invoice.canceled { 0 } else { times } {
        let _ = sim.pay(&id, amount, Kind::P2p).await;
    }
    // Relative, so that it works behind a proxy too.
    Redirect::to(&format!("../{id}")).into_response()
}

fn layout(title: &str, body: &str) -> String {
    format!(
        "<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content=\"width=device-width,\
         initial-scale=1\"><title>{title}</title><style>{STYLE}</style><body><p>Payment stand-in. No real money \
         moves here.</p>{body}"
    )
}

fn html(invoice: &Invoice) -> String {
    let payments: String = invoice
        .payments
        .iter()
        .map(|payment| {
            format!("<dd>{} {} ({})</dd>", mnt(payment.amount), escape(&payment.currency), escape(&payment.status))
        })
        .collect();
    let callback = match &invoice.last_callback {
        None => "not called yet".into(),
        Some(Ok(answer)) => format!("{} {}", answer.status, answer.body.chars().take(200).collect::<String>()),
        Some(Err(none)) => none.to_string(),
    };
    let (state, buttons) = match (invoice.canceled, invoice.paid() >= invoice.amount) {
        (true, _) => ("Canceled", String::new()),
        (_, true) => ("Paid", button(invoice, "all", "", "Pay again")),
        _ => ("Not paid yet", open_buttons(invoice)),
    };
    layout(
        &format!("Pay {} MNT", mnt(invoice.amount)),
        &format!(
            "<h1>{amount} MNT</h1><p>{description}</p><p class=state>{state}</p>{buttons}<dl><dt>Invoice</dt>\
             <dd>{id}</dd><dt>Merchant's number</dt><dd>{number}</dd><dt>Payments</dt>{payments}\
             <dt>Merchant's answer to the callback</dt><dd>{callback}</dd></dl>",
            amount = mnt(invoice.amount),
            description = escape(&invoice.description),
            id = escape(&invoice.invoice_id),
            number = escape(&invoice.sender_invoice_no),
            payments = if payments.is_empty() { "<dd>none</dd>" } else { &payments },
            callback = escape(&callback),
        ),
    )
}

fn open_buttons(invoice: &Invoice) -> String {
    [("all", "main", "Pay"), ("half", "", "Pay half"), ("twice", "", "Pay twice"), ("cancel", "", "Cancel")]
        .map(|(deed, class, label)| button(invoice, deed, class, label))
        .concat()
}

fn button(invoice: &Invoice, deed: &str, class: &str, label: &str) -> String {
    let id = &invoice.invoice_id;
    format!("<form method=post action=\"{id}/{deed}\"><button class=\"{class}\">{label}</button></form>")
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;").replace('\'', "&#39;")
}
