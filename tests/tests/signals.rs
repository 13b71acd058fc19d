//! How a mirror ends: asked, by time, and killed.

use std::time::Duration;

use anyhow::{Result, ensure};
use nix::sys::signal::Signal;
use shadow_lab::{Connection, Mix, Request};
use shadow_tests::{Family, Stage, at, attached, check_ended, check_lossless};

#[test]
fn sigterm_and_sigint_drain_detach_and_leave_a_summary() -> Result<()> {
    let stage = Stage::new()?;
    ensure!(attached(&stage.lab.production)? == 0);
    for (signal, seed) in [(Signal::SIGTERM, 15), (Signal::SIGINT, 2)] {
        let mirror = stage.mirror(Family::V4, &[])?;
        ensure!(attached(&stage.lab.production)? > 0, "a running mirror is attached");
        let report = stage.send(&Mix { rate: Some(500), ..stage.mix(Family::V4, 200, seed) })?;
        let ended = mirror.stop_with(signal)?;
        check_ended(&ended)?;
        check_lossless(&ended.books, report.completed.len())?;
        ensure!(attached(&stage.lab.production)? == 0, "{signal} left programs attached");
    }
    stage.check_shadow(&stage.production.log_of(400)?)
}

#[test]
fn an_open_session_ends_with_the_drain() -> Result<()> {
    let stage = Stage::new()?;
    let mirror = stage.mirror(Family::V4, &["--drain", "500ms"])?;
    let stream = stage.lab.client.connect(stage.lab.production.at4(80), Duration::from_secs(5))?;
    let mut idle = Connection::new(stream, Duration::from_secs(5))?;
    idle.exchange(&Request::get("/small.txt").header("X-Request-Id", "before"))?;
    shadow_tests::wait_for_shadow(&stage.shadow, 1)?;
    let ended = mirror.stop()?;
    check_ended(&ended)?;
    ensure!(ended.books.get("flows.seen") == 1, "{:#}", ended.books.json());
    // The client's connection outlives the mirror.
    let response = idle.exchange(&Request::get("/small.txt").header("X-Request-Id", "after"))?;
    ensure!(response.status == 200);
    Ok(())
}

#[test]
fn duration_ends_it() -> Result<()> {
    let stage = Stage::new()?;
    let mirror = stage.mirror(Family::V4, &["--duration", "2s"])?;
    stage.send(&Mix { rate: Some(500), ..stage.mix(Family::V4, 100, 22) })?;
    let ended = mirror.ended(Duration::from_secs(15))?;
    check_ended(&ended)?;
    let seconds = ended.books.json()["duration_seconds"].as_f64().unwrap_or_default();
    ensure!((1.9..12.0).contains(&seconds), "duration_seconds is {seconds}");
    ensure!(attached(&stage.lab.production)? == 0);
    Ok(())
}

#[test]
fn a_killed_mirror_leaves_production_working() -> Result<()> {
    let stage = Stage::new()?;
    let mut mirror = stage.mirror(Family::V4, &[])?;
    let production = at(&stage.lab.production, Family::V4);
    let stream = stage.lab.client.connect(production, Duration::from_secs(5))?;
    let mut open = Connection::new(stream, Duration::from_secs(5))?;
    open.exchange(&Request::get("/1k.bin"))?;
    mirror.process.stop(Signal::SIGKILL, Duration::from_secs(5))?;
    ensure!(open.exchange(&Request::get("/1m.bin"))?.status == 200, "the open connection broke");
    stage.send(&stage.mix(Family::V4, 300, 9))?;

    // And the next mirror starts as if nothing had been.
    let before = stage.shadow.logged();
    let mirror = stage.mirror(Family::V4, &[])?;
    let report = stage.send(&Mix { rate: Some(500), ..stage.mix(Family::V4, 200, 10) })?;
    let ended = mirror.stop()?;
    check_ended(&ended)?;
    check_lossless(&ended.books, report.completed.len())?;
    ensure!(stage.shadow.log_of(before + 200)?.len() == before + 200);
    Ok(())
}
