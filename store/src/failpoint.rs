//! Points at which a test lets the process die, to see that nothing is lost or done twice.

use std::sync::OnceLock;

/// Dies here, as by a power failure, where `EVM_FAILPOINT` names this point and `EVM_FAILPOINTS_ALLOWED` is `1`; both, so
/// that nobody sets it by mistake.
pub fn failpoint(name: &str) {
    static CHOSEN: OnceLock<Option<String>> = OnceLock::new();
    let chosen = CHOSEN.get_or_init(|| {
        let allowed = std::env::var("EVM_FAILPOINTS_ALLOWED").is_ok_and(|value| value == "1");
        std::env::var("EVM_FAILPOINT").ok().filter(|_| allowed)
    });
    if chosen.as_deref() == Some(name) {
        tracing::error!(name, "dies at a chosen point");
        std::process::abort();
    }
}
