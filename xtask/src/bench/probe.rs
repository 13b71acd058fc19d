//! What the kernel has counted of a process: processor time, memory, its eBPF programs.

use std::{
    collections::BTreeSet,
    fs,
    ops::{Add, Sub},
    time::Duration,
};

use anyhow::{Context as _, Result};
use aya::programs::loaded_programs;
use procfs::process::Process;

/// Processor time.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Cpu {
    /// In the program itself.
    pub user: Duration,
    /// In the kernel on its behalf. On a veth pair that includes the network stack of the host that
    /// receives what it sends, and the eBPF programs there.
    pub system: Duration,
}

impl Cpu {
    /// Both.
    pub fn total(self) -> Duration {
        self.user + self.system
    }
}

impl Add for Cpu {
    type Output = Self;

    fn add(self, more: Self) -> Self {
        Self { user: self.user + more.user, system: self.system + more.system }
    }
}

impl Sub for Cpu {
    type Output = Self;

    fn sub(self, less: Self) -> Self {
        let user = self.user.saturating_sub(less.user);
        Self { user, system: self.system.saturating_sub(less.system) }
    }
}

/// Of a process until now, and of the children that it has.
///
/// # Errors
/// It has ended.
pub fn cpu(pid: u32) -> Result<Cpu> {
    let second = u32::try_from(procfs::ticks_per_second())?;
    let mut cpu = Cpu::default();
    for pid in [pid].into_iter().chain(children(pid)) {
        let stat = process(pid)?.stat().context("read a process's times")?;
        let [user, system] =
            [stat.utime, stat.stime].map(|ticks| Duration::from_secs(ticks) / second);
        cpu = cpu + Cpu { user, system };
    }
    Ok(cpu)
}

/// The most that a process had in memory, octets (`VmHWM`, proc(5)).
///
/// # Errors
/// It has ended.
pub fn peak(pid: u32) -> Result<u64> {
    let status = process(pid)?.status().context("read a process's status")?;
    Ok(status.vmhwm.unwrap_or(0) * 1_024)
}

/// Time and runs of eBPF programs, while statistics are on.
#[derive(Clone, Copy, Debug, Default)]
pub struct Ebpf {
    /// Of all programs together, nanoseconds.
    pub nanos: u64,
    /// Of the tap alone, nanoseconds.
    pub tap_nanos: u64,
    /// How often the tap ran.
    pub tap_runs: u64,
}

/// Of the programs that a process holds.
///
/// # Errors
/// It has ended, or the kernel refuses to list programs.
pub fn ebpf(pid: u32) -> Result<Ebpf> {
    let folder = format!("/proc/{pid}/fdinfo");
    let mut ids = BTreeSet::new();
    for entry in fs::read_dir(&folder).with_context(|| format!("read {folder}"))? {
        // A file may have been closed meanwhile.
        let text = fs::read_to_string(entry?.path()).unwrap_or_default();
        let id = text.lines().find_map(|line| line.strip_prefix("prog_id:"));
        ids.extend(id.and_then(|id| id.trim().parse::<u32>().ok()));
    }
    let mut sum = Ebpf::default();
    for program in loaded_programs() {
        let program = program.context("list eBPF programs")?;
        if !ids.contains(&program.id()) {
            continue;
        }
        let nanos = u64::try_from(program.run_time().as_nanos())?;
        sum.nanos += nanos;
        if program.name_as_str() == Some("tap") {
            (sum.tap_nanos, sum.tap_runs) = (nanos, program.run_count());
        }
    }
    Ok(sum)
}

fn process(pid: u32) -> Result<Process> {
    Process::new(i32::try_from(pid)?).with_context(|| format!("process {pid}"))
}

fn children(pid: u32) -> Vec<u32> {
    let text = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    text.split_whitespace().filter_map(|pid| pid.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_has_used_time_and_memory() {
        let pid = std::process::id();
        let began = cpu(pid).unwrap();
        let mut number = 1_u64;
        while cpu(pid).unwrap() == began {
            number = std::hint::black_box(number.wrapping_mul(3));
        }
        assert!(peak(pid).unwrap() > 1 << 20);
    }
}
