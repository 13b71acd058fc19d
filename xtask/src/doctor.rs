//! `cargo xtask doctor`: what is there, what is missing, and the remedy. Changes nothing.

use std::{path::Path, process::ExitCode};

use anyhow::Result;
use caps::{CapSet, Capability};
use procfs::sys::kernel::Version;

use crate::{
    bpffs,
    host::{self, Distribution, Privilege},
    linker,
    packages::{self, LAB},
    setup,
    toolchain::{Choice, Toolchain},
};

/// One thing that was looked at.
#[derive(Debug, PartialEq, Eq)]
struct Finding {
    what: &'static str,
    state: State,
    /// What was found, or what to do where something is missing.
    detail: String,
    /// Without it `cargo xtask run` cannot work.
    is_needed_to_run: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Good,
    /// Missing, and a verb installs it or does without.
    Absent,
    Bad,
}

/// Runs the verb: 0 when all is there that `run` needs, else 1.
///
/// # Errors
/// The kernel's version could not be read.
pub fn run(choice: Choice) -> Result<ExitCode> {
    let mut findings = toolchain(choice);
    findings.extend(kernel(Version::current()?));
    findings.push(btf());
    findings.push(mounted_bpffs());
    findings.push(privilege());
    findings.push(lab());
    for Finding { what, state, detail, .. } in &findings {
        let mark = match state {
            State::Good => "ok     ",
            State::Absent => "absent ",
            State::Bad => "MISSING",
        };
        println!("{mark} {what:<14} {detail}");
    }
    Ok(if can_run(&findings) {
        println!("\nall that `cargo xtask run` needs is there");
        ExitCode::SUCCESS
    } else {
        println!("\n`cargo xtask run` lacks what is MISSING above");
        ExitCode::FAILURE
    })
}

fn can_run(findings: &[Finding]) -> bool {
    findings.iter().all(|finding| finding.state == State::Good || !finding.is_needed_to_run)
}

fn needed(what: &'static str, found: Result<String, String>) -> Finding {
    let (state, detail) = match found {
        Ok(detail) => (State::Good, detail),
        Err(remedy) => (State::Bad, remedy),
    };
    Finding { what, state, detail, is_needed_to_run: true }
}

fn optional(what: &'static str, found: Result<String, String>) -> Finding {
    let (state, detail) = match found {
        Ok(detail) => (State::Good, detail),
        Err(detail) => (State::Absent, detail),
    };
    Finding { what, state, detail, is_needed_to_run: false }
}

fn toolchain(choice: Choice) -> Vec<Finding> {
    let host = Distribution::of_this_host().map(|it| it.name).unwrap_or_default();
    let mut findings = vec![
        optional("system", Ok(format!("{host}, {}", std::env::consts::ARCH))),
        optional(
            "cargo",
            duct::cmd!(host::cargo(), "--version").read().map_err(|error| error.to_string()),
        ),
    ];
    let remedy = "remedy: cargo xtask setup --build-only";
    match Toolchain::find(choice) {
        Ok(toolchain) => {
            let version = toolchain.version.lines().next().unwrap_or_default().to_owned();
            findings.push(needed("eBPF compiler", Ok(version)));
            let tools = setup::tools_folder();
            let found = linker::check(&tools, &toolchain)
                .map(|()| format!("{} in {}", linker::VERSION, tools.join("bin").display()))
                .map_err(|error| format!("{error:#}; {remedy}"));
            findings.push(needed("bpf-linker", found));
        }
        Err(error) => {
            findings.push(needed("eBPF compiler", Err(format!("{error:#}; {remedy}"))));
            findings.push(needed("bpf-linker", Err(format!("needs the compiler; {remedy}"))));
        }
    }
    findings
}

fn kernel(version: Version) -> [Finding; 3] {
    let text = format!("{}.{}.{}", version.major, version.minor, version.patch);
    let since = |major, minor| (version.major, version.minor) >= (major, minor);
    [
        needed(
            "kernel",
            if since(5, 10) {
                Ok(text.clone())
            } else {
                Err(format!("{text}; remedy: a kernel of 5.10 or newer"))
            },
        ),
        needed(
            "ring buffer",
            if since(5, 8) {
                Ok("there since 5.8".into())
            } else {
                Err("remedy: a kernel of 5.8 or newer".into())
            },
        ),
        // Linux 6.6 has TCX; before it clsact does, which ends programs' order in our hands less.
        optional(
            "attachment",
            Ok(if since(6, 6) { "TCX (since 6.6)" } else { "clsact; TCX needs 6.6" }.into()),
        ),
    ]
}

fn btf() -> Finding {
    let vmlinux = "/sys/kernel/btf/vmlinux";
    let found = if Path::new(vmlinux).exists() {
        Ok(vmlinux.into())
    } else {
        Err(format!("{vmlinux}; remedy: a kernel with CONFIG_DEBUG_INFO_BTF=y"))
    };
    needed("BTF", found)
}

fn mounted_bpffs() -> Finding {
    let at = bpffs::mounted().map(|at| at.display().to_string());
    needed("bpffs", at.ok_or_else(|| format!("remedy: {}", bpffs::REMEDY)))
}

fn privilege() -> Finding {
    let has = |capability| caps::has_cap(None, CapSet::Effective, capability).unwrap_or(false);
    let wanted = [Capability::CAP_BPF, Capability::CAP_NET_ADMIN, Capability::CAP_NET_RAW];
    let lacking: Vec<String> =
        wanted.into_iter().filter(|it| !has(*it)).map(|it| it.to_string()).collect();
    let found = match Privilege::of_this_process() {
        _ if lacking.is_empty() => Ok("CAP_BPF, CAP_NET_ADMIN, CAP_NET_RAW".into()),
        Privilege::Sudo(sudo) => Ok(format!("through {}", sudo.display())),
        _ => Err(format!("no {}; remedy: run as root or install sudo", lacking.join(", "))),
    };
    needed("privileges", found)
}

fn lab() -> Finding {
    let missing: Vec<&str> = packages::missing(LAB).iter().map(|package| package.name).collect();
    let found = if missing.is_empty() {
        Ok("all programs of demo and tests".into())
    } else {
        Err(format!("only for demo and tests; remedy: apt-get install {}", missing.join(" ")))
    };
    optional("packages", found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn states(major: u8, minor: u8) -> [(State, String); 3] {
        kernel(Version::new(major, minor, 0)).map(|finding| (finding.state, finding.detail))
    }

    #[test]
    fn kernel_versions_compare_as_numbers() {
        assert_eq!(states(5, 10)[0].0, State::Good);
        assert_eq!(states(5, 9)[0].0, State::Bad);
        assert_eq!(states(4, 19)[0].0, State::Bad);
        assert_eq!(states(10, 0)[0].0, State::Good);
        assert_eq!(states(5, 8)[1].0, State::Good);
        assert_eq!(states(5, 7)[1].0, State::Bad);
    }

    #[test]
    fn tcx_where_the_kernel_has_it() {
        assert!(states(6, 6)[2].1.starts_with("TCX"));
        assert!(states(6, 18)[2].1.starts_with("TCX"));
        assert!(states(6, 5)[2].1.starts_with("clsact"));
        assert!(states(5, 15)[2].1.starts_with("clsact"));
    }

    #[test]
    fn only_what_run_needs_decides() {
        let good = || needed("kernel", Ok(String::new()));
        assert!(can_run(&[good(), optional("packages", Err(String::new()))]));
        assert!(!can_run(&[good(), needed("BTF", Err(String::new()))]));
    }
}
