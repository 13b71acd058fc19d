//! Waiting for a condition, never for luck.

use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

const POLL: Duration = Duration::from_millis(10);

/// Polls `condition` until it holds.
///
/// # Errors
/// When it does not hold within `limit`; the message says `what` was waited for.
pub fn wait_until(what: &str, limit: Duration, mut condition: impl FnMut() -> bool) -> Result<()> {
    wait_for(what, limit, || Ok(condition().then_some(())))
}

/// Polls `poll` until it gives a value.
///
/// # Errors
/// `poll`'s own error at once, or after `limit` one that says `what` was waited for.
pub fn wait_for<T>(
    what: &str,
    limit: Duration,
    mut poll: impl FnMut() -> Result<Option<T>>,
) -> Result<T> {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(value) = poll()? {
            return Ok(value);
        }
        if Instant::now() >= deadline {
            bail!("waited {limit:?} in vain for {what}");
        }
        sleep(POLL);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gives_up_and_says_what_it_waited_for() {
        let error = wait_until("the moon", Duration::from_millis(30), || false).unwrap_err();
        assert!(error.to_string().contains("the moon"));
    }

    #[test]
    fn returns_as_soon_as_the_condition_holds() {
        let mut polls = 0;
        let found = wait_for("three", Duration::from_secs(5), || {
            polls += 1;
            Ok((polls == 3).then_some(polls))
        });
        assert_eq!(found.unwrap(), 3);
    }
}
