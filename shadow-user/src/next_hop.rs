//! The next host on the way to a shadow: where a packet socket may send to.

use std::net::IpAddr;

use anyhow::Context as _;
use futures_util::TryStreamExt as _;
use rtnetlink::IpVersion;
use rtnetlink::packet_route::rule::{RuleAttribute, RuleMessage};

use crate::host::{Interface, Netlink};
use crate::kernel::{self, NextHop};

/// What the kernel would do with a packet to `shadow`, if that is no more than to hand it to a neighbour on an
/// Ethernet link, whatever its source: no policy routing, no IPsec, no tunnel. `None` is no error, nor is a
/// neighbour that the kernel has not asked for yet; a raw socket then does what is right.
///
/// # Errors
/// When the kernel does not answer.
pub async fn find(
    netlink: &Netlink,
    interfaces: &[Interface],
    shadow: IpAddr,
) -> anyhow::Result<Option<NextHop>> {
    // No route, or none that is allowed.
    let Ok(route) = netlink.route(shadow).await else { return Ok(None) };
    let interface = interfaces.iter().find(|interface| interface.index == route.oif);
    let Some((interface, neighbour)) = interface.zip(route.neighbour) else { return Ok(None) };
    let Some(from) = interface.mac.filter(|_| interface.up && !route.local) else {
        return Ok(None);
    };
    if kernel::has_outgoing_policies().context("IPsec policies are unknown")?
        || has_policy_routing(netlink, shadow).await?
    {
        return Ok(None);
    }
    let neighbours = netlink.neighbours(interface.index).await?;
    let known = neighbours.into_iter().find(|(address, _)| *address == neighbour);
    Ok(known.map(|(_, to)| NextHop { interface: interface.index, from, to }))
}

/// Whether another packet to the same address may take another way.
async fn has_policy_routing(netlink: &Netlink, shadow: IpAddr) -> anyhow::Result<bool> {
    let version = if shadow.is_ipv4() { IpVersion::V4 } else { IpVersion::V6 };
    let rules = netlink.handle().rule().get(version).execute();
    let rules: Vec<_> = rules.try_collect().await.context("no list of routing rules")?;
    Ok(rules.iter().any(looks_beyond_the_destination))
}

/// Whether a rule (ip-rule(8)) chooses by anything that the kernel is not told when it is asked for a route.
fn looks_beyond_the_destination(rule: &RuleMessage) -> bool {
    use RuleAttribute as Rule;
    let chooses = |attribute: &Rule| match attribute {
        // Of packets that come in, and none of ours does.
        Rule::Iifname(_)
        // A socket that is bound to a VRF, which ours is not.
        | Rule::L3MDev(_)
        | Rule::Destination(_)
        | Rule::Goto(_)
        | Rule::Priority(_)
        | Rule::Table(_)
        | Rule::Protocol(_)
        | Rule::SuppressPrefixLen(_) => false,
        // `FRA_SUPPRESS_IFGROUP` of -1 is none.
        Rule::SuppressIfGroup(group) => *group != u32::MAX,
        _ => true,
    };
    rule.header.src_len != 0 || rule.header.tos != 0 || rule.attributes.iter().any(chooses)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(attributes: Vec<RuleAttribute>) -> RuleMessage {
        let mut rule = RuleMessage::default();
        rule.attributes = attributes;
        rule
    }

    #[test]
    fn rules_by_source_or_mark_are_beyond_the_destination() {
        use RuleAttribute as Rule;
        let usual =
            vec![Rule::Priority(32_766), Rule::Table(254), Rule::SuppressPrefixLen(u32::MAX)];
        assert!(!looks_beyond_the_destination(&rule(usual)));
        let to = Rule::Destination([10, 0, 0, 0].into());
        assert!(!looks_beyond_the_destination(&rule(vec![to])));
        for other in [
            Rule::Source([10, 0, 0, 1].into()),
            Rule::FwMark(1),
            Rule::Oifname("eth1".into()),
            Rule::SuppressIfGroup(7),
        ] {
            assert!(looks_beyond_the_destination(&rule(vec![other])));
        }
        let mut by_tos = rule(Vec::new());
        by_tos.header.tos = 8;
        assert!(looks_beyond_the_destination(&by_tos));
    }
}
