//! The binary refuses what it cannot do: status 2, one line, nothing on standard output.

use std::io::Write as _;
use std::process::{Command, Output};

fn shadowtap(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_shadowtap"))
        .args(arguments)
        .env_remove("RUST_LOG")
        .output()
        .expect("the binary runs")
}

/// The one line of a refusal.
fn refusal(arguments: &[&str]) -> String {
    let output = shadowtap(arguments);
    let message = String::from_utf8(output.stderr).expect("UTF-8");
    assert_eq!(output.status.code(), Some(2), "{arguments:?}: {message}");
    assert!(output.stdout.is_empty(), "{arguments:?} prints to standard output");
    assert_eq!(message.lines().count(), 1, "{arguments:?}: {message}");
    message.trim_end().strip_prefix("shadowtap: ").expect("the program's name").to_owned()
}

#[test]
fn a_wrong_command_line_is_refused() {
    assert_eq!(refusal(&[]), "no command is given; see shadowtap --help");
    assert_eq!(refusal(&["mirrro"]), "unrecognized subcommand 'mirrro'; see shadowtap --help");
    assert_eq!(
        refusal(&["mirror", "--port"]),
        "a value is required for '--port <[ADDR:]PORT>' but none was supplied; see shadowtap --help"
    );
    assert!(refusal(&["mirror"]).starts_with("--iface: the interface on which clients arrive"));
}

#[test]
fn a_wrong_file_is_refused() {
    let mut file = tempfile::NamedTempFile::new().expect("file");
    writeln!(file, "iface = 'lo'\nport = 80\nshadow = '127.0.0.1:81'\ndrian = '5s'").expect("text");
    let path = file.path().to_str().expect("UTF-8");
    let message = refusal(&["mirror", "--config", path]);
    let start = format!("--config {path}: line 4: unknown field `drian`, expected one of ");
    assert!(message.starts_with(&start), "{message}");
    assert!(message.ends_with("; fields are the names of the flags, as in port = 80"), "{message}");
}

/// As root the interface is what is wrong, else the lack of privileges.
#[test]
fn a_host_that_does_not_fit_is_refused() {
    let message = refusal(&[
        "mirror",
        "--iface",
        "no-such-device",
        "--port",
        "80",
        "--shadow",
        "127.0.0.1:81",
    ]);
    let expected = ["--iface no-such-device: there is no such interface; ", "privileges: "];
    assert!(expected.iter().any(|start| message.starts_with(start)), "{message}");
}

#[test]
fn help_and_version_are_no_refusals() {
    for arguments in [["--help"].as_slice(), &["--version"], &["mirror", "--help"]] {
        let output = shadowtap(arguments);
        assert_eq!(output.status.code(), Some(0), "{arguments:?}");
        assert!(output.stderr.is_empty() && !output.stdout.is_empty(), "{arguments:?}");
    }
}
