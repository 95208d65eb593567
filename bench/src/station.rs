//! What a charging point says in OCPP 1.6, and its charges in 2.0.1, put together from ready pieces so that the load costs little.

use std::net::SocketAddr;

use anyhow::{Context, ensure};
use chrono::{Days, Utc};

use crate::socket::Socket;

/// The password of every charger of the benchmark.
pub(crate) const PASSWORD: &str = "0123456789abcdef";
/// One day; the clock goes round.
const DAY_SECONDS: u32 = 86_400;

/// What a TransactionEvent of 2.0.1 tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Event {
    Started,
    Updated,
    Ended,
}

/// A charging point with one connector, and one card that starts its charges.
#[derive(Debug, Clone)]
pub(crate) struct Station {
    /// Its OCPP identity.
    pub(crate) identity: String,
    /// Whether it speaks 2.0.1.
    pub(crate) is_201: bool,
    /// Begins its charges: its card, or what a start told.
    pub(crate) tag: String,
    /// Yesterday, `YYYY-MM-DD`: its clock goes one second a frame and never passes the real one.
    day: String,
    seconds: u32,
    /// The meter's register, Wh; seven digits.
    register: u64,
    /// CALLs sent.
    sent: u64,
    transaction: String,
    /// The ids of MeterValues that were answered, counted up.
    pub(crate) acknowledged: Vec<u64>,
}

impl Station {
    /// A station that has said nothing yet.
    pub(crate) fn new(identity: String, tag: String) -> Self {
        let yesterday = Utc::now().date_naive().checked_sub_days(Days::new(1)).unwrap_or_default();
        Self {
            identity,
            is_201: false,
            tag,
            day: yesterday.to_string(),
            seconds: 0,
            register: 1_000_000,
            sent: 0,
            transaction: "1".into(),
            acknowledged: Vec::new(),
        }
    }

    /// Connects.
    pub(crate) async fn connect(&self, address: SocketAddr) -> anyhow::Result<Socket> {
        let protocol = if self.is_201 { "ocpp2.0.1" } else { "ocpp1.6" };
        Socket::connect(address, &self.identity, PASSWORD, protocol).await
    }

    /// The message id of a CALL.
    pub(crate) fn message_id(&self, n: u64) -> String {
        format!("{}:{n:08}", self.identity)
    }

    async fn call(&mut self, socket: &mut Socket, action: &str, payload: &[&str]) -> anyhow::Result<String> {
        self.sent += 1;
        let id = self.message_id(self.sent);
        let mut frame = String::with_capacity(480);
        for piece in ["[2,\"", &id, "\",\"", action, "\",{"].iter().chain(payload).chain(&["}]"]) {
            frame.push_str(piece);
        }
        let answer = socket.call(&id, frame).await.with_context(|| format!("{action} of {}", self.identity))?;
        Ok(answer.as_str().to_owned())
    }

    fn time(&mut self) -> String {
        self.seconds = (self.seconds + 1) % DAY_SECONDS;
        let (hours, minutes, seconds) = (self.seconds / 3600, self.seconds / 60 % 60, self.seconds % 60);
        let mut text = String::with_capacity(24);
        text.push_str(&self.day);
        for (mark, number) in [('T', hours), (':', minutes), (':', seconds)] {
            text.push(mark);
            text.extend([number / 10, number % 10].map(|digit| char::from(b'0' + u8::try_from(digit).unwrap_or(0))));
        }
        text.push_str(".000Z");
        text
    }

    /// BootNotification, to be accepted.
    pub(crate) async fn boot(&mut self, socket: &mut Socket) -> anyhow::Result<()> {
        let payload = if self.is_201 {
            r#""reason":"PowerUp","chargingStation":{"vendorName":"Bench","model":"One","firmwareVersion":"1.0"}"#
        } else {
            r#""chargePointVendor":"Bench","chargePointModel":"One","firmwareVersion":"1.0""#
        };
        let answer = self.call(socket, "BootNotification", &[payload]).await?;
        ensure!(answer.contains(r#""Accepted""#), "{} was not accepted: {answer}", self.identity);
        Ok(())
    }

    /// Heartbeat.
    pub(crate) async fn heartbeat(&mut self, socket: &mut Socket) -> anyhow::Result<()> {
        let answer = self.call(socket, "Heartbeat", &[]).await?;
        ensure!(answer.contains(r#""currentTime":""#), "a Heartbeat without the time: {answer}");
        Ok(())
    }

    /// StatusNotification of the connector: by turns it can be used, and a car is plugged in.
    pub(crate) async fn status(&mut self, socket: &mut Socket) -> anyhow::Result<()> {
        let status = if self.sent.is_multiple_of(2) { "Available" } else { "Preparing" };
        let time = self.time();
        let payload =
            [r#""connectorId":1,"errorCode":"NoError","status":""#, status, r#"","timestamp":""#, &time, "\""];
        self.call(socket, "StatusNotification", &payload).await?;
        self.acknowledged.push(self.sent);
        Ok(())
    }

    /// Authorize with the station's card, to be accepted.
    pub(crate) async fn authorize(&mut self, socket: &mut Socket) -> anyhow::Result<()> {
        let tag = self.tag.clone();
        let answer = self.call(socket, "Authorize", &[r#""idTag":""#, &tag, "\""]).await?;
        ensure!(answer.contains(r#""Accepted""#), "the card of {} was not accepted: {answer}", self.identity);
        self.acknowledged.push(self.sent);
        Ok(())
    }

    /// TransactionEvent of a charge with the station's card: register and power.
    pub(crate) async fn event(&mut self, socket: &mut Socket, event: Event) -> anyhow::Result<()> {
        self.register += 1;
        let (time, register, tag, seq_no) =
            (self.time(), self.register.to_string(), self.tag.clone(), self.sent.to_string());
        let (kind, trigger, state) = match event {
            Event::Started => ("Started", "Authorized", "Charging"),
            Event::Updated => ("Updated", "MeterValuePeriodic", "Charging"),
            Event::Ended => ("Ended", "EVDeparted", "Idle"),
        };
        let card = [r#","idToken":{"idToken":""#, &tag, r#"","type":"ISO14443"}"#];
        let payload = [
            r#""eventType":""#,
            kind,
            r#"","timestamp":""#,
            &time,
            r#"","triggerReason":""#,
            trigger,
            r#"","seqNo":"#,
            &seq_no,
            r#","transactionInfo":{"transactionId":"T-1","chargingState":""#,
            state,
            r#""},"evse":{"id":1,"connectorId":1},"meterValue":[{"timestamp":""#,
            &time,
            r#"","sampledValue":[{"value":"#,
            &register,
            r#","context":"Sample.Periodic","measurand":"Energy.Active.Import.Register","unitOfMeasure":{"unit":"Wh"}},{"value":3600.0,"context":"Sample.Periodic","measurand":"Power.Active.Import","unitOfMeasure":{"unit":"W"}}]}]"#,
        ];
        let card = if event == Event::Started { &card[..] } else { &[] };
        self.call(socket, "TransactionEvent", &[&payload[..], card].concat()).await?;
        if event == Event::Updated {
            self.acknowledged.push(self.sent);
        }
        Ok(())
    }

    /// StartTransaction by the station's card, to be accepted.
    pub(crate) async fn start(&mut self, socket: &mut Socket) -> anyhow::Result<()> {
        let (time, register, tag) = (self.time(), self.register.to_string(), self.tag.clone());
        let payload =
            [r#""connectorId":1,"idTag":""#, &tag, r#"","meterStart":"#, &register, r#","timestamp":""#, &time, "\""];
        let answer = self.call(socket, "StartTransaction", &payload).await?;
        let number: String = answer
            .split_once(r#""transactionId":"#)
            .map(|(_, rest)| rest.chars().take_while(char::is_ascii_digit).collect())
            .unwrap_or_default();
        ensure!(!number.is_empty() && number != "0", "a start without a transaction: {answer}");
        ensure!(answer.contains(r#""Accepted""#), "the card of {} was not accepted: {answer}", self.identity);
        self.transaction = number;
        Ok(())
    }

    /// MeterValues of the running charge: register and power.
    pub(crate) async fn meter_values(&mut self, socket: &mut Socket) -> anyhow::Result<()> {
        self.register += 1;
        let (time, register, transaction) = (self.time(), self.register.to_string(), self.transaction.clone());
        let payload = [
            r#""connectorId":1,"transactionId":"#,
            &transaction,
            r#","meterValue":[{"timestamp":""#,
            &time,
            r#"","sampledValue":[{"value":""#,
            &register,
            r#"","context":"Sample.Periodic","measurand":"Energy.Active.Import.Register","unit":"Wh"},{"value":"3600.0","context":"Sample.Periodic","measurand":"Power.Active.Import","unit":"W"}]}]"#,
        ];
        self.call(socket, "MeterValues", &payload).await?;
        self.acknowledged.push(self.sent);
        Ok(())
    }

    /// StopTransaction of the running charge.
    pub(crate) async fn stop(&mut self, socket: &mut Socket) -> anyhow::Result<()> {
        self.register += 1;
        let (time, register, transaction) = (self.time(), self.register.to_string(), self.transaction.clone());
        let payload = [
            r#""transactionId":"#,
            &transaction,
            r#","meterStop":"#,
            &register,
            r#","reason":"EVDisconnected","timestamp":""#,
            &time,
            "\"",
        ];
        self.call(socket, "StopTransaction", &payload).await?;
        Ok(())
    }
}
