//! Meter values of both versions to points. The total imported energy register bills; where a station tells none at all, what
//! it tells of energy in intervals, or net.

use std::collections::BTreeMap;

use evm_domain::{Point, PointKind, Timestamp};
use rust_decimal::Decimal;
use serde_json::Value;

use super::lenient::{decimal, field, list, text, time, whole, word};
use super::payload;

/// Samples read of one meter value, more than any station sends; and points taken of one kind in one message.
const MOST: usize = 2000;

/// The largest register, Wh, or power, W, that is believed.
const LARGEST: i64 = 1_000_000_000_000;

/// Where energy is measured, the best place first. 1.6 and 2.0.1 know no others.
const PLACES: [&str; 5] = ["Outlet", "Inlet", "Cable", "Body", "EV"];

/// What a measurand tells, where it tells something to us.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Measure {
    Energy,
    Interval,
    Net,
    Power,
    Soc,
}

struct Sample {
    kind: PointKind,
    measure: Measure,
    /// An index in [`PLACES`].
    place: usize,
    phase: Option<String>,
    value: Decimal,
}

/// A register as a point takes it.
pub(super) fn is_believable(value: i64) -> bool {
    (0..=LARGEST).contains(&value)
}

/// The points of `meterValue` lists: 1.6 `MeterValue`, 2.0.1 `MeterValueType`.
pub(super) fn points(meter_values: &[Value], received: Timestamp) -> Vec<Point> {
    // Some stations tell one moment's phases in a meter value each.
    let mut moments: BTreeMap<Timestamp, Vec<Sample>> = BTreeMap::new();
    for meter_value in meter_values.iter().map(payload::opened) {
        let at = time(&meter_value, "timestamp", received);
        let samples = first_and_last(list(&meter_value, "sampledValue")).filter_map(read);
        moments.entry(at).or_default().extend(samples);
    }
    // Registers of two places are two registers: one message bills from one of them.
    let place = |measure| moments.values().flatten().filter(|s| s.measure == measure).map(|s| s.place).min();
    let places = [Measure::Energy, Measure::Interval, Measure::Net].map(|measure| (measure, place(measure)));
    let is_there = |s: &Sample| places.iter().all(|(measure, place)| s.measure != *measure || Some(s.place) == *place);
    let points = moments.into_iter().flat_map(|(at, mut samples)| {
        samples.retain(is_there);
        points_at(at, samples)
    });
    thinned(points.collect())
}

/// Of a charge of days, told in one message, every so manieth point of a kind, its first and its last. Energy told in
/// intervals adds up, so that none of it is left out.
fn thinned(points: Vec<Point>) -> Vec<Point> {
    let mut all: BTreeMap<PointKind, usize> = BTreeMap::new();
    for point in &points {
        *all.entry(point.kind).or_default() += 1;
    }
    let mut seen: BTreeMap<PointKind, usize> = BTreeMap::new();
    let is_kept = |point: &Point| {
        let (n, seen) = (all[&point.kind], seen.entry(point.kind).or_default());
        *seen += 1;
        point.kind == PointKind::Interval || (*seen - 1).is_multiple_of(n.div_ceil(MOST)) || *seen == n
    };
    points.into_iter().filter(is_kept).collect()
}

/// The begin of a charge stands first, its end last.
fn first_and_last(all: &[Value]) -> impl Iterator<Item = &Value> {
    let skipped = all.len().saturating_sub(MOST);
    all.iter().take(1).chain(all.iter().skip(1 + skipped))
}

fn points_at(at: Timestamp, samples: Vec<Sample>) -> Vec<Point> {
    // A total counts before phases; without one, L1 to L3 add up.
    let mut totals: BTreeMap<(PointKind, Measure), Decimal> = BTreeMap::new();
    let mut phases: BTreeMap<(PointKind, Measure), BTreeMap<String, Decimal>> = BTreeMap::new();
    for Sample { kind, measure, phase, value, .. } in samples {
        match phase.as_deref() {
            None => {
                let total = totals.entry((kind, measure)).or_insert(value);
                *total = value.max(*total);
            }
            Some(phase @ ("L1" | "L2" | "L3" | "L1-N" | "L2-N" | "L3-N")) => {
                phases.entry((kind, measure)).or_default().insert(phase[..2].to_owned(), value);
            }
            Some(_) => {}
        }
    }
    for (key, phases) in phases {
        if key.1 != Measure::Soc {
            totals.entry(key).or_insert_with(|| phases.values().sum());
        }
    }
    totals
        .into_iter()
        .filter_map(|((kind, _), value)| Some(Point::new(at, kind, whole(value)?)))
        .filter(|point| is_believable(point.value))
        .collect()
}

fn read(sample: &Value) -> Option<Sample> {
    // 1.6 sends a bare value in some firmwares; as an object it is the rule.
    let context = word(sample, "context");
    // Clock-aligned values belong to the grid's books, not to a transaction.
    if context.as_deref() == Some("Sample.Clock") {
        return None;
    }
    let (measure, base_unit) = match word(sample, "measurand").as_deref() {
        None | Some("Energy.Active.Import.Register") => (Measure::Energy, "Wh"),
        Some("Energy.Active.Import.Interval" | "Energy.Active.Net.Interval") => (Measure::Interval, "Wh"),
        Some("Energy.Active.Net" | "Energy.Active.Import.Net" | "Energy.Active.Net.Register") => (Measure::Net, "Wh"),
        Some("Power.Active.Import") => (Measure::Power, "W"),
        Some("SoC") => (Measure::Soc, "Percent"),
        Some(_) => return None,
    };
    let location = word(sample, "location");
    let place = PLACES.iter().position(|place| location.as_ref().is_none_or(|name| name.eq_ignore_ascii_case(place)));
    let place = if matches!(measure, Measure::Power | Measure::Soc) { 0 } else { place? };
    let kind = match (measure, context.as_deref()) {
        (Measure::Energy, Some("Transaction.Begin")) => PointKind::Begin,
        (Measure::Energy, Some("Transaction.End")) => PointKind::End,
        (Measure::Energy, _) => PointKind::Register,
        (Measure::Interval, _) => PointKind::Interval,
        (Measure::Net, _) => PointKind::Net,
        (Measure::Power, _) => PointKind::Power,
        (Measure::Soc, _) => PointKind::Soc,
    };
    let unit_of_measure = field(sample, "unitOfMeasure");
    let unit = unit_of_measure.and_then(|unit| word(unit, "unit")).or_else(|| word(sample, "unit"));
    let kilo = match unit.as_deref() {
        None => 0,
        Some(unit) if unit.eq_ignore_ascii_case(base_unit) => 0,
        Some(unit) if unit.eq_ignore_ascii_case("kWh") || unit.eq_ignore_ascii_case("kW") => 3,
        Some(_) if measure == Measure::Soc => 0,
        Some(_) => return None,
    };
    let multiplier = unit_of_measure.and_then(|unit| field(unit, "multiplier")).and_then(decimal).and_then(whole);
    let exponent = kilo + multiplier.unwrap_or(0);
    let value = decimal(field(sample, "value")?)?;
    // Three phases of what is far too much cannot even be added up.
    let value = scaled(value, exponent).filter(|value| value.abs() <= LARGEST.into())?;
    Some(Sample { kind, measure, place, phase: text(sample, "phase"), value })
}

fn scaled(value: Decimal, exponent: i64) -> Option<Decimal> {
    let ten = Decimal::TEN;
    (0..exponent.unsigned_abs().min(30))
        .try_fold(value, |value, _| if exponent > 0 { value.checked_mul(ten) } else { value.checked_div(ten) })
}

#[cfg(test)]
mod tests {
    use super::super::lenient::format_time;
    use super::*;
    use serde_json::json;

    const RECEIVED: Timestamp = Timestamp(1_795_000_000_000);

    fn of(samples: Value) -> Vec<(PointKind, i64)> {
        let meter_value = json!([{ "timestamp": "2026-09-21T14:13:20Z", "sampledValue": samples }]);
        points(meter_value.as_array().map_or(&[], Vec::as_slice), RECEIVED)
            .into_iter()
            .map(|p| (p.kind, p.value))
            .collect()
    }

    #[test]
    fn the_import_register_in_its_many_shapes() {
        use PointKind::Register;
        assert_eq!(of(json!([{ "value": "1234" }])), [(Register, 1234)]);
        assert_eq!(of(json!([{ "value": 1234.4, "unit": "Wh" }])), [(Register, 1234)]);
        assert_eq!(of(json!([{ "value": "1.2345", "unit": "kWh" }])), [(Register, 1235)]);
        assert_eq!(of(json!({ "value": " 7 ", "measurand": null })), [(Register, 7)]);
        assert_eq!(
            of(json!([{ "value": 12, "unitOfMeasure": { "unit": "Wh", "multiplier": 2 } }])),
            [(Register, 1200)]
        );
        assert_eq!(
            of(json!([{ "value": 12000, "unitOfMeasure": { "unit": "kWh", "multiplier": -3 } }])),
            [(Register, 12_000)]
        );
    }

    #[test]
    fn phases_add_up_only_without_a_total() {
        let phases = json!([{ "value": "1", "phase": "L1" }, { "value": "2", "phase": "L2" }, { "value": "3", "phase": "L3" },
            { "value": "9", "phase": "N" }]);
        assert_eq!(of(phases), [(PointKind::Register, 6)]);
        assert_eq!(of(json!([{ "value": "1", "phase": "L1" }, { "value": "5" }])), [(PointKind::Register, 5)]);
    }

    #[test]
    fn phases_of_one_moment_add_up_across_meter_values() {
        let one = |phase: &str| json!({ "timestamp": "2026-09-21T14:13:20Z", "sampledValue": [{ "value": "2", "phase": phase }] });
        let all = points(&[one("L1"), one("L2"), one("L3")], RECEIVED);
        assert_eq!(all.iter().map(|p| (p.kind, p.value)).collect::<Vec<_>>(), [(PointKind::Register, 6)]);
    }

    #[test]
    fn of_very_many_meter_values_some_are_read_but_every_interval() {
        let one = |n: i64| {
            let interval = json!({ "value": 1, "measurand": "Energy.Active.Import.Interval" });
            json!({ "timestamp": format_time(Timestamp(1_790_000_000_000 + n * 1000)), "sampledValue": [{ "value": n }, interval] })
        };
        let all: Vec<_> = (0..5000).map(one).collect();
        let read = points(&all, RECEIVED);
        let of_kind = |kind| read.iter().filter(|p| p.kind == kind).map(|p| p.value).collect::<Vec<_>>();
        let registers = of_kind(PointKind::Register);
        assert!(registers.len() <= MOST + 1 && registers.is_sorted_by(|a, b| b - a <= 3), "{}", registers.len());
        assert_eq!((registers.first(), registers.last()), (Some(&0), Some(&4999)));
        assert_eq!(of_kind(PointKind::Interval).len(), 5000);
        let of_one_moment: Vec<_> = (0..3000).map(|n| json!({ "value": n })).collect();
        assert_eq!(of(of_one_moment.into()), [(PointKind::Register, 2999)]);
    }

    #[test]
    fn energy_is_read_at_the_outlet_or_else_where_it_is_measured() {
        let at = |location: &str, value: i64| json!({ "value": value, "location": location });
        let read = |samples: Value| of(samples).into_iter().map(|(_, value)| value).collect::<Vec<_>>();
        assert_eq!(read(json!([at("Outlet", 5), at("Inlet", 9)])), [5]);
        assert_eq!(read(json!([at("Inlet", 9), { "value": 5 }, at("Cable", 8)])), [5]);
        assert_eq!(read(json!([at("outlet", 5)])), [5]);
        assert_eq!(read(json!([at("Cable", 8), at("Inlet", 9)])), [9]);
        assert_eq!(read(json!([at("EV", 7), at("Body", 6)])), [6]);
        assert_eq!(read(json!([at("EV", 7)])), [7]);
        assert!(read(json!([at("Upstream", 7)])).is_empty());
        let phase =
            |location: &str, phase: &str, value: i64| json!({ "value": value, "location": location, "phase": phase });
        let phases =
            json!([at("Inlet", 99), phase("Outlet", "L1", 1), phase("Outlet", "L2", 2), phase("Inlet", "L3", 50)]);
        assert_eq!(read(phases), [3], "never summed with another place");
        // Two registers are not one: a message that reads the outlet is not read elsewhere at another moment.
        let moment = |seconds: i64, sample: Value| json!({ "timestamp": format_time(Timestamp(1_790_000_000_000 + seconds * 1000)), "sampledValue": [sample] });
        let both = points(&[moment(0, at("Outlet", 5)), moment(9, at("Inlet", 800))], RECEIVED);
        assert_eq!(both.iter().map(|p| p.value).collect::<Vec<_>>(), [5]);
        // Power and charge are shown, wherever they are measured.
        assert_eq!(of(json!([{ "value": 7, "measurand": "SoC", "location": "EV" }])), [(PointKind::Soc, 7)]);
    }

    #[test]
    fn energy_without_a_register_is_read_for_what_it_is() {
        let told = |measurand: &str| of(json!([{ "value": "1.5", "unit": "kWh", "measurand": measurand }]));
        assert_eq!(told("Energy.Active.Import.Interval"), [(PointKind::Interval, 1500)]);
        assert_eq!(told("Energy.Active.Net"), [(PointKind::Net, 1500)]);
        assert!(told("Energy.Active.Export.Interval").is_empty());
        let interval =
            |phase: &str| json!({ "value": 2, "measurand": "Energy.Active.Import.Interval", "phase": phase });
        let all = of(json!([{ "value": 7 }, interval("L1"), interval("L2"), interval("N")]));
        assert_eq!(all, [(PointKind::Register, 7), (PointKind::Interval, 4)]);
    }

    #[test]
    fn what_never_bills() {
        assert!(of(json!([{ "value": "1", "context": "Sample.Clock" }])).is_empty());
        assert!(of(json!([{ "value": "1", "measurand": "Energy.Active.Export.Register" }])).is_empty());
        assert!(of(json!([{ "value": "1", "unit": "kvarh" }])).is_empty());
        assert!(of(json!([{ "value": "-5" }, { "value": "abc" }, {}, 5])).is_empty());
    }

    #[test]
    fn numbers_beyond_all_measure_are_none() {
        let phase = |phase: &str| json!({ "value": "7".repeat(29), "phase": phase });
        assert!(of(json!([phase("L1"), phase("L2"), phase("L3")])).is_empty());
        assert!(of(json!([{ "value": "7".repeat(29), "unit": "kWh" }, { "value": "-8e28" }])).is_empty());
        assert_eq!(of(json!([phase("L1"), { "value": 5 }])), [(PointKind::Register, 5)]);
    }

    #[test]
    fn power_and_charge_are_read_beside_energy() {
        let all = of(json!([{ "value": "7.4", "measurand": "Power.Active.Import", "unit": "kW" },
            { "value": 55, "measurand": "SoC", "unit": "Percent" }, { "value": 10, "context": "Transaction.Begin" }]));
        assert_eq!(all, [(PointKind::Begin, 10), (PointKind::Power, 7400), (PointKind::Soc, 55)]);
    }
}
