//! Telling the programs which packets are ours.

use std::collections::HashMap;
use std::hash::Hash;

use aya::Pod;
use aya::maps::{Array, MapError};
use shadow_common::{
    Address, FlowKey, FlowRule, GuardMode, GuardRule, MAX_OWN_ADDRESSES, MAX_SERVICES, MAX_SHADOWS,
    PORT_WORDS, ServiceKey, ShadowKey,
};

use super::{KernelError, Programs};

/// The key must be there.
const BPF_EXIST: u32 = 2;

fn is_absent(error: &std::io::Error) -> bool {
    error.raw_os_error() == Some(libc::ENOENT)
}

impl Programs {
    /// Replaces the mirrored addresses and ports; may be called while attached.
    ///
    /// # Errors
    /// More than [`MAX_SERVICES`], or a map that cannot be written.
    pub fn set_services(&mut self, services: &[ServiceKey]) -> Result<(), KernelError> {
        let wanted = services.iter().map(|service| (*service, 1_u8)).collect();
        self.replace("SERVICES", MAX_SERVICES, &wanted)?;
        self.set_ports("SERVICE_PORTS", services.iter().map(|service| service.port))
    }

    /// Replaces the shadows whose packets to the mirror are copied and dropped.
    ///
    /// # Errors
    /// More than [`MAX_SHADOWS`], or a map that cannot be written.
    pub fn set_guard_rules(&mut self, rules: &[(ShadowKey, GuardRule)]) -> Result<(), KernelError> {
        let mut wanted: HashMap<ShadowKey, GuardRule> = rules.iter().copied().collect();
        // Fragments that have no ports are looked up with port 0.
        let foreign = rules.iter().filter(|(_, rule)| rule.mode == GuardMode::Foreign as u32);
        wanted.extend(foreign.map(|(shadow, rule)| (ShadowKey { port: [0; 2], ..*shadow }, *rule)));
        self.replace("SHADOWS", MAX_SHADOWS, &wanted)?;
        self.set_ports("SHADOW_PORTS", wanted.keys().map(|shadow| shadow.port))
    }

    /// Replaces this host's own addresses, to which a shadow's packets pass the rules of mode
    /// [`GuardMode::Foreign`]; may be called while attached.
    ///
    /// # Errors
    /// More than [`MAX_OWN_ADDRESSES`], or a map that cannot be written.
    pub fn set_own_addresses(&mut self, own: &[Address]) -> Result<(), KernelError> {
        let wanted = own.iter().map(|address| (*address, 1_u8)).collect();
        self.replace("OWN_ADDRESSES", MAX_OWN_ADDRESSES, &wanted)
    }

    /// Says what is wanted of production's packets in a flow, if the flow is still noted.
    ///
    /// # Errors
    /// A map that cannot be written.
    pub fn set_flow_rule(&mut self, key: &FlowKey, rule: FlowRule) -> Result<(), KernelError> {
        let failed = |source| KernelError::Map { map: "FLOWS", source };
        let map = self.map_mut("FLOWS")?;
        let mut map = aya::maps::HashMap::<_, FlowKey, FlowRule>::try_from(map).map_err(failed)?;
        match map.insert(key, rule, u64::from(BPF_EXIST)) {
            Err(MapError::SyscallError(error)) if is_absent(&error.io_error) => Ok(()),
            result => result.map_err(failed),
        }
    }

    /// No more is wanted of a flow, until its client sends data again.
    ///
    /// # Errors
    /// A map that cannot be written.
    pub fn forget_flow(&mut self, key: &FlowKey) -> Result<(), KernelError> {
        let failed = |source| KernelError::Map { map: "FLOWS", source };
        let map = self.map_mut("FLOWS")?;
        let mut map = aya::maps::HashMap::<_, FlowKey, FlowRule>::try_from(map).map_err(failed)?;
        match map.remove(key) {
            Err(MapError::KeyNotFound) => Ok(()),
            Err(MapError::SyscallError(error)) if is_absent(&error.io_error) => Ok(()),
            result => result.map_err(failed),
        }
    }

    /// Makes a hash map hold exactly `wanted`, without a moment in which a kept entry is missing.
    fn replace<K, V>(
        &mut self,
        name: &'static str,
        max: u32,
        wanted: &HashMap<K, V>,
    ) -> Result<(), KernelError>
    where
        K: Pod + Eq + Hash,
        V: Pod,
    {
        if wanted.len() > max as usize {
            return Err(KernelError::TooMany { what: name, count: wanted.len(), max });
        }
        let failed = |source| KernelError::Map { map: name, source };
        let map = self.map_mut(name)?;
        let mut map = aya::maps::HashMap::<_, K, V>::try_from(map).map_err(failed)?;
        let present: Vec<K> = map.keys().collect::<Result<_, _>>().map_err(failed)?;
        for key in present.iter().filter(|key| !wanted.contains_key(key)) {
            match map.remove(key) {
                Ok(()) | Err(MapError::KeyNotFound) => {}
                Err(source) => return Err(failed(source)),
            }
        }
        for (key, value) in wanted {
            map.insert(key, value, 0).map_err(failed)?;
        }
        Ok(())
    }

    /// Sets one bit per port in a bitmap, and clears the rest.
    fn set_ports(
        &mut self,
        name: &'static str,
        ports: impl Iterator<Item = [u8; 2]>,
    ) -> Result<(), KernelError> {
        let mut words = vec![0_u64; PORT_WORDS as usize];
        for port in ports.map(u16::from_be_bytes) {
            words[usize::from(port >> 6)] |= 1 << (port & 63);
        }
        let failed = |source| KernelError::Map { map: name, source };
        let mut map = Array::<_, u64>::try_from(self.map_mut(name)?).map_err(failed)?;
        for (index, word) in (0..).zip(words) {
            map.set(index, word, 0).map_err(failed)?;
        }
        Ok(())
    }
}
