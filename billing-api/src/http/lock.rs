//! Keeps what a charger answered to the operator from who reads the database: it is stored sealed with a key that the
//! operator's token gives, which is not in there.

use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};

use crate::secrets::hash;

/// What is sealed begins so; JSON does not.
const SEALED: &str = "sealed:";

/// Seals and opens.
#[derive(Clone)]
pub(crate) struct Lock(LessSafeKey);

impl std::fmt::Debug for Lock {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Lock")
    }
}

impl Lock {
    /// The lock of whoever has the operator's token.
    pub(crate) fn of_operator(server_secret: &[u8; 32], admin_token: &str) -> Self {
        let bytes = hex::decode(hash(server_secret, "operator-answers", admin_token)).unwrap_or_default();
        let Ok(key) = UnboundKey::new(&CHACHA20_POLY1305, &bytes) else { unreachable!("an HMAC-SHA-256 is a key") };
        Self(LessSafeKey::new(key))
    }

    /// Seals a text for one place, its `context`.
    pub(crate) fn seal(&self, context: &str, text: &str) -> Option<String> {
        let nonce = evm_store::random::<NONCE_LEN>();
        let mut bytes = text.as_bytes().to_vec();
        self.0.seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::from(context), &mut bytes).ok()?;
        Some(format!("{SEALED}{}", STANDARD_NO_PAD.encode([&nonce[..], &bytes].concat())))
    }

    /// Opens what was sealed for the same place; what was never sealed stays as it is. `None`: sealed with another key.
    pub(crate) fn open(&self, context: &str, stored: String) -> Option<String> {
        let Some(sealed) = stored.strip_prefix(SEALED) else { return Some(stored) };
        let bytes = STANDARD_NO_PAD.decode(sealed).ok()?;
        let (nonce, rest) = bytes.split_at_checked(NONCE_LEN)?;
        let mut rest = rest.to_vec();
        let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
        let text = self.0.open_in_place(nonce, Aad::from(context), &mut rest).ok()?;
        String::from_utf8(text.to_vec()).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_same_token_opens_it_and_only_in_its_place() {
        let (lock, other) = (Lock::of_operator(&[7; 32], "token"), Lock::of_operator(&[7; 32], "another"));
        let sealed = lock.seal("key-1", r#"{"result":"secret"}"#).unwrap_or_default();
        assert!(sealed.starts_with(SEALED) && !sealed.contains("secret"), "{sealed}");
        assert_ne!(lock.seal("key-1", r#"{"result":"secret"}"#).unwrap_or_default(), sealed);
        assert_eq!(lock.open("key-1", sealed.clone()).as_deref(), Some(r#"{"result":"secret"}"#));
        assert_eq!(lock.open("key-2", sealed.clone()), None);
        assert_eq!(other.open("key-1", sealed.clone()), None);
        assert_eq!(lock.open("key-1", sealed[..20].to_owned()), None);
        assert_eq!(other.open("key-1", "{}".into()).as_deref(), Some("{}"));
    }
}
