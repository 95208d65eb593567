//! Logins that ended on another node.

use std::time::Duration;

use evm_bus::subject;
use tokio_util::sync::CancellationToken;

use crate::App;
use crate::customer::logout;

/// How soon it is tried again to listen.
const AGAIN: Duration = Duration::from_secs(1);

/// Ends what they hold open here, until `shutdown`.
pub(crate) async fn run(app: App, shutdown: CancellationToken) {
    while !shutdown.is_cancelled() {
        let Ok(mut endings) = app.bus.subscribe(subject::LOGIN_ENDED).await else {
            shutdown.run_until_cancelled(tokio::time::sleep(AGAIN)).await;
            continue;
        };
        while let Some(Some(ended)) = shutdown.run_until_cancelled(endings.next()).await {
            logout::ended(&app, &String::from_utf8_lossy(&ended.payload));
        }
    }
}
