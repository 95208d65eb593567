//! Logins a second: a code is asked for, comes by SMS, and is shown, each by a phone and an address of its own.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, ensure};
use evm_domain::CustomerId;
use evm_store::customers;
use tokio::time::Instant;

use super::LINES;
use super::line::{Line, field};
use super::phones::Phones;
use super::work::{self, Done, Plan, Work};
use crate::bench::{Bench, Engine};
use crate::server::Server;
use crate::table::Table;

/// Logins that are made.
const LOGINS: usize = 3000;

/// A customer who is logged in.
#[derive(Clone)]
pub(crate) struct Customer {
    pub(crate) id: CustomerId,
    /// The value of the header `Authorization`.
    pub(crate) bearer: Arc<str>,
}

/// Measures logins.
pub(crate) async fn run(bench: &Bench, phones: &Arc<Phones>, table: &mut Table) -> anyhow::Result<()> {
    for engine in &bench.engines {
        eprintln!("{LOGINS} logins on {}", engine.name);
        let (done, _) = log_in(engine, phones, LOGINS).await?;
        table.add(done.row("login", LINES, engine.name));
    }
    Ok(())
}

/// New customers who are logged in.
pub(crate) async fn customers(engine: &Engine, phones: &Arc<Phones>, count: usize) -> anyhow::Result<Vec<Customer>> {
    let (_, tokens) = log_in(engine, phones, count).await?;
    let store = engine.open().await?;
    let mut db = store.read().await?;
    let mut all = Vec::with_capacity(count);
    for (phone, token) in tokens {
        let id = customers::id_of_phone(&mut db, &phone).await?.context("a customer is not in the store")?;
        all.push(Customer { id, bearer: format!("Bearer {token}").into() });
    }
    drop(db);
    store.close().await;
    Ok(all)
}

/// Phones and their tokens.
type Tokens = Vec<(String, String)>;

async fn log_in(engine: &Engine, phones: &Arc<Phones>, count: usize) -> anyhow::Result<(Done, Tokens)> {
    let server = Server::whole(engine, phones.gateway).await?;
    let work = Login { phones: phones.clone(), tokens: Arc::default() };
    let done = work::run(&server, Plan { lines: LINES, pieces: 0..count, rate: None }, &work).await?;
    server.stop().await?;
    let tokens = std::mem::take(&mut *work.tokens.lock().unwrap_or_else(PoisonError::into_inner));
    ensure!(tokens.len() == count, "{} of {count} are logged in", tokens.len());
    Ok((done, tokens))
}

#[derive(Clone)]
struct Login {
    phones: Arc<Phones>,
    tokens: Arc<Mutex<Tokens>>,
}

impl Work for Login {
    async fn one(&self, line: &mut Line, _: usize) -> anyhow::Result<Duration> {
        let phone = self.phones.take();
        let (number, address) = (phone.number.clone(), phone.address.clone());
        let from = [("x-forwarded-for", address.as_str())];
        let asked = Instant::now();
        line.post("/api/v1/user/otp-request", &from, format!(r#"{{"phone":"{number}"}}"#)).await?;
        let code = phone.code().await?;
        let shown = format!(r#"{{"phone":"{number}","code":"{code}"}}"#);
        let answer = line.post("/api/v1/user/otp-check", &from, shown).await?;
        let took = asked.elapsed();
        let token = field(&answer, "token").context("a login without a token")?.to_owned();
        self.tokens.lock().unwrap_or_else(PoisonError::into_inner).push((number, token));
        Ok(took)
    }
}
