//! Two customers, every route, every id: what is another customer's does not exist.
#![allow(clippy::unwrap_used)]

use evm_tests::{Version, on_both_engines};
use reqwest::Method;
use serde_json::{Value, json};

const PHONE: &str = "+97686661488";
const OTHER: &str = "+97699112233";

/// Routes whose id names what belongs to nobody: a device on the map.
const PUBLIC: &[(&str, &str)] = &[("post", "/api/v1/devices/{id}/start")];

/// A body that the call would take from its owner.
fn fitting_body(path: &str, id: &str) -> Option<Value> {
    Some(match path.rsplit('/').find(|part| !part.is_empty())? {
        "pay" => json!({ "option": "EVM" }),
        "status" | "replenishment" => json!({ "invoiceId": id }),
        "feedback" => json!({ "feedback": { "score": 5, "description": "fine" } }),
        _ => json!({}),
    })
}

/// The ids that stand in these objects.
fn ids_in<'a>(objects: impl IntoIterator<Item = &'a Value>) -> Vec<String> {
    let values = objects.into_iter().flat_map(|object| object.as_object().unwrap().values());
    values.filter_map(Value::as_str).filter(|text| text.len() == 24).map(str::to_owned).collect()
}

on_both_engines! {
    async fn anothers_things_are_404_on_every_route(world) {
        let devices = world.operator.charger("CP-1", 2).await;
        let owner = world.rich_customer(PHONE, 50_000).await;
        let other = world.rich_customer(OTHER, 50_000).await;
        let mut charger = world.raw("CP-1", Version::V16).await;

        // One charge that is over and not paid.
        owner.start(&devices[0]).await.ok();
        let (tag, _) = charger.remote_start().await;
        let transaction = charger.start(1, &tag, 0).await;
        charger.stop(transaction, 1_000).await;
        charger.status(1, "Available").await;
        let purchase = owner.finish(&devices[0]).await;
        world.billed(&purchase, 1_000).await;
        let sessions = world.operator.all("/sessions").await;

        let customers = world.operator.all("/customers").await;
        let mut ids = vec![purchase.clone(), devices[0].clone(), owner.login["nats"]["user"].as_str().unwrap().to_owned()];
        ids.extend(ids_in(&sessions));
        ids.extend(ids_in(owner.get("/user/sessions").await.ok().as_array().unwrap()));
        ids.extend(customers.iter().filter(|customer| customer["phone"] == PHONE).flat_map(|one| ids_in([one])));
        ids.sort();
        ids.dedup();
        assert!(ids.len() >= 5, "{ids:?}");

        let document = world.http.get(format!("{}/openapi.json", world.operator.base)).send().await.unwrap();
        let document: Value = document.json().await.unwrap();
        let mut tried = 0;
        for (path, methods) in document["paths"].as_object().unwrap() {
            let Some(below) = path.strip_prefix("/api/v1") else { continue };
            for method in methods.as_object().unwrap().keys() {
                let in_body = path.ends_with("/replenishment") || path.ends_with("/status");
                if !(path.contains('{') || in_body) || PUBLIC.contains(&(method, path)) {
                    continue;
                }
                let method = Method::from_bytes(method.to_uppercase().as_bytes()).unwrap();
                for id in &ids {
                    let filled = below.split('/').map(|part| if part.starts_with('{') { id } else { part });
                    let filled: Vec<&str> = filled.collect();
                    let answer = other.send(method.clone(), &filled.join("/"), fitting_body(path, id)).await;
                    assert_eq!(answer.status, 404, "{method} {path} with {id}: {answer:?}");
                    tried += 1;
                }
            }
        }
        assert!(tried >= 5 * ids.len(), "only {tried} calls were tried");

        // Nothing of it did anything, and the owner can do all of it.
        assert_eq!(owner.purchase(&purchase).await["status"], "unpaid");
        assert!(owner.purchase(&purchase).await["feedback"].is_null());
        owner.pay(&purchase, "EVM").await.ok();
        let status = format!("/purchases/{purchase}/status");
        assert_eq!(owner.post(&status, fitting_body(&status, &purchase)).await.ok()["status"], "success");
    }
}
