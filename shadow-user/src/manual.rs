//! Pages and completions, made from the definition of the command line.

use std::io::{self, Write as _};

use anyhow::Context as _;
use clap::CommandFactory as _;

use crate::cli::{Cli, CompletionsArgs, ManArgs};
use crate::setting::Refusal;

/// Prints what a shell reads to complete the command line.
///
/// # Errors
/// None but those of standard output.
pub fn completions(args: &CompletionsArgs) -> anyhow::Result<()> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "shadowtap", &mut script);
    print(&script)
}

/// Prints the page of `shadowtap`, or writes one for each command.
///
/// # Errors
/// A [`Refusal`] when the folder cannot be written.
pub fn man(args: &ManArgs) -> anyhow::Result<()> {
    let Some(folder) = &args.dir else {
        let mut page = Vec::new();
        clap_mangen::Man::new(Cli::command()).render(&mut page).context("the page")?;
        return print(&page);
    };
    std::fs::create_dir_all(folder)
        .and_then(|()| clap_mangen::generate_to(Cli::command(), folder))
        .map_err(|error| {
            Refusal::new(
                format!("--dir {}", folder.display()),
                format!("cannot be written: {error}"),
                "give a folder that this user may write",
            )
            .into()
        })
}

/// A reader who has left does not make it a failure.
fn print(text: &[u8]) -> anyhow::Result<()> {
    match io::stdout().write_all(text) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(error).context("standard output")
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::process::Command;

    use super::*;

    #[test]
    fn every_flag_has_its_place_in_the_page_of_its_command() {
        Cli::command().debug_assert();
        let folder = tempfile::tempdir().expect("a folder");
        man(&ManArgs { dir: Some(folder.path().join("man1")) }).expect("written");
        let page = fs::read_to_string(folder.path().join("man1/shadowtap-mirror.1")).expect("page");
        let mirror = Cli::command();
        let mirror = mirror.find_subcommand("mirror").expect("a command");
        for flag in mirror.get_arguments().filter_map(|flag| flag.get_long()) {
            let written = format!("\\-\\-{}", flag.replace('-', "\\-"));
            assert!(page.contains(&written), "{flag}");
        }
    }

    #[test]
    fn bash_reads_its_completions() {
        let mut script = Vec::new();
        clap_complete::generate(
            clap_complete::Shell::Bash,
            &mut Cli::command(),
            "shadowtap",
            &mut script,
        );
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("shadowtap.bash");
        fs::write(&path, script).expect("written");
        let words = "source $1; COMP_WORDS=(shadowtap mirror --sha); COMP_CWORD=2; \
                     _shadowtap shadowtap --sha mirror; echo ${COMPREPLY[@]}";
        let output =
            Command::new("bash").args(["-c", words, "bash"]).arg(&path).output().expect("bash");
        let found = String::from_utf8_lossy(&output.stdout).into_owned();
        assert_eq!(found.trim(), "--shadow --shadow-timeout", "{output:?}");
    }
}
