//! What a probe that came back or did not says about the way to the shadow and back.

use std::net::IpAddr;

use crate::config::{Config, SourceMode};
use crate::finding::{Finding, Level};
use crate::kernel::Unsent;
use crate::preflight::{Plan, Way};

use super::firewall::{Action, Culprit, Sources};
use super::neighbour::Neighbour;
use super::probe::{LIMIT, Outcome, Probe};

/// How the shadow answers this host itself, from its own address.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Direct {
    /// With a handshake.
    Answers,
    /// With RST.
    Refuses,
    /// Not at all.
    Silent,
}

/// What was tried, and all that was looked at when it failed.
#[derive(Clone, Debug)]
pub struct Tried {
    /// The probe.
    pub probe: Probe,
    /// What became of it.
    pub outcome: Outcome,
    /// The router between here and the shadow.
    pub gateway: Option<IpAddr>,
    /// Whether the next host on the way answers.
    pub neighbour: Neighbour,
    /// The interface without a guard by which the answer comes in.
    pub elsewhere: Option<String>,
    /// Whether this host forwards what comes in for others.
    pub forwards: bool,
    /// How the shadow answers this host; asked only in modes with addresses of others.
    pub direct: Option<Direct>,
    /// The rules of this host that the packet meets, or why they are not known.
    pub firewall: Option<Result<Vec<Culprit>, String>>,
}

/// The findings: one, or several rules of the firewall.
#[must_use]
pub fn judge(config: &Config, plan: &Plan, way: &Way, tried: &Tried) -> Vec<Finding> {
    let verdict = Verdict { config, plan, way, tried };
    match tried.outcome {
        Outcome::Answered(index) => vec![verdict.answered(index)],
        Outcome::Refused => vec![verdict.refused()],
        Outcome::Icmp { reporter, code } => vec![verdict.reported(reporter, code)],
        Outcome::Unsent(Unsent::NotPermitted) => {
            verdict.firewall("this host's firewall does not let the mirror's packets out (EPERM)")
        }
        Outcome::Stuck(Unsent::NotPermitted) => verdict.firewall(
            "this host's firewall lets the SYN out, but not what follows it (EPERM): conntrack \
             does not see the shadow's answers, which the guard takes first, and calls the rest \
             invalid",
        ),
        Outcome::Unsent(reason) | Outcome::Stuck(reason) => vec![Finding::problem(
            verdict.shadow(),
            format!("this host's kernel does not send to it ({})", reason.label()),
            format!("see ip route get {}, and the counters of ip -s link", way.shadow.ip()),
        )],
        Outcome::Silent => verdict.silent(),
    }
}

struct Verdict<'a> {
    config: &'a Config,
    plan: &'a Plan,
    way: &'a Way,
    tried: &'a Tried,
}

impl Verdict<'_> {
    fn shadow(&self) -> String {
        self.way.setting.to_string()
    }

    fn is_foreign(&self) -> bool {
        self.config.source.value != SourceMode::Own
    }

    /// Of a shadow that may come up later: the circuit breaker waits for it, but only when it is
    /// known where its answers will go.
    fn level(&self) -> Level {
        if self.is_foreign() { Level::Problem } else { Level::Warning }
    }

    fn answered(&self, index: u32) -> Finding {
        let guard = self.plan.guards.iter().find(|guard| guard.index == index);
        let guard = guard.map_or("?", |guard| guard.name.as_str());
        let whose = match self.config.source.value {
            SourceMode::Preserve => ", which no client has,",
            _ => "",
        };
        Finding::ok(
            self.config.source.to_string(),
            format!(
                "the shadow's answer to {}{whose} came back by the guard on {guard}",
                self.tried.probe.local.ip()
            ),
        )
    }

    /// The way back is proven by the RST itself.
    fn refused(&self) -> Finding {
        let port = self.way.shadow.port();
        Finding::warning(
            self.shadow(),
            "refuses connections (RST): nothing is mirrored until a server listens there",
            format!("start it; on its host: ss -ltn 'sport = :{port}'"),
        )
    }

    fn reported(&self, reporter: IpAddr, code: u8) -> Finding {
        let (words, is_rejected) = meaning(reporter.is_ipv4(), code);
        let port = self.way.shadow.port();
        let remedy = if is_rejected {
            format!("let TCP port {port} pass there; on {reporter}: nft list ruleset")
        } else {
            format!(
                "see whether the shadow's host is up; on {reporter}: ip route get {}",
                self.way.shadow.ip()
            )
        };
        let what = format!("{reporter} answers in its place: {words} (ICMP)");
        Finding::problem(self.shadow(), what, remedy).at(self.level())
    }

    fn firewall(&self, what: &str) -> Vec<Finding> {
        let fallback = |why: &str, remedy: &str| {
            vec![Finding::problem(self.shadow(), format!("{what}; {why}"), remedy)]
        };
        match &self.tried.firewall {
            Some(Ok(culprits)) if !culprits.is_empty() => {
                let certain: Vec<_> = culprits.iter().filter(|it| it.sure).collect();
                let culprits = if certain.is_empty() { culprits.iter().collect() } else { certain };
                culprits.into_iter().map(|culprit| self.rule(what, culprit)).collect()
            }
            Some(Err(error)) => fallback(
                &format!("its rules cannot be listed by nft ({error})"),
                "install nftables to have the rule named, or look at iptables-save",
            ),
            _ => fallback(
                "no rule of nftables does it",
                "look at iptables-legacy-save, and at programs of a cgroup: bpftool cgroup tree",
            ),
        }
    }

    fn rule(&self, what: &str, culprit: &Culprit) -> Finding {
        let by = if culprit.sure { "by" } else { "perhaps by" };
        let remedy = culprit.remedy(&self.sources(), self.way.shadow);
        Finding::problem(self.shadow(), format!("{what}, {by} {}", culprit.name()), remedy)
    }

    fn sources(&self) -> Sources {
        if self.is_foreign() {
            return Sources::Foreign;
        }
        let ports = &self.config.source_ports.value;
        Sources::Own(*ports.start(), *ports.end())
    }

    fn silent(&self) -> Vec<Finding> {
        let Self { way, tried, .. } = self;
        let hop = tried.gateway.unwrap_or_else(|| way.shadow.ip());
        let dev = way.interface.name.as_str();
        if tried.neighbour == Neighbour::Silent {
            let protocol = if hop.is_ipv4() { "ARP" } else { "neighbour discovery" };
            let what = format!(
                "{hop} does not answer {protocol} on {dev}: it is down, or not on that network"
            );
            let remedy =
                format!("bring it up, or mend the route; see ip neigh show {hop} dev {dev}");
            return vec![Finding::problem(self.shadow(), what, remedy).at(self.level())];
        }
        if let Some(other) = &tried.elsewhere {
            return vec![self.asymmetric(other)];
        }
        let culprits = tried.firewall.as_ref().and_then(|read| read.as_ref().ok());
        let meets = |it: &&Culprit| it.sure && (it.action == Action::Drops || self.is_foreign());
        if let Some(culprit) = culprits.and_then(|culprits| culprits.iter().find(meets)) {
            let what = match culprit.action {
                Action::Drops => "nothing comes back: this host's firewall drops the SYN",
                Action::Translates => {
                    "nothing comes back to the guard: this host's firewall gives the mirror's \
                     packets its own address, and would lead the answers past the guard to clients"
                }
            };
            return vec![self.rule(what, culprit)];
        }
        vec![if self.is_foreign() { self.no_way_back() } else { self.nobody_there() }]
    }

    fn asymmetric(&self, other: &str) -> Finding {
        let dev = &self.way.interface.name;
        let (danger, remedy) = if self.is_foreign() {
            let danger = if self.tried.forwards {
                ", and this host would forward them to clients"
            } else {
                ""
            };
            (danger, format!("add --iface {other}"))
        } else {
            let shadow = self.way.shadow.ip();
            let remedy = format!("send by that one, too: ip route replace {shadow} dev {other}");
            (", and this host's kernel would reset each session", remedy)
        };
        Finding::problem(
            self.shadow(),
            format!(
                "is reached by {dev}, but its answers come in by {other}, where no guard is{danger}"
            ),
            remedy,
        )
    }

    fn nobody_there(&self) -> Finding {
        let (local, port) = (self.tried.probe.local.ip(), self.way.shadow.port());
        Finding::warning(
            self.shadow(),
            format!(
                "does not answer within {LIMIT:?}: its host is down, or a firewall drops the SYN"
            ),
            format!(
                "see whether it arrives; on its host: tcpdump -n host {local} and tcp port {port}"
            ),
        )
    }

    /// Answers to addresses of others do not come here.
    fn no_way_back(&self) -> Finding {
        let Self { config, way, tried, .. } = self;
        let (nobody, here) = (tried.probe.local.ip(), way.route.source);
        let port = way.shadow.port();
        let source = config.source.to_string();
        let route = self.route();
        match tried.direct {
            Some(Direct::Answers) => Finding::problem(
                source,
                match config.source.value {
                    SourceMode::Preserve => format!(
                        "the shadow answers {here}, but its answers to {nobody}, which no client \
                         has, do not come back here: those to clients would reach the clients, \
                         or its host drops clients' addresses (rp_filter, a cloud's source check)"
                    ),
                    _ => format!(
                        "the shadow answers {here}, but its answers to {nobody} do not come back \
                         here: it has no route to the pool by way of this host, or its host drops \
                         the pool's addresses (rp_filter, a cloud's source check)"
                    ),
                },
                route,
            ),
            Some(Direct::Refuses) => Finding::problem(
                source,
                format!(
                    "no server listens at the shadow, and what it answers to {nobody} does not \
                     come back here"
                ),
                route,
            ),
            Some(Direct::Silent) | None => Finding::problem(
                self.shadow(),
                format!(
                    "answers neither {nobody} nor {here}: its host is down, or a firewall drops \
                     the SYN, and so it is not known where its answers to others go"
                ),
                format!("start it first; on its host: tcpdump -n tcp port {port}, then {route}"),
            ),
        }
    }

    /// The command that leads the answers here.
    fn route(&self) -> String {
        let Self { config, way, tried, .. } = self;
        let (here, port) = (way.route.source, way.shadow.port());
        match (config.source.value, tried.gateway) {
            (SourceMode::Preserve, None) => {
                format!("on the shadow's host: shadowtap route add --via {here} --port {port}")
            }
            (SourceMode::Preserve, Some(gateway)) => format!(
                "join both hosts by a tunnel, for the router {gateway} would deliver the answers \
                 itself; then, on the shadow's host: shadowtap route add --via THIS-HOST-IN-THE-TUNNEL --port {port}"
            ),
            (_, gateway) => {
                let pool = config.source.text.trim_start_matches("pool=");
                let on = match gateway {
                    None => "the shadow's host".to_owned(),
                    Some(gateway) => format!("the router {gateway}"),
                };
                format!("on {on}: ip route add {pool} via {here}")
            }
        }
    }
}

/// What a code of destination unreachable says, and whether a firewall says it.
fn meaning(is_ipv4: bool, code: u8) -> (&'static str, bool) {
    match (is_ipv4, code) {
        (true, 0 | 5..=7 | 11) | (false, 0) => ("network unreachable", false),
        (true, 1 | 8 | 12) | (false, 3) => ("host unreachable", false),
        (true, 2) => ("protocol unreachable", true),
        (true, 3) | (false, 4) => ("port unreachable", true),
        (true, 9 | 10 | 13) | (false, 1 | 5 | 6) => ("administratively prohibited", true),
        _ => ("unreachable", false),
    }
}

#[cfg(test)]
#[path = "verdict_tests.rs"]
mod tests;
