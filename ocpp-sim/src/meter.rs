//! The meter and the car behind it: energy along a believable curve, in integers.
//!
//! Energy is counted in mW·ms, so that no fraction is lost between two looks at the register:
//! 1 Wh = 3.6·10⁹ mW·ms, and an `i64` holds 2.5 GWh.

use rand::{Rng, SeedableRng, rngs::SmallRng};

/// mW·ms in one Wh.
const PER_WH: i64 = 3_600_000_000;
/// Simulated time from nothing to full power.
const RAMP_MS: i64 = 60_000;
/// The power falls in the last fifth of the battery…
const TAPER_PERMILLE: i64 = 200;
/// …down to this share of full power.
const FLOOR_PERMILLE: i64 = 50;
/// The curve is computed in steps of this simulated time, or longer ones for a long jump.
const STEP_MS: i64 = 1_000;
const MAX_STEPS: i64 = 200;
/// State of charge of a car that has just been plugged in.
const FIRST_SOC: i64 = 20;

/// The energy meter of one connector. It only ever grows.
#[derive(Debug)]
pub(crate) struct Meter {
    start_wh: i64,
    counted: i64,
    max_mw: i64,
    rng: SmallRng,
}

/// The car at the connector: how much it still takes.
#[derive(Debug, Clone)]
pub(crate) struct Car {
    capacity: i64,
    taken: i64,
    flowing_ms: i64,
    power_mw: i64,
}

impl Car {
    pub(crate) fn new(battery_wh: i64) -> Self {
        Car { capacity: battery_wh * PER_WH, taken: 0, flowing_ms: 0, power_mw: 0 }
    }

    pub(crate) fn is_full(&self) -> bool {
        self.taken >= self.capacity
    }

    /// Energy stops flowing; the next flow ramps up anew.
    pub(crate) fn pause(&mut self) {
        self.flowing_ms = 0;
        self.power_mw = 0;
    }

    pub(crate) fn power_w(&self) -> i64 {
        self.power_mw / 1_000
    }

    pub(crate) fn soc_percent(&self) -> i64 {
        FIRST_SOC + (100 - FIRST_SOC) * (self.taken / PER_WH) / (self.capacity / PER_WH).max(1)
    }

    /// Power at this point of the curve before jitter, in permille of the maximum.
    fn permille(&self) -> i64 {
        let ramp = (self.flowing_ms * 1_000 / RAMP_MS).clamp(FLOOR_PERMILLE, 1_000);
        let left = (self.capacity - self.taken) / (self.capacity / 1_000).max(1);
        let taper = (left * 1_000 / TAPER_PERMILLE).clamp(FLOOR_PERMILLE, 1_000);
        ramp.min(taper)
    }
}

impl Meter {
    pub(crate) fn new(start_wh: i64, power_w: i64, seed: u64) -> Self {
        Meter { start_wh, counted: 0, max_mw: power_w * 1_000, rng: SmallRng::seed_from_u64(seed) }
    }

    /// The register, Wh.
    pub(crate) fn register_wh(&self) -> i64 {
        self.start_wh + self.delivered_wh()
    }

    /// What flowed through since it was made, Wh.
    pub(crate) fn delivered_wh(&self) -> i64 {
        self.counted / PER_WH
    }

    /// Lets energy flow into the car for `sim_ms` of simulated time, never more than it takes.
    pub(crate) fn flow(&mut self, car: &mut Car, sim_ms: i64) {
        let step = STEP_MS.max(sim_ms / MAX_STEPS + 1);
        let mut left = sim_ms;
        while left > 0 && !car.is_full() {
            let dt = left.min(step);
            // Never above the maximum: a central system may hold back what the charger cannot deliver.
            let jitter = self.rng.random_range(960..=1_000);
            car.flowing_ms = car.flowing_ms.saturating_add(dt);
            car.power_mw = self.max_mw / 1_000 * car.permille() / 1_000 * jitter;
            let energy = (car.power_mw * dt).max(1).min(car.capacity - car.taken);
            car.taken += energy;
            self.counted += energy;
            left -= dt;
        }
        if car.is_full() {
            car.pause();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ramps_up_keeps_a_plateau_and_tapers() {
        let (mut meter, mut car) = (Meter::new(1_000, 7_000, 1), Car::new(10_000));
        let mut power = Vec::new();
        while !car.is_full() {
            meter.flow(&mut car, 10_000);
            power.push(car.power_w());
        }
        assert!(power[0] < 1_400, "{power:?}");
        assert!(power[10..300].iter().all(|p| (6_700..=7_000).contains(p)));
        assert!(power[power.len() - 10] < 1_000);
        assert!(power.len() < 3 * 3600 / 10, "not endless: {}", power.len());
    }

    #[test]
    fn a_full_battery_took_exactly_its_energy() {
        for (seed, step) in [(1, 777), (2, 60_000), (3, 100_000_000)] {
            let (mut meter, mut car) = (Meter::new(5, 22_000, seed), Car::new(1_234));
            for _ in 0..100_000 {
                meter.flow(&mut car, step);
            }
            assert!(car.is_full());
            assert_eq!(meter.delivered_wh(), 1_234);
            assert_eq!(meter.register_wh(), 1_239);
            assert_eq!((car.power_w(), car.soc_percent()), (0, 100));
        }
    }

    #[test]
    fn the_same_seed_gives_the_same_curve() {
        let run = |seed| {
            let (mut meter, mut car) = (Meter::new(0, 7_000, seed), Car::new(20_000));
            (0..200)
                .map(|_| {
                    meter.flow(&mut car, 1_500);
                    meter.counted
                })
                .collect::<Vec<_>>()
        };
        assert_eq!(run(7), run(7));
        assert_ne!(run(7), run(8));
    }

    #[test]
    fn never_more_than_maximum_power_times_time() {
        let (mut meter, mut car) = (Meter::new(0, 7_000, 3), Car::new(20_000));
        meter.flow(&mut car, 3_600_000);
        assert!(meter.delivered_wh() <= 7_000);
        assert!(meter.delivered_wh() > 6_000);
    }

    #[test]
    fn a_pause_starts_the_ramp_again() {
        let (mut meter, mut car) = (Meter::new(0, 7_000, 3), Car::new(20_000));
        meter.flow(&mut car, 100_000);
        car.pause();
        assert_eq!(car.power_w(), 0);
        meter.flow(&mut car, 1_000);
        assert!(car.power_w() < 1_000);
    }
}
