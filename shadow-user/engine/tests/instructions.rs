//! How many instructions the engine takes, counted by callgrind: unlike time, the same on a busy
//! machine. A regression of a fifth is to be seen in review. The ceilings are for this build, with its
//! assertions; raise one only with a reason in the commit.

#![expect(clippy::unwrap_used, reason = "a test says so by failing")]

mod harness;

use std::env;
use std::process::Command;

use harness::{Mirror, REQUEST};
use shadow_engine::time::Duration;
use shadow_engine::wire::Flags;

/// Tells [`work`] what to do, and how often.
const WORK: &str = "SHADOWTAP_WORK";
const TIMES: u64 = 400;

fn requests(times: u32) {
    let mut mirror = Mirror::new(|_| {});
    mirror.request(0);
    for turn in 1..=times {
        let flags = Flags { ack: true, ..Flags::default() };
        mirror.capture(0, flags, 1_001 + turn * REQUEST.len() as u32, 5_001 + turn, REQUEST);
        mirror.now += Duration::from_micros(10);
    }
    assert_eq!(mirror.engine.books().requests.answered, u64::from(times) + 1);
}

fn connections(times: u32) {
    let mut mirror = Mirror::new(|_| {});
    for index in 0..=times {
        mirror.request(index);
        mirror.close(index);
        mirror.now += Duration::from_micros(50);
    }
    assert_eq!(mirror.engine.books().requests.answered, u64::from(times) + 1);
}

/// What callgrind watches; does nothing unless told.
#[test]
fn work() {
    let Ok(work) = env::var(WORK) else { return };
    let (what, times) = work.split_once(' ').unwrap();
    let times = times.parse().unwrap();
    match what {
        "requests" => requests(times),
        "connections" => connections(times),
        other => panic!("{other}"),
    }
}

fn instructions(what: &str, times: u64) -> u64 {
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(env::current_exe().unwrap())
        .args(["--exact", "work", "--test-threads=1"])
        .env(WORK, format!("{what} {times}"))
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}");
    let line = text.lines().find_map(|line| line.split_once("Collected : "));
    line.unwrap_or_else(|| panic!("{text}")).1.trim().parse().unwrap()
}

/// Instructions for each: what starting costs, and the first tables, is in both counts.
fn each(what: &str) -> u64 {
    let [once, twice] = [TIMES, 2 * TIMES].map(|times| instructions(what, times));
    (twice - once) / TIMES
}

#[track_caller]
fn at_most(what: &str, ceiling: u64) {
    if Command::new("valgrind").arg("--version").output().is_err() {
        eprintln!("not counted: valgrind is not installed (`cargo xtask setup` installs it)");
        return;
    }
    let each = each(what);
    println!("{what}: {each} instructions each, at most {ceiling}");
    assert!(each <= ceiling, "{each} instructions for each of {what}, more than {ceiling}");
    assert!(each > ceiling / 3, "{each} is far below {ceiling}: lower the ceiling");
}

#[test]
fn a_request_on_an_open_connection() {
    at_most("requests", 20_000);
}

#[test]
fn a_connection_with_one_request() {
    at_most("connections", 63_000);
}
