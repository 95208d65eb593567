//! How often codes are sent and tried. Nothing that a stranger does takes a code or a try from a phone's owner: who was
//! logged in at the same place before, or shows a login of that phone, is counted apart. What that adds up to stands in
//! docs/operations.md.

use std::net::IpAddr;

use axum::http::HeaderMap;
use evm_store::codes::{self, Requester, Tries};
use evm_store::limits::Limit;
use evm_store::{Db, customers};

use crate::App;
use crate::http::problem::Answer;
use crate::http::{address, auth};
use crate::secrets::{hash, known_network};

const MINUTE_MS: i64 = 60_000;
const HOUR_MS: i64 = 60 * MINUTE_MS;
const DAY_MS: i64 = 24 * HOUR_MS;

/// How often one code may be tried.
pub(super) const TRIES: Tries = Tries { own: 5, others: 3 };

/// Codes an hour that a network may ask for, and at least this many a wider one, whatever part of all that is.
const OF_A_NETWORK: i64 = 10;

/// Who asks: a login of this phone that they show, or the network they come from.
pub(super) async fn requester(
    app: &App,
    db: &mut Db,
    phone: &str,
    from: IpAddr,
    headers: &HeaderMap,
) -> Answer<Requester> {
    let who = known_network(&app.config.server_secret, phone, from);
    let known = codes::is_known(db, phone, &who).await?;
    let Some(login) = auth::login_of(app, db, headers).await? else { return Ok(Requester { who, known }) };
    let own = customers::by_id(db, login.customer).await?.is_some_and(|customer| customer.phone == phone);
    if !own {
        return Ok(Requester { who, known });
    }
    let who = hash(&app.config.server_secret, "requester", &format!("{phone}:login:{}", login.id));
    Ok(Requester { who, known: true })
}

/// The names under which a requester, their networks, a phone and everybody together are counted.
pub(super) struct Keys {
    known: bool,
    minute: String,
    own: String,
    /// Their network, and two wider ones around it.
    networks: [String; 3],
    /// The phone, asked for from the first of the wider ones.
    near: String,
    phone: String,
}

impl Keys {
    fn new(kind: &str, phone: &str, requester: &Requester, from: IpAddr) -> Self {
        let [network, near, wide] = address::networks(from);
        let named = |network| format!("{kind}:address:{network}");
        Self {
            known: requester.known,
            minute: minute(requester),
            own: format!("{kind}:own:{}", requester.who),
            near: format!("{kind}:near:{phone}:{near}"),
            phone: format!("{kind}:phone:{phone}"),
            networks: [named(network), named(near), named(wide)],
        }
    }

    /// For requests of codes.
    pub(super) fn of_requests(phone: &str, requester: &Requester, from: IpAddr) -> Self {
        Self::new("code", phone, requester, from)
    }

    /// For wrong codes.
    pub(super) fn of_tries(phone: &str, requester: &Requester, from: IpAddr) -> Self {
        Self::new("try", phone, requester, from)
    }

    /// Each who asks gets another code after a minute, and 3 in 15 minutes. Who is known gets 8 a day, and all of
    /// `per_hour` is theirs. Strangers get for a phone 3 in 15 minutes and 5 a day from one network and its neighbours, 5
    /// and 8 from all; 10 an hour
    /// from one network, a tenth of `per_hour` from its neighbours, a fourth from a provider, three fourths in all.
    pub(super) fn requests(&self, per_hour: u32) -> Vec<Limit<'_>> {
        let per_hour = i64::from(per_hour);
        let mut limits = vec![limit(&self.minute, 1, MINUTE_MS), limit(&self.own, 3, 15 * MINUTE_MS)];
        if self.known {
            limits.push(limit(&self.own, 8, DAY_MS));
        } else {
            let [network, near, wide] = &self.networks;
            limits.extend([
                limit(network, OF_A_NETWORK, HOUR_MS),
                limit(near, (per_hour / 10).max(OF_A_NETWORK), HOUR_MS),
                limit(wide, (per_hour / 4).max(OF_A_NETWORK), HOUR_MS),
                limit(&self.near, 3, 15 * MINUTE_MS),
                limit(&self.near, 5, DAY_MS),
                limit(&self.phone, 5, 15 * MINUTE_MS),
                limit(&self.phone, 8, DAY_MS),
                limit("code:strangers", per_hour - per_hour / 4, HOUR_MS),
            ]);
        }
        limits.push(limit("code:all", per_hour, HOUR_MS));
        limits
    }

    /// Beside the few tries of each code: 15 in 15 minutes of who is known or asked for a code themself (`own`), and of all
    /// others together for a phone; of strangers 60 an hour from a network, 120 and 600 from wider ones. Without anything
    /// to guess the phone is not counted: who tries then must not keep others out.
    pub(super) fn tries(&self, own: bool, guessable: bool) -> Vec<Limit<'_>> {
        let mut limits = Vec::new();
        if guessable {
            limits.push(limit(if own { &self.own } else { &self.phone }, 15, 15 * MINUTE_MS));
        }
        if !self.known {
            let [network, near, wide] = &self.networks;
            limits.extend([limit(network, 60, HOUR_MS), limit(near, 120, HOUR_MS), limit(wide, 600, HOUR_MS)]);
        } else if !guessable {
            limits.push(limit(&self.own, 60, HOUR_MS));
        }
        limits
    }
}

/// The name under which the minute between two codes is counted; a login ends it.
pub(super) fn minute(requester: &Requester) -> String {
    format!("code:minute:{}", requester.who)
}

fn limit(key: &str, most: i64, window_ms: i64) -> Limit<'_> {
    Limit { key, most, window_ms }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn keys(known: bool) -> Keys {
        let requester = Requester { who: "w".into(), known };
        Keys::of_requests("+97686661488", &requester, "2001:db8:1:2::3".parse().unwrap())
    }

    #[test]
    fn who_is_known_shares_nothing_with_strangers_but_what_all_may_send() {
        let (known, stranger) = (keys(true), keys(false));
        let names = |limits: Vec<Limit<'_>>| -> std::collections::BTreeSet<String> {
            limits.iter().map(|limit| limit.key.to_owned()).collect()
        };
        assert_eq!(names(known.requests(500)), ["code:all", "code:minute:w", "code:own:w"].map(str::to_owned).into());
        assert_eq!(names(known.tries(true, true)), ["code:own:w".to_owned()].into());
        let wide: Vec<i64> = stranger.requests(500).iter().map(|limit| limit.most).collect();
        assert_eq!(wide, [1, 3, 10, 50, 125, 3, 5, 5, 8, 375, 500]);
        let small: Vec<i64> = stranger.requests(3).iter().map(|limit| limit.most).collect();
        assert_eq!(small[2..5], [10, 10, 10]);
        assert_eq!(small[9..], [3, 3]);
    }
}
