use std::fs::{self, File};
use std::io::Read as _;
use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

use serde_json::{Value as Json, json};
use shadow_engine::compare::{Comparison, Kind, Verdict};
use shadow_engine::exchange::{Exchange, Protocol, Status, Unpaired};

use super::*;
use crate::report::fixture::{comparison, exchange, response};

fn object(exchange: &Exchange, comparison: &Comparison, bodies: bool) -> Json {
    let wall = Wall::since(SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000));
    let mut line = Vec::new();
    let told = Told { shadow: "shadow.test:80", exchange, comparison, id: None };
    write(&mut line, wall, &told, bodies).expect("a line");
    assert!(!line.contains(&b'\n'), "one object a line");
    serde_json::from_slice(&line).expect("JSON")
}

#[test]
fn a_line_has_the_schemas_names() {
    let exchange = exchange(
        "/items/7?verbose=1&x=a%20b",
        Ok(response(200, r#"{"price":1}"#, 4)),
        Ok(response(200, r#"{"price":2}"#, 7)),
    );
    let differences =
        [("body.price", Kind::Primitive, false), ("header.x-id", Kind::Primitive, true)];
    let comparison = comparison(Verdict::Body, &differences);
    assert_eq!(
        object(&exchange, &comparison, false),
        json!({
            "@timestamp": "2023-11-14T22:13:22.000000Z",
            "ecs": { "version": ECS_VERSION },
            "event": {
                "kind": "event", "category": ["web"], "type": ["access"], "module": "shadowtap",
                "dataset": "shadowtap.exchange", "outcome": "success", "duration": 4_000_000,
            },
            "client": { "ip": "10.0.0.7", "port": 40000 },
            "server": { "ip": "10.0.0.5", "port": 80 },
            "network": { "transport": "tcp", "protocol": "http" },
            "http": {
                "version": "1.1",
                "request": { "method": "GET", "body": { "bytes": 0 } },
                "response": { "status_code": 200, "body": { "bytes": 11 } },
            },
            "url": {
                "original": "/items/7?verbose=1&x=a%20b", "path": "/items/7",
                "query": "verbose=1&x=a%20b",
            },
            "shadowtap": {
                "endpoint": "GET /items/{id}", "verdict": "body", "number": 3,
                "duration_delta": 3_000_000, "first_byte": 2_000_000,
                "shadow": {
                    "address": "shadow.test:80",
                    "event": { "duration": 7_000_000 }, "first_byte": 3_500_000,
                    "http": { "response": { "status_code": 200, "body": { "bytes": 11 } } },
                },
                "diff": {
                    "count": 1, "noise": 1, "keys": ["body.price"], "kinds": ["primitive"],
                },
            },
        })
    );
}

#[test]
fn bodies_and_values_are_shown_when_asked_for_only() {
    let exchange = exchange("/a", Ok(response(200, "apple", 1)), Ok(response(200, "pear\n", 1)));
    let comparison = comparison(Verdict::Body, &[("body", Kind::Primitive, false)]);
    let quiet = object(&exchange, &comparison, false).to_string();
    for text in ["apple", "pear", "<b>"] {
        assert!(!quiet.contains(&format!("\"{text}")), "{text} is in {quiet}");
    }
    let full = object(&exchange, &comparison, true);
    assert_eq!(full["http"]["response"]["body"]["content"], "apple");
    assert_eq!(full["shadowtap"]["shadow"]["http"]["response"]["body"]["content"], "pear\n");
    assert_eq!(full["shadowtap"]["diff"]["values"][0]["shadow"], "<b>2</b>\n");
    assert_eq!(full["http"]["request"]["body"].get("content"), None, "there was none");
}

#[test]
fn a_leg_without_an_answer_has_a_reason_and_no_figures() {
    let missing = exchange("/a", Ok(response(500, "", 1)), Err(Unpaired::Closed));
    let line = object(&missing, &comparison(Verdict::Missing, &[]), false);
    assert_eq!(line["shadowtap"]["unpaired"], json!({ "shadow": "closed" }));
    assert_eq!(line["shadowtap"]["shadow"], json!({ "address": "shadow.test:80" }));
    assert_eq!(line["shadowtap"].get("duration_delta"), None);
    assert_eq!(line["event"]["outcome"], "failure");
    let lost = exchange("/a", Err(Unpaired::Lost), Ok(response(200, "", 1)));
    let line = object(&lost, &comparison(Verdict::Unpaired, &[]), false);
    assert_eq!(line["shadowtap"]["unpaired"], json!({ "production": "lost" }));
    assert_eq!(line["http"].get("response"), None);
    assert_eq!(line["event"].get("duration"), None);
    assert_eq!(line["event"]["outcome"], "unknown");
}

#[test]
fn faster_is_a_negative_difference() {
    let exchange = exchange("/a", Ok(response(200, "", 9)), Ok(response(200, "", 2)));
    let line = object(&exchange, &comparison(Verdict::Match, &[]), false);
    assert_eq!(line["shadowtap"]["duration_delta"], -7_000_000);
}

#[test]
fn targets_of_every_form() {
    for (target, path, query) in [
        ("/", Some("/"), None),
        ("/a?", Some("/a"), None),
        ("http://shop.test/a?b=c", Some("/a"), Some("b=c")),
        ("http://shop.test?b", Some("/"), Some("b")),
        ("http://shop.test", Some("/"), None),
        ("shop.test:443", None, None),
        ("*", None, None),
    ] {
        let exchange = exchange(target, Ok(response(200, "", 1)), Ok(response(200, "", 1)));
        let line = object(&exchange, &comparison(Verdict::Match, &[]), false);
        let get = |name| line["url"].get(name).and_then(Json::as_str);
        assert_eq!((get("path"), get("query")), (path, query), "{target}");
    }
}

#[test]
fn redis_and_grpc_have_names_of_their_own() {
    let mut exchange = exchange("", Ok(response(200, "", 1)), Ok(response(200, "", 1)));
    exchange.production.as_mut().expect("answered").status = Status::Grpc(5);
    exchange.protocol = Protocol::Http2;
    let line = object(&exchange, &comparison(Verdict::Status, &[]), false);
    assert_eq!(line["http"]["version"], "2");
    assert_eq!(line["http"]["response"]["status_code"], 200);
    assert_eq!(line["shadowtap"]["grpc"]["status_code"], 5);
    assert_eq!(line["event"]["outcome"], "failure");

    exchange.protocol = Protocol::Redis;
    exchange.request.method = "GET".into();
    exchange.production.as_mut().expect("answered").status = Status::Redis(b'$');
    exchange.shadow.as_mut().expect("answered").status = Status::Redis(b'-');
    let line = object(&exchange, &comparison(Verdict::Status, &[]), false);
    assert_eq!(line.get("http"), None);
    assert_eq!(line["network"]["protocol"], "redis");
    assert_eq!(line["shadowtap"]["redis"], json!({ "command": "GET", "reply": "bulk_string" }));
    assert_eq!(line["shadowtap"]["shadow"]["redis"], json!({ "reply": "error" }));
    assert_eq!(line["event"]["outcome"], "success");
}

fn line(number: usize) -> Vec<u8> {
    format!("{{\"number\":{number}}}\n").into_bytes()
}

fn start(path: &Path) -> Writer {
    let sink = Sink::open(Target::File(path.to_path_buf())).expect("opens");
    Writer::start(sink).expect("a thread")
}

fn wait(what: &str, condition: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !condition() {
        assert!(Instant::now() < deadline, "{what} has not come");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_renamed_file_is_left_and_nothing_is_lost() {
    let folder = tempfile::tempdir().expect("a folder");
    let (path, old) = (folder.path().join("report.jsonl"), folder.path().join("report.jsonl.1"));
    fs::write(&path, "{}\n").expect("a line of an earlier run");
    let writer = start(&path);
    for number in 0..100 {
        writer.offer(|| line(number));
    }
    wait("100 lines", || writer.written().written == 100);
    fs::rename(&path, &old).expect("renamed");
    writer.offer(|| line(100));
    wait("101 lines", || writer.written().written == 101);
    writer.reopen().ask();
    wait("the new file", || path.exists());
    writer.offer(|| line(101));
    let written = writer.finish(Duration::from_secs(10));
    assert_eq!((written.offered, written.written, written.dropped.total()), (102, 102, 0));
    let read = |path| fs::read_to_string(path).expect("a file");
    assert_eq!(read(&old).lines().count(), 102, "appended to what was there");
    assert_eq!(read(&path).lines().count(), 1);
}

#[test]
fn a_full_device_is_counted_and_never_felt() {
    let writer = start(Path::new("/dev/full"));
    for number in 0..1_000 {
        writer.offer(|| line(number));
    }
    let written = writer.finish(Duration::from_secs(10));
    assert_eq!((written.offered, written.written), (1_000, 0));
    assert_eq!(written.dropped.get(Dropped::StorageFull), 1_000);
}

#[test]
fn a_pipe_whose_reader_goes_and_comes_again_gets_whole_lines() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("pipe");
    rustix::fs::mknodat(
        rustix::fs::CWD,
        &path,
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR,
        0,
    )
    .expect("a pipe");
    // Nobody reads yet: that keeps nobody from starting.
    let writer = start(&path);
    writer.offer(|| line(0));
    wait("a try", || writer.written().dropped.total() == 0);
    let mut reader = File::open(&path).expect("a reader");
    let mut first = [0; 4];
    reader.read_exact(&mut first).expect("the line that waited");
    assert_eq!(&first, b"{\"nu");
    // Far more than a pipe holds: the reader leaves in the middle of a line.
    writer.offer(|| [vec![b'x'; 300_000], b"\n".to_vec()].concat());
    reader.read_exact(&mut vec![0; 100_000]).expect("a part of it");
    drop(reader);
    wait("a broken pipe", || {
        writer.written().dropped.get(Dropped::ReaderGone) > 0 || {
            writer.offer(|| line(1));
            false
        }
    });
    let mut reader = File::open(&path).expect("a reader");
    let reader = std::thread::spawn(move || {
        let mut text = String::new();
        reader.read_to_string(&mut text).expect("text");
        text
    });
    wait("a line for the next reader", || {
        let before = writer.written().written;
        writer.offer(|| line(2));
        std::thread::sleep(Duration::from_millis(20));
        writer.written().written > before
    });
    let written = writer.finish(Duration::from_secs(10));
    assert_eq!(written.offered, written.written + written.dropped.total());
    let text = reader.join().expect("text");
    // What the first reader left in the pipe is the kernel's to hand on.
    let (left, lines) = text.split_once('\n').expect("lines");
    assert!(left.bytes().all(|octet| octet == b'x'), "{left:.40}");
    assert!(lines.lines().count() > 0, "the next reader's lines");
    for line in lines.lines() {
        assert!(line.starts_with("{\"number\":"), "torn: {line:.40}");
    }
}

#[test]
fn a_reader_that_does_not_read_delays_nobody() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("pipe");
    let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
    rustix::fs::mknodat(rustix::fs::CWD, &path, rustix::fs::FileType::Fifo, mode, 0)
        .expect("a pipe");
    let reader = std::thread::spawn({
        let path = path.clone();
        move || File::open(path).expect("a reader")
    });
    let writer = start(&path);
    // Before the pipe is open on both ends, lines are dropped for that.
    let deadline = Instant::now() + Duration::from_secs(30);
    while !reader.is_finished() && Instant::now() < deadline {
        writer.offer(|| b"\n".to_vec());
        std::thread::sleep(Duration::from_millis(5));
    }
    let reader = reader.join();
    let big = || [vec![b'x'; 100_000], b"\n".to_vec()].concat();
    for _ in 0..200 {
        writer.offer(big);
    }
    assert!(writer.written().dropped.get(Dropped::QueueFull) > 100, "20 MB do not wait in 4 MiB");
    let started = Instant::now();
    let written = writer.finish(Duration::from_millis(300));
    assert!(started.elapsed() < Duration::from_secs(5));
    assert!(written.dropped.get(Dropped::Stopped) > 0);
    assert_eq!(written.offered, written.written + written.dropped.total());
    drop(reader);
}
