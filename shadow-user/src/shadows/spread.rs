//! Which of several shadows gets a client.

use std::net::IpAddr;

use shadow_common::place;

use crate::services::address;

/// Each client to one of several shadows: the same one on every host, and in every run with the same
/// seed.
#[derive(Clone, Copy, Debug)]
pub struct Spread {
    /// What `--seed` says.
    pub seed: u64,
    /// How many shadows there are; 1 at least.
    pub shadows: u16,
}

impl Spread {
    /// The place of a client's shadow, counted from 0.
    ///
    /// The shadow with the highest hash has it (rendezvous hashing): one more takes its share of each
    /// of the others, and no client moves between those. The hash is that of samples by connection, with the
    /// shadow's number from 1 on in place of a port, so that it has nothing to do with who is in a sample.
    #[must_use]
    pub fn of(self, client: IpAddr) -> usize {
        let client = address(client);
        let numbers = 1..=self.shadows;
        let highest = numbers.max_by_key(|number| place(self.seed, &client, number.to_be_bytes()));
        usize::from(highest.unwrap_or(1)) - 1
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    const CLIENTS: u32 = 30_000;

    fn clients() -> impl Iterator<Item = IpAddr> {
        (0..CLIENTS).map(|number| Ipv4Addr::from_bits(0x0a00_0000 + number).into())
    }

    #[test]
    fn each_shadow_gets_its_share() {
        for shadows in [1_u16, 2, 3, 7] {
            let mut counts = vec![0_u32; shadows.into()];
            clients().for_each(|client| counts[Spread { seed: 0, shadows }.of(client)] += 1);
            let share = f64::from(CLIENTS) / f64::from(shadows);
            // Five standard deviations of a binomial distribution, or less.
            let bound = 5.0 * share.sqrt();
            assert!(
                counts.iter().all(|count| (f64::from(*count) - share).abs() < bound),
                "{counts:?}"
            );
        }
    }

    #[test]
    fn one_shadow_more_takes_clients_and_moves_none_between_the_others() {
        for client in clients().take(1_000) {
            let before = Spread { seed: 7, shadows: 3 }.of(client);
            let after = Spread { seed: 7, shadows: 4 }.of(client);
            assert!(after == before || after == 3, "{client}");
        }
    }

    #[test]
    fn a_sample_is_spread_as_evenly_as_all_are() {
        let sampled = clients().filter(|client| place(0, &address(*client), [0; 2]) < 1 << 28);
        let (first, second): (Vec<_>, Vec<_>) =
            sampled.partition(|client| Spread { seed: 0, shadows: 2 }.of(*client) == 0);
        let (first, second) = (first.len() as f64, second.len() as f64);
        assert!((first - second).abs() < 5.0 * (first + second).sqrt(), "{first} {second}");
    }

    #[test]
    fn places_are_known_and_the_seed_tells() {
        let of = |seed, last| Spread { seed, shadows: 2 }.of(Ipv4Addr::new(192, 0, 2, last).into());
        let places = |seed| (1..=16).map(|last| of(seed, last)).collect::<Vec<_>>();
        assert_eq!(places(0), [0, 1, 1, 0, 0, 0, 0, 1, 1, 0, 0, 1, 0, 0, 0, 1]);
        assert_ne!(places(0), places(1));
    }
}
