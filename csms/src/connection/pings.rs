//! Whether a silent station still is there: pings, and what their silence means.

use std::time::Duration;

use tokio::time::Instant;
use tokio_tungstenite::tungstenite::protocol::Message;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;

use super::{Connection, End};

/// Unanswered pings in a row that end a connection.
const MOST_UNANSWERED: u32 = 3;
/// Parts of the time between pings that an answer may take.
const PARTS: u32 = 6;
/// Silence that ends a connection, in heartbeat intervals, where the station never sends a pong: then any frame counts.
const SILENT_HEARTBEATS: u32 = 3;

/// How long an answer to a ping may take.
pub(super) fn pong_time(ping_every: Duration) -> Duration {
    ping_every / PARTS
}

/// The pings since the station was heard last.
#[derive(Debug, Default)]
pub(super) struct Pings {
    unanswered: u32,
    sent_at: Option<Instant>,
}

impl Pings {
    /// Anything that comes is an answer.
    pub(super) fn answered(&mut self) {
        *self = Self::default();
    }

    /// When to look again.
    pub(super) fn next_at(&self, heard_at: Instant, ping_every: Duration) -> Instant {
        match self.sent_at {
            Some(at) if at > heard_at && self.unanswered <= MOST_UNANSWERED => at + pong_time(ping_every),
            Some(at) if at > heard_at => at + ping_every,
            _ => heard_at + ping_every,
        }
    }
}

impl Connection {
    /// Pings a silent station; ends the connection where nothing comes back.
    pub(super) async fn look_for_life(&mut self, now: Instant) -> Result<(), End> {
        let (heard_at, ping_every) = (self.heard_at(), self.node.config.ping_every);
        if heard_at > self.heard_at {
            self.held.heard();
        }
        let silence = now.saturating_duration_since(heard_at);
        if silence > Duration::from_secs(u64::from(self.node.config.heartbeat_s)) * SILENT_HEARTBEATS {
            return Err((CloseCode::Away, "silent for too long"));
        }
        if self.pings.sent_at.is_some_and(|at| at <= heard_at) {
            self.pings.answered();
        }
        if now < self.pings.next_at(heard_at, ping_every) {
            return Ok(());
        }
        if self.pings.unanswered >= MOST_UNANSWERED && self.allowance.pongs() {
            self.allowance.cut();
            tracing::info!(charger = %self.charger, ?silence, "no answer to pings; the connection is over");
            return Err((CloseCode::Away, "no answer to pings"));
        }
        self.ping(now).await
    }

    async fn ping(&mut self, now: Instant) -> Result<(), End> {
        self.pings.unanswered += 1;
        self.pings.sent_at = Some(now);
        self.transmit(Message::Ping(Vec::new().into())).await
    }

    /// Pings along with a customer's command. A dead line shows within the time of a pong, which is told at once.
    pub(super) async fn ping_along(&mut self) -> Result<(), End> {
        self.transmit(Message::Ping(Vec::new().into())).await
    }
}
