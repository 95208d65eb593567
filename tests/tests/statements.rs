//! Statements of customers and exports of the book: pages and files tell the same, and all of it adds up.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::process::Command;

use chrono::{DateTime, FixedOffset, SecondsFormat};
use evm_tests::api::decimal;
use evm_tests::{Customer, Version, World, charge, env, on_both_engines};
use reqwest::Method;
use rust_decimal::Decimal;
use serde_json::{Value, json};

const PHONE: &str = "+97686661488";
const OTHER: &str = "+97699112233";
const FORMULA: &str = "=HYPERLINK(\"http://x\")";
const COLUMNS: [&str; 5] = ["amount", "balanceChange", "owedChange", "balance", "owed"];

const READ: &str = "
import csv, json, sys
with open(sys.argv[1], newline='', encoding='utf-8') as file:
    json.dump(list(csv.DictReader(file, strict=True)), sys.stdout)
";

/// A file as Python's csv reads it: column → cell, row by row.
async fn file(world: &World, path: &str, token: &str, name: &str) -> Vec<BTreeMap<String, String>> {
    let response = world.http.get(format!("{}{path}", world.operator.base)).bearer_auth(token).send().await.unwrap();
    let header = |name: &str| response.headers()[name].to_str().unwrap().to_owned();
    assert_eq!(response.status(), 200, "{path}");
    assert_eq!(header("content-type"), "text/csv; charset=utf-8; header=present");
    assert_eq!(header("content-disposition"), format!("attachment; filename={name}"));
    let (text, path) = (response.text().await.unwrap(), world.scratch().join(name));
    assert!(text.ends_with("\r\n") && !text.contains("\r\n\r\n"), "{text}");
    std::fs::write(&path, text).unwrap();
    let read = Command::new(env::python()).args(["-c", READ]).arg(path).output().unwrap();
    assert!(read.status.success(), "{}", String::from_utf8_lossy(&read.stderr));
    serde_json::from_slice(&read.stdout).unwrap()
}

async fn statement_file(world: &World, customer: &Customer, query: &str) -> Vec<BTreeMap<String, String>> {
    let path = format!("/api/v1/customer/statement?format=csv&{query}");
    file(world, &path, &customer.token, "statement.csv").await
}

async fn ledger_file(world: &World, query: &str) -> Vec<BTreeMap<String, String>> {
    file(world, &format!("/admin/v1/ledger?format=csv&{query}"), &world.operator.token, "ledger.csv").await
}

async fn statement(customer: &Customer, query: &str) -> Value {
    customer.get(&format!("/customer/statement?{query}")).await.ok()
}

fn items(page: &Value) -> &Vec<Value> {
    page["items"].as_array().unwrap()
}

fn kinds(page: &Value) -> Vec<&str> {
    items(page).iter().map(|item| item["kind"].as_str().unwrap()).collect()
}

fn standing(value: &Value) -> (Decimal, Decimal) {
    (decimal(&value["balance"]), decimal(&value["owed"]))
}

fn mnt(text: &str) -> Decimal {
    text.parse().unwrap()
}

/// The opening figures and all changes give the closing ones, and every movement says how it stood in between.
#[track_caller]
fn adds_up(statement: &Value) {
    let (mut balance, mut owed) = standing(&statement["opening"]);
    for movement in items(statement).iter().rev() {
        balance += decimal(&movement["balanceChange"]);
        owed += decimal(&movement["owedChange"]);
        assert_eq!(standing(movement), (balance, owed), "{movement}");
    }
    assert_eq!(standing(&statement["closing"]), (balance, owed), "{statement}");
}

/// A file has the same movements as a page that holds all of them.
#[track_caller]
fn same(rows: &[BTreeMap<String, String>], page: &Value) {
    assert_eq!(rows.len(), items(page).len(), "{rows:?}");
    for (row, item) in rows.iter().zip(items(page).iter().rev()) {
        for name in ["id", "kind", "purchase", "at"] {
            assert_eq!(row[name], item[name].as_str().unwrap_or_default(), "{row:?}");
        }
        for name in COLUMNS {
            assert_eq!(mnt(&row[name]), decimal(&item[name]), "{row:?}");
        }
    }
}

/// Credits a customer, with these words of the operator; gives the customer's id.
async fn credit(world: &World, phone: &str, amount: i64, note: &str) -> String {
    let body = json!({ "amount": amount, "note": note });
    let answer = world.operator.send(Method::POST, &format!("/customers/{phone}/credit"), Some(body)).await.ok();
    answer["customerId"].as_str().unwrap().to_owned()
}

/// One charge of 1.234 kWh at 850 MNT; gives the purchase.
async fn charge(world: &mut World, customer: &Customer) -> String {
    let device = world.operator.charger_priced("CP-1", 1, 850, 0).await.remove(0);
    let mut charger = world.raw("CP-1", Version::V16).await;
    charge::ended_at_charger(world, &mut charger, customer, &device, 1_234).await
}

on_both_engines! {
    async fn a_statement_adds_up_by_page_and_by_file(world) {
        let customer = world.customer(PHONE).await;
        credit(world, PHONE, 20_000, FORMULA).await;
        let purchase = charge(world, &customer).await;
        customer.pay(&purchase, "EVM").await.ok();

        let all = statement(&customer, "").await;
        adds_up(&all);
        assert_eq!(kinds(&all), ["payment", "charge", "credit"]);
        assert_eq!(standing(&all["opening"]), (mnt("0"), mnt("0")));
        assert_eq!(standing(&all["closing"]), (mnt("18951.1"), mnt("0")));
        let changes = |item: &Value| COLUMNS.map(|name| decimal(&item[name]).to_string());
        assert_eq!(changes(&items(&all)[0]), ["1048.9", "-1048.9", "-1048.9", "18951.1", "0"]);
        assert_eq!(changes(&items(&all)[1]), ["1048.9", "0", "1048.9", "20000", "1048.9"]);
        assert_eq!(changes(&items(&all)[2]), ["20000", "20000", "0", "20000", "0"]);
        let purchases: Vec<_> = items(&all).iter().map(|item| item["purchase"].clone()).collect();
        assert_eq!(purchases, [json!(purchase), json!(purchase), Value::Null]);
        assert!(!all.to_string().contains("HYPERLINK"), "the operator's words are not the customer's");
        same(&statement_file(world, &customer, "").await, &all);

        // Page by page.
        let mut walked = Vec::new();
        for page in 1..=4 {
            let one = statement(&customer, &format!("page={page}&page-size=1")).await;
            assert_eq!((&one["total"], &one["page"], &one["pageSize"]), (&json!(3), &json!(page), &json!(1)));
            assert_eq!((&one["opening"], &one["closing"]), (&all["opening"], &all["closing"]));
            walked.extend(items(&one).clone());
        }
        assert_eq!(&walked, items(&all));

        // A period begins with its first moment and ends before its last.
        let at = |n: usize| items(&all)[n]["at"].as_str().unwrap();
        let (paid, charged, credited) = (at(0), at(1), at(2));
        let asia = FixedOffset::east_opt(8 * 3600).unwrap();
        let moment = DateTime::parse_from_rfc3339(charged).unwrap().with_timezone(&asia);
        let charged_in_asia = moment.to_rfc3339_opts(SecondsFormat::Millis, false).replace('+', "%2B");
        for (query, expected, opening, closing) in [
            (format!("from={charged}"), vec!["payment", "charge"], ("20000", "0"), ("18951.1", "0")),
            (format!("from={charged_in_asia}"), vec!["payment", "charge"], ("20000", "0"), ("18951.1", "0")),
            (format!("to={charged}"), vec!["credit"], ("0", "0"), ("20000", "0")),
            (format!("from={charged}&to={paid}"), vec!["charge"], ("20000", "0"), ("20000", "1048.9")),
            (format!("from={paid}"), vec!["payment"], ("20000", "1048.9"), ("18951.1", "0")),
            (format!("to={credited}"), vec![], ("0", "0"), ("0", "0")),
            (format!("from={paid}&to={paid}"), vec![], ("20000", "1048.9"), ("20000", "1048.9")),
            ("from=2100-01-01T00:00:00Z".into(), vec![], ("18951.1", "0"), ("18951.1", "0")),
        ] {
            let part = statement(&customer, &query).await;
            adds_up(&part);
            assert_eq!(kinds(&part), expected, "{query}");
            assert_eq!(part["total"], expected.len(), "{query}");
            assert_eq!(standing(&part["opening"]), (mnt(opening.0), mnt(opening.1)), "{query}");
            assert_eq!(standing(&part["closing"]), (mnt(closing.0), mnt(closing.1)), "{query}");
            same(&statement_file(world, &customer, &query).await, &part);
        }

        // Another customer sees their own.
        let other = world.rich_customer(OTHER, 7).await;
        let theirs = statement(&other, "").await;
        adds_up(&theirs);
        assert_eq!((kinds(&theirs), decimal(&theirs["closing"]["balance"])), (vec!["credit"], 7.into()));
        same(&statement_file(world, &other, "").await, &theirs);
        assert_eq!(statement(&customer, "").await, all);
    }

    async fn the_book_is_filtered_and_exported(world) {
        let customer = world.customer(PHONE).await;
        let id = credit(world, PHONE, 20_000, FORMULA).await;
        credit(world, OTHER, 5, "two, \"quoted\"\nlines; -1").await;
        let purchase = charge(world, &customer).await;
        customer.pay(&purchase, "EVM").await.ok();

        let all = world.operator.get("/ledger").await.ok();
        assert_eq!(kinds(&all), ["payment", "charge", "credit", "credit"]);
        assert_eq!(items(&all)[3]["note"], FORMULA, "the book itself keeps the words as they are");
        assert_eq!(items(&all)[1]["purchaseId"], json!(purchase));
        let charged = items(&all)[1]["at"].as_str().unwrap();
        for (query, expected) in [
            (format!("customer={id}"), vec!["payment", "charge", "credit"]),
            ("customer=000000000000000000000000".into(), vec![]),
            ("account=cash".into(), vec!["credit", "credit"]),
            ("account=receivable".into(), vec!["payment", "charge"]),
            ("account=qpay_fee".into(), vec![]),
            (format!("account=cash&customer={id}"), vec!["credit"]),
            (format!("account=receivable&from={charged}"), vec!["payment", "charge"]),
            (format!("customer={id}&to={charged}"), vec!["credit"]),
        ] {
            let found = world.operator.get(&format!("/ledger?{query}")).await.ok();
            assert_eq!((kinds(&found), &found["total"]), (expected.clone(), &json!(expected.len())), "{query}");
            let rows = ledger_file(world, &query).await;
            let mut postings = Vec::new();
            for transaction in items(&found).iter().rev() {
                for posting in transaction["postings"].as_array().unwrap() {
                    postings.push((transaction, posting));
                }
            }
            assert_eq!(rows.len(), postings.len(), "{query}: {rows:?}");
            for (row, (transaction, posting)) in rows.iter().zip(postings) {
                for name in ["id", "key", "kind", "customerId", "purchaseId", "at"] {
                    assert_eq!(row[name], transaction[name].as_str().unwrap_or_default(), "{row:?}");
                }
                assert_eq!(row["account"], posting["account"].as_str().unwrap());
                assert_eq!(mnt(&row["amount"]), decimal(&posting["amount"]), "{row:?}");
            }
        }
        let rows = ledger_file(world, "account=cash").await;
        assert_eq!(rows[0]["note"], format!("'{FORMULA}"));
        assert_eq!((rows[0]["amount"].as_str(), rows[0]["account"].as_str()), ("-20000.00", "cash"));
        assert_eq!(rows[2]["note"], "two, \"quoted\"\nlines; '-1");
    }

    async fn a_file_of_many_parts_has_everything_once(world) {
        let customer = world.customer(PHONE).await;
        // The store is read 500 at a time.
        for amount in 1..=510 {
            credit(world, PHONE, amount, "cash").await;
        }
        let rows = statement_file(world, &customer, "").await;
        assert_eq!(rows.len(), 510);
        let mut balance = Decimal::ZERO;
        for (row, amount) in rows.iter().zip(1..) {
            balance += Decimal::from(amount);
            assert_eq!((mnt(&row["amount"]), mnt(&row["balance"])), (Decimal::from(amount), balance), "{row:?}");
        }
        let rows = ledger_file(world, "account=customer").await;
        let amounts: Vec<_> = rows.iter().map(|row| mnt(&row["amount"])).collect();
        assert_eq!(amounts, (1..=510).flat_map(|n| [Decimal::from(-n), Decimal::from(n)]).collect::<Vec<_>>());
    }

    async fn wrong_values_are_named(world) {
        let customer = world.customer(PHONE).await;
        let moments = ["", "yesterday", "2026-01-31", "2026-13-01T00:00:00Z", "2026-01-01T00:00:00", "1767225600000"];
        let times = ["from", "to"].into_iter().flat_map(|name| moments.map(|bad| (name, format!("{name}={bad}"))));
        let both = [
            ("from", "from=2026-02-01T00:00:00Z&to=2026-01-01T00:00:00Z"),
            ("format", "format=xml"), ("format", "format="), ("format", "format=CSV"),
            ("page", "page=0"), ("page-size", "page-size=0&format=csv"), ("page", "page=x&format=csv"),
        ];
        let of_operator = [
            ("account", "account=pocket"), ("account", "account="), ("account", "account=pocket&format=csv"),
            ("customer", "customer=me"), ("customer", "customer="), ("customer", "customer=%2B97686661488"),
        ];
        for (field, query) in times.chain(both.map(|(field, query)| (field, query.to_owned()))) {
            customer.get(&format!("/customer/statement?{query}")).await.names_field(field);
            world.operator.get(&format!("/ledger?{query}")).await.names_field(field);
        }
        for (field, query) in of_operator {
            world.operator.get(&format!("/ledger?{query}")).await.names_field(field);
        }
    }
}
