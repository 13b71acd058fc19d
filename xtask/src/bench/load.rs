//! The loads: what is asked of production, and how.

use std::{fmt, net::SocketAddr, time::Duration};

use anyhow::{Context as _, Result};
use clap::ValueEnum;
use serde::Serialize;
use shadow_lab::{Host, Paced, PacedResult, paced, wrk_measured};

/// A load on production.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Load {
    /// As fast as production answers: 32 connections, 1 KB answers (wrk).
    Keepalive,
    /// The same with a connection for each request.
    Short,
    /// 1,000 requests per second on 32 connections, whatever production does.
    Rate1k,
    /// 20,000 of them.
    Rate20k,
    /// 12,000 connections per second with a request each, whatever production does.
    Short12k,
    /// 1 MB in each request, 8 connections, as fast as production takes it.
    Upload,
    /// The same at 620 requests per second, which is 5.2 Gbit/s.
    Upload620,
    /// 1 MB in each answer, 8 connections, as fast as they are read (wrk).
    Download,
    /// 10,000 connections, each with a request every ten seconds.
    Idle,
}

/// How production served.
#[derive(Clone, Copy, Debug, Default)]
pub struct Served {
    /// Requests answered per second.
    pub rate: f64,
    /// Requests not answered, or not with success.
    pub failed: u64,
    /// Latencies: median, 99th and 99.9th percentile.
    pub quantiles: [Duration; 3],
    /// How long the load ran.
    pub elapsed: Duration,
}

const SATURATING: u32 = 32;
const BULK: u32 = 8;
const IDLE: usize = 10_000;
const UPLOAD: usize = 1 << 20;

impl Load {
    /// Loads the server at `to`, which serves the lab's files, for `time`.
    ///
    /// # Errors
    /// The load could not be made; that production fails is none.
    pub fn run(self, client: &Host, to: SocketAddr, time: Duration) -> Result<Served> {
        let wrk = |file: &str, connections, args: &[&str]| {
            let url = format!("http://{to}/quiet/{file}");
            let result = wrk_measured(client, &url, connections, time, args)?;
            let latency = result.latency.context("wrk printed no latencies")?;
            Ok(Served {
                rate: result.rate,
                failed: result.socket_errors + result.bad_statuses,
                quantiles: [latency.p50, latency.p99, latency.p999],
                elapsed: time,
            })
        };
        let send = |connections, rate, short, request| {
            let plan = Paced { target: to, request, connections, rate, short, duration: time };
            Ok(served(&paced(client, &plan)?))
        };
        match self {
            Self::Keepalive => wrk("1k.bin", SATURATING, &[]),
            Self::Short => wrk("1k.bin", SATURATING, &["-H", "Connection: close"]),
            Self::Download => wrk("1m.bin", BULK, &[]),
            Self::Rate1k => send(SATURATING as usize, Some(1_000), false, get(to, "")),
            Self::Rate20k => send(SATURATING as usize, Some(20_000), false, get(to, "")),
            Self::Short12k => send(1_000, Some(12_000), true, get(to, "Connection: close\r\n")),
            Self::Idle => send(IDLE, Some(1_000), false, get(to, "")),
            Self::Upload => send(BULK as usize, None, false, put(to)),
            Self::Upload620 => send(BULK as usize, Some(620), false, put(to)),
        }
    }

    /// Octets of a request's content.
    pub const fn body(self) -> usize {
        match self {
            Self::Upload | Self::Upload620 => UPLOAD,
            _ => 0,
        }
    }
}

impl fmt::Display for Load {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Keepalive => "keep-alive, saturating",
            Self::Short => "short connections, saturating",
            Self::Rate1k => "keep-alive, 1,000 req/s",
            Self::Rate20k => "keep-alive, 20,000 req/s",
            Self::Short12k => "short connections, 12,000/s",
            Self::Upload => "uploads of 1 MB, saturating",
            Self::Upload620 => "uploads of 1 MB, 620/s",
            Self::Download => "downloads of 1 MB, saturating",
            Self::Idle => "10,000 idle clients, 1,000 req/s",
        })
    }
}

fn served(result: &PacedResult) -> Served {
    Served {
        rate: result.answered as f64 / result.elapsed.as_secs_f64(),
        failed: result.failed,
        quantiles: [0.5, 0.99, 0.999].map(|share| result.quantile(share)),
        elapsed: result.elapsed,
    }
}

fn get(to: SocketAddr, header: &str) -> Vec<u8> {
    format!("GET /quiet/1k.bin HTTP/1.1\r\nHost: {to}\r\n{header}\r\n").into_bytes()
}

fn put(to: SocketAddr) -> Vec<u8> {
    let head = format!("PUT /upload HTTP/1.1\r\nHost: {to}\r\nContent-Length: {UPLOAD}\r\n\r\n");
    let mut request = head.into_bytes();
    request.extend_from_slice(shadow_lab::content(0, UPLOAD));
    request
}
