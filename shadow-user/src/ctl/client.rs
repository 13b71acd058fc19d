//! `shadowtap ctl`: finds the mirror, asks it, and prints what it answers.

use std::io::{self, BufRead as _, BufReader, ErrorKind, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, bail};
use serde_json::Value;

use super::protocol::{Answer, MAX_LINE, Request};
use super::socket;
use crate::choice::word;
use crate::cli::{CtlArgs, CtlCommand};
use crate::setting::Refusal;

/// The longest wait for an answer.
const PATIENCE: Duration = Duration::from_secs(15);

/// Carries out `shadowtap ctl …`.
///
/// # Errors
/// A [`Refusal`] when there is no mirror or more than one, or it refuses; anything else when it does
/// not answer.
pub fn run(args: CtlArgs) -> anyhow::Result<()> {
    let request = match &args.command {
        CtlCommand::Status { .. } => Request::Status,
        CtlCommand::Get => Request::Get,
        CtlCommand::Pause => set("paused", vec!["true".to_owned()]),
        CtlCommand::Resume => set("paused", vec!["false".to_owned()]),
        CtlCommand::Set { name, to } => set(name, expand(name, to)?),
    };
    let (path, stream) = match args.control {
        Some(path) => {
            let stream = UnixStream::connect(&path).map_err(|error| {
                Refusal::new(
                    format!("--control {}", path.display()),
                    format!("no mirror answers there: {error}"),
                    "give the --control of a running mirror, as root",
                )
            })?;
            (path, stream)
        }
        None => the_only_one()?,
    };
    let value = match ask(stream, &request)
        .with_context(|| format!("the mirror at {} does not answer", path.display()))?
    {
        Answer::Ok(value) => value,
        Answer::Refused(refusal) => return Err(refused(&refusal).into()),
    };
    let text = match args.command {
        CtlCommand::Status { json: false } => status(&value),
        CtlCommand::Status { json: true } | CtlCommand::Get => {
            serde_json::to_string_pretty(&value)? + "\n"
        }
        CtlCommand::Pause | CtlCommand::Resume | CtlCommand::Set { .. } => {
            pairs(&value, "\n") + "\n"
        }
    };
    // A reader who has left does not make it a failure.
    let _ = io::stdout().write_all(text.as_bytes());
    Ok(())
}

fn set(name: &str, to: Vec<String>) -> Request {
    Request::Set { name: name.to_owned(), to }
}

/// The refusal that came as its one line.
fn refused(line: &str) -> Refusal {
    let (subject, rest) = line.split_once(": ").unwrap_or(("the mirror refuses", line));
    let (what, remedy) = rest.rsplit_once("; ").unwrap_or((rest, "see shadowtap ctl --help"));
    Refusal::new(subject, what, remedy)
}

/// Files are read here, with the rights of who gives them.
fn expand(name: &str, words: &[String]) -> Result<Vec<String>, Refusal> {
    let mut expanded = Vec::new();
    for text in words {
        if !text.starts_with('@') {
            expanded.push(text.clone());
            continue;
        }
        let nets = word(text)
            .map_err(|(what, remedy)| Refusal::new(format!("set {name} {text}"), what, remedy))?;
        expanded.extend(nets.into_iter().map(|net| net.to_string()));
    }
    Ok(expanded)
}

/// The one mirror of this network namespace.
fn the_only_one() -> anyhow::Result<(PathBuf, UnixStream)> {
    let refusal = |what: String, remedy: &str| Refusal::new("ctl", what, remedy);
    let mut alive = Vec::new();
    for path in socket::found().context("the mirrors' sockets cannot be listed")? {
        match UnixStream::connect(&path) {
            Ok(stream) => alive.push((path, stream)),
            Err(error) if error.kind() == ErrorKind::PermissionDenied => {
                let what = format!("not permitted to use {}", path.display());
                return Err(refusal(what, "run as root").into());
            }
            // Left by a mirror that was killed.
            Err(_) => {}
        }
    }
    if alive.len() > 1 {
        let paths: Vec<_> = alive.iter().map(|(path, _)| path.display().to_string()).collect();
        let what = format!("{} mirrors run: {}", paths.len(), paths.join(", "));
        return Err(refusal(what, "choose one with --control PATH").into());
    }
    alive.pop().ok_or_else(|| {
        let remedy = "start one, or give its --control PATH";
        refusal("no mirror runs in this network namespace".to_owned(), remedy).into()
    })
}

fn ask(mut stream: UnixStream, request: &Request) -> anyhow::Result<Answer> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let mut line = serde_json::to_vec(request)?;
    line.push(b'\n');
    if line.len() as u64 > MAX_LINE {
        return Ok(Answer::Refused("set: too much at once; give less in several calls".to_owned()));
    }
    stream.write_all(&line)?;
    let mut answer = String::new();
    BufReader::new(stream).take(4 * MAX_LINE).read_line(&mut answer)?;
    if answer.is_empty() {
        bail!("it has closed the connection");
    }
    Ok(serde_json::from_str(&answer)?)
}

/// Names and values, as `sample 5%`.
fn pairs(value: &Value, between: &str) -> String {
    let Value::Object(map) = value else { return value.to_string() };
    let pair = |(name, value): (&String, &Value)| match value {
        Value::String(text) => format!("{name} {text}"),
        other => format!("{name} {other}"),
    };
    map.iter().map(pair).collect::<Vec<_>>().join(between)
}

/// The main figures, a line for each group.
fn status(value: &Value) -> String {
    let text = |key: &str| value[key].as_str().unwrap_or("?").to_owned();
    let books = &value["books"];
    let seconds = books["duration_seconds"].as_f64().unwrap_or(0.0);
    let mut lines = vec![
        format!(
            "mirror    {} port {} to {}, {} for {seconds:.0} s, pid {}, version {}",
            text("iface"),
            text("port"),
            text("shadow"),
            text("phase"),
            value["pid"],
            text("version"),
        ),
        format!("settings  {}", pairs(&value["settings"], ", ")),
    ];
    for (group, keys) in [
        ("packets", &["selected", "captured", "lost", "passed"][..]),
        ("flows", &["seen", "mirrored", "skipped", "aborted", "open"]),
        ("requests", &["seen", "delivered", "answered", "open"]),
        ("exchanges", &["seen", "paired"]),
    ] {
        let figures = keys.iter().map(|key| figure(key, &books[group][key]));
        lines.push(format!("{group:<9} {}", figures.collect::<Vec<_>>().join(", ")));
    }
    lines.join("\n") + "\n"
}

/// A number, or the sum of a group's with those that are not 0.
fn figure(name: &str, value: &Value) -> String {
    let Value::Object(reasons) = value else { return format!("{name} {value}") };
    let total: u64 = reasons.values().filter_map(Value::as_u64).sum();
    let happened: Vec<_> = reasons
        .iter()
        .filter(|(_, count)| count.as_u64() != Some(0))
        .map(|(reason, count)| format!("{reason} {count}"))
        .collect();
    if happened.is_empty() {
        format!("{name} 0")
    } else {
        format!("{name} {total} ({})", happened.join(" "))
    }
}
