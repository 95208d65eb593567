//! Paying on the page of the QPay stand-in, whose forms are sent as a browser sends them.
#![allow(clippy::unwrap_used)]

use evm_tests::api::decimal;
use evm_tests::engine::Engine;
use evm_tests::poll::{SOON, until};
use evm_tests::qpay::Shop;
use evm_tests::{Phone, on_each_engine};
use reqwest::{StatusCode, Url, header};
use serde_json::json;

on_each_engine! {
    paid_by_halves_on_the_page,
    canceled_on_the_page,
    canceled_without_a_callback,
}

/// The page as a browser has it open.
struct Page<'a> {
    http: &'a reqwest::Client,
    url: Url,
    html: String,
}

impl<'a> Page<'a> {
    /// Opens the `url` that `pay` or `replenish` answered.
    async fn open(shop: &'a Shop, url: &str) -> Self {
        let mut page = Self { http: &shop.world.http, url: url.parse().unwrap(), html: String::new() };
        page.take(page.http.get(page.url.clone())).await;
        page
    }

    async fn take(&mut self, request: reqwest::RequestBuilder) {
        let response = request.send().await.unwrap();
        assert_eq!(response.status(), StatusCode::OK);
        assert!(response.headers()[header::CONTENT_TYPE].to_str().unwrap().starts_with("text/html"));
        assert_eq!(*response.url(), self.url, "the answer to a click is the page itself");
        self.html = response.text().await.unwrap();
    }

    /// What can be clicked, and where each leads.
    fn buttons(&self) -> Vec<(&str, &str)> {
        let forms = self.html.split("<form method=post action=\"").skip(1);
        forms.map(|form| (form.split(['<', '>']).nth(3).unwrap(), form.split('"').next().unwrap())).collect()
    }

    /// Clicks and reads what the page says then.
    async fn click(&mut self, label: &str) {
        let (_, action) = *self.buttons().iter().find(|(shown, _)| *shown == label).unwrap();
        let url = self.url.join(action).unwrap();
        let form = self.http.post(url).header(header::CONTENT_TYPE, "application/x-www-form-urlencoded");
        self.take(form).await;
    }

    #[track_caller]
    fn says(&self, what: &str) {
        assert!(self.html.contains(what), "no {what:?} on the page:\n{}", self.html);
    }
}

const OPEN: [&str; 3] = ["Pay", "Pay half", "Cancel"];

fn labels<'a>(page: &'a Page<'_>) -> Vec<&'a str> {
    page.buttons().into_iter().map(|(label, _)| label).collect()
}

async fn url(shop: &Shop, purchase: &str) -> String {
    shop.customer.pay(purchase, "QPAY").await.ok()["url"].as_str().unwrap().to_owned()
}

async fn paid_by_halves_on_the_page(engine: Engine) {
    let mut shop = Shop::open(engine).await;
    let phone = Phone::connect(&shop.customer).await;
    let purchase = shop.purchase(1000).await;
    let mut page = Page::open(&shop, &url(&shop, &purchase).await).await;
    assert_eq!(labels(&page), OPEN);
    page.says("850.00 MNT");
    page.says("Not paid yet.");
    page.click("Pay half").await;
    assert_eq!(labels(&page), OPEN);
    page.says("425.00 MNT are paid, 425.00 MNT are left");
    page.says("200 SUCCESS");
    until("the half to come in", SOON, async || (shop.payments().await.len() == 1).then_some(())).await;
    assert_eq!(shop.customer.purchase(&purchase).await["status"], "pending");
    page.click("Pay").await;
    assert!(labels(&page).is_empty());
    page.says("Paid. Thank you!");
    let event = phone.hears("PAYMENT", |_| true).await;
    assert_eq!(event, json!({ "status": "success", "amount": 850 }));
    assert_eq!(shop.customer.purchase(&purchase).await["status"], "paid");

    let top_up = shop.ask_top_up(json!(700)).await.ok();
    let mut page = Page::open(&shop, top_up["url"].as_str().unwrap()).await;
    page.click("Pay").await;
    let event = phone.hears("REPLENISHMENT", |_| true).await;
    assert_eq!(event, json!({ "status": "success", "amount": 700 }));
    shop.balance_is("700").await;
    assert_eq!(shop.flags().await, ["", "", ""]);
    drop(page);
    shop.close().await;
}

async fn canceled_on_the_page(engine: Engine) {
    let mut shop = Shop::open(engine).await;
    let phone = Phone::connect(&shop.customer).await;
    let purchase = shop.purchase(1000).await;
    let (first, at_gateway) = shop.invoice(&purchase).await;
    let first_page = url(&shop, &purchase).await;
    let mut page = Page::open(&shop, &first_page).await;
    page.click("Cancel").await;
    page.says("Canceled. Nothing was paid.");
    assert!(labels(&page).is_empty());
    phone.hears("PAYMENT", |event| event["status"] == "fail").await;
    assert_eq!(shop.status(&purchase, &first).await.0, "canceled");
    assert_eq!(shop.customer.purchase(&purchase).await["status"], "unpaid");

    // Anew, half of it, and canceled again: the half stays, the rest is due.
    let (second, _) = shop.invoice(&purchase).await;
    assert_ne!(second, first);
    let mut page = Page::open(&shop, &url(&shop, &purchase).await).await;
    page.click("Pay half").await;
    page.click("Cancel").await;
    page.says("Canceled. 425.00 MNT were paid");
    shop.ends(&purchase, &second, "canceled").await;
    let (third, rest) = shop.invoice(&purchase).await;
    assert_eq!(rest.amount, 42_500);
    let mut page = Page::open(&shop, &url(&shop, &purchase).await).await;
    page.click("Pay").await;
    shop.ends(&purchase, &third, "success").await;
    let bought = shop.customer.purchase(&purchase).await;
    assert_eq!((&bought["status"], decimal(&bought["amount"])), (&json!("paid"), 850.into()));
    assert!(shop.sim.invoice(&at_gateway.invoice_id).unwrap().payments.is_empty());
    assert_eq!(shop.flags().await, ["", ""]);
    drop(page);
    shop.close().await;
}

/// As a gateway does that calls back for payments only: the customer who comes back to the app and asks finds out.
async fn canceled_without_a_callback(engine: Engine) {
    let mut shop = Shop::open(engine).await;
    let purchase = shop.purchase(1000).await;
    let (invoice, at_gateway) = shop.invoice(&purchase).await;
    shop.sim.cancel(&at_gateway.invoice_id).unwrap();
    assert_eq!(shop.status(&purchase, &invoice).await.0, "canceled");
    let (again, at_gateway) = shop.invoice(&purchase).await;
    assert_ne!(again, invoice);
    shop.sim.pay(&at_gateway.invoice_id, 85_000, qpay_sim::Kind::P2p).await.unwrap().answer.unwrap();
    shop.ends(&purchase, &again, "success").await;
    let (top_up, at_gateway) = shop.top_up(100).await;
    shop.sim.cancel(&at_gateway.invoice_id).unwrap();
    assert_eq!(shop.replenishment(&top_up).await.0, "canceled");
    shop.close().await;
}
