//! Whose address the shadow sees, and how its application learns the client's.

use std::net::IpAddr;

use anyhow::{Result, ensure};
use shadow_lab::{Lab, Mix, Nginx};
use shadow_tests::{Family, Stage, at, check_ended, check_lossless};

fn ip(host: &shadow_lab::Host, family: Family) -> IpAddr {
    at(host, family).ip()
}

/// Mirrors 300 requests with `flags`, each exactly once; the shadow's log.
fn mirrored(stage: &Stage, family: Family, flags: &[&str]) -> Result<Vec<shadow_lab::Entry>> {
    let mirror = stage.mirror(family, flags)?;
    let mix = Mix { rate: Some(300), max_body: 64 << 10, ..stage.mix(family, 300, 45) };
    let report = stage.send(&mix)?;
    let log = stage.production_log(&report)?;
    let ended = mirror.stop()?;
    check_ended(&ended)?;
    check_lossless(&ended.books, log.len())?;
    stage.shadow.log_of(log.len())
}

#[test]
fn preserved_clients_are_seen_by_the_shadow_as_they_are() -> Result<()> {
    for family in [Family::V4, Family::V6] {
        let stage = Stage::with_route()?;
        let log = mirrored(&stage, family, &["--source", "preserve"])?;
        stage.check_shadow(&stage.production.log()?)?;
        let client = ip(&stage.lab.client, family).to_string();
        ensure!(log.iter().all(|entry| entry.remote == client), "{:?}", log[0]);
        stage.guard(&["remove"])?;
    }
    Ok(())
}

#[test]
fn a_client_is_one_address_of_the_pool() -> Result<()> {
    for (family, pool, prefix) in
        [(Family::V4, "10.99.7.0/24", "10.99.7."), (Family::V6, "fd99::7:0/112", "fd99::7:")]
    {
        let stage = Stage::new()?;
        let via = ip(&stage.lab.production, family).to_string();
        stage.lab.shadow.run("ip", ["route", "add", pool, "via", &via])?;
        let log = mirrored(&stage, family, &["--source", &format!("pool={pool}")])?;
        stage.check_shadow(&stage.production.log()?)?;
        let remote = &log[0].remote;
        ensure!(remote.starts_with(prefix), "{remote}");
        ensure!(log.iter().all(|entry| entry.remote == *remote), "not always {remote}");
        stage.guard(&["remove"])?;
    }
    Ok(())
}

#[test]
fn the_application_learns_the_client_by_the_proxy_protocol() -> Result<()> {
    for family in [Family::V4, Family::V6] {
        let lab = Lab::new()?;
        let stage = Stage {
            production: Nginx::start(&lab.production)?,
            shadow: Nginx::start_behind_proxy(&lab.shadow)?,
            lab,
        };
        let log = mirrored(&stage, family, &["--client-address", "proxy-protocol-v2"])?;
        stage.check_shadow(&stage.production.log()?)?;
        let client = ip(&stage.lab.client, family).to_string();
        ensure!(log.iter().all(|entry| entry.proxied == client), "{:?}", log[0]);
    }
    Ok(())
}

#[test]
fn the_application_learns_the_client_by_a_header_line_of_each_request() -> Result<()> {
    for family in [Family::V4, Family::V6] {
        let stage = Stage::new()?;
        let log = mirrored(&stage, family, &["--client-address", "x-forwarded-for"])?;
        ensure!(log.len() == 300, "{} requests", log.len());
        let client = ip(&stage.lab.client, family).to_string();
        ensure!(log.iter().all(|entry| entry.forwarded == client), "{:?}", log[0]);
    }
    Ok(())
}
