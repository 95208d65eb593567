//! What a network of chargers costs: messages, rows, bytes, processors, memory and nodes for so many chargers, from costs that
//! were measured. `docs/scale.md` shows its table and says what it means.

use clap::Args;

use crate::table::grouped;

/// A network, as far as it is assumed.
#[derive(Args)]
pub(crate) struct Assumptions {
    /// Sizes of the network, in chargers.
    #[arg(long, value_delimiter = ',', default_values_t = [1_000, 10_000, 100_000, 1_000_000])]
    chargers: Vec<u64>,
    /// Charges a charger and day.
    #[arg(long, default_value_t = 4)]
    charges: u64,
    /// Minutes of a charge.
    #[arg(long, default_value_t = 60)]
    minutes: u64,
    /// Seconds between two samples of a charge.
    #[arg(long, default_value_t = 5)]
    sample_s: u64,
    /// Seconds between two heartbeats of an idle charger.
    #[arg(long, default_value_t = 300)]
    heartbeat_s: u64,
    /// Days that messages are kept.
    #[arg(long, default_value_t = 30)]
    keep_days: u64,
    /// How many times the average the busiest hour is, in tenths.
    #[arg(long, default_value_t = 25)]
    peak_tenths: u64,
    /// Cores of a node that `csms` may use.
    #[arg(long, default_value_t = 4)]
    cores: u64,
}

/// A kind of message, and what one costs.
struct Kind {
    name: &'static str,
    /// Of a charger and day.
    a_day: u64,
    /// Processor time of `csms`, microseconds.
    csms_us: u64,
    /// Processor time of PostgreSQL, microseconds.
    postgres_us: u64,
    /// Bytes of the message's row and of its index.
    frame_bytes: u64,
    /// Bytes of all else that stays of it.
    bytes: u64,
    /// Rows that stay of it.
    rows: u64,
}

/// Memory of a connected charger in `csms`, bytes.
const CHARGER_BYTES: u64 = 8_090;
/// Memory of a `csms` that holds no charger, bytes.
const NODE_BYTES: u64 = 60 << 20;
/// Bytes of a charger, its device and its connectors in the database.
const REGISTERED_BYTES: u64 = 2_000;
/// Sockets a node holds at most: two file descriptors of each thousand are left for the rest.
const SOCKETS: u64 = 60_000;
/// Charges whose live figures one leader reads and prices in a second.
const LIVE_ROUND: u64 = 30_000;
/// Seconds between two live events of a charge.
const LIVE_S: u64 = 3;
/// Part of a node's processors that may be busy in the busiest hour, percent.
const BUSY: u64 = 50;
const DAY_S: u64 = 24 * 3600;

fn kinds(args: &Assumptions) -> Vec<Kind> {
    let samples = args.charges * args.minutes * 60 / args.sample_s;
    let heartbeats = (DAY_S - (args.charges * args.minutes * 60).min(DAY_S)) / args.heartbeat_s;
    let kind = |name, a_day, (csms_us, postgres_us), (frame_bytes, bytes, rows)| Kind {
        name,
        a_day,
        csms_us,
        postgres_us,
        frame_bytes,
        bytes,
        rows,
    };
    vec![
        kind("Heartbeat", heartbeats, (8, 0), (0, 0, 0)),
        kind("StatusNotification", 4 * args.charges, (52, 100), (350, 0, 1)),
        kind("Authorize", args.charges, (46, 100), (290, 0, 1)),
        kind("MeterValues", samples, (64, 100), (570, 18, 3)),
        // Start, stop, the purchase and its postings.
        kind("begin and end of a charge", 2 * args.charges, (250, 400), (500, 3_000, 8)),
    ]
}

/// A network of one size.
struct Network {
    chargers: u64,
    peak_charging: u64,
    messages_a_second: u64,
    peak_a_second: u64,
    rows_a_day: u64,
    frame_bytes: u64,
    bill_bytes_a_year: u64,
    csms_millicores: u64,
    postgres_millicores: u64,
    memory: u64,
    live_a_second: u64,
    nodes: u64,
}

impl Network {
    fn of(chargers: u64, args: &Assumptions) -> Self {
        let kinds = kinds(args);
        let sum = |of: &dyn Fn(&Kind) -> u64| kinds.iter().map(|kind| kind.a_day * of(kind)).sum::<u64>() * chargers;
        let peak = |a_day: u64| a_day * args.peak_tenths / 10 / DAY_S;
        let messages = sum(&|_| 1);
        let average_charging = chargers * (args.charges * args.minutes * 60).min(DAY_S) / DAY_S;
        let peak_charging = (average_charging * args.peak_tenths / 10).min(chargers);
        let csms_millicores = peak(sum(&|kind| kind.csms_us)) / 1000;
        let by_processor = csms_millicores.div_ceil(args.cores * 10 * BUSY);
        Self {
            chargers,
            peak_charging,
            messages_a_second: messages / DAY_S,
            peak_a_second: peak(messages),
            rows_a_day: sum(&|kind| kind.rows),
            frame_bytes: sum(&|kind| kind.frame_bytes) * args.keep_days + chargers * REGISTERED_BYTES,
            bill_bytes_a_year: sum(&|kind| kind.bytes) * 365,
            csms_millicores,
            postgres_millicores: peak(sum(&|kind| kind.postgres_us)) / 1000,
            memory: chargers * CHARGER_BYTES + NODE_BYTES,
            live_a_second: peak_charging / LIVE_S,
            nodes: by_processor.max(chargers.div_ceil(SOCKETS)).max(1),
        }
    }

    /// What does not hold at this size with one leader and one database of the size that was measured.
    fn bites(&self) -> &'static str {
        if self.peak_charging > LIVE_ROUND * LIVE_S {
            "live figures by one leader"
        } else if self.postgres_millicores > 32_000 {
            "one PostgreSQL"
        } else if self.nodes > 1 {
            "one node"
        } else {
            "nothing"
        }
    }
}

/// Prints what networks of these sizes cost on PostgreSQL, as tables in Markdown.
pub(crate) fn print(args: &Assumptions) {
    println!(
        "| of a charger and day | messages | csms, µs each | PostgreSQL, µs each | bytes as a message | bytes for good |"
    );
    println!("|---|---|---|---|---|---|");
    for kind in kinds(args) {
        let Kind { name, a_day, csms_us, postgres_us, frame_bytes, bytes, .. } = kind;
        println!("| {name} | {} | {csms_us} | {postgres_us} | {frame_bytes} | {bytes} |", grouped(a_day));
    }
    let networks: Vec<Network> = args.chargers.iter().map(|chargers| Network::of(*chargers, args)).collect();
    let line = |name: &str, cell: &dyn Fn(&Network) -> String| {
        println!("| {name} | {} |", networks.iter().map(cell).collect::<Vec<_>>().join(" | "));
    };
    println!();
    line("chargers", &|network| grouped(network.chargers));
    println!("|---|{}", "---|".repeat(networks.len()));
    line("charging in the busiest hour", &|network| grouped(network.peak_charging));
    line("messages a second, on average", &|network| grouped(network.messages_a_second));
    line("messages a second, in the busiest hour", &|network| grouped(network.peak_a_second));
    line("rows a day", &|network| grouped(network.rows_a_day));
    line("messages and chargers in the database", &|network| size(network.frame_bytes));
    line("bills and their evidence, a year", &|network| size(network.bill_bytes_a_year));
    line("`csms`, cores in the busiest hour", &|network| tenths(network.csms_millicores));
    line("PostgreSQL, cores in the busiest hour", &|network| tenths(network.postgres_millicores));
    line("memory of all `csms`", &|network| size(network.memory));
    line("live events a second through NATS", &|network| grouped(network.live_a_second));
    line("`csms` nodes", &|network| grouped(network.nodes));
    line("bites first", &|network| network.bites().to_owned());
}

fn tenths(thousandths: u64) -> String {
    format!("{}.{}", thousandths / 1000, thousandths % 1000 / 100)
}

fn size(bytes: u64) -> String {
    let units = [(1 << 40, "TiB"), (1 << 30, "GiB"), (1 << 20, "MiB")];
    let (unit, name) = units.into_iter().find(|(unit, _)| bytes >= *unit).unwrap_or((1 << 10, "KiB"));
    format!("{}.{} {name}", bytes / unit, bytes % unit * 10 / unit)
}
