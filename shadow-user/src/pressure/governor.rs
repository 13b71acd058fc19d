//! What follows of pressure: the sample shrinks fast and returns slowly.

/// Seconds without any pressure before the sample begins to return.
const CALM: u32 = 5;

/// How much of the whole returns each second.
const STEP: f64 = 0.05;

/// Less than this of the sample is nothing.
const LEAST: f64 = 1.0 / 64.0;

/// Below this part of its limit a gauge shows no pressure; between, nothing is changed, lest the
/// sample swings.
const EASY: f64 = 0.8;

/// How near the gauges are to their limits.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Load {
    /// None is near.
    Calm,
    /// One is near.
    Near,
    /// One is beyond.
    Pressed,
}

impl Load {
    /// Of a value and its limit.
    #[must_use]
    pub fn of(value: f64, limit: f64) -> Self {
        if value > limit {
            Self::Pressed
        } else if value > EASY * limit {
            Self::Near
        } else {
            Self::Calm
        }
    }

    /// The heavier one.
    #[must_use]
    pub fn max(self, other: Self) -> Self {
        if self as u8 >= other as u8 { self } else { other }
    }
}

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Step {
    /// The part of the sample whose flows are begun from now on, 0 to 1.
    pub share: f64,
    /// Open sessions outside of it are given up: to begin no more was not enough.
    pub shed: bool,
}

/// Decides once a second.
#[derive(Debug)]
pub struct Governor {
    share: f64,
    /// Seconds of pressure, or without any, up to now.
    pressed: u32,
    calm: u32,
}

impl Default for Governor {
    fn default() -> Self {
        Self { share: 1.0, pressed: 0, calm: 0 }
    }
}

impl Governor {
    /// What a second of `load` makes necessary.
    ///
    /// Each second of pressure halves the part of the sample that is left, from the second one on
    /// sessions outside of it go as well. After five seconds without, it grows by a twentieth of the whole each second.
    pub fn step(&mut self, load: Load) -> Option<Step> {
        self.pressed = if load == Load::Pressed { self.pressed.saturating_add(1) } else { 0 };
        self.calm = if load == Load::Calm { self.calm.saturating_add(1) } else { 0 };
        let share = match load {
            Load::Pressed if self.share / 2.0 < LEAST => 0.0,
            Load::Pressed => self.share / 2.0,
            Load::Calm if self.calm > CALM => (self.share + STEP).min(1.0),
            Load::Near | Load::Calm => self.share,
        };
        let shed = self.pressed > 1;
        if share == self.share && !shed {
            return None;
        }
        self.share = share;
        Some(Step { share, shed })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_near_its_limit_from_four_fifths_on() {
        let loads = [0.0, 0.4, 0.41, 0.5, 0.51].map(|value| Load::of(value, 0.5));
        assert_eq!(loads, [Load::Calm, Load::Calm, Load::Near, Load::Near, Load::Pressed]);
        assert_eq!(Load::Calm.max(Load::Pressed).max(Load::Near), Load::Pressed);
    }

    #[test]
    fn pressure_halves_the_sample_and_then_sheds() {
        let mut governor = Governor::default();
        assert_eq!(governor.step(Load::Calm), None);
        assert_eq!(governor.step(Load::Pressed), Some(Step { share: 0.5, shed: false }));
        assert_eq!(governor.step(Load::Pressed), Some(Step { share: 0.25, shed: true }));
        assert_eq!(governor.step(Load::Near), None);
        assert_eq!(governor.step(Load::Pressed), Some(Step { share: 0.125, shed: false }));
        let steps: Vec<_> = (0..4).filter_map(|_| governor.step(Load::Pressed)).collect();
        assert_eq!(steps.last(), Some(&Step { share: 0.0, shed: true }));
    }

    #[test]
    fn it_returns_slowly_and_not_before_it_was_calm_for_a_while() {
        let mut governor = Governor::default();
        for _ in 0..10 {
            governor.step(Load::Pressed);
        }
        for _ in 0..CALM {
            assert_eq!(governor.step(Load::Calm), None);
        }
        assert_eq!(governor.step(Load::Calm), Some(Step { share: STEP, shed: false }));
        assert_eq!(governor.step(Load::Near), None, "and waits again");
        let mut seconds = 0;
        while governor.share < 1.0 {
            governor.step(Load::Calm);
            seconds += 1;
        }
        assert!((20..=25).contains(&seconds), "{seconds}");
        assert_eq!(governor.step(Load::Calm), None);
    }
}
