use std::fs;
use std::sync::Arc;

use clap::Parser as _;
use shadow_engine::exchange::Head;

use super::*;
use crate::cli::{Cli, Command};
use crate::comparing::{self, Handed};
use crate::report::fixture::{exchange, response};
use crate::shadows::Role;
use crate::web::example;

const TOKEN: &str = "S3CR3TS3CR3T";

#[test]
fn what_is_masked_leaves_the_thread_nowhere() {
    let folder = tempfile::tempdir().expect("folder");
    let path = folder.path().join("report.jsonl");
    let flags = [
        "shadowtap",
        "mirror",
        "--iface=eth0",
        "--port=80",
        "--shadow=10.0.0.9:80",
        "--compare=body",
        "--report",
        path.to_str().expect("UTF-8"),
        "--report-bodies",
        "--mask-header=Cookie",
        "--mask-header=Set-Cookie",
        "--mask-query=token=MASK",
        "--mask-json=$.email=MASK",
        "--mask-regex=<[^>]*> => <>",
        "--request-id-header=X-Request-Id",
    ];
    let Command::Mirror(args) = Cli::try_parse_from(flags).expect("flags").command else {
        panic!()
    };
    let config = Config::load(*args).expect("valid");
    let rules = Arc::new(config.rules.clone().with_secret([7; 16]));
    let report = config.report.as_ref().map(|report| Report::open(report, config.show_bodies));
    let report = report.expect("given").expect("open");
    let (mut sender, exchanges) = comparing::queue();
    let thread =
        start(&config, Arc::clone(&rules), None, Some(report), exchanges).expect("a thread");

    let body =
        |value: u8| format!("{{\"email\":\"{TOKEN}{value}\",\"n\":{value},\"<{TOKEN}>\":{value}}}");
    let mut answers = [response(200, &body(1), 1), response(200, &body(2), 1)];
    for (answer, hash) in answers.iter_mut().zip([1, 2]) {
        let Head::Http1(head) = &answer.head else { panic!() };
        let text = String::from_utf8_lossy(head).replacen(
            "\r\n",
            &format!("\r\nSet-Cookie: {TOKEN}\r\n"),
            1,
        );
        answer.head = Head::Http1(text.into_bytes().into());
        answer.body.hash = Some(hash);
    }
    let [production, shadow] = answers;
    let mut sent = exchange(&format!("/a?token={TOKEN}"), Ok(production), Ok(shadow));
    let head = format!("POST /a?token={TOKEN} HTTP/1.1\r\nCookie: {TOKEN}\r\n\r\n");
    sent.request.head = Head::Http1(head.into_bytes().into());
    let id = rules.request_id(&sent).expect("an id");
    let shadow = "10.0.0.9:80".into();
    sender.send(Handed { role: Role::Shadow, shadow, exchange: Box::new(sent) }).expect("room");
    drop(sender);

    let compared = thread.join();
    let lines = fs::read_to_string(&path).expect("lines");
    assert!(lines.contains("body.n") && lines.contains("token=MASK"), "{lines}");
    assert!(lines.contains(&format!("\"request\":{{\"id\":\"{id}\"}}")), "{lines}");
    let mut told = lines + &compared.tallies.learn().write() + &format!("{compared:?}");
    for (_, tally) in compared.tallies.endpoints() {
        for kept in tally.examples() {
            let pair = example::pair(&kept.exchange, &kept.comparison, true);
            told += &serde_json::to_string(&pair).expect("JSON");
            told += &serde_json::to_string(&example::row(&kept.exchange, &kept.comparison))
                .expect("JSON");
        }
    }
    assert!(told.contains("MASK") && told.contains("(masked)"), "{told}");
    assert!(!told.contains(TOKEN), "{told}");
    // As the debug form of bytes has it.
    let bytes = TOKEN.bytes().map(|byte| byte.to_string()).collect::<Vec<_>>().join(", ");
    assert!(!told.contains(&bytes), "{told}");
}
