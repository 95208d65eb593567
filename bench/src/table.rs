//! The one table.

use std::collections::HashSet;
use std::fmt;

/// One line of the table.
#[derive(Debug, Clone, Default)]
pub(crate) struct Row {
    /// What is measured.
    pub(crate) what: &'static str,
    /// Sockets, chargers or devices.
    pub(crate) count: u32,
    /// Who answers.
    pub(crate) who: String,
    /// The figure with its unit.
    pub(crate) figure: String,
    /// In relation to the ceiling of the same run.
    pub(crate) of_ceiling: String,
    /// The server's processor time for one, microseconds.
    pub(crate) cpu: Option<u64>,
    /// Microseconds.
    pub(crate) p50: Option<u64>,
    /// Microseconds.
    pub(crate) p99: Option<u64>,
}

/// All lines so far.
#[derive(Debug, Default)]
pub(crate) struct Table(Vec<Row>);

impl Table {
    /// Adds a line, and shows it at once on standard error.
    pub(crate) fn add(&mut self, row: Row) {
        eprintln!("  {row}");
        self.0.push(row);
    }
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let time = |micros: Option<u64>| micros.map(millis).unwrap_or_default();
        write!(
            f,
            "{:<12} {:>7} {:<16} {:>12} {:>7} {:>6} {:>6} {:>6}",
            self.what,
            grouped(self.count.into()),
            self.who,
            self.figure,
            self.of_ceiling,
            self.cpu.map(grouped).unwrap_or_default(),
            time(self.p50),
            time(self.p99)
        )
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{:<12} {:>7} {:<16} {:>12} {:>7} {:>6} {:>6} {:>6}",
            "what", "count", "server", "figure", "ceiling", "CPU µs", "p50 ms", "p99 ms"
        )?;
        let mut kinds: Vec<_> = self.0.iter().map(|row| (row.what, row.count)).collect();
        let mut seen = HashSet::new();
        kinds.retain(|kind| seen.insert(*kind));
        for kind in kinds {
            writeln!(f)?;
            for row in self.0.iter().filter(|row| (row.what, row.count) == kind) {
                writeln!(f, "{}", row.to_string().trim_end())?;
            }
        }
        Ok(())
    }
}

/// A number with a space between thousands.
pub(crate) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (n, digit) in digits.chars().enumerate() {
        if n > 0 && (digits.len() - n).is_multiple_of(3) {
            text.push(' ');
        }
        text.push(digit);
    }
    text
}

/// Microseconds as milliseconds.
pub(crate) fn millis(micros: u64) -> String {
    if micros < 10_000 {
        format!("{}.{:02}", micros / 1000, micros % 1000 / 10)
    } else {
        format!("{}.{}", micros / 1000, micros % 1000 / 100)
    }
}

/// Bytes as KiB.
pub(crate) fn kib(bytes: u64) -> String {
    format!("{}.{} KiB", bytes / 1024, bytes % 1024 * 10 / 1024)
}

/// How much of the ceiling that is, for figures where more is better.
pub(crate) fn percent(ours: u64, ceiling: u64) -> String {
    ours.saturating_mul(100).checked_div(ceiling).map(|percent| format!("{percent} %")).unwrap_or_default()
}

/// How many times the ceiling that is, for figures where less is better.
pub(crate) fn times(ours: u64, ceiling: u64) -> String {
    let tenths = ours.saturating_mul(10).checked_div(ceiling);
    tenths.map(|tenths| format!("× {}.{}", tenths / 10, tenths % 10)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_stand_together() {
        let mut table = Table::default();
        for who in ["one", "other"] {
            for what in ["first", "second"] {
                table.add(Row { what, who: who.into(), ..Row::default() });
            }
        }
        let text = table.to_string();
        let lines = text.lines().skip(1).filter(|line| !line.is_empty()).map(|line| line.split_whitespace().collect());
        let lines: Vec<Vec<&str>> = lines.collect();
        let expected =
            [["first", "0", "one"], ["first", "0", "other"], ["second", "0", "one"], ["second", "0", "other"]];
        assert_eq!(lines, expected);
    }

    #[test]
    fn figures_are_written_without_floats() {
        assert_eq!(["7", "128 000", "1 000 000"], [7, 128_000, 1_000_000].map(grouped));
        assert_eq!(["0.05", "9.99", "12.3"], [50, 9999, 12_345].map(millis));
        assert_eq!(kib(7 * 1024 + 512), "7.5 KiB");
        assert_eq!((percent(60, 100), times(15, 10)), ("60 %".into(), "× 1.5".into()));
        assert_eq!(percent(1, 0), "");
    }
}
