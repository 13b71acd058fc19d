//! Shadowtap's daemon.

use std::process::ExitCode;

fn main() -> ExitCode {
    shadow_user::run()
}
