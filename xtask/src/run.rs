//! `cargo xtask run -- mirror …`: the daemon, built as the user and run as root.

use std::{
    ffi::OsString,
    os::unix::process::CommandExt as _,
    path::Path,
    process::{Command, ExitCode},
};

use anyhow::{Context as _, Result, bail};

use crate::{
    build,
    host::Privilege,
    setup::{self, Purpose},
    toolchain::Choice,
};

/// Arguments of `run`.
#[derive(clap::Args)]
pub struct Args {
    /// Unoptimised, with the debug assertions on the books.
    #[arg(long)]
    debug: bool,
    /// What shadowtap is given: `mirror --iface eth0 …`.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    args: Vec<OsString>,
}

/// Runs the verb; comes back only with an error, for the daemon takes this process's place.
///
/// # Errors
/// Set-up or the build failed, or there is no way to become root.
pub fn run(choice: Choice, args: &Args) -> Result<ExitCode> {
    let ready = setup::ensure(choice, Purpose::Build)?;
    let daemon = build::daemon(&ready, !args.debug)?;
    let mut command = as_root(&Privilege::of_this_process(), &daemon, &args.args)?;
    // Signals and the exit status are the daemon's own: nothing stands between it and the caller.
    let error = command.exec();
    Err(error).with_context(|| format!("starting {}", daemon.display()))
}

fn as_root(privilege: &Privilege, daemon: &Path, args: &[OsString]) -> Result<Command> {
    let mut command = match privilege {
        Privilege::Root => Command::new(daemon),
        Privilege::Sudo(sudo) => {
            let mut command = Command::new(sudo);
            command.arg("--").arg(daemon);
            command
        }
        Privilege::None => {
            bail!("shadowtap needs root and there is no sudo; as root: {}", daemon.display())
        }
    };
    command.args(args);
    Ok(command)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_reach_the_daemon_as_they_are() {
        let args: Vec<OsString> = ["mirror", "--iface", "a b"].map(OsString::from).into();
        let daemon = Path::new("/x/shadowtap");
        let command = as_root(&Privilege::Root, daemon, &args).unwrap();
        assert_eq!(command.get_program(), daemon);
        assert_eq!(command.get_args().collect::<Vec<_>>(), args);
        let command = as_root(&Privilege::Sudo("/usr/bin/sudo".into()), daemon, &args).unwrap();
        assert_eq!(command.get_program(), "/usr/bin/sudo");
        assert_eq!(
            command.get_args().collect::<Vec<_>>(),
            ["--", "/x/shadowtap", "mirror", "--iface", "a b"]
        );
        assert!(as_root(&Privilege::None, daemon, &args).is_err());
    }
}
