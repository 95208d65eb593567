//! `evm migrate`: brings the database up to this program's version.

use crate::settings::Settings;
use crate::{backend, data};

pub(crate) async fn run(settings: &Settings) -> anyhow::Result<()> {
    data::make_folder(&settings.data_dir)?;
    let (store, _lock) = backend::store(settings).await?;
    store.close().await;
    println!("{} is up to date", backend::without_login(&data::database_url(settings)?));
    Ok(())
}
