//! Secrets of customers. The store holds keyed hashes of them only.

use std::net::IpAddr;

use hmac::{Hmac, Mac};

use crate::http::address;

/// The keyed hash (HMAC-SHA-256, hexadecimal) under which a secret is stored; `purpose` keeps kinds apart.
pub(crate) fn hash(server_secret: &[u8; 32], purpose: &str, secret: &str) -> String {
    let Ok(mut mac) = Hmac::<sha2::Sha256>::new_from_slice(server_secret) else { unreachable!("HMAC takes any key") };
    mac.update(purpose.as_bytes());
    mac.update(b":");
    mac.update(secret.as_bytes());
    hex::encode(mac.finalize().into_bytes())
}

/// The name under which a network is known with a phone.
pub(crate) fn known_network(server_secret: &[u8; 32], phone: &str, from: IpAddr) -> String {
    hash(server_secret, "requester", &format!("{phone}:{}", address::network(from)))
}

/// A new token of 256 random bits.
pub(crate) fn new_token() -> String {
    hex::encode(evm_store::random::<32>())
}

/// The password for the events of a login. Made from its token, so that `me` can say it again and the store need
/// not know it.
pub(crate) fn events_password(server_secret: &[u8; 32], token: &str) -> String {
    hash(server_secret, "events-password", token)
}
