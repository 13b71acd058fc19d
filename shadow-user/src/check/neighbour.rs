//! Whether the next host on the way to the shadow answers ARP or neighbour discovery.

use std::net::IpAddr;

use anyhow::Context as _;
use futures_util::TryStreamExt as _;
use rtnetlink::packet_route::AddressFamily;
use rtnetlink::packet_route::neighbour::{NeighbourAddress, NeighbourAttribute, NeighbourState};

use crate::host::Netlink;

/// What the kernel knows of a neighbour.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Neighbour {
    /// It has answered, or is set by hand.
    Answers,
    /// It was asked for and does not answer.
    Silent,
    /// It was never asked for; links without addresses ask for none.
    Unknown,
}

impl Neighbour {
    /// The entry of `address` on the interface of this index.
    ///
    /// # Errors
    /// When the kernel does not answer the request.
    pub async fn read(netlink: &Netlink, address: IpAddr, index: u32) -> anyhow::Result<Self> {
        let family = if address.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
        let request = netlink.handle().neighbours().get().set_address_family(family);
        let entries: Vec<_> = request.execute().try_collect().await.context("no neighbours")?;
        let wanted = NeighbourAttribute::Destination(match address {
            IpAddr::V4(v4) => NeighbourAddress::Inet(v4),
            IpAddr::V6(v6) => NeighbourAddress::Inet6(v6),
        });
        let entry = entries
            .iter()
            .find(|entry| entry.header.ifindex == index && entry.attributes.contains(&wanted));
        Ok(entry.map_or(Self::Unknown, |entry| entry.header.state.into()))
    }
}

impl From<NeighbourState> for Neighbour {
    fn from(state: NeighbourState) -> Self {
        match state {
            NeighbourState::Incomplete | NeighbourState::Failed => Self::Silent,
            NeighbourState::None | NeighbourState::Other(_) => Self::Unknown,
            _ => Self::Answers,
        }
    }
}
