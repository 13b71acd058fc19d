//! A ring too small for the load: the mirror loses, production does not, the books say so.

use anyhow::{Result, ensure};
use shadow_lab::{Mix, compare};
use shadow_tests::{Family, Stage, check_ended};

#[test]
fn a_full_ring_costs_the_mirror_only() -> Result<()> {
    let stage = Stage::new()?;
    let mirror = stage.mirror(Family::V4, &["--ring-size", "64KiB", "--drain", "1s"])?;
    // Uploads in super-frames from 16 connections at full speed.
    let mix = Mix { connections: 16, max_body: 4 << 20, ..stage.mix(Family::V4, 2_000, 3) };
    let report = stage.send(&mix)?;
    let log = stage.production_log(&report)?;
    let ended = mirror.stop()?;
    check_ended(&ended)?;
    let books = &ended.books;
    ensure!(books.get("packets.lost.ring_full") > 0, "no loss: {:#}", books.json());
    ensure!(books.sum("flows.aborted") > 0, "no session suffered: {:#}", books.json());

    // What arrived whole is what was sent, once. A request cut short by an abort is logged as 4xx.
    let shadow: Vec<_> = stage.shadow.log()?.into_iter().filter(|e| !e.is_cut_short()).collect();
    let differences = compare(&log, &shadow);
    ensure!(differences.repeated.is_empty(), "{differences}");
    ensure!(differences.altered.is_empty(), "{differences}");
    ensure!(differences.unknown.is_empty(), "{differences}");
    Ok(())
}
