//! Whose address the shadow sees, by every way to it: each request arrives exactly once.

use std::fmt;

use anyhow::{Context as _, Result, ensure};
use shadow_lab::{Entry, Mix, Topology, check_against_client, compare};
use shadow_tests::{Family, Stage, at, check_ended, check_lossless};

const REQUESTS: u64 = 1_000;

/// A source mode, and how the shadow's answers find back.
#[derive(Clone, Copy, Debug)]
enum Way {
    /// To this host's own address.
    Own,
    /// This host answers for an unused part of the segment.
    Announced,
    /// A route to a network of its own.
    Routed,
    /// A route of the service's port alone.
    Preserve,
}

/// One cell of the matrix.
#[derive(Clone, Copy, Debug)]
struct Case {
    way: Way,
    family: Family,
    topology: Topology,
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}, {:?}, {:?}", self.way, self.family, self.topology)
    }
}

impl Case {
    /// The pool, and what every address of it begins with.
    fn pool(self) -> (&'static str, &'static str) {
        let one_segment = self.topology == Topology::OneSegment;
        match (self.way, self.family) {
            (Way::Announced, Family::V4) if one_segment => ("10.77.0.128/26", "10.77.0.1"),
            (Way::Announced, Family::V4) => ("10.77.1.128/26", "10.77.1.1"),
            (Way::Announced, Family::V6) if one_segment => ("fd77::5:0/112", "fd77::5:"),
            (Way::Announced, Family::V6) => ("fd77:0:0:1::5:0/112", "fd77::1:0:0:5:"),
            (_, Family::V4) => ("10.99.7.0/24", "10.99.7."),
            (_, Family::V6) => ("fd99::7:0/112", "fd99::7:"),
        }
    }

    fn flags(self) -> Vec<String> {
        let pool = format!("pool={}", self.pool().0);
        let flags: &[&str] = match self.way {
            Way::Own => &["--source", "self"],
            Way::Announced => &["--source", &pool, "--pool-announce"],
            Way::Routed => &["--source", &pool],
            Way::Preserve => &["--source", "preserve"],
        };
        flags.iter().map(|flag| (*flag).to_owned()).collect()
    }

    /// The mirror host's address on the shadow's segment.
    fn mirror_host(self, stage: &Stage) -> String {
        match (self.topology, self.family) {
            (Topology::SecondInterface, Family::V4) => "10.77.1.2".to_owned(),
            (Topology::SecondInterface, Family::V6) => "fd77:0:0:1::2".to_owned(),
            _ => at(&stage.lab.production, self.family).ip().to_string(),
        }
    }

    /// Lets the shadow's answers find back, or takes that away.
    fn route(self, stage: &Stage, verb: &str) -> Result<()> {
        let via = self.mirror_host(stage);
        let ip = |args: &str| {
            let family = if self.family == Family::V4 { "-4" } else { "-6" };
            let args = [family].into_iter().chain(args.split_whitespace());
            stage.lab.shadow.run("ip", args).map(drop)
        };
        match self.way {
            Way::Own | Way::Announced => Ok(()),
            Way::Routed => ip(&format!("route {verb} {} via {via}", self.pool().0)),
            Way::Preserve => {
                ip(&format!("route {verb} default via {via} table 77"))?;
                ip(&format!("rule {verb} ipproto tcp sport 80 table 77"))
            }
        }
    }

    /// Whether the shadow was to see this address.
    fn expects(self, stage: &Stage, remote: &str) -> bool {
        match self.way {
            Way::Own => remote == self.mirror_host(stage),
            Way::Announced | Way::Routed => remote.starts_with(self.pool().1),
            Way::Preserve => remote == at(&stage.lab.client, self.family).ip().to_string(),
        }
    }

    fn run(self, stage: &Stage, seed: u64) -> Result<()> {
        let of_this_run = |mut log: Vec<Entry>| {
            log.retain(|entry| entry.id.starts_with(&format!("{seed:x}-")));
            log
        };
        self.route(stage, "add")?;
        let flags = self.flags();
        let flags: Vec<_> = flags.iter().map(String::as_str).collect();
        let (served, mirrored) = (stage.production.logged(), stage.shadow.logged());
        let mirror = stage.mirror(self.family, &flags)?;
        let mix = Mix { max_body: 16 << 10, ..stage.mix(self.family, REQUESTS, seed) };
        let report = stage.send(&mix)?;
        let count = report.completed.len();
        let ended = mirror.stop()?;
        check_ended(&ended)?;
        check_lossless(&ended.books, count)?;

        let production = of_this_run(stage.production.log_of(served + count)?);
        let differences = check_against_client(&report.completed, &production);
        ensure!(differences.is_empty(), "production's log: {differences}");
        let shadow = of_this_run(stage.shadow.log_of(mirrored + count)?);
        let differences = compare(&production, &shadow);
        ensure!(differences.is_empty(), "the shadow's log: {differences}");
        let remote = &shadow[0].remote;
        ensure!(self.expects(stage, remote), "the shadow saw {remote}");
        ensure!(shadow.iter().all(|entry| entry.remote == *remote), "not always {remote}");
        self.route(stage, "del")?;
        stage.guard(&["remove"]).map(drop)
    }
}

fn every_way(topology: Topology, seed: u64) -> Result<()> {
    let stage = Stage::with(topology)?;
    // The guard holds whatever this host forwards.
    stage.lab.production.sysctl("net.ipv4.ip_forward", "1")?;
    stage.lab.production.sysctl("net.ipv6.conf.all.forwarding", "1")?;
    let mut seed = seed;
    for way in [Way::Own, Way::Announced, Way::Routed, Way::Preserve] {
        for family in [Family::V4, Family::V6] {
            let case = Case { way, family, topology };
            case.run(&stage, seed).with_context(|| case.to_string())?;
            seed += 1;
        }
    }
    Ok(())
}

#[test]
fn every_source_to_a_shadow_on_the_clients_interface() -> Result<()> {
    every_way(Topology::OneSegment, 0x400)
}

#[test]
fn every_source_to_a_shadow_on_a_second_interface() -> Result<()> {
    every_way(Topology::SecondInterface, 0x410)
}
