//! `--dry-run`: everything is captured and accounted, nothing is sent.

use anyhow::{Result, ensure};
use shadow_lab::{Mix, Tcpdump};
use shadow_tests::{Family, Stage, check_ended};

#[test]
fn a_dry_run_counts_and_sends_nothing() -> Result<()> {
    let stage = Stage::new()?;
    let at_shadow = Tcpdump::start(&stage.lab.shadow, "eth0", "tcp")?;
    let mirror = stage.mirror(Family::V4, &["--dry-run"])?;
    let report = stage.send(&Mix { rate: Some(500), ..stage.mix(Family::V4, 300, 12) })?;
    let ended = mirror.stop()?;
    check_ended(&ended)?;
    let books = &ended.books;
    ensure!(books.get("flows.seen") == report.connections, "{:#}", books.json());
    ensure!(books.sum("flows.skipped") == report.connections, "{:#}", books.json());
    ensure!(books.get("requests.seen") == 300, "{:#}", books.json());
    ensure!(books.get("requests.delivered") == 0, "{:#}", books.json());
    ensure!(books.get("bytes.captured") > 0 && books.get("bytes.delivered") == 0);
    let sent = at_shadow.stop()?.lines("tcp")?;
    ensure!(sent.is_empty(), "{} packets at the shadow: {}", sent.len(), sent[0]);
    ensure!(stage.shadow.logged() == 0);
    Ok(())
}
