//! Telling the tap which flows of a service are chosen.

use std::collections::HashMap;

use aya::maps::lpm_trie::{Key, LpmTrie};
use aya::maps::{Array, MapData, MapError};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use shadow_common::{Address, Choice, ChoiceRule, ClientKey, FlowKey, listed};

use super::{KernelError, Programs};
use crate::choice::Selection;

type Clients<'m> = LpmTrie<&'m mut MapData, Address, u32>;

/// What the tap chooses by.
#[derive(Debug, Default)]
pub(super) struct Chosen {
    /// By what was chosen first: it stays, see [`ChoiceRule`].
    base: Option<Selection>,
    /// What is in the map of clients' networks.
    entries: HashMap<ClientKey, u32>,
}

impl Programs {
    /// Chooses flows by `selection` from now on; may be called while attached. What is chosen first
    /// also counts for flows that began unseen; give it before the tap is attached.
    ///
    /// Flows that have begun go on as was decided at their SYN. Of those of which something else was
    /// decided than would have been at first, as many are remembered as
    /// [`LoadOptions::exceptions`](super::LoadOptions::exceptions) says.
    ///
    /// # Errors
    /// A map that cannot be written. The lists may have been changed in part.
    pub fn set_selection(&mut self, selection: &Selection) -> Result<(), KernelError> {
        let base = self.chosen.base.get_or_insert_with(|| selection.clone()).clone();
        let entries = entries(&base, selection);
        // First what is new: a flow that begins meanwhile is decided by either. Last what is superfluous, which is
        // right until then: the roots go when the rule asks for none, or packets between would be nobody's.
        self.add_clients(&entries)?;
        self.set_rule(&base, selection)?;
        self.remove_clients(&entries)
    }

    /// Lets a larger share in, as if it had been chosen from the start: flows that are open already
    /// come with it. Give it [`Self::set_selection`]'s last selection but for the share.
    ///
    /// # Errors
    /// A map that cannot be written.
    pub fn let_sample_grow(&mut self, selection: &Selection) -> Result<(), KernelError> {
        let mut base = self.chosen.base.take().unwrap_or_else(|| selection.clone());
        base.sample = selection.sample;
        let result = self.set_rule(&base, selection);
        self.chosen.base = Some(base);
        result
    }

    fn set_rule(&mut self, base: &Selection, now: &Selection) -> Result<(), KernelError> {
        let failed = |source| KernelError::Map { map: "CHOICE", source };
        let mut map = Array::<_, ChoiceRule>::try_from(self.map_mut("CHOICE")?).map_err(failed)?;
        let before = map.get(&0, 0).map_err(failed)?;
        map.set(0, rule(base, now, before), 0).map_err(failed)
    }

    /// No more is copied of a flow that was chosen, until its client begins it anew. Another selection
    /// than the first must have been set.
    ///
    /// # Errors
    /// A map that cannot be written.
    pub fn pass_flow(&mut self, key: &FlowKey) -> Result<(), KernelError> {
        let failed = |source| KernelError::Map { map: "EXCEPTIONS", source };
        let map = self.map_mut("EXCEPTIONS")?;
        let mut map = aya::maps::HashMap::<_, FlowKey, u32>::try_from(map).map_err(failed)?;
        map.insert(key, Choice::SampledOut as u32, 0).map_err(failed)
    }

    fn add_clients(&mut self, wanted: &HashMap<ClientKey, u32>) -> Result<(), KernelError> {
        self.with_clients(|map, present| {
            for (client, bits) in wanted {
                if present.get(client) != Some(bits) {
                    map.insert(&lpm_key(client), *bits, 0)?;
                    present.insert(*client, *bits);
                }
            }
            Ok(())
        })
    }

    fn remove_clients(&mut self, wanted: &HashMap<ClientKey, u32>) -> Result<(), KernelError> {
        self.with_clients(|map, present| {
            let superfluous: Vec<_> =
                present.keys().filter(|client| !wanted.contains_key(client)).copied().collect();
            for client in superfluous {
                match map.remove(&lpm_key(&client)) {
                    Ok(()) | Err(MapError::KeyNotFound) => {}
                    Err(source) => return Err(source),
                }
                present.remove(&client);
            }
            Ok(())
        })
    }

    /// Changes the map of clients' networks, and what is known to be in it.
    fn with_clients(
        &mut self,
        change: impl FnOnce(&mut Clients<'_>, &mut HashMap<ClientKey, u32>) -> Result<(), MapError>,
    ) -> Result<(), KernelError> {
        let failed = |source| KernelError::Map { map: "CLIENTS", source };
        let mut present = std::mem::take(&mut self.chosen.entries);
        let result = (|| {
            let mut map = Clients::try_from(self.map_mut("CLIENTS")?).map_err(failed)?;
            change(&mut map, &mut present).map_err(failed)
        })();
        self.chosen.entries = present;
        result
    }
}

fn lpm_key(key: &ClientKey) -> Key<Address> {
    Key::new(key.prefix_len, key.address)
}

fn rule(base: &Selection, now: &Selection, before: ChoiceRule) -> ChoiceRule {
    let mut flags = 0;
    let mut flag = |flag, is_set| flags |= if is_set { flag } else { 0 };
    let bounds = [base.sample.bound(), now.sample.bound()];
    flag(ChoiceRule::SAMPLED, bounds != [ChoiceRule::EVERY; 2]);
    flag(ChoiceRule::LISTED, !base.clients.is_empty() || !now.clients.is_empty());
    // For good: flows may be remembered.
    flag(ChoiceRule::CHANGED, before.flags & ChoiceRule::CHANGED != 0 || base != now);
    flag(ChoiceRule::PAUSED, now.paused);
    ChoiceRule { flags, reserved: 0, base: bounds[0], now: bounds[1] }
}

/// Every network of either selection's lists, and the root of each family, with what both selections
/// say of it. So the longest prefix of all is right for both, and stays right for the one of them
/// while the other's networks come and go.
fn entries(base: &Selection, now: &Selection) -> HashMap<ClientKey, u32> {
    if base.clients.is_empty() && now.clients.is_empty() {
        return HashMap::new();
    }
    let (by_base, by_now) = (base.clients.judge(), now.clients.judge());
    let roots = [IpNet::V4(Ipv4Net::default()), IpNet::V6(Ipv6Net::default())];
    roots
        .into_iter()
        .chain(base.clients.nets())
        .chain(now.clients.nets())
        .map(|net| {
            let bit = |bit, is_set| if is_set { bit } else { 0 };
            let bits =
                bit(listed::BASE, by_base.mirrors(net)) | bit(listed::NOW, by_now.mirrors(net));
            (key(net), bits)
        })
        .collect()
}

fn key(net: IpNet) -> ClientKey {
    let prefix_len = u32::from(net.prefix_len());
    match net {
        IpNet::V4(v4) => ClientKey {
            prefix_len: prefix_len + 8 * Address::V4_PREFIX.len() as u32,
            address: Address::from_v4(v4.network().octets()),
        },
        IpNet::V6(v6) => ClientKey { prefix_len, address: Address(v6.network().octets()) },
    }
}
