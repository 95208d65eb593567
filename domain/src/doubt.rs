//! Why the figures of a charge want a human eye, and the figures that contradict each other.

use std::fmt::Write as _;

/// Why a session's figures want a human eye. The first of several is the session's review.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Doubt {
    /// The start register was 0 beside a much larger one: the first real register became the baseline.
    MissingBaseline = 1,
    /// A register rose by more than the connector can deliver; the rise was not billed.
    ImplausibleRise = 2,
    /// A register lies clearly below what was read before: reset, exchanged, or begun too high. What follows may be missing.
    RegisterFell = 3,
    /// The station's clock was set in mid-charge, or tells no time: waiting that no receipt bears out was left out.
    ClockWrong = 4,
    /// The station told no register, and was billed by what it told of energy otherwise.
    NoRegister = 5,
    /// It charged, by what it says, and nothing of that was measured.
    NotMeasured = 6,
    /// The power told and the energy billed do not fit.
    PowerContradicts = 7,
    /// Start and end were read at another register than the samples, and one of them says much more.
    TwoRegisters = 8,
    /// More readings than are kept; some were not looked at one by one.
    TooManyReadings = 9,
    /// The register rose after the end: somebody took energy outside of the charge.
    RoseAfterEnd = 10,
    /// The car's battery filled, and the register hardly moved.
    SocContradicts = 11,
    /// What was told of intervals or net energy is much more than the register.
    IntervalsContradict = 12,
    /// Two ends were told, with registers that differ; one of them does not count.
    EndsContradict = 13,
}

/// How many kinds of doubt there are.
const KINDS: usize = 13;

impl Doubt {
    const ALL: [Self; KINDS] = [
        Self::MissingBaseline,
        Self::ImplausibleRise,
        Self::RegisterFell,
        Self::ClockWrong,
        Self::NoRegister,
        Self::NotMeasured,
        Self::PowerContradicts,
        Self::TwoRegisters,
        Self::TooManyReadings,
        Self::RoseAfterEnd,
        Self::SocContradicts,
        Self::IntervalsContradict,
        Self::EndsContradict,
    ];

    /// The doubt behind a stored number.
    pub fn from_code(code: i64) -> Option<Self> {
        Self::ALL.into_iter().find(|doubt| *doubt as i64 == code)
    }

    /// The word the store and the operator API use.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::MissingBaseline => "missing_baseline",
            Self::ImplausibleRise => "implausible_rise",
            Self::RegisterFell => "register_fell",
            Self::ClockWrong => "clock_wrong",
            Self::NoRegister => "no_register",
            Self::NotMeasured => "not_measured",
            Self::PowerContradicts => "power_contradicts",
            Self::TwoRegisters => "two_registers",
            Self::TooManyReadings => "too_many_readings",
            Self::RoseAfterEnd => "rose_after_end",
            Self::SocContradicts => "soc_contradicts",
            Self::IntervalsContradict => "intervals_contradict",
            Self::EndsContradict => "ends_contradict",
        }
    }

    fn detail(self, [a, b]: [i64; 2]) -> String {
        match self {
            Self::MissingBaseline => format!("the register was {a} Wh at the start and {b} Wh at the next reading"),
            Self::ImplausibleRise => format!("the register rose by {a} Wh where at most {b} Wh can have flowed"),
            Self::RegisterFell => format!("the register was {a} Wh and then {b} Wh"),
            Self::ClockWrong => format!("by the station's clock {a} s passed, by the times of receipt {b} s"),
            Self::NoRegister => format!("no register was told; {a} Wh by intervals or net, {b} Wh by power and time"),
            Self::NotMeasured => {
                format!("nothing was measured in {b} s of charging; {a} Wh by power and time or intervals")
            }
            Self::PowerContradicts => format!("{a} Wh by the register, {b} Wh by power and time"),
            Self::TwoRegisters => format!("{a} Wh by one register, {b} Wh by the other"),
            Self::TooManyReadings => format!("{a} readings came after {b} were kept"),
            Self::RoseAfterEnd => format!("the register was {a} Wh at the end and {b} Wh after it"),
            Self::SocContradicts => {
                format!("{a} Wh by the register, while the car's battery rose by {b} percent")
            }
            Self::IntervalsContradict => format!("{a} Wh by the register, {b} Wh by intervals or net"),
            Self::EndsContradict => format!("the register was {a} Wh, and an end was told of {b} Wh"),
        }
    }
}

/// The doubts of a session, each with two figures.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Doubts([Option<[i64; 2]>; KINDS]);

impl Doubts {
    /// Raises a doubt, with its figures; the first figures stay.
    pub fn raise(&mut self, doubt: Doubt, figures: [i64; 2]) {
        self.0[doubt as usize - 1].get_or_insert(figures);
    }

    /// Raises a doubt, with the newest figures.
    pub(crate) fn raise_anew(&mut self, doubt: Doubt, figures: [i64; 2]) {
        self.0[doubt as usize - 1] = Some(figures);
    }

    pub(crate) fn settle(&mut self, doubt: Doubt) {
        self.0[doubt as usize - 1] = None;
    }

    /// Keeps a doubt that was raised by what is not kept.
    pub(crate) fn keep(&mut self, doubt: Doubt, before: &Self) {
        if let Some(figures) = before.0[doubt as usize - 1] {
            self.raise(doubt, figures);
        }
    }

    /// Without those that are seen from the figures as a whole.
    pub fn told(mut self) -> Self {
        #[rustfmt::skip]
        let of_the_whole = [
            Doubt::NoRegister, Doubt::NotMeasured, Doubt::PowerContradicts, Doubt::TwoRegisters, Doubt::SocContradicts,
            Doubt::IntervalsContradict,
        ];
        of_the_whole.into_iter().for_each(|doubt| self.settle(doubt));
        self
    }

    /// The most important one.
    pub fn first(&self) -> Option<Doubt> {
        Doubt::ALL.into_iter().find(|doubt| self.has(*doubt))
    }

    /// Whether this one is there.
    pub fn has(&self, doubt: Doubt) -> bool {
        self.0[doubt as usize - 1].is_some()
    }

    /// What they are kept as; `None` where there are none.
    pub fn to_text(&self) -> Option<String> {
        let mut text = String::new();
        for (doubt, figures) in self.iter() {
            let [a, b] = figures;
            let _ = write!(text, "{}{}={a},{b}", if text.is_empty() { "" } else { " " }, doubt as i64);
        }
        (!text.is_empty()).then_some(text)
    }

    /// Reads what they were kept as; what cannot be read is left out.
    pub fn from_text(text: &str) -> Self {
        let mut doubts = Self::default();
        for word in text.split_whitespace() {
            let read = || {
                let (code, figures) = word.split_once('=')?;
                let (a, b) = figures.split_once(',')?;
                Some((Doubt::from_code(code.parse().ok()?)?, [a.parse().ok()?, b.parse().ok()?]))
            };
            if let Some((doubt, figures)) = read() {
                doubts.raise(doubt, figures);
            }
        }
        doubts
    }

    /// All of them in words, with their figures; empty where there are none.
    pub fn details(&self) -> String {
        let all = self.iter().map(|(doubt, figures)| format!("{}: {}", doubt.as_str(), doubt.detail(figures)));
        all.collect::<Vec<_>>().join("; ")
    }

    fn iter(&self) -> impl Iterator<Item = (Doubt, [i64; 2])> {
        Doubt::ALL.into_iter().zip(self.0).filter_map(|(doubt, figures)| Some((doubt, figures?)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doubts_read_back_and_say_their_figures() {
        let mut doubts = Doubts::default();
        assert_eq!((doubts.to_text(), doubts.details()), (None, String::new()));
        doubts.raise(Doubt::PowerContradicts, [1, 1000]);
        doubts.raise(Doubt::RegisterFell, [9000, 500]);
        doubts.raise(Doubt::RegisterFell, [1, 1]);
        let text = doubts.to_text().unwrap_or_default();
        assert_eq!(text, "3=9000,500 7=1,1000");
        assert_eq!(Doubts::from_text(&text), doubts);
        assert_eq!(Doubts::from_text("3=9000 99=1,2 x"), Doubts::default());
        assert_eq!(doubts.first(), Some(Doubt::RegisterFell));
        assert_eq!(
            doubts.details(),
            "register_fell: the register was 9000 Wh and then 500 Wh; power_contradicts: 1 Wh by the register, 1000 Wh by power and time"
        );
        assert!(Doubt::ALL.iter().all(|doubt| Doubt::from_code(*doubt as i64) == Some(*doubt)));
    }
}
