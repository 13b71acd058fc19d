//! Which flows of the mirrored services are chosen: a share of the clients, and networks of them.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;
use shadow_common::{ChoiceRule, MAX_CLIENTS, place};

use crate::services::address;
use crate::setting::{Wrong, decimal, wrong};

/// What a user may choose by.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Selection {
    /// How many of the clients, or of their connections.
    pub sample: Sample,
    /// Which networks.
    pub clients: Clients,
    /// No flow is begun.
    pub paused: bool,
}

impl Selection {
    /// What is left of it when the sample is made smaller by `share`, 0 to 1; by nothing, no flow is
    /// begun.
    #[must_use]
    pub fn eased(&self, share: f64) -> Self {
        Self {
            sample: self.sample.part(share),
            paused: self.paused || share <= 0.0,
            ..self.clone()
        }
    }
}

/// Of what a sample is taken.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, clap::ValueEnum)]
pub enum SampleBy {
    /// Of clients: all connections of one, or none.
    #[default]
    Client,
    /// Of connections.
    Connection,
}

/// Who is in a sample, and who in a smaller one.
#[derive(Clone, Copy, Debug, Default)]
pub struct Places {
    /// Of what samples are taken.
    pub by: SampleBy,
    /// What they differ by.
    pub seed: u64,
}

impl Places {
    /// Whether a client's flow is in the sample, as the tap has it.
    #[must_use]
    pub fn has(self, sample: Sample, client: SocketAddr) -> bool {
        let port = match self.by {
            SampleBy::Client => [0; 2],
            SampleBy::Connection => client.port().to_be_bytes(),
        };
        u64::from(place(self.seed, &address(client.ip()), port)) < sample.bound()
    }
}

/// A share of more than nothing, in steps of a billionth.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Sample(u32);

impl Sample {
    /// All.
    pub const WHOLE: Self = Self(1_000_000_000);

    /// Decimals of a percentage that are told apart.
    const DECIMALS: usize = 7;

    /// A percentage such as `10%` or `0.01%`, exactly.
    ///
    /// # Errors
    /// When it is none, nothing at all or more than all.
    pub fn parse(text: &str) -> Result<Self, Wrong> {
        let remedy = "give more than 0% and up to 100%, as 10% or 0.01%";
        let Some(number) = text.strip_suffix('%') else { return wrong("is no percentage", remedy) };
        let Some((whole, part)) = decimal(number.trim()) else {
            return wrong("is no percentage", remedy);
        };
        if part.len() > Self::DECIMALS {
            let finest = format!("give at most {} decimals", Self::DECIMALS);
            return wrong("is finer than samples are", finest);
        }
        let scaled = format!("{whole}{part:0<width$}", width = Self::DECIMALS);
        match scaled.parse::<u32>() {
            Ok(0) => wrong("chooses nobody", remedy),
            Ok(billionths) if billionths <= Self::WHOLE.0 => Ok(Self(billionths)),
            _ => wrong("is more than all", remedy),
        }
    }

    /// The least.
    pub const LEAST: Self = Self(1);

    /// From just above 0 to 1.
    #[must_use]
    pub fn ratio(self) -> f64 {
        f64::from(self.0) / f64::from(Self::WHOLE.0)
    }

    /// So much of it, 0 to 1; the least share that there is at least.
    #[must_use]
    pub fn part(self, ratio: f64) -> Self {
        let billionths = f64::from(self.0) * ratio.clamp(0.0, 1.0);
        Self((billionths as u32).max(1))
    }

    /// The bound of the places in the sample, see [`shadow_common::place`]: at least one, so that no
    /// share comes to nothing.
    #[must_use]
    pub const fn bound(self) -> u64 {
        let bound = self.0 as u64 * ChoiceRule::EVERY / Self::WHOLE.0 as u64;
        if bound == 0 { 1 } else { bound }
    }
}

impl Default for Sample {
    fn default() -> Self {
        Self::WHOLE
    }
}

impl fmt::Display for Sample {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scale = 10_u32.pow(Self::DECIMALS as u32);
        let (whole, part) = (self.0 / scale, self.0 % scale);
        let part = format!("{part:0width$}", width = Self::DECIMALS);
        match part.trim_end_matches('0') {
            "" => write!(f, "{whole}%"),
            part => write!(f, "{whole}.{part}%"),
        }
    }
}

/// In which list a network is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum List {
    /// `client`: its clients are mirrored.
    Client,
    /// `exclude-client`: they are not.
    Exclude,
}

impl List {
    /// The name of its flag.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Exclude => "exclude-client",
        }
    }
}

/// Networks of clients. For each client the longest prefix counts, in whichever list it is; who is
/// in none is mirrored unless there is a list of those who are.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Clients(BTreeMap<IpNet, List>);

impl Clients {
    /// Puts a network into a list; one that is there already stays.
    ///
    /// # Errors
    /// When it is in the other list, or the lists are full.
    pub fn add(&mut self, net: IpNet, list: List) -> Result<(), Wrong> {
        match self.0.get(&net) {
            Some(other) if *other == list => return Ok(()),
            Some(other) => {
                return wrong(
                    format!("{net} is in --{} as well", other.name()),
                    "give it in one of them",
                );
            }
            None => {}
        }
        if self.0.len() >= MAX_CLIENTS as usize {
            return wrong(
                format!("there are more than {MAX_CLIENTS} networks"),
                "give larger networks",
            );
        }
        self.0.insert(net, list);
        Ok(())
    }

    /// Takes a network out of a list.
    ///
    /// # Errors
    /// When it is not there.
    pub fn remove(&mut self, net: IpNet, list: List) -> Result<(), Wrong> {
        if self.0.get(&net) != Some(&list) {
            return wrong(format!("{net} is not in it"), "see `shadowtap ctl get` for what is");
        }
        self.0.remove(&net);
        Ok(())
    }

    /// Empties a list.
    pub fn clear(&mut self, list: List) {
        self.0.retain(|_, other| *other != list);
    }

    /// Whether every client is mirrored.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The networks of a list, in order.
    pub fn of(&self, list: List) -> impl Iterator<Item = IpNet> + '_ {
        self.0.iter().filter(move |(_, other)| **other == list).map(|(net, _)| *net)
    }

    /// The networks of both lists.
    pub fn nets(&self) -> impl Iterator<Item = IpNet> + '_ {
        self.0.keys().copied()
    }

    /// Whether those are mirrored who are in neither list.
    fn others(&self) -> bool {
        self.0.values().all(|list| *list == List::Exclude)
    }

    /// A view that answers for many networks.
    #[must_use]
    pub fn judge(&self) -> Judge<'_> {
        Judge { clients: self, others: self.others() }
    }
}

/// Tells for any network whether its clients are mirrored, as far as the lists tell no more of parts
/// of it.
#[derive(Clone, Copy, Debug)]
pub struct Judge<'a> {
    clients: &'a Clients,
    others: bool,
}

impl Judge<'_> {
    /// By the longest prefix that holds all of `net`.
    #[must_use]
    pub fn mirrors(&self, net: IpNet) -> bool {
        let enclosing = std::iter::successors(Some(net), IpNet::supernet);
        let listed = enclosing.into_iter().find_map(|net| self.clients.0.get(&net));
        listed.map_or(self.others, |list| *list == List::Client)
    }
}

/// A network, or the address of one client.
///
/// # Errors
/// When it is neither, or has bits behind its prefix: a typing error more often than not.
pub fn network(text: &str) -> Result<IpNet, Wrong> {
    let net = text.parse::<IpNet>().or_else(|_| text.parse::<IpAddr>().map(IpNet::from));
    let Ok(net) = net else {
        return wrong("is no network", "give such as 203.0.113.0/24, 2001:db8::/32 or 203.0.113.7");
    };
    if net.trunc() != net {
        return wrong(
            format!("has bits set after its first {}", net.prefix_len()),
            format!("give {}", net.trunc()),
        );
    }
    match net {
        IpNet::V6(v6) if v6.prefix_len() >= 96 && v6.network().to_ipv4_mapped().is_some() => {
            wrong("is IPv4, written as IPv6", "give it as IPv4")
        }
        net => Ok(net),
    }
}

/// The networks in the text of a file: one a line, empty lines and what follows a `#` aside.
///
/// # Errors
/// The first line that holds none.
pub fn networks(text: &str) -> Result<Vec<IpNet>, Wrong> {
    let mut nets = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let line = line.split('#').next().unwrap_or_default().trim();
        if line.is_empty() {
            continue;
        }
        let net = network(line)
            .map_err(|(what, remedy)| (format!("line {}: {line} {what}", index + 1), remedy))?;
        nets.push(net);
    }
    Ok(nets)
}

/// What a word of a list means: a network, or all in the file behind an `@`.
///
/// # Errors
/// As [`network`] and [`networks`], or a file that cannot be read.
pub fn word(text: &str) -> Result<Vec<IpNet>, Wrong> {
    match text.strip_prefix('@') {
        None => Ok(vec![network(text)?]),
        Some(path) => match std::fs::read_to_string(path) {
            Ok(text) => networks(&text),
            Err(error) => wrong(
                format!("cannot be read: {error}"),
                "give a readable file with a network on each line",
            ),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_exact_and_prints_as_it_was_given() {
        for (text, billionths, bound) in [
            ("100%", 1_000_000_000, 1_u64 << 32),
            ("50%", 500_000_000, 1 << 31),
            ("10%", 100_000_000, 429_496_729),
            ("12.5%", 125_000_000, 1 << 29),
            ("0.01%", 100_000, 429_496),
            ("0.0000001%", 1, 4),
        ] {
            let sample = Sample::parse(text).expect("a share");
            assert_eq!((sample.0, sample.bound()), (billionths, bound), "{text}");
            assert_eq!(sample.to_string(), text);
        }
        assert_eq!(Sample::parse("0010.50 %").expect("a share").to_string(), "10.5%");
    }

    #[test]
    fn a_part_of_a_share_is_never_nothing_and_nothing_is_a_pause() {
        let half = Sample::parse("50%").expect("a share");
        assert_eq!(half.part(0.25).to_string(), "12.5%");
        assert_eq!(half.part(1.0), half);
        assert_eq!(half.part(0.0).to_string(), "0.0000001%");
        let selection = Selection { sample: half, ..Selection::default() };
        assert_eq!(selection.eased(1.0), selection);
        assert!(!selection.eased(0.01).paused && selection.eased(0.0).paused);
    }

    #[test]
    fn what_is_no_share_is_refused() {
        for (text, what) in [
            ("10", "is no percentage"),
            ("%", "is no percentage"),
            ("-1%", "is no percentage"),
            (".5%", "is no percentage"),
            ("1.%", "is no percentage"),
            ("1e1%", "is no percentage"),
            ("0%", "chooses nobody"),
            ("0.0%", "chooses nobody"),
            ("100.0000001%", "is more than all"),
            ("99999999999999999999%", "is more than all"),
            ("0.00000001%", "is finer than samples are"),
        ] {
            assert_eq!(Sample::parse(text).expect_err("refused").0, what, "{text}");
        }
    }

    fn clients(client: &[&str], exclude: &[&str]) -> Clients {
        let mut clients = Clients::default();
        for (list, nets) in [(List::Client, client), (List::Exclude, exclude)] {
            for net in nets {
                clients.add(network(net).expect("a network"), list).expect("added");
            }
        }
        clients
    }

    #[test]
    fn the_longest_prefix_wins_in_whichever_list_it_is() {
        let both =
            clients(&["10.0.0.0/8", "10.1.2.0/24", "2001:db8::/32"], &["10.1.0.0/16", "10.9.9.9"]);
        let mirrors = |clients: &Clients, client: &str| {
            clients.judge().mirrors(network(client).expect("a network"))
        };
        for (client, expected) in [
            ("10.200.0.1", true),
            ("10.1.0.1", false),
            ("10.1.2.3", true),
            ("10.9.9.9", false),
            ("10.9.9.8", true),
            ("11.0.0.1", false),
            ("2001:db8::1", true),
            ("2001:db9::1", false),
            ("10.1.0.0/16", false),
            ("10.0.0.0/7", false),
        ] {
            assert_eq!(mirrors(&both, client), expected, "{client}");
        }
        // Without a list of those who are, all are that are not excluded.
        let but = clients(&[], &["10.1.0.0/16", "::/0"]);
        assert!(mirrors(&but, "10.2.0.0") && !mirrors(&but, "10.1.0.0"));
        assert!(!mirrors(&but, "2001:db8::1"));
        assert!(mirrors(&Clients::default(), "10.1.0.0"));
    }

    #[test]
    fn a_network_is_in_one_list() {
        let mut clients = clients(&["10.0.0.0/8"], &[]);
        let net = network("10.0.0.0/8").expect("a network");
        assert_eq!(
            clients.add(net, List::Exclude).expect_err("refused").0,
            "10.0.0.0/8 is in --client as well"
        );
        clients.add(net, List::Client).expect("there already");
        assert_eq!(
            clients.remove(net, List::Exclude).expect_err("refused").0,
            "10.0.0.0/8 is not in it"
        );
        clients.remove(net, List::Client).expect("removed");
        assert!(clients.is_empty());
    }

    #[test]
    fn lists_of_networks_have_comments() {
        let nets =
            networks("# ours\n10.0.0.0/8\n\n 2001:db8::/32 # lab\n192.0.2.7\n").expect("good");
        assert_eq!(nets.len(), 3);
        let (what, remedy) = networks("10.0.0.0/8\n10.0.0.1/8\n").expect_err("refused");
        assert_eq!(what, "line 2: 10.0.0.1/8 has bits set after its first 8");
        assert_eq!(remedy, "give 10.0.0.0/8");
        assert_eq!(network("::ffff:10.0.0.0/104").expect_err("refused").1, "give it as IPv4");
        assert_eq!(word("@/nonexistent").expect_err("refused").1.split(' ').next(), Some("give"));
    }
}
