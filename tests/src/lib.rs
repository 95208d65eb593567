//! The harness of the end-to-end tests.
//!
//! A test gets a [`World`]: the real program as a process of its own on one of the two engines, a tap
//! that every charger connects through and that checks each frame the central system sends against
//! the JSON schemas of OCPP, and clients for the REST calls of customers and operators. At its end
//! every test is audited: money, outbox, sessions, and the billed energy against what the charger says.
//!
//! Run by `./test` in the repository's root, which brings PostgreSQL, a NATS server and Python.
#![allow(clippy::unwrap_used)] // A harness stops at once when its own footing gives way.

pub mod api;
pub mod arrows;
pub mod charge;
pub mod charger;
pub mod clock;
pub mod disk;
pub mod engine;
pub mod env;
pub mod fcm;
pub mod frames;
pub mod nats;
pub mod peers;
pub mod poll;
pub mod postgres;
pub mod program;
pub mod qpay;
pub mod schemas;
pub mod script;
pub mod sms;
pub mod sqlite;
pub mod sse;
pub mod tap;
pub mod upgrade;
pub mod wire;
pub mod world;

pub use api::{Answer, Customer, Operator};
pub use charger::{RawCharger, Reply, Version, now};
pub use engine::Engine;
pub use peers::{Phone, PyCharger};
pub use poll::{eventually, until};
pub use script::Script;
pub use world::World;

/// Writes one test per engine from one body, which gets a [`World`] of its own:
/// `on_both_engines! { async fn name(world) { … } }`.
#[macro_export]
macro_rules! on_both_engines {
    ($($(#[$meta:meta])* async fn $name:ident($world:ident) $body:block)*) => {$(
        $(#[$meta])*
        mod $name {
            use super::*;

            async fn body($world: &mut $crate::World) $body

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn sqlite_local() {
                let mut world = $crate::World::start($crate::Engine::SqliteLocal).await;
                Box::pin(body(&mut world)).await;
                world.finish().await;
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn postgres_nats() {
                let mut world = $crate::World::start($crate::Engine::PostgresNats).await;
                Box::pin(body(&mut world)).await;
                world.finish().await;
            }
        }
    )*};
}
