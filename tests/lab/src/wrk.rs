//! wrk, for load.

use std::time::Duration;

use anyhow::{Context, Result};

use crate::host::Host;

/// What wrk measured.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct WrkResult {
    /// Requests answered.
    pub requests: u64,
    /// Requests per second.
    pub rate: f64,
    /// Sockets that could not connect, read or write, or timed out.
    pub socket_errors: u64,
    /// Answers outside 2xx and 3xx.
    pub bad_statuses: u64,
    /// Of the answers' latencies, where it was asked for.
    pub latency: Option<Quantiles>,
}

/// Latencies from sending a request to the end of its answer.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Quantiles {
    /// The median.
    pub p50: Duration,
    /// What 99 % did not exceed.
    pub p99: Duration,
    /// What 99.9 % did not exceed.
    pub p999: Duration,
}

/// wrk itself prints no 99.9th percentile. Runs after the load, and costs it nothing.
const QUANTILES: &str = "done = function(summary, latency, requests)
    io.write(string.format('Quantiles: %d %d %d\\n', latency:percentile(50),
        latency:percentile(99), latency:percentile(99.9)))
end
";

/// Runs wrk on `client` against `url`.
///
/// # Errors
/// When wrk is missing or prints something else than expected.
pub fn wrk(client: &Host, url: &str, connections: u32, duration: Duration) -> Result<WrkResult> {
    wrk_with(client, url, connections, duration, &[])
}

/// The same with further arguments.
///
/// # Errors
/// As [`wrk`].
pub fn wrk_with(
    client: &Host,
    url: &str,
    connections: u32,
    duration: Duration,
    args: &[&str],
) -> Result<WrkResult> {
    let (connections, duration) =
        (format!("-c{connections}"), format!("-d{}s", duration.as_secs()));
    let fixed = ["-t2", &connections, &duration, url];
    let text = client.run("wrk", args.iter().chain(&fixed))?;
    parse(&text).with_context(|| format!("wrk printed {text:?}"))
}

/// The same, latencies included.
///
/// # Errors
/// As [`wrk`].
pub fn wrk_measured(
    client: &Host,
    url: &str,
    connections: u32,
    duration: Duration,
    args: &[&str],
) -> Result<WrkResult> {
    let script = client.folder().join("quantiles.lua");
    std::fs::write(&script, QUANTILES).context("write wrk's script")?;
    let script = script.display().to_string();
    let args: Vec<&str> = args.iter().copied().chain(["-s", &script]).collect();
    wrk_with(client, url, connections, duration, &args)
}

fn parse(text: &str) -> Option<WrkResult> {
    let mut result = WrkResult::default();
    let (mut requests, mut rate) = (None, None);
    for line in text.lines().map(str::trim) {
        if let Some(value) = line.strip_prefix("Requests/sec:") {
            rate = value.trim().parse().ok();
        } else if let Some(value) = line.strip_prefix("Non-2xx or 3xx responses:") {
            result.bad_statuses = value.trim().parse().ok()?;
        } else if let Some(list) = line.strip_prefix("Socket errors:") {
            let numbers = list.split(',').filter_map(|part| part.split_whitespace().last());
            result.socket_errors = numbers.filter_map(|number| number.parse::<u64>().ok()).sum();
        } else if let Some(list) = line.strip_prefix("Quantiles:") {
            let mut micros = list.split_whitespace().map_while(|it| it.parse().ok());
            let mut next = || micros.next().map(Duration::from_micros);
            result.latency = Some(Quantiles { p50: next()?, p99: next()?, p999: next()? });
        } else if let Some((count, _)) = line.split_once(" requests in ") {
            requests = count.parse().ok();
        }
    }
    (result.requests, result.rate) = (requests?, rate?);
    Some(result)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_wrk_prints() {
        let text = "Running 2s test @ http://10.77.0.2/\n  2 threads and 4 connections\n  \
            1234 requests in 2.01s, 1.02MB read\n  Socket errors: connect 0, read 3, write 1, timeout 0\n  \
            Non-2xx or 3xx responses: 7\nRequests/sec:    613.93\nTransfer/sec:    520.12KB\n";
        let expected = WrkResult {
            requests: 1234,
            rate: 613.93,
            socket_errors: 4,
            bad_statuses: 7,
            latency: None,
        };
        assert_eq!(parse(text).as_ref(), Some(&expected));
        let micros = Duration::from_micros;
        let latency = Quantiles { p50: micros(225), p99: micros(600), p999: micros(1_100) };
        let text = format!("{text}Quantiles: 225 600 1100\n");
        assert_eq!(parse(&text), Some(WrkResult { latency: Some(latency), ..expected }));
        assert_eq!(parse("unable to connect"), None);
    }
}
