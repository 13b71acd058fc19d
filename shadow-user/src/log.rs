//! The log on standard error, or above the live view while there is one.

use std::io::{self, IsTerminal as _, Write};
use std::sync::{Mutex, PoisonError};

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

use crate::cli::LogFormat;

/// Lines that wait for the live view; `None` while standard error takes them.
static HELD: Mutex<Option<Vec<u8>>> = Mutex::new(None);

/// Begins to log. `RUST_LOG` wins over `-v` where it is set.
pub fn init(format: LogFormat, verbose: u8, view: bool) {
    let level = match verbose {
        0 => "info",
        1 => "debug",
        _ => "trace",
    };
    // `shadow` is the beginning of each target of ours, the programs in the kernel included.
    let filter = EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| EnvFilter::new(format!("warn,shadow={level}")));
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(!view && io::stderr().is_terminal())
        .with_writer(Lines);
    // A second start in one process, as in tests, keeps the first's subscriber.
    let _ = match format {
        LogFormat::Text => builder.with_target(false).try_init(),
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
    };
}

/// From now on lines wait for [`take`].
pub fn hold() {
    held(|held| {
        held.get_or_insert_default();
    });
}

/// The lines since the last call.
#[must_use]
pub fn take() -> String {
    let bytes = held(|held| held.as_mut().map(std::mem::take)).unwrap_or_default();
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Ends [`hold`]; what still waits goes to standard error.
pub fn release() {
    if let Some(bytes) = held(Option::take) {
        let _ = io::stderr().write_all(&bytes);
    }
}

fn held<T>(access: impl FnOnce(&mut Option<Vec<u8>>) -> T) -> T {
    // A line cut short by a panic is no reason to be silent afterwards.
    access(&mut HELD.lock().unwrap_or_else(PoisonError::into_inner))
}

/// Where lines go.
struct Lines;

impl<'a> MakeWriter<'a> for Lines {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        Self
    }
}

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        held(|held| match held {
            Some(held) => held.write(bytes),
            None => io::stderr().write(bytes),
        })
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}
