//! Which rule of this host's firewall takes the mirror's packets.
//!
//! That one does, the kernel says itself: sending fails with `EPERM`. Here only its name is looked
//! for, in what `nft -j list ruleset` prints. No crate that speaks nfnetlink gives back a rule as
//! its owner wrote it, and the one that models nft's JSON refuses what it does not know, such as a
//! rule of iptables-nft with a match of its own; here such a match only makes a rule less certain.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::process::Command;

use serde_json::Value;

mod matches;

use matches::Truth;

/// Chains that lead into each other further than this are not followed; the kernel allows 16.
const DEPTH: usize = 16;

/// A packet of the mirror on its way out.
#[derive(Clone, Debug)]
pub struct Outbound {
    /// The emulated client.
    pub source: SocketAddr,
    /// The shadow.
    pub destination: SocketAddr,
    /// The interface by which it leaves.
    pub oif: String,
    /// What conntrack calls it: `new` for the SYN. What follows is `invalid`, since conntrack does
    /// not see the shadow's answer.
    pub state: &'static str,
}

/// What a rule does to a packet.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Action {
    /// Drops or rejects it, or hands it to a program.
    Drops,
    /// Gives it another source address.
    Translates,
}

/// A rule, or a chain's policy, that takes the mirror's packets.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Culprit {
    /// What it does.
    pub action: Action,
    /// Whether it surely meets this packet; else it has a match that is not understood.
    pub sure: bool,
    family: String,
    table: String,
    chain: String,
    /// The rule's number; `None` for the chain's policy.
    handle: Option<u64>,
    /// The rule as nft prints it.
    text: String,
}

impl Culprit {
    /// Which it is.
    #[must_use]
    pub fn name(&self) -> String {
        let Self { family, table, chain, text, .. } = self;
        format!("`{text}` in chain {chain} of table {family} {table}")
    }

    /// The command that lets the packets of the mirror from `sources` pass before it.
    #[must_use]
    pub fn remedy(&self, sources: &Sources, shadow: SocketAddr) -> String {
        let Self { family, table, chain, .. } = self;
        let (ip, port) = (shadow.ip(), shadow.port());
        let is_iptables = matches!(family.as_str(), "ip" | "ip6")
            && chain.chars().all(|letter| !letter.is_ascii_lowercase());
        if is_iptables {
            let program = if family == "ip" { "iptables" } else { "ip6tables" };
            let from = match sources {
                Sources::Own(first, last) => format!(" --sport {first}:{last}"),
                Sources::Foreign => String::new(),
            };
            return format!(
                "{program} -t {table} -I {chain} -d {ip} -p tcp --dport {port}{from} -j ACCEPT"
            );
        }
        let protocol = if shadow.is_ipv4() { "ip" } else { "ip6" };
        let from = match sources {
            Sources::Own(first, last) => format!(" tcp sport {first}-{last}"),
            Sources::Foreign => String::new(),
        };
        format!(
            "nft insert rule {family} {table} {chain} {protocol} daddr {ip} tcp dport {port}{from} accept"
        )
    }
}

/// What a remedy is for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Sources {
    /// This host's address and these ports.
    Own(u16, u16),
    /// Addresses of others.
    Foreign,
}

/// What nft knows.
#[derive(Clone, Debug)]
pub struct Ruleset {
    objects: Vec<Value>,
    text: String,
}

impl Ruleset {
    /// Asks nft.
    ///
    /// # Errors
    /// When it is not installed, or fails.
    pub fn read() -> io::Result<Self> {
        let (json, text) = (run(&["-j", "list", "ruleset"])?, run(&["-a", "list", "ruleset"])?);
        Self::parse(&json, text).ok_or_else(|| io::Error::other("nft's JSON is unreadable"))
    }

    fn parse(json: &str, text: String) -> Option<Self> {
        let mut value: Value = serde_json::from_str(json).ok()?;
        let Value::Array(objects) = value.get_mut("nftables")?.take() else { return None };
        Some(Self { objects, text })
    }

    /// Those that take `packet`, in the order in which it meets them: up to the first that surely
    /// does.
    #[must_use]
    pub fn culprits(&self, packet: &Outbound) -> Vec<Culprit> {
        let mut chains: Vec<&Value> =
            self.each("chain").filter(|chain| is_on_the_way(chain, packet)).collect();
        chains.sort_by_key(|chain| {
            let hook = match chain["hook"].as_str() {
                Some("output") => 0,
                Some("postrouting") => 1,
                _ => 2,
            };
            (hook, chain["prio"].as_i64())
        });
        let mut found = Vec::new();
        for chain in chains {
            let end = self.walk(chain, packet, Truth::True, 0, &mut found);
            if end == End::Through && chain["policy"] == "drop" {
                found.push(culprit(chain, Action::Drops, Truth::True, "policy drop".to_owned()));
            }
            if found.last().is_some_and(|last| last.sure) {
                break;
            }
        }
        found
    }

    fn each(&self, kind: &'static str) -> impl Iterator<Item = &Value> {
        self.objects.iter().filter_map(move |object| object.get(kind))
    }

    /// Goes through a chain as the packet does.
    fn walk(
        &self,
        chain: &Value,
        packet: &Outbound,
        here: Truth,
        depth: usize,
        found: &mut Vec<Culprit>,
    ) -> End {
        let name = chain.get("name");
        let rules = self
            .each("rule")
            .filter(|rule| same(rule, chain, &["family", "table"]) && rule.get("chain") == name);
        for rule in rules {
            let expressions = rule["expr"].as_array().map_or(&[][..], Vec::as_slice);
            let truth = here.and(matches::all(expressions, packet));
            if truth == Truth::False {
                continue;
            }
            for expression in expressions {
                let Some((verb, value)) =
                    expression.as_object().and_then(|object| object.iter().next())
                else {
                    continue;
                };
                let target = value["target"].as_str();
                let end = match (verb.as_str(), target) {
                    ("drop" | "reject" | "queue", _) => {
                        found.push(culprit(rule, Action::Drops, truth, self.words(rule)));
                        End::Taken
                    }
                    ("masquerade" | "snat", _) => {
                        found.push(culprit(rule, Action::Translates, truth, self.words(rule)));
                        End::Taken
                    }
                    ("vmap", _) if value.to_string().contains("\"drop\"") => {
                        found.push(culprit(rule, Action::Drops, Truth::Unknown, self.words(rule)));
                        End::Through
                    }
                    ("accept", _) => End::Taken,
                    ("return", _) => End::Returned,
                    ("jump" | "goto", Some(target)) if depth < DEPTH => {
                        let next = self.each("chain").find(|other| {
                            same(other, chain, &["family", "table"]) && other["name"] == target
                        });
                        match next.map(|next| self.walk(next, packet, truth, depth + 1, found)) {
                            Some(End::Taken) => End::Taken,
                            _ if verb == "goto" => End::Returned,
                            _ => End::Through,
                        }
                    }
                    _ => End::Through,
                };
                match end {
                    End::Through => {}
                    // Not surely this way.
                    _ if truth != Truth::True => {}
                    End::Returned => return End::Through,
                    End::Taken => return End::Taken,
                }
            }
        }
        End::Through
    }

    /// The rule as its owner may have written it.
    fn words(&self, rule: &Value) -> String {
        let [family, table] = ["family", "table"].map(|key| rule[key].as_str().unwrap_or_default());
        let table = format!("table {family} {table} {{");
        let handle = format!(" # handle {}", rule["handle"]);
        let mut lines = self.text.lines().skip_while(|line| !line.starts_with(&table)).skip(1);
        let line = lines
            .by_ref()
            .take_while(|line| !line.starts_with("table "))
            .find_map(|line| line.strip_suffix(&handle));
        line.map_or_else(|| format!("rule {}", rule["handle"]), |line| line.trim().to_owned())
    }
}

/// Where a packet is at the end of a chain.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum End {
    /// Past all of its rules.
    Through,
    /// Back at the rule that led here.
    Returned,
    /// Accepted by this chain, or dropped.
    Taken,
}

fn same(one: &Value, other: &Value, keys: &[&str]) -> bool {
    keys.iter().all(|key| one.get(key) == other.get(key))
}

/// Whether locally made packets go through this chain.
fn is_on_the_way(chain: &Value, packet: &Outbound) -> bool {
    let family = match chain["family"].as_str() {
        Some("ip") => packet.destination.is_ipv4(),
        Some("ip6") => packet.destination.is_ipv6(),
        Some("inet") => true,
        Some("netdev") => return chain["hook"] == "egress" && chain["dev"] == packet.oif.as_str(),
        _ => false,
    };
    family && (chain["hook"] == "output" || chain["hook"] == "postrouting")
}

fn culprit(object: &Value, action: Action, truth: Truth, text: String) -> Culprit {
    let string = |key: &str| object[key].as_str().unwrap_or_default().to_owned();
    let is_rule = object.get("chain").is_some();
    Culprit {
        action,
        sure: truth == Truth::True,
        family: string("family"),
        table: string("table"),
        chain: string(if is_rule { "chain" } else { "name" }),
        handle: object["handle"].as_u64().filter(|_| is_rule),
        text,
    }
}

fn run(args: &[&str]) -> io::Result<String> {
    let search = std::env::var("PATH").unwrap_or_default();
    // An ordinary user's PATH lacks where nft is.
    let output =
        Command::new("nft").args(args).env("PATH", format!("{search}:/usr/sbin:/sbin")).output()?;
    if !output.status.success() {
        let words = String::from_utf8_lossy(&output.stderr);
        return Err(io::Error::other(words.lines().next().unwrap_or("nft fails").to_owned()));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// An address in nft's JSON.
fn address(text: &str) -> Option<IpAddr> {
    text.parse().ok()
}

#[cfg(test)]
mod tests;
