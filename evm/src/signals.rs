//! SIGTERM and SIGINT: the first asks for an orderly end, the second ends at once.

use std::time::Duration;

use futures_util::FutureExt;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// The exit code of a process that a second signal ended.
const ENDED_AT_ONCE: i32 = 130;
/// Signals that come so soon after the first are the same wish: some supervisors tell the process and its group.
const SAME_WISH: Duration = Duration::from_millis(500);

/// Cancelled at the first signal from now on.
///
/// # Errors
/// Where the system does not let us listen for signals.
pub(crate) fn watch() -> std::io::Result<CancellationToken> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let stop = CancellationToken::new();
    let first = stop.clone();
    tokio::spawn(async move {
        for last in [false, true] {
            let name = tokio::select! {
                _ = terminate.recv() => "SIGTERM",
                _ = interrupt.recv() => "SIGINT",
            };
            if last {
                tracing::warn!("{name} again: ending at once");
                std::process::exit(ENDED_AT_ONCE);
            }
            tracing::info!("{name}: ending; once more ends at once");
            first.cancel();
            tokio::time::sleep(SAME_WISH).await;
            let _ = (terminate.recv().now_or_never(), interrupt.recv().now_or_never());
        }
    });
    Ok(stop)
}
