//! Whether a rule's matches meet a packet of the mirror, as far as they are understood.

use serde_json::Value;

use super::{Outbound, address};

/// Three-valued, for a rule may ask what only the kernel knows.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Truth {
    /// Surely.
    True,
    /// Surely not.
    False,
    /// Who knows.
    Unknown,
}

impl Truth {
    /// Both.
    pub fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::False, _) | (_, Self::False) => Self::False,
            (Self::True, Self::True) => Self::True,
            _ => Self::Unknown,
        }
    }

    fn or(self, other: Self) -> Self {
        self.not().and(other.not()).not()
    }

    fn not(self) -> Self {
        match self {
            Self::True => Self::False,
            Self::False => Self::True,
            Self::Unknown => Self::Unknown,
        }
    }
}

impl From<bool> for Truth {
    fn from(value: bool) -> Self {
        if value { Self::True } else { Self::False }
    }
}

/// All matches of a rule; its statements are none.
pub fn all(expressions: &[Value], packet: &Outbound) -> Truth {
    expressions.iter().fold(Truth::True, |truth, expression| {
        truth.and(if let Some(inner) = expression.get("match") {
            one(inner, packet)
        } else if ["limit", "quota", "ct count", "xt", "vmap"]
            .iter()
            .any(|key| expression.get(key).is_some())
        {
            Truth::Unknown
        } else {
            Truth::True
        })
    })
}

fn one(expression: &Value, packet: &Outbound) -> Truth {
    let (left, right) = (&expression["left"], &expression["right"]);
    let Some(fact) = fact(left, packet) else { return Truth::Unknown };
    let truth = match fact {
        Fact::Absent => return Truth::False,
        Fact::Words(words) => {
            words.iter().fold(Truth::False, |truth, word| truth.or(equals(word, right)))
        }
    };
    match expression["op"].as_str() {
        Some("==" | "in") => truth,
        Some("!=") => truth.not(),
        _ => Truth::Unknown,
    }
}

/// What the packet has where a match looks.
enum Fact {
    /// The packet has no such header, and no rule about it meets it.
    Absent,
    /// Names of the one thing.
    Words(Vec<String>),
}

fn fact(left: &Value, packet: &Outbound) -> Option<Fact> {
    let is_ipv4 = packet.destination.is_ipv4();
    let words = |words: &[&str]| Some(Fact::Words(words.iter().map(|&it| it.to_owned()).collect()));
    if let Some(meta) = left.get("meta") {
        return match meta["key"].as_str()? {
            "oifname" | "oif" => words(&[&packet.oif]),
            "iifname" | "iif" => words(&[""]),
            "l4proto" => words(&["tcp", "6"]),
            "nfproto" => words(if is_ipv4 { &["ipv4", "2"] } else { &["ipv6", "10"] }),
            "protocol" => words(if is_ipv4 { &["ip", "2048"] } else { &["ip6", "34525"] }),
            _ => None,
        };
    }
    if let Some(ct) = left.get("ct") {
        return match ct["key"].as_str()? {
            "state" => words(&[packet.state]),
            _ => None,
        };
    }
    let payload = left.get("payload")?;
    let text = |value: &dyn ToString| words(&[&value.to_string()]);
    match (payload["protocol"].as_str()?, payload["field"].as_str()?) {
        ("ip", _) if !is_ipv4 => Some(Fact::Absent),
        ("ip6", _) if is_ipv4 => Some(Fact::Absent),
        ("ip" | "ip6", "saddr") => text(&packet.source.ip()),
        ("ip" | "ip6", "daddr") => text(&packet.destination.ip()),
        ("ip", "protocol") | ("ip6", "nexthdr") => words(&["tcp", "6"]),
        ("tcp" | "th", "sport") => text(&packet.source.port()),
        ("tcp" | "th", "dport") => text(&packet.destination.port()),
        ("udp" | "udplite" | "icmp" | "icmpv6" | "sctp" | "dccp" | "esp" | "ah" | "igmp", _) => {
            Some(Fact::Absent)
        }
        _ => None,
    }
}

/// Whether a word of the packet is what the right side of a match asks for.
fn equals(word: &str, right: &Value) -> Truth {
    let any = |values: &[Value]| {
        values.iter().fold(Truth::False, |truth, value| truth.or(equals(word, value)))
    };
    match right {
        Value::String(name) if name.starts_with('@') => Truth::Unknown,
        Value::String(name) => match name.strip_suffix('*') {
            Some(prefix) => word.starts_with(prefix).into(),
            None => (word == name).into(),
        },
        Value::Number(number) => (word == number.to_string()).into(),
        Value::Array(values) => any(values),
        Value::Object(_) => {
            if let Some(Value::Array(values)) = right.get("set") {
                any(values)
            } else if let Some(prefix) = right.get("prefix") {
                within(word, prefix).unwrap_or(Truth::Unknown)
            } else if let Some(range) = right.get("range") {
                between(word, range).unwrap_or(Truth::Unknown)
            } else if let Some(element) = right.get("elem") {
                equals(word, &element["val"])
            } else {
                Truth::Unknown
            }
        }
        _ => Truth::Unknown,
    }
}

fn within(word: &str, prefix: &Value) -> Option<Truth> {
    let length = u8::try_from(prefix["len"].as_u64()?).ok()?;
    let network = ipnet::IpNet::new(address(prefix["addr"].as_str()?)?, length).ok()?;
    Some(network.contains(&address(word)?).into())
}

fn between(word: &str, range: &Value) -> Option<Truth> {
    let [first, last] = range.as_array()?.as_slice() else { return None };
    if let (Some(first), Some(last)) = (first.as_u64(), last.as_u64()) {
        return Some((first..=last).contains(&word.parse().ok()?).into());
    }
    let (first, last) = (address(first.as_str()?)?, address(last.as_str()?)?);
    Some((first..=last).contains(&address(word)?).into())
}
