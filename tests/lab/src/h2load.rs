//! h2load, for HTTP/2: many streams at once on a connection.

use std::fs;

use anyhow::{Context, Result, ensure};

use crate::host::Host;

/// Runs h2load on `client`: on each of `connections` every one of `urls` is asked for `rounds` times,
/// with `streams` at once. Without TLS, HTTP/2 is spoken from the first octet on.
///
/// # Errors
/// When h2load is missing, or not every answer was 2xx.
pub fn h2load(
    client: &Host,
    urls: &[String],
    connections: usize,
    streams: usize,
    rounds: usize,
    args: &[&str],
) -> Result<usize> {
    let list = client.folder().join("h2load.urls");
    fs::write(&list, urls.join("\n") + "\n").context("write h2load's URLs")?;
    let requests = connections * rounds * urls.len();
    let counts = [("-n", requests), ("-c", connections), ("-m", streams)]
        .map(|(flag, count)| format!("{flag}{count}"));
    let input = format!("--input-file={}", list.display());
    let fixed = counts.iter().map(String::as_str).chain([&*input]);
    let text = client.run("h2load", fixed.chain(args.iter().copied()))?;
    let succeeded = succeeded(&text).with_context(|| format!("h2load printed {text:?}"))?;
    ensure!(succeeded == requests, "{succeeded} of {requests} requests succeeded: {text}");
    Ok(requests)
}

/// How many were answered with 2xx: nothing that failed on the way, and no other status.
fn succeeded(text: &str) -> Option<usize> {
    let line = text.lines().find_map(|line| line.strip_prefix("status codes: "))?;
    line.split(',').find_map(|part| part.trim().strip_suffix(" 2xx"))?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_h2load_prints() {
        let text = "requests: 8 total, 8 started, 8 done, 8 succeeded, 0 failed, 0 errored, 0 timeout\n\
                    status codes: 7 2xx, 0 3xx, 1 4xx, 0 5xx\n";
        assert_eq!(succeeded(text), Some(7));
        assert_eq!(succeeded("nothing"), None);
    }
}
