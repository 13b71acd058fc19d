//! What the programs have counted, added up over CPUs.

use std::marker::PhantomData;

use aya::Ebpf;
use aya::maps::PerCpuArray;
use shadow_common::{Counter, GuardCounter, ResponseCounter, TapCounter};

use super::KernelError;

/// One number per variant of a counter enum.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Counts<C> {
    values: Vec<u64>,
    counter: PhantomData<C>,
}

impl<C: Counter> Counts<C> {
    /// The number of one variant.
    #[must_use]
    pub fn get(&self, counter: C) -> u64 {
        self.values[counter.index() as usize]
    }

    /// Replaces the number of one variant.
    pub fn set(&mut self, counter: C, value: u64) {
        self.values[counter.index() as usize] = value;
    }

    /// Every variant with its number.
    pub fn iter(&self) -> impl Iterator<Item = (C, u64)> + '_ {
        C::ALL.iter().copied().zip(self.values.iter().copied())
    }

    /// The sum over all variants: packets that were counted at all.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.values.iter().sum()
    }
}

impl<C: Counter> Default for Counts<C> {
    fn default() -> Self {
        Self { values: vec![0; C::ALL.len()], counter: PhantomData }
    }
}

/// A snapshot of the programs' counters.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct KernelCounters {
    /// Packets of clients, by what became of them.
    pub tap: Counts<TapCounter>,
    /// Packets of production, by what became of them.
    pub responses: Counts<ResponseCounter>,
    /// Packets of shadows, by what became of them.
    pub guard: Counts<GuardCounter>,
}

pub(super) fn read(ebpf: &Ebpf) -> Result<KernelCounters, KernelError> {
    Ok(KernelCounters {
        tap: read_one(ebpf, "TAP_COUNTERS")?,
        responses: read_one(ebpf, "RESPONSE_COUNTERS")?,
        guard: read_one(ebpf, "GUARD_COUNTERS")?,
    })
}

fn read_one<C: Counter>(ebpf: &Ebpf, name: &'static str) -> Result<Counts<C>, KernelError> {
    let failed = |source| KernelError::Map { map: name, source };
    let map = ebpf.map(name).ok_or(KernelError::Missing(name))?;
    let map = PerCpuArray::<_, u64>::try_from(map).map_err(failed)?;
    let mut counts = Counts::default();
    for counter in C::ALL {
        let per_cpu = map.get(&counter.index(), 0).map_err(failed)?;
        counts.set(*counter, per_cpu.iter().sum());
    }
    Ok(counts)
}
