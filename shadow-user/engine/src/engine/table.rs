//! Where flows are kept, and how they are found.

use std::hash::BuildHasher;
use std::net::SocketAddr;

use hashbrown::HashTable;
use slab::Slab;

use crate::engine::flow::{Flow, FlowKey, SeededHash, Stage};
use crate::engine::timers::FlowId;
use crate::time::Instant;

/// All flows of one engine.
///
/// The tables hold places only; keys are compared where the flows themselves
/// are, so that an idle flow costs eight octets for being found.
#[derive(Debug)]
pub(crate) struct Table {
    flows: Slab<Flow>,
    /// By place: counts up with every flow that leaves it.
    generations: Vec<u32>,
    by_key: HashTable<u32>,
    /// By the address and port that the shadow sees.
    by_local: HashTable<u32>,
    hash: SeededHash,
}

impl Table {
    pub(crate) fn new(hash: SeededHash) -> Self {
        Self {
            flows: Slab::new(),
            generations: Vec::new(),
            by_key: HashTable::new(),
            by_local: HashTable::new(),
            hash,
        }
    }

    /// How many flows there are.
    pub(crate) fn len(&self) -> usize {
        self.flows.len()
    }

    /// How many flows have a session that the shadow knows.
    pub(crate) fn sessions(&self) -> usize {
        self.by_local.len()
    }

    /// Adds a flow that `key` leads to from now on.
    pub(crate) fn insert(&mut self, key: FlowKey, stage: Stage, now: Instant) -> FlowId {
        let index = self.flows.insert(Flow::new(key, stage, now));
        if self.generations.len() <= index {
            self.generations.resize(index + 1, 0);
        }
        let id = self.id(index as u32);
        let Self { flows, by_key, hash, .. } = self;
        by_key.insert_unique(hash.hash_one(key), id.index, |index| {
            hash.hash_one(flows[*index as usize].key)
        });
        id
    }

    /// The flow, unless it has been removed.
    pub(crate) fn get(&self, id: FlowId) -> Option<&Flow> {
        if self.generations.get(id.index as usize) != Some(&id.generation) {
            return None;
        }
        self.flows.get(id.index as usize)
    }

    /// The same, to be changed.
    pub(crate) fn get_mut(&mut self, id: FlowId) -> Option<&mut Flow> {
        if self.generations.get(id.index as usize) != Some(&id.generation) {
            return None;
        }
        self.flows.get_mut(id.index as usize)
    }

    /// The flow to which `key` leads.
    pub(crate) fn find(&self, key: &FlowKey) -> Option<FlowId> {
        let Self { flows, by_key, hash, .. } = self;
        let found = by_key.find(hash.hash_one(key), |index| flows[*index as usize].key == *key)?;
        Some(self.id(*found))
    }

    /// The flow whose session the shadow sees at `local`.
    pub(crate) fn find_local(&self, local: SocketAddr) -> Option<FlowId> {
        let Self { flows, by_local, hash, .. } = self;
        let found = by_local
            .find(hash.hash_one(local), |index| flows[*index as usize].local() == Some(local))?;
        Some(self.id(*found))
    }

    /// Makes a flow that has a session found by the address and port that the shadow sees.
    pub(crate) fn list_local(&mut self, id: FlowId) {
        let Some(local) = self.get_mut(id).and_then(|flow| flow.local()) else { return };
        let Self { flows, by_local, hash, .. } = self;
        by_local.insert_unique(hash.hash_one(local), id.index, |index| {
            flows[*index as usize].local().map_or(0, |local| hash.hash_one(local))
        });
    }

    /// Lets the flow's key lead nowhere, so that it is free for the next incarnation.
    pub(crate) fn unlist(&mut self, id: FlowId) {
        let Some(flow) = self.get_mut(id) else { return };
        flow.listed = false;
        let key = flow.key;
        if let Ok(entry) =
            self.by_key.find_entry(self.hash.hash_one(key), |index| *index == id.index)
        {
            entry.remove();
        }
    }

    /// Removes a flow from everywhere.
    pub(crate) fn remove(&mut self, id: FlowId) -> Option<Flow> {
        self.unlist(id);
        if let Some(local) = self.get_mut(id)?.local()
            && let Ok(entry) =
                self.by_local.find_entry(self.hash.hash_one(local), |index| *index == id.index)
        {
            entry.remove();
        }
        let flow = self.flows.remove(id.index as usize);
        if let Some(generation) = self.generations.get_mut(id.index as usize) {
            *generation = generation.wrapping_add(1);
        }
        Some(flow)
    }

    /// Every flow there is.
    pub(crate) fn ids(&self) -> Vec<FlowId> {
        self.flows.iter().map(|(index, _)| self.id(index as u32)).collect()
    }

    fn id(&self, index: u32) -> FlowId {
        FlowId { index, generation: self.generations[index as usize] }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(port: u16) -> FlowKey {
        FlowKey::new(([192, 0, 2, 1], port).into(), ([192, 0, 2, 2], 80).into())
    }

    #[test]
    fn a_place_used_again_is_another_flow() {
        let mut table = Table::new(SeededHash::new([0; 16]));
        let now = Instant::default();
        let first = table.insert(key(1), Stage::Joining, now);
        assert_eq!(table.find(&key(1)), Some(first));
        table.remove(first).unwrap();
        let second = table.insert(key(2), Stage::Joining, now);
        assert_eq!(first.index, second.index);
        assert!(table.get_mut(first).is_none());
        assert!(table.remove(first).is_none());
        assert_eq!((table.find(&key(1)), table.find(&key(2))), (None, Some(second)));
    }

    #[test]
    fn an_unlisted_flow_makes_room_for_its_successor() {
        let mut table = Table::new(SeededHash::new([0; 16]));
        let now = Instant::default();
        let old = table.insert(key(1), Stage::Joining, now);
        table.unlist(old);
        assert_eq!(table.find(&key(1)), None);
        let new = table.insert(key(1), Stage::Joining, now);
        table.remove(old).unwrap();
        assert_eq!(table.find(&key(1)), Some(new));
        assert_eq!(table.len(), 1);
    }

    #[test]
    fn many_flows_are_all_found() {
        let mut table = Table::new(SeededHash::new([3; 16]));
        let ids: Vec<_> = (0..5_000)
            .map(|port| table.insert(key(port), Stage::Joining, Instant::default()))
            .collect();
        for (port, id) in ids.iter().enumerate() {
            assert_eq!(table.find(&key(port as u16)), Some(*id));
        }
    }
}
