//! Tells the story on stdout, in lines that a terminal of 80 columns holds.

use std::fmt::Display;
use std::io::{IsTerminal, Write};
use std::time::Instant;

/// Widest line.
const WIDTH: usize = 80;
/// The time and two spaces.
const MARGIN: usize = 7;

/// Clones tell one story.
#[derive(Debug, Clone)]
pub(super) struct Narrator {
    begun: Instant,
    terminal: bool,
}

impl Narrator {
    pub(super) fn new() -> Self {
        let no_colour = std::env::var_os("NO_COLOR").is_some_and(|no| !no.is_empty());
        Self { begun: Instant::now(), terminal: std::io::stdout().is_terminal() && !no_colour }
    }

    /// Something happened.
    pub(super) fn say(&self, text: &str) {
        let seconds = self.begun.elapsed().as_secs();
        let time = format!("{:>2}:{:02}", seconds / 60, seconds % 60);
        let time = if self.terminal { format!("\x1b[2m{time}\x1b[0m") } else { time };
        let mut lines = wrap(text, WIDTH - MARGIN).into_iter();
        let mut told = format!("{time}  {}", lines.next().unwrap_or_default());
        for line in lines {
            told.push_str(&format!("\n{:MARGIN$}{line}", ""));
        }
        self.plain(&told);
    }

    /// Text as it is. That nobody reads it any more is no reason to end.
    pub(super) fn plain(&self, text: &str) {
        let _ = writeln!(std::io::stdout().lock(), "{text}");
    }
}

/// Breaks at spaces; a word that is wider stands alone. Spaces at the beginning and between words stay.
fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        let Some(line) = lines.last_mut() else { break };
        if line.chars().count() + 1 + word.chars().count() <= width {
            line.push_str(word);
            line.push(' ');
        } else {
            lines.push(format!("{word} "));
        }
    }
    lines.into_iter().map(|line| line.trim_end().to_owned()).filter(|line| !line.is_empty()).collect()
}

/// `12345.6` → `12,345.60`: money as people read it.
pub(super) fn money(number: &impl Display) -> String {
    let text = number.to_string();
    let (whole, cents) = text.split_once('.').unwrap_or((&text, ""));
    let (sign, digits) = whole.strip_prefix('-').map_or(("", whole), |digits| ("-", digits));
    let mut grouped = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    format!("{sign}{grouped}.{cents:0<2}")
}

/// `7.5` → `7.500`: energy as meters show it.
pub(super) fn kwh(number: &serde_json::Value) -> String {
    let text = number.to_string();
    let (whole, parts) = text.split_once('.').unwrap_or((&text, ""));
    format!("{whole}.{parts:0<3}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn lines_are_broken_at_spaces() {
        assert_eq!(wrap("one two three", 8), ["one two", "three"]);
        assert_eq!(wrap("one two three", 80), ["one two three"]);
        assert_eq!(wrap("  12   34", 80), ["  12   34"]);
        assert_eq!(wrap("a wordwiderthanaline b", 8), ["a", "wordwiderthanaline", "b"]);
        let long = "word ".repeat(100);
        assert!(wrap(&long, 73).iter().all(|line| line.chars().count() <= 73));
    }

    #[test]
    fn figures_are_readable() {
        assert_eq!(money(&json!(12345)), "12,345.00");
        assert_eq!(money(&json!(0)), "0.00");
        assert_eq!(money(&json!(-1234567)), "-1,234,567.00");
        let read = |text: &str| serde_json::from_str::<serde_json::Value>(text).unwrap_or_default();
        assert_eq!(money(&read("999.5")), "999.50");
        assert_eq!(kwh(&read("7.5")), "7.500");
        assert_eq!(kwh(&json!(3)), "3.000");
    }
}
