//! curl, the client that everybody has.

use anyhow::Result;

use crate::host::Host;

/// Runs `curl --silent --show-error --fail` with `args` on `client` and gives the body it printed.
///
/// # Errors
/// When curl is missing or fails, an HTTP status of 400 and above included.
pub fn curl(client: &Host, args: &[&str]) -> Result<String> {
    let fixed = ["--silent", "--show-error", "--fail", "--max-time", "30"];
    client.run("curl", fixed.iter().chain(args))
}
