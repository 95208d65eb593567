//! `evm serve`: central system and billing API in one process.

use tokio_util::sync::CancellationToken;

use crate::node::{self, Parts};
use crate::settings::Settings;

pub(crate) async fn run(settings: &Settings, stop: &CancellationToken) -> anyhow::Result<()> {
    node::serve(settings, Parts::All, stop).await
}
