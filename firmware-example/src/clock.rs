//! Time from a counter that runs down, and an interrupt that counts its laps.

/// What [`ticks`] needs of the counter. Looking may take time, in which it runs on.
pub trait Counter {
    /// Laps that the interrupt has counted.
    fn laps(&mut self) -> u32;
    /// What is left of this lap. A lap begins with the zero that asks for the interrupt.
    fn left(&mut self) -> u32;
    /// Whether the interrupt was asked for and not taken yet.
    fn is_pending(&mut self) -> bool;
}

/// Ticks since the start of a counter that begins again at `reload`; never fewer than before.
pub fn ticks(counter: &mut impl Counter, reload: u32) -> u64 {
    loop {
        let laps = counter.laps();
        let left = counter.left();
        // A lap that ended and was not counted yet would be missing, one that was counted after the reading too much. At zero the
        // interrupt may be about to be asked for.
        if left != 0 && !counter.is_pending() && counter.laps() == laps {
            let lap = u64::from(reload) + 1;
            return u64::from(laps) * lap + lap - u64::from(left);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RELOAD: u32 = 30;

    /// A counter that runs on by `pace` whenever it is looked at; the interrupt is taken some looks after it was asked for.
    struct Slow {
        now: u64,
        pace: u64,
        delay: u32,
        asked: Option<u32>,
        laps: u32,
    }

    impl Slow {
        fn look(&mut self) {
            let lap = u64::from(RELOAD) + 1;
            for _ in 0..self.pace {
                self.now += 1;
                if self.now.is_multiple_of(lap) {
                    self.asked.get_or_insert(self.delay);
                }
            }
            self.asked = match self.asked {
                Some(0) => {
                    self.laps += 1;
                    None
                }
                Some(looks) => Some(looks - 1),
                None => None,
            };
        }
    }

    impl Counter for Slow {
        fn laps(&mut self) -> u32 {
            self.look();
            self.laps
        }

        fn left(&mut self) -> u32 {
            self.look();
            let lap = u64::from(RELOAD) + 1;
            ((lap - self.now % lap) % lap) as u32
        }

        fn is_pending(&mut self) -> bool {
            self.look();
            self.asked.is_some()
        }
    }

    #[test]
    fn time_never_runs_backwards_and_is_that_of_the_counter() {
        for pace in [1, 2] {
            for delay in 0..3 {
                for start in 1..31 {
                    let mut counter = Slow { now: start, pace, delay, asked: None, laps: 0 };
                    let mut before = 0;
                    for _ in 0..500 {
                        let began = counter.now;
                        let found = ticks(&mut counter, RELOAD);
                        assert!(found >= before, "{found} after {before}: pace {pace}, delay {delay}");
                        assert!((began..=counter.now).contains(&found), "{found} between {began} and {}", counter.now);
                        before = found;
                    }
                }
            }
        }
    }
}
