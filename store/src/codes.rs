//! Phone codes, and who is known with a phone. Codes and networks are stored as keyed hashes only.
//!
//! Each who asks has a code of their own, good wherever it is shown, and each who guesses has tries of their own: what a
//! stranger asks for or guesses takes nothing from the phone's owner.

use evm_domain::Timestamp;
use sqlx::QueryBuilder;

use crate::Result;
use crate::engine::{Db, on};

/// Networks that are remembered of one phone.
const MOST_NETWORKS: i64 = 16;

/// Who asks or guesses.
#[derive(Debug, Clone)]
pub struct Requester {
    /// A keyed hash of the phone and a network, or of a login of that phone.
    pub who: String,
    /// Whether the phone's customer was logged in there before.
    pub known: bool,
}

/// How often one code may be tried.
#[derive(Debug, Clone, Copy)]
pub struct Tries {
    /// By who asked for it, and by each who is known.
    pub own: i32,
    /// By all others together.
    pub others: i32,
}

/// Where a requester stands with a phone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    /// There is a code that they may still try.
    pub guessable: bool,
    /// They are known, or asked for a code that is good: their tries are their own.
    pub own: bool,
}

/// Stores the newest code that this requester asked for; their older one is dead with it, and no other.
pub async fn put(
    db: &mut Db,
    phone: &str,
    asker: &Requester,
    code_hash: &str,
    now: Timestamp,
    lives_ms: i64,
) -> Result<()> {
    on!(db, conn => {
        sqlx::query("DELETE FROM phone_codes WHERE phone = $1 AND asker = $2")
            .bind(phone)
            .bind(&asker.who)
            .execute(&mut *conn)
            .await?;
        sqlx::query(
            "INSERT INTO phone_codes (phone, asker, code_hash, created_at, expires_at) VALUES ($1, $2, $3, $4, $5)",
        )
        .bind(phone)
        .bind(&asker.who)
        .bind(code_hash)
        .bind(now.0)
        .bind(now.plus_millis(lives_ms).0)
        .execute(conn)
        .await?;
    });
    Ok(())
}

#[derive(sqlx::FromRow)]
struct Good {
    asker: String,
    code_hash: String,
}

/// The good codes of a phone, locked until the transaction ends.
async fn good(db: &mut Db, phone: &str, now: Timestamp) -> Result<Vec<Good>> {
    let lock = db.for_update();
    Ok(on!(db, conn => {
        let mut sql = QueryBuilder::new("SELECT s.asker, s.code_hash FROM phone_codes s WHERE s.phone = ");
        sql.push_bind(phone).push(" AND s.expires_at > ").push_bind(now.0).push(" ORDER BY s.asker").push(lock);
        sql.build_query_as().fetch_all(conn).await?
    }))
}

impl Requester {
    /// Under whose name a try of a code counts, and how many there may be.
    fn counts(&self, asker: &str, most: Tries) -> (&str, i32) {
        if self.known || self.who == asker { (&self.who, most.own) } else { ("", most.others) }
    }
}

/// Where a requester stands with a phone. Counts nothing.
pub async fn standing(
    db: &mut Db,
    phone: &str,
    requester: &Requester,
    most: Tries,
    now: Timestamp,
) -> Result<Standing> {
    let mut standing = Standing { guessable: false, own: requester.known };
    for code in good(db, phone, now).await? {
        let (guesser, most) = requester.counts(&code.asker, most);
        let tried: Option<(i32,)> = on!(&mut *db, conn => {
            sqlx::query_as("SELECT tries FROM phone_code_tries WHERE phone = $1 AND asker = $2 AND guesser = $3")
                .bind(phone)
                .bind(&code.asker)
                .bind(guesser)
                .fetch_optional(conn)
                .await?
        });
        standing.guessable |= tried.is_none_or(|(tries,)| tries < most);
        standing.own |= code.asker == requester.who;
    }
    Ok(standing)
}

/// Counts a try of every good code that the requester may still try, and uses up the one that it is. `false`: wrong, old,
/// or tried too often by them.
pub async fn use_up(
    db: &mut Db,
    phone: &str,
    code_hash: &str,
    requester: &Requester,
    most: Tries,
    now: Timestamp,
) -> Result<bool> {
    let mut right = None;
    for code in good(db, phone, now).await? {
        let (guesser, most) = requester.counts(&code.asker, most);
        let counted = on!(&mut *db, conn => {
            sqlx::query(
                "INSERT INTO phone_code_tries (phone, asker, guesser, tries) VALUES ($1, $2, $3, 1) \
                 ON CONFLICT (phone, asker, guesser) DO UPDATE SET tries = phone_code_tries.tries + 1 \
                 WHERE phone_code_tries.tries < $4",
            )
            .bind(phone)
            .bind(&code.asker)
            .bind(guesser)
            .bind(most)
            .execute(conn)
            .await?
            .rows_affected()
        });
        if counted > 0 && code.code_hash == code_hash {
            right = Some(code.asker);
        }
    }
    let Some(asker) = right else { return Ok(false) };
    on!(db, conn => {
        sqlx::query("DELETE FROM phone_codes WHERE phone = $1 AND asker = $2")
            .bind(phone)
            .bind(asker)
            .execute(conn)
            .await?;
    });
    Ok(true)
}

/// Whether the phone's customer was logged in from this network before.
pub async fn is_known(db: &mut Db, phone: &str, network: &str) -> Result<bool> {
    let (known,): (i64,) = on!(db, conn => {
        sqlx::query_as("SELECT COUNT(*) FROM known_networks WHERE phone = $1 AND network = $2")
            .bind(phone)
            .bind(network)
            .fetch_one(conn)
            .await?
    });
    Ok(known > 0)
}

/// Remembers that the phone's customer is logged in from this network; of too many the oldest is forgotten.
pub async fn remember(db: &mut Db, phone: &str, network: &str, now: Timestamp) -> Result<()> {
    on!(db, conn => {
        sqlx::query(
            "INSERT INTO known_networks (phone, network, seen_at) VALUES ($1, $2, $3) \
             ON CONFLICT (phone, network) DO UPDATE SET seen_at = excluded.seen_at",
        )
        .bind(phone)
        .bind(network)
        .bind(now.0)
        .execute(&mut *conn)
        .await?;
        sqlx::query(
            "DELETE FROM known_networks WHERE phone = $1 AND network NOT IN \
             (SELECT network FROM known_networks WHERE phone = $1 ORDER BY seen_at DESC, network LIMIT $2)",
        )
        .bind(phone)
        .bind(MOST_NETWORKS)
        .execute(conn)
        .await?;
    });
    Ok(())
}

/// Forgets codes that ran out before `codes`, and networks that nobody was seen in since `networks`.
pub async fn forget(db: &mut Db, codes: Timestamp, networks: Timestamp) -> Result<()> {
    on!(db, conn => {
        sqlx::query("DELETE FROM phone_codes WHERE expires_at < $1").bind(codes.0).execute(&mut *conn).await?;
        sqlx::query("DELETE FROM known_networks WHERE seen_at < $1").bind(networks.0).execute(conn).await?;
    });
    Ok(())
}
