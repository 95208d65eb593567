//! Passwords of stations, as keyed hashes only. Hexadecimal digits of 16 to 20 bytes, as 1.6 has its AuthorizationKey set and
//! shown (security whitepaper, `AuthorizationKey`), are the bytes that they stand for.

use std::borrow::Cow;

use evm_domain::{ChargerId, Timestamp};
use hmac::{Hmac, Mac};
use sqlx::QueryBuilder;

use crate::Result;
use crate::engine::{Db, on};
use crate::rows::push_is_one_of;

/// Bytes of a 1.6 AuthorizationKey.
const KEY_BYTES: std::ops::RangeInclusive<usize> = 16..=20;
/// Most earlier passwords of a station.
const MOST_EARLIER: usize = 8;

/// The keyed hash under which a charger's password is stored: fast, for the keys are long and random and a
/// thousand stations may return at once.
pub fn password_hash(server_secret: &[u8; 32], password: &[u8]) -> String {
    hash(server_secret, &plain(password))
}

/// The hashes under which this password may be stored: as [`password_hash`] makes it, and as it was made when digits were
/// kept as they were given.
pub fn password_hashes(server_secret: &[u8; 32], password: &[u8]) -> [String; 4] {
    let plain = plain(password);
    let digits = hex::encode(&plain);
    [&plain, password, digits.as_bytes(), digits.to_ascii_uppercase().as_bytes()].map(|form| hash(server_secret, form))
}

fn hash(server_secret: &[u8; 32], bytes: &[u8]) -> String {
    let Ok(mut mac) = Hmac::<sha2::Sha256>::new_from_slice(server_secret) else { unreachable!("HMAC takes any key") };
    mac.update(b"charger:");
    mac.update(bytes);
    hex::encode(mac.finalize().into_bytes())
}

/// The bytes that digits stand for.
fn plain(password: &[u8]) -> Cow<'_, [u8]> {
    match hex::decode(password) {
        Ok(bytes) if KEY_BYTES.contains(&bytes.len()) => bytes.into(),
        _ => password.into(),
    }
}

/// Whether another station than `identity` has this password, or an earlier one that still lets it in.
pub async fn password_is_taken(db: &mut Db, identity: &str, hashes: &[String]) -> Result<bool> {
    let row: Option<(String,)> = on!(db, conn => {
        let mut sql = QueryBuilder::new("SELECT id FROM chargers WHERE identity <> ");
        sql.push_bind(identity).push(" AND (password_hash");
        push_is_one_of(&mut sql, hashes.iter().cloned());
        sql.push(" OR id IN (SELECT charger_id FROM earlier_passwords WHERE hash");
        push_is_one_of(&mut sql, hashes.iter().cloned());
        sql.push(")) LIMIT 1");
        sql.build_query_as().fetch_optional(conn).await?
    });
    Ok(row.is_some())
}

/// Earlier passwords that let a station in, the oldest first.
pub async fn earlier_passwords(db: &mut Db, charger: ChargerId) -> Result<Vec<String>> {
    let rows: Vec<(String,)> = on!(db, conn => {
        sqlx::query_as("SELECT hash FROM earlier_passwords WHERE charger_id = $1 ORDER BY replaced_at, hash")
            .bind(charger.to_string())
            .fetch_all(conn)
            .await?
    });
    Ok(rows.into_iter().map(|(hash,)| hash).collect())
}

/// Keeps the password that is about to be replaced by `new`: the station may not hear of the new one before the program
/// dies. Where none is asked for any more, none is kept.
pub(super) async fn changes(db: &mut Db, identity: &str, new: Option<&str>, now: Timestamp) -> Result<()> {
    on!(&mut *db, conn => {
        sqlx::query(
            "INSERT INTO earlier_passwords (charger_id, hash, replaced_at) SELECT id, password_hash, $3 FROM chargers \
             WHERE identity = $1 AND password_hash <> $2 ON CONFLICT (charger_id, hash) DO NOTHING",
        )
        .bind(identity)
        .bind(new)
        .bind(now.0)
        .execute(&mut *conn)
        .await?;
        sqlx::query(
            "DELETE FROM earlier_passwords WHERE charger_id IN (SELECT id FROM chargers WHERE identity = $1) \
             AND (CAST($2 AS TEXT) IS NULL OR hash = $2)",
        )
        .bind(identity)
        .bind(new)
        .execute(conn)
        .await?;
    });
    bound(db, identity).await
}

/// Of too many, the oldest but one goes: the oldest is the one that the station used last.
async fn bound(db: &mut Db, identity: &str) -> Result<()> {
    let rows: Vec<(String, String)> = on!(&mut *db, conn => {
        sqlx::query_as(
            "SELECT e.charger_id, e.hash FROM earlier_passwords e JOIN chargers c ON c.id = e.charger_id \
             WHERE c.identity = $1 ORDER BY e.replaced_at, e.hash",
        )
        .bind(identity)
        .fetch_all(conn)
        .await?
    });
    if let Some((charger, hash)) = rows.get(1).filter(|_| rows.len() > MOST_EARLIER) {
        on!(db, conn => {
            sqlx::query("DELETE FROM earlier_passwords WHERE charger_id = $1 AND hash = $2")
                .bind(charger)
                .bind(hash)
                .execute(conn)
                .await?;
        });
    }
    Ok(())
}

/// A station has shown this password: those before it are over.
pub(super) async fn was_used(db: &mut Db, charger: ChargerId, used: &str) -> Result<()> {
    on!(db, conn => {
        sqlx::query(
            "DELETE FROM earlier_passwords WHERE charger_id = $1 AND hash <> $2 AND ( \
             EXISTS (SELECT 1 FROM chargers c WHERE c.id = $1 AND c.password_hash = $2) OR replaced_at < \
             (SELECT e.replaced_at FROM earlier_passwords e WHERE e.charger_id = $1 AND e.hash = $2))",
        )
        .bind(charger.to_string())
        .bind(used)
        .execute(conn)
        .await?;
    });
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: [u8; 32] = [9; 32];

    fn is_right(shown: &[u8], stored: &str) -> bool {
        password_hashes(&SECRET, shown).iter().any(|hash| hash == stored)
    }

    #[test]
    fn digits_are_the_bytes_that_they_stand_for() {
        let bytes = b"\x00\xff0123456789abcd";
        for digits in
            ["00FF3031323334353637383961626364", "00ff3031323334353637383961626364", "00Ff3031323334353637383961626364"]
        {
            assert_eq!(password_hash(&SECRET, digits.as_bytes()), password_hash(&SECRET, bytes));
            assert!(is_right(digits.as_bytes(), &password_hash(&SECRET, bytes)));
            assert!(is_right(bytes, &password_hash(&SECRET, digits.as_bytes())));
        }
        assert!(!is_right(b"\x00\xff0123456789abce", &password_hash(&SECRET, bytes)));
        assert!(!is_right(b"", &password_hash(&SECRET, bytes)));
        // Too few or too many for a key: a text like any other.
        let (short, long) = ("ab".repeat(15), "ab".repeat(21));
        for text in [short, long] {
            assert_ne!(
                password_hash(&SECRET, text.as_bytes()),
                password_hash(&SECRET, &hex::decode(&text).unwrap_or_default())
            );
        }
    }

    #[test]
    fn hashes_of_digits_as_they_were_given_stay_good() {
        for digits in ["00FF3031323334353637383961626364", "00ff3031323334353637383961626364"] {
            let stored = hash(&SECRET, digits.as_bytes());
            assert!(is_right(b"\x00\xff0123456789abcd", &stored));
            assert!(is_right(digits.as_bytes(), &stored));
            assert!(is_right(digits.to_ascii_uppercase().as_bytes(), &stored));
        }
    }
}
