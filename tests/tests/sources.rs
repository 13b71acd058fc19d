//! How the shadow's application learns the client's address, where the packets do not carry it.

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
