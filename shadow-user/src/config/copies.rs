//! How many sessions a flow has, and with whom.

use std::ops::RangeInclusive;

use super::value::boolean;
use super::{HostPort, SourceMode};
use crate::setting::{Parsed, Refusal, Setting, wrong};

/// The most copies: each takes memory and time as a shadow more does.
const MOST: u16 = 100;

fn count(text: &str) -> Parsed<u16> {
    match text.parse() {
        Ok(count @ 1..=MOST) => Ok(count),
        _ => wrong(format!("is no count from 1 to {MOST}"), "give how many sessions, as 3"),
    }
}

/// Sessions of each flow with each shadow, which must come from different addresses or ports.
pub(super) fn copies(
    given: Setting<()>,
    source: &Setting<SourceMode>,
    ports: &Setting<RangeInclusive<u16>>,
) -> Result<u16, Refusal> {
    let copies = given.parse(count)?;
    let few = match source.value {
        SourceMode::Preserve if copies.value > 1 => {
            return Err(copies.refuse(
                format!("{source} has one address and port for a connection"),
                "give --source self or pool=CIDR, or leave --copies out",
            ));
        }
        SourceMode::Preserve => None,
        SourceMode::Own => (ports.value.len() < copies.value.into())
            .then(|| format!("{ports} has {} ports for them all", ports.value.len())),
        SourceMode::Pool { network, .. } => (network.hosts() < copies.value.into())
            .then(|| format!("{source} has {} addresses for them all", network.hosts())),
    };
    match few {
        Some(what) => Err(copies.refuse(what, "give more, or fewer copies")),
        None => Ok(copies.value),
    }
}

/// Whether each client has one of the shadows.
pub(super) fn spread(given: Setting<()>, shadows: &[Setting<HostPort>]) -> Result<bool, Refusal> {
    let spread = given.parse(boolean)?;
    if spread.value && shadows.len() < 2 {
        return Err(spread.refuse(
            "there is one shadow, which gets every client",
            "leave it out, or give --shadow once for each of several",
        ));
    }
    Ok(spread.value)
}

#[cfg(test)]
mod tests {
    use crate::config::tests::{LEAST, from_file, load, refusal};

    #[test]
    fn copies_and_spread_reach_their_fields() {
        let config = load(LEAST).expect("valid");
        assert_eq!((config.copies, config.spread), (1, false));
        let config = load(&format!("{LEAST} --shadow h:81 --copies 3 --spread")).expect("valid");
        assert_eq!((config.copies, config.spread), (3, true));
        let file =
            "iface = 'eth0'\nport = 80\nshadow = ['h:80', 'h:81']\ncopies = 2\nspread = true";
        let config = from_file(file, "").expect("valid");
        assert_eq!((config.copies, config.spread), (2, true));
    }

    #[test]
    fn copies_need_sources_of_their_own() {
        for (flags, expected) in [
            ("--copies 0", "--copies 0: is no count from 1 to 100; give how many sessions, as 3"),
            (
                "--copies 101",
                "--copies 101: is no count from 1 to 100; give how many sessions, as 3",
            ),
            (
                "--copies 3 --source preserve",
                "--copies 3: --source preserve has one address and port for a connection; give \
                 --source self or pool=CIDR, or leave --copies out",
            ),
            (
                "--copies 3 --source pool=10.9.0.0/30",
                "--copies 3: --source pool=10.9.0.0/30 has 2 addresses for them all; give more, or \
                 fewer copies",
            ),
            (
                "--copies 3 --source-ports 20000-20001",
                "--copies 3: --source-ports 20000-20001 has 2 ports for them all; give more, or \
                 fewer copies",
            ),
        ] {
            assert_eq!(refusal(&format!("{LEAST} {flags}")), expected);
        }
        load(&format!("{LEAST} --copies 1 --source preserve")).expect("valid");
        load(&format!("{LEAST} --copies 2 --source pool=10.9.0.0/30")).expect("valid");
        load(&format!("{LEAST} --copies 2 --source-ports 20000-20001")).expect("valid");
    }

    #[test]
    fn each_copy_has_memory_of_its_own() {
        let few = load(&format!("{LEAST} --copies 2")).expect("valid").flow_memory;
        let one = load(LEAST).expect("valid").flow_memory;
        assert_eq!(one - few, 12 << 20);
        let refused = refusal(&format!("{LEAST} --copies 100"));
        let expected = "--memory-limit 256MiB (the default): leaves too little besides the daemon and \
                        three rings of up to 16777216 bytes for 100 copies; give 1664MiB or more, a \
                        smaller --ring-size, or fewer copies";
        assert_eq!(refused, expected);
    }

    #[test]
    fn one_shadow_is_nothing_to_spread_over() {
        for flags in ["--spread", "--spread --baseline h:82"] {
            assert_eq!(
                refusal(&format!("{LEAST} {flags}")),
                "--spread true: there is one shadow, which gets every client; leave it out, or give \
                 --shadow once for each of several"
            );
        }
        load(&format!("{LEAST} --spread=false")).expect("valid");
    }
}
