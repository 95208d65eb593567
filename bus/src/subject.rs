//! Names of subjects. Whoever sends and whoever listens take them from here.

use std::fmt::Write;

use crate::BusError;

/// Tells the relays of all nodes that the outbox has something new. The payload says nothing.
pub const OUTBOX_HINT: &str = "hint.outbox";

/// Tells all nodes that a login is over, so that its streams and connections end. The payload is the login's id.
pub const LOGIN_ENDED: &str = "hint.login-ended";

/// Longest subject in bytes, so that it fits a control line of the NATS protocol.
const MAX_SUBJECT: usize = 2048;

/// Commands for the socket of this charger that was given this epoch.
pub fn command(charger_identity: &str, epoch: i64) -> String {
    format!("cmd.{}.{epoch}", token(charger_identity))
}

/// Where a charger's newest epoch is announced, so that older sockets of it on other nodes close.
pub fn charger_control(charger_identity: &str) -> String {
    format!("ctl.{}", token(charger_identity))
}

/// The event `name` of the customer who owns `topic`.
pub fn customer(topic: &str, name: &str) -> String {
    format!("{topic}.{name}")
}

/// Whether this may be a customer's topic: `ev.` and 1 to 64 letters, digits, `-` or `_`.
pub fn valid_topic(topic: &str) -> bool {
    topic.strip_prefix("ev.").is_some_and(|name| {
        (1..=64).contains(&name.len())
            && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
    })
}

/// Any text as one token: letters, digits and `-` stay, every other byte becomes `_` and two hexadecimal digits.
/// Different texts give different tokens. Nothing else begins with a lone `_`, so that stands for the empty text.
fn token(text: &str) -> String {
    if text.is_empty() {
        return "_".to_owned();
    }
    let mut token = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || byte == b'-' {
            token.push(char::from(byte));
        } else {
            // Writing to a String cannot fail.
            let _ = write!(token, "_{byte:02X}");
        }
    }
    token
}

/// A subject one can publish on: tokens between dots, none empty, no wildcard.
pub(crate) fn is_literal(subject: &str) -> bool {
    subject.len() <= MAX_SUBJECT && subject.split('.').all(is_token)
}

/// A subject one can subscribe to: a literal one, or one whose last token is `*` or `>`.
pub(crate) fn is_pattern(subject: &str) -> bool {
    match subject.rsplit_once('.') {
        Some((prefix, "*" | ">")) => is_literal(prefix),
        _ => is_literal(subject),
    }
}

fn is_token(token: &str) -> bool {
    !token.is_empty() && !token.chars().any(|c| c == '*' || c == '>' || c.is_whitespace() || c.is_control())
}

pub(crate) fn check_literal(subject: &str) -> Result<(), BusError> {
    if is_literal(subject) { Ok(()) } else { Err(BusError::BadSubject(subject.to_owned())) }
}

pub(crate) fn check_pattern(subject: &str) -> Result<(), BusError> {
    if is_pattern(subject) { Ok(()) } else { Err(BusError::BadSubject(subject.to_owned())) }
}

/// Whether the owner of `topic` may subscribe to `pattern`: only to what lies below the own topic.
pub(crate) fn own(topic: &str, pattern: &str) -> bool {
    pattern.strip_prefix(topic).is_some_and(|rest| rest.starts_with('.')) && is_pattern(pattern)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn plain_identities_stay_readable() {
        assert_eq!(command("UB-0001", 7), "cmd.UB-0001.7");
        assert_eq!(charger_control("CP 1.a_b"), "ctl.CP_201_2Ea_5Fb");
        assert_eq!(command("", -1), "cmd._.-1");
        assert_eq!(customer("ev.abc", "CHARGING"), "ev.abc.CHARGING");
    }

    #[test]
    fn topics_are_one_random_token_below_ev() {
        assert!(valid_topic("ev.aZ09-_"));
        let long = format!("ev.{}", "a".repeat(65));
        for wrong in ["", "ev", "ev.", "ev.>", "ev.*", "ev.a.b", "cmd.a", "ev.a b", "ev.é", &long] {
            assert!(!valid_topic(wrong), "{wrong}");
        }
    }

    #[test]
    fn only_the_own_topic_may_be_heard() {
        for good in ["ev.me.CHARGING", "ev.me.*", "ev.me.>"] {
            assert!(own("ev.me", good), "{good}");
        }
        for wrong in [
            "ev.me",
            "ev.me.",
            "ev.mean.X",
            "ev.you.X",
            "ev.>",
            "ev.*",
            "ev.*.X",
            ">",
            "*",
            "*.me.X",
            "_INBOX.>",
            "cmd.>",
            "$SYS.>",
            "ev.me..X",
            "ev.me.>.X",
            "",
        ] {
            assert!(!own("ev.me", wrong), "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn any_identity_is_one_safe_token(identity in any::<String>(), epoch in any::<i64>()) {
            let subject = command(&identity, epoch);
            prop_assert_eq!(subject.split('.').count(), 3);
            prop_assert!(subject.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b)));
            prop_assert!(subject.split('.').all(|token| !token.is_empty()));
        }

        #[test]
        fn different_identities_never_share_a_subject(a in "[aA_0-9. >*-]{0,4}", b in "[aA_0-9. >*-]{0,4}") {
            prop_assert_eq!(a == b, charger_control(&a) == charger_control(&b));
        }

        #[test]
        fn tokens_can_be_read_back(identity in any::<String>()) {
            let token = token(&identity);
            let mut bytes = Vec::new();
            let mut rest = token.as_str();
            while let Some(first) = rest.chars().next() {
                if first == '_' {
                    if rest.len() == 1 { break; }
                    bytes.push(u8::from_str_radix(&rest[1..3], 16).unwrap());
                    rest = &rest[3..];
                } else {
                    bytes.push(first as u8);
                    rest = &rest[1..];
                }
            }
            prop_assert_eq!(String::from_utf8(bytes).unwrap(), identity);
        }
    }
}
