//! NATS' JSON Web Tokens (`ed25519-nkey`): read the server's question, write our answer.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use nkeys::KeyPair;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::BusError;

const HEADER: &str = r#"{"typ":"JWT","alg":"ed25519-nkey"}"#;

/// What a server asks: whether this login may come in.
#[derive(Debug, Deserialize)]
pub(super) struct Question {
    /// Public key of the server, with which it signed.
    pub(super) iss: String,
    pub(super) aud: String,
    /// UNIX seconds.
    pub(super) exp: Option<u64>,
    pub(super) nats: Ask,
}

#[derive(Debug, Deserialize)]
pub(super) struct Ask {
    pub(super) server_id: Server,
    #[serde(default)]
    pub(super) client_info: ClientInfo,
    /// Public key made for this login; the answer is for it alone.
    pub(super) user_nkey: String,
    #[serde(default)]
    pub(super) connect_opts: Login,
}

#[derive(Debug, Deserialize)]
pub(super) struct Server {
    pub(super) id: String,
}

/// The connection.
#[derive(Debug, Default, Deserialize)]
pub(super) struct ClientInfo {
    /// The number that the server gave it.
    #[serde(default)]
    pub(super) id: u64,
}

/// What the client sent in its CONNECT. No `Debug`, because of the secret.
#[derive(Default, Deserialize)]
pub(super) struct Login {
    #[serde(default)]
    pub(super) user: String,
    #[serde(default)]
    pub(super) pass: String,
}

impl std::fmt::Debug for Login {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Login")
    }
}

/// Reads a question, and checks that the server whose id it carries has signed it.
pub(super) fn read(token: &[u8]) -> Result<Question, BusError> {
    let wrong = |what: &str| BusError::Config(format!("authorization request: {what}"));
    let token = std::str::from_utf8(token).map_err(|_| wrong("not text"))?;
    let (signed, signature) = token.rsplit_once('.').ok_or_else(|| wrong("not a JWT"))?;
    let (_, claims) = signed.split_once('.').ok_or_else(|| wrong("not a JWT"))?;
    let claims = BASE64.decode(claims).map_err(|_| wrong("not base64"))?;
    let signature = BASE64.decode(signature).map_err(|_| wrong("not base64"))?;
    let question: Question = serde_json::from_slice(&claims).map_err(|error| wrong(&error.to_string()))?;
    if question.aud != "nats-authorization-request" || question.iss != question.nats.server_id.id {
        return Err(wrong("not from a server"));
    }
    KeyPair::from_public_key(&question.iss)
        .and_then(|server| server.verify(signed.as_bytes(), &signature))
        .map_err(|_| wrong("wrong signature"))?;
    Ok(question)
}

/// The answer that lets the asked login in: it may hear what lies below `topic` and say nothing.
pub(super) fn grant(
    issuer: &KeyPair,
    question: &Question,
    account: &str,
    topic: &str,
    now: u64,
    lifetime: u64,
) -> Result<String, BusError> {
    let user = json!({
        "iss": issuer.public_key(),
        "sub": question.nats.user_nkey,
        "aud": account,
        "name": question.nats.connect_opts.user,
        "iat": now,
        "exp": now.saturating_add(lifetime),
        "nats": {
            "type": "user",
            "version": 2,
            "sub": { "allow": [format!("{topic}.>")] },
            "pub": { "deny": [">"] },
            // No limit here: the server does not enforce these for callouts. The account's count.
            "subs": -1, "data": -1, "payload": -1,
        },
    });
    let user = sign(issuer, user)?;
    answer(issuer, question, now, json!({ "jwt": user }))
}

/// The answer that keeps the asked login out. The reason goes to the server's log only.
pub(super) fn refuse(issuer: &KeyPair, question: &Question, reason: &str, now: u64) -> Result<String, BusError> {
    answer(issuer, question, now, json!({ "error": reason }))
}

fn answer(issuer: &KeyPair, question: &Question, now: u64, mut nats: Value) -> Result<String, BusError> {
    nats["type"] = "authorization_response".into();
    nats["version"] = 2.into();
    let claims = json!({
        "iss": issuer.public_key(),
        "sub": question.nats.user_nkey,
        "aud": question.nats.server_id.id,
        "iat": now,
        "nats": nats,
    });
    sign(issuer, claims)
}

fn sign(issuer: &KeyPair, mut claims: Value) -> Result<String, BusError> {
    let mut id = [0; 16];
    getrandom::fill(&mut id).map_err(|error| BusError::Config(error.to_string()))?;
    claims["jti"] = BASE64.encode(id).into();
    let signed = format!("{}.{}", BASE64.encode(HEADER), BASE64.encode(claims.to_string()));
    let signature = issuer.sign(signed.as_bytes()).map_err(|error| BusError::Config(error.to_string()))?;
    Ok(format!("{signed}.{}", BASE64.encode(signature)))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn question(server: &KeyPair, signer: &KeyPair, audience: &str) -> String {
        let claims = json!({
            "iss": server.public_key(), "aud": audience, "exp": 12,
            "nats": {
                "server_id": { "id": server.public_key(), "name": "n" },
                "user_nkey": "UABC",
                "connect_opts": { "user": "session", "pass": "secret", "protocol": 1 },
            },
        });
        sign(signer, claims).unwrap()
    }

    #[test]
    fn a_servers_question_is_read() {
        let server = KeyPair::new_server();
        let token = question(&server, &server, "nats-authorization-request");
        let question = read(token.as_bytes()).unwrap();
        assert_eq!(question.nats.connect_opts.user, "session");
        assert_eq!(question.nats.connect_opts.pass, "secret");
        assert_eq!((question.nats.user_nkey.as_str(), question.exp), ("UABC", Some(12)));
    }

    #[test]
    fn nobody_else_can_ask() {
        let (server, other) = (KeyPair::new_server(), KeyPair::new_server());
        let forged = question(&server, &other, "nats-authorization-request");
        let stray = question(&server, &server, "other");
        for wrong in [forged.as_bytes(), stray.as_bytes(), b"", b"a.b", b"a.b.c", b"\xff"] {
            assert!(read(wrong).is_err());
        }
    }

    #[test]
    fn grants_are_signed_by_the_issuer_for_the_asked_key() {
        let (server, issuer) = (KeyPair::new_server(), KeyPair::new_account());
        let token = question(&server, &server, "nats-authorization-request");
        let question = read(token.as_bytes()).unwrap();
        let outer = grant(&issuer, &question, "CUSTOMERS", "ev.me", 100, 60).unwrap();
        let outer = claims(&issuer, &outer);
        assert_eq!(outer["aud"], server.public_key());
        let inner = claims(&issuer, outer["nats"]["jwt"].as_str().unwrap());
        assert_eq!((&inner["sub"], &inner["aud"]), (&json!("UABC"), &json!("CUSTOMERS")));
        assert_eq!(inner["exp"], 160);
        assert_eq!(inner["nats"]["sub"]["allow"], json!(["ev.me.>"]));
        assert_eq!(inner["nats"]["pub"]["deny"], json!([">"]));
        let no = refuse(&issuer, &question, "no", 100).unwrap();
        assert_eq!(claims(&issuer, &no)["nats"]["error"], "no");
    }

    fn claims(issuer: &KeyPair, token: &str) -> Value {
        let (signed, signature) = token.rsplit_once('.').unwrap();
        issuer.verify(signed.as_bytes(), &BASE64.decode(signature).unwrap()).unwrap();
        let claims = BASE64.decode(signed.split_once('.').unwrap().1).unwrap();
        serde_json::from_slice(&claims).unwrap()
    }
}
