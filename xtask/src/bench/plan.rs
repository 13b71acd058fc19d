//! Which mirrors are measured under which loads, and in what order.

use std::time::Duration;

use super::{
    load::Load,
    subject::{Peers, Subject},
};

/// What to measure.
pub struct Plan {
    /// Each load with its subjects; production alone first.
    pub steps: Vec<(Load, Vec<Subject>)>,
    /// How often; medians are of these.
    pub rounds: u32,
    /// How long each load runs.
    pub time: Duration,
}

use Subject::{Body, Gor, Nginx, None, Off, Other, Sink, Status, Tcpcopy};

impl Plan {
    /// What the bars are about.
    pub fn quick(peers: &Peers) -> Self {
        let steps: &[(Load, &[Subject])] = &[
            (Load::Keepalive, &[None, Other, Sink, Off, Status, Body, Nginx, Gor, Tcpcopy]),
            (Load::Rate20k, &[None, Off]),
            (Load::Short, &[None, Sink]),
            (Load::Short12k, &[None, Off]),
            (Load::Upload620, &[None, Sink]),
            (Load::Idle, &[Off]),
        ];
        Self::of(steps, peers, 3, Duration::from_secs(2))
    }

    /// Everything.
    pub fn full(peers: &Peers) -> Self {
        let all: &[Subject] = &[None, Sink, Off, Status, Body, Nginx, Gor, Tcpcopy];
        let every: &[Subject] = &[None, Other, Sink, Off, Status, Body, Nginx, Gor, Tcpcopy];
        let steps: &[(Load, &[Subject])] = &[
            (Load::Keepalive, every),
            (Load::Short, all),
            (Load::Rate1k, all),
            (Load::Rate20k, all),
            (Load::Short12k, all),
            (Load::Upload, &[None, Sink, Off, Tcpcopy]),
            (Load::Upload620, &[None, Sink, Off, Status, Body]),
            (Load::Download, all),
            (Load::Idle, &[None, Off, Status, Nginx, Gor, Tcpcopy]),
        ];
        Self::of(steps, peers, 5, Duration::from_secs(3))
    }

    fn of(steps: &[(Load, &[Subject])], peers: &Peers, rounds: u32, time: Duration) -> Self {
        let steps = steps.iter().map(|&(load, subjects)| {
            let can = subjects.iter().copied().filter(|subject| subject.can(load, peers));
            (load, can.collect())
        });
        Self { steps: steps.collect(), rounds, time }
    }

    /// Every measurement in its order: a round has each load with all its mirrors beside each other,
    /// so that what changes on the machine changes for all of them.
    pub fn measurements(&self) -> impl Iterator<Item = (u32, Load, Subject)> {
        (0..self.rounds).flat_map(move |round| {
            self.steps.iter().flat_map(move |(load, subjects)| {
                subjects.iter().map(move |subject| (round, *load, *subject))
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn peers_without_a_binary_are_left_out() {
        let plan = Plan::quick(&Peers::new());
        assert!(plan.measurements().all(|(_, _, subject)| !matches!(subject, Gor | Tcpcopy)));
        let gor = Peers::from([("gor".to_owned(), "/x".into())]);
        assert!(Plan::full(&gor).measurements().any(|(_, _, subject)| subject == Gor));
    }

    #[test]
    fn a_round_has_everything_once() {
        let plan = Plan::full(&Peers::new());
        let first: Vec<_> = plan.measurements().take_while(|it| it.0 == 0).collect();
        assert_eq!(first.len() * 5, plan.measurements().count());
    }
}
