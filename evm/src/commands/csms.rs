//! `evm csms`: the central system of a large deployment.

use tokio_util::sync::CancellationToken;

use crate::node::{self, Parts};
use crate::settings::Settings;

pub(crate) async fn run(settings: &Settings, stop: &CancellationToken) -> anyhow::Result<()> {
    node::serve(settings, Parts::Csms, stop).await
}
