//! The page behind the short URL, where a person plays the payer: plain forms, nothing from elsewhere.

use axum::Router;
use axum::extract::{Path, State};
use axum::http::{StatusCode, header};
use axum::response::{Html, IntoResponse, Redirect, Response};
use axum::routing::{get, post};

use crate::control::QpaySim;
use crate::rows::mnt;
use crate::state::{Button, Invoice};

const STYLE: &str = "body{font:1.1rem/1.5 system-ui,sans-serif;max-width:28rem;margin:1.5rem auto;padding:0 1rem;\
    color:#1b1b1b;background:#fff}h1{font-size:2rem;margin:.2em 0}button{font:inherit;width:100%;padding:.8rem;\
    margin:.3rem 0;border:1px solid #767676;border-radius:.5rem;background:#f4f4f4;color:inherit}\
    button.main{background:#0a5fb4;border-color:#0a5fb4;color:#fff}dt{color:#555}dd{margin:0 0 .5rem}\
    p,dd{overflow-wrap:anywhere}p.state{font-weight:bold}";

/// What can be done with an open invoice: the word in the path, how it looks, what it says.
const BUTTONS: [(Button, &str, &str, &str); 3] = [
    (Button::Pay, "pay", "main", "Pay"),
    (Button::PayHalf, "half", "", "Pay half"),
    (Button::Cancel, "cancel", "", "Cancel"),
];

pub(crate) fn router() -> Router<QpaySim> {
    Router::new().route("/pay/{id}", get(show)).route("/pay/{id}/{deed}", post(act))
}

async fn show(State(sim): State<QpaySim>, Path(id): Path<String>) -> Response {
    match sim.invoice(&id) {
        // A browser that goes back asks again.
        Some(invoice) => ([(header::CACHE_CONTROL, "no-store")], Html(html(&invoice))).into_response(),
        None => missing(),
    }
}

fn missing() -> Response {
    let page = layout("No such invoice", "<p class=state>There is no such invoice.</p>");
    (StatusCode::NOT_FOUND, Html(page)).into_response()
}

async fn act(State(sim): State<QpaySim>, Path((id, deed)): Path<(String, String)>) -> Response {
    let Some((button, ..)) = BUTTONS.into_iter().find(|(_, word, ..)| *word == deed) else {
        return StatusCode::NOT_FOUND.into_response();
    };
    match sim.click(&id, button).await {
        // Relative, so that it works behind a proxy too.
        Ok(_) => Redirect::to(&format!("../{id}")).into_response(),
        Err(_) => missing(),
    }
}

fn layout(title: &str, body: &str) -> String {
    format!(
        "<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content=\"width=device-width,\
         initial-scale=1\"><title>{title}</title><style>{STYLE}</style><body><p>Stand-in of QPay. No real money \
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
    let open = !invoice.canceled && invoice.left() > 0;
    layout(
        &format!("Pay {} MNT", mnt(invoice.amount)),
        &format!(
            "<h1>{amount} MNT</h1><p>{description}</p><p class=state role=status>{state}</p>{buttons}<dl>\
             <dt>Paid so far</dt><dd>{paid} MNT</dd><dt>Payments</dt>{payments}<dt>Merchant's answer to the callback</dt>\
             <dd>{callback}</dd><dt>Merchant's number</dt><dd>{number}</dd><dt>Invoice</dt><dd>{id}</dd></dl>",
            amount = mnt(invoice.amount),
            description = escape(&invoice.description),
            state = state(invoice),
            buttons = if open { buttons(&invoice.invoice_id) } else { String::new() },
            paid = mnt(invoice.paid()),
            payments = if payments.is_empty() { "<dd>none</dd>" } else { &payments },
            callback = escape(&callback),
            number = escape(&invoice.sender_invoice_no),
            id = escape(&invoice.invoice_id),
        ),
    )
}

/// Where the invoice stands; after a click this is the answer.
fn state(invoice: &Invoice) -> String {
    let (paid, left) = (mnt(invoice.paid()), mnt(invoice.left()));
    match (invoice.canceled, invoice.paid() > 0, invoice.left() > 0) {
        (true, true, _) => format!("Canceled. {paid} MNT were paid; nothing more can be paid here."),
        (true, false, _) => "Canceled. Nothing was paid. Go back to the app to pay anew.".into(),
        (_, _, false) => "Paid. Thank you! Go back to the app.".into(),
        (_, true, true) => format!("Thank you! {paid} MNT are paid, {left} MNT are left to pay."),
        (_, false, true) => "Not paid yet.".into(),
    }
}

fn buttons(id: &str) -> String {
    let form = |(_, word, class, label)| {
        format!("<form method=post action=\"{id}/{word}\"><button class=\"{class}\">{label}</button></form>")
    };
    BUTTONS.map(form).concat()
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;").replace('\'', "&#39;")
}
