//! The guard outlives its daemon, is taken over by the next, and goes when it is told to.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use aya::programs::tc::{SchedClassifier, TcAttachType};
use nix::sys::signal::Signal;
use shadow_common::GuardRule;
use shadow_lab::{Host, Mirror, Mix, Nginx, binary, curl};
use shadow_tests::{Family, Stage, attached, check_ended, check_lossless, shadowtap};
use shadow_user::kernel::{AttachMode, LoadOptions, PinnedGuard, Pinning, Programs};

const LIMIT: Duration = Duration::from_secs(20);

/// The programs at the host's TCX ingress, by their numbers in the kernel.
fn ingress(host: &Host) -> Result<Vec<u32>> {
    let (_, programs) =
        host.enter(|| SchedClassifier::query_tcx("eth0", TcAttachType::Ingress))??;
    Ok(programs.iter().map(aya::programs::ProgramInfo::id).collect())
}

#[test]
fn of_mode_self_it_goes_with_a_daemon_that_ends_and_stays_with_one_that_is_killed() -> Result<()> {
    let stage = Stage::new()?;
    let production = &stage.lab.production;
    let mirror = stage.mirror(Family::V4, &[])?;
    let show = stage.guard(&["show"])?;
    let pid = mirror.process.pid().to_string();
    ensure!(show.contains("own 16384-32767") && show.contains(&pid), "{show}");
    check_ended(&mirror.stop()?)?;
    ensure!(!production.pins()?.exists() && attached(production)? == 0);

    let mut mirror = stage.mirror(Family::V4, &[])?;
    mirror.process.signal(Signal::SIGKILL)?;
    mirror.process.wait(LIMIT)?;
    ensure!(attached(production)? == 1, "the guard alone");
    let show = stage.guard(&["show"])?;
    ensure!(show.trim_end().ends_with("none"), "{show}");

    let left = ingress(production)?;
    let mirror = stage.mirror(Family::V4, &[])?;
    let both = ingress(production)?;
    ensure!(both.len() == 2 && !both.contains(&left[0]), "{left:?} is still among {both:?}");
    let report = stage.send(&Mix { rate: Some(200), ..stage.mix(Family::V4, 100, 7) })?;
    let ended = mirror.stop()?;
    check_ended(&ended)?;
    check_lossless(&ended.books, report.completed.len())?;
    ensure!(!production.pins()?.exists() && attached(production)? == 0);
    Ok(())
}

#[test]
fn several_daemons_on_one_interface_do_not_disturb_each_other() -> Result<()> {
    let stage = Stage::new()?;
    let lab = &stage.lab;
    let second = Nginx::start_on(&lab.shadow, 8080)?;
    let production2 = Nginx::start_on(&lab.production, 81)?;
    let uri = format!("http://{}/small.txt", lab.production.at4(81));
    let first = stage.mirror(Family::V4, &[])?;
    let shadow = lab.shadow.at4(8080).to_string();
    let args =
        ["--iface", "eth0", "--port", "81", "--shadow", &shadow, "--source-ports", "2000-2999"];
    for round in 1..=3 {
        let mut other = Mirror::start(&lab.production, &args)?;
        ensure!(stage.guard(&["show"])?.lines().count() == 3);
        curl(&lab.client, &[&uri])?;
        ensure!(second.log_of(round)?.len() == round);
        other.process.signal(Signal::SIGKILL)?;
        other.process.wait(LIMIT)?;
    }
    let report = stage.send(&Mix { rate: Some(200), ..stage.mix(Family::V4, 100, 8) })?;
    let refused = shadowtap(&lab.production, &["guard", "remove"])?;
    let words = String::from_utf8_lossy(&refused.stderr);
    ensure!(refused.status.code() == Some(2) && words.contains("stop it first"), "{words}");
    let ended = first.stop()?;
    check_ended(&ended)?;
    check_lossless(&ended.books, report.completed.len())?;
    let show = stage.guard(&["show"])?;
    ensure!(show.lines().count() == 2 && show.contains("own 2000-2999"), "{show}");
    ensure!(stage.guard(&["remove", "--iface", "lo"])? == "no guard is pinned\n");
    stage.guard(&["remove", "--iface", "eth0"])?;
    ensure!(attached(&lab.production)? == 0);
    ensure!(production2.errors().is_empty(), "{}", production2.errors());
    Ok(())
}

/// A mount namespace in which nothing can be pinned.
fn without_bpffs(host: &Host, flags: &[&str]) -> Result<std::process::Output> {
    let mut command = host.command("unshare");
    command.args(["--mount", "sh", "-c", "umount -l /sys/fs/bpf && exec \"$0\" \"$@\""]);
    command.arg(binary()?).args(["mirror", "--iface", "eth0", "--port", "80"]);
    command.args(["--shadow", "10.77.0.3:80", "--duration", "1s", "--live", "off"]).args(flags);
    command.output().context("start unshare")
}

#[test]
fn without_a_bpf_file_system_mode_self_warns_and_others_refuse() -> Result<()> {
    let stage = Stage::new()?;
    let output = without_bpffs(&stage.lab.production, &[])?;
    let words = String::from_utf8_lossy(&output.stderr);
    ensure!(
        output.status.success() && words.contains("goes when this process is killed"),
        "{words}"
    );
    let output = without_bpffs(&stage.lab.production, &["--source", "preserve"])?;
    let words = String::from_utf8_lossy(&output.stderr);
    let remedy = "mount it: mount -t bpf bpf /sys/fs/bpf";
    ensure!(output.status.code() == Some(2) && words.contains(remedy), "{words}");
    ensure!(attached(&stage.lab.production)? == 0);
    Ok(())
}

#[test]
fn it_is_kept_replaced_and_removed_by_tcx_and_by_clsact() -> Result<()> {
    for attach in [AttachMode::Auto, AttachMode::Clsact] {
        let stage = Stage::new()?;
        let host = &stage.lab.production;
        let rule = GuardRule::foreign();
        let shadow = stage.lab.shadow.at4(80);
        let pinning = Pinning::of(&[(shadow, rule)], true);
        for _ in 0..3 {
            let mut programs = Programs::load(LoadOptions { attach, ..LoadOptions::default() })?;
            programs.set_guard_rules(&[(shadow_user::services::shadow_key(shadow), rule)])?;
            host.enter(|| programs.attach_pinned_guard("eth0", &pinning))??;
            ensure!(attached(host)? == 2, "{attach:?}: one at ingress, one at egress");
            host.enter(|| drop(programs))?;
            ensure!(attached(host)? == 2, "{attach:?}: it did not stay");
        }
        let guards = host.enter(PinnedGuard::list)??;
        ensure!(guards.len() == 1 && guards[0].shadows == [shadow] && guards[0].is_foreign());
        for guard in guards {
            host.enter(|| guard.remove())??;
        }
        ensure!(attached(host)? == 0, "{attach:?}: still attached");
        ensure!(!host.pins()?.exists());

        // Dropped in order, one that is not to be kept goes; killed, it would stay.
        let mut programs = Programs::load(LoadOptions { attach, ..LoadOptions::default() })?;
        let pinning = Pinning { keep: false, ..pinning };
        host.enter(|| programs.attach_pinned_guard("eth0", &pinning))??;
        ensure!(attached(host)? == 1 && host.pins()?.exists());
        host.enter(|| drop(programs))?;
        ensure!(attached(host)? == 0 && !host.pins()?.exists());
    }
    Ok(())
}
