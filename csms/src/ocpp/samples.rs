//! Meter values of both versions to points. Only the total imported energy register bills.

use std::collections::BTreeMap;

use evm_domain::{Point, PointKind, Timestamp};
use rust_decimal::Decimal;
use serde_json::Value;

use super::lenient::{decimal, field, list, text, time, whole};

/// Samples read of one message; more than any station sends.
const MOST: usize = 2000;

/// What a measurand tells, where it tells something to us.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Measure {
    Energy,
    Power,
    Soc,
}

/// The points of `meterValue` lists: 1.6 `MeterValue`, 2.0.1 `MeterValueType`.
pub(super) fn points(meter_values: &[Value], received: Timestamp) -> Vec<Point> {
    // Some stations tell one moment's phases in a meter value each.
    let mut moments: BTreeMap<Timestamp, Vec<&Value>> = BTreeMap::new();
    for meter_value in meter_values.iter().take(MOST) {
        let at = time(meter_value, "timestamp", received);
        moments.entry(at).or_default().extend(list(meter_value, "sampledValue"));
    }
    moments.into_iter().flat_map(|(at, samples)| points_at(at, &samples)).collect()
}

fn points_at(at: Timestamp, samples: &[&Value]) -> Vec<Point> {
    // A total counts before phases; without one, L1 to L3 add up.
    let mut totals: BTreeMap<(PointKind, Measure), Decimal> = BTreeMap::new();
    let mut phases: BTreeMap<(PointKind, Measure), BTreeMap<String, Decimal>> = BTreeMap::new();
    for sample in samples.iter().take(MOST) {
        let Some((kind, measure, value)) = read(sample) else { continue };
        match text(sample, "phase").as_deref() {
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
        .filter_map(|((kind, _), value)| Some(Point { at, kind, value: whole(value)? }))
        .filter(|point| (0..=1_000_000_000_000).contains(&point.value))
        .collect()
}

fn read(sample: &Value) -> Option<(PointKind, Measure, Decimal)> {
    // 1.6 sends a bare value in some firmwares; as an object it is the rule.
    let context = text(sample, "context");
    // Clock-aligned values belong to the grid's books, not to a transaction.
    if context.as_deref() == Some("Sample.Clock") {
        return None;
    }
    let (measure, base_unit) = match text(sample, "measurand").as_deref() {
        None | Some("Energy.Active.Import.Register") => (Measure::Energy, "Wh"),
        Some("Power.Active.Import") => (Measure::Power, "W"),
        Some("SoC") => (Measure::Soc, "Percent"),
        Some(_) => return None,
    };
    if text(sample, "location").is_some_and(|location| location != "Outlet") && measure == Measure::Energy {
        return None;
    }
    let kind = match (measure, context.as_deref()) {
        (Measure::Energy, Some("Transaction.Begin")) => PointKind::Begin,
        (Measure::Energy, Some("Transaction.End")) => PointKind::End,
        (Measure::Energy, _) => PointKind::Register,
        (Measure::Power, _) => PointKind::Power,
        (Measure::Soc, _) => PointKind::Soc,
    };
    let unit_of_measure = field(sample, "unitOfMeasure");
    let unit = unit_of_measure.and_then(|unit| text(unit, "unit")).or_else(|| text(sample, "unit"));
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
    Some((kind, measure, scaled(value, exponent)?))
}

fn scaled(value: Decimal, exponent: i64) -> Option<Decimal> {
    let ten = Decimal::TEN;
    (0..exponent.unsigned_abs().min(30))
        .try_fold(value, |value, _| if exponent > 0 { value.checked_mul(ten) } else { value.checked_div(ten) })
}

#[cfg(test)]
mod tests {
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
    fn what_never_bills() {
        assert!(of(json!([{ "value": "1", "context": "Sample.Clock" }])).is_empty());
        assert!(of(json!([{ "value": "1", "measurand": "Energy.Active.Export.Register" }])).is_empty());
        assert!(of(json!([{ "value": "1", "measurand": "Energy.Active.Import.Interval" }])).is_empty());
        assert!(of(json!([{ "value": "1", "unit": "kvarh" }])).is_empty());
        assert!(of(json!([{ "value": "-5" }, { "value": "abc" }, {}, 5])).is_empty());
    }

    #[test]
    fn power_and_charge_are_read_beside_energy() {
        let all = of(json!([{ "value": "7.4", "measurand": "Power.Active.Import", "unit": "kW" },
            { "value": 55, "measurand": "SoC", "unit": "Percent" }, { "value": 10, "context": "Transaction.Begin" }]));
        assert_eq!(all, [(PointKind::Begin, 10), (PointKind::Power, 7400), (PointKind::Soc, 55)]);
    }
}
