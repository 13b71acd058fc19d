use std::borrow::Cow;

use shadow_engine::rules::{Context, Rules, Verdict};

use crate::config::tests::{LEAST, from_file, load, refusal};

fn rules(flags: &str) -> Rules {
    load(&format!("{LEAST} {flags}")).expect("valid").rules
}

/// The head that is sent, or none where the request is left out.
fn sent(rules: &Rules, head: &str) -> Option<String> {
    let context = Context {
        client: "192.0.2.7:4000".parse().expect("address"),
        production: "10.0.0.5:80".parse().expect("address"),
        id: 1,
    };
    match rules.judge(head.as_bytes(), &context) {
        Verdict::Skip => None,
        Verdict::Send { head } => Some(String::from_utf8_lossy(&head).into_owned()),
        other => panic!("{other:?}"),
    }
}

const HEAD: &str =
    "GET /v1/a?token=s&x=1 HTTP/1.1\r\nHost: shop:80\r\nCookie: s\r\nX-Old: 1\r\n\r\n";

#[test]
fn nothing_is_done_unless_asked_for() {
    let rules = rules("");
    assert!(rules.is_empty());
    let verdict = sent(&rules, HEAD);
    assert_eq!(verdict.as_deref(), Some(HEAD));
}

#[test]
fn flags_choose_requests() {
    for (flags, passes) in [
        ("--method GET,HEAD", true),
        ("--method POST --method GET", true),
        ("--method POST", false),
        ("--safe-methods", true),
        ("--safe-methods=false --method GET", true),
        ("--path ^/v2/ --path ^/v1/", true),
        ("--path ^/v2/", false),
        ("--exclude-path ^/v1/", false),
        ("--exclude-path ^/v2/ --method GET", true),
        ("--header Host=^shop --header X-Old=1", true),
        ("--header Host=^shop --header X-Old=2", false),
        ("--exclude-header X-Old=1", false),
        ("--filter method=GET --filter path~'v1'", true),
        ("--filter method=GET --filter path~'v2'", false),
        ("--filter query['token']=s --safe-methods", true),
    ] {
        assert_eq!(sent(&rules(flags), HEAD).is_some(), passes, "{flags}");
    }
}

#[test]
fn every_rule_is_a_field_of_the_file() {
    let config = from_file(
        r#"
        iface = "eth0"
        port = 80
        shadow = "10.0.0.9:8080"
        method = ["GET", "POST"]
        safe-methods = false
        path = "^/"
        exclude-path = "^/admin/"
        header = "Host=."
        exclude-header = "X-Debug=."
        filter = "method in (GET, POST) and not path = /private"
        rewrite-path = ["^/v1/(.*) => /v2/$1"]
        host-suffix = "-shadow"
        set-header = ["X-Shadow: 1", "X-Two: a, b"]
        remove-header = "X-Old"
        request-id-header = "X-Request-Id"
        mark = true
        mask-header = ["Cookie=remove"]
        mask-query = "token=MASK"
        mask-form = "password"
        mask-json = ["$.user.email", "$..card=remove"]
        mask-regex = "[0-9]{16} => CARD"
        mask-limit = "64KiB"
        "#,
        "",
    )
    .expect("valid");
    let head = sent(&config.rules, HEAD).expect("sent");
    let (before, id) = head.split_once("X-Request-Id: ").expect("an id");
    assert_eq!(
        before,
        "GET /v2/a?token=MASK&x=1 HTTP/1.1\r\nHost: shop-shadow:80\r\nX-Shadow: 1\r\nX-Two: a, b\r\n"
    );
    assert!(id.ends_with("\r\nX-Shadowtap: mirror\r\n\r\n"), "{id}");
    assert_eq!(config.rules.collects(), 64 << 10);
    assert!(sent(&config.rules, &HEAD.replace("/v1/a", "/private")).is_none());
    // A flag wins over the file.
    let config = from_file(
        "iface = 'eth0'\nport = 80\nshadow = 'h:1'\nmark = 'baggage'\nset-header = 'A: 1'",
        "--mark=header --set-header B:2",
    );
    let head = sent(&config.expect("valid").rules, "GET / HTTP/1.1\r\n\r\n").expect("sent");
    assert_eq!(head, "GET / HTTP/1.1\r\nB: 2\r\nX-Shadowtap: mirror\r\n\r\n");
}

#[test]
fn what_is_wrong_is_said_with_its_place() {
    for (flags, message) in [
        (
            "--filter method=",
            "--filter method=: a value, in quotes unless it is a word is expected at character 8; \
             write such as method = GET and path ~ \"^/api/\"",
        ),
        (
            "--path a(b",
            "--path a(b: unclosed group at character 2 of the regex; write a regex, as ^/api/",
        ),
        (
            "--set-header Content-Length:1",
            "--set-header Content-Length:1: this field says where the message ends, or what \
             connection it is on; name another field; the mirror sets this one as the message needs \
             it",
        ),
        (
            "--set-header Host:a",
            "--set-header Host:a: Host is what the request is sent to; give --set-host HOST or \
             --host-suffix SUFFIX",
        ),
        (
            "--set-host a --host-suffix -b",
            "--host-suffix -b: --set-host sets the whole host; give one of both",
        ),
        (
            "--safe-methods --method POST",
            "--method POST: --safe-methods names methods already; give one of both",
        ),
        (
            "--set-header A:1 --request-id-header a",
            "--request-id-header a: another setting gives a a value; give each header line one value",
        ),
        (
            "--set-header X-Forwarded-For:1 --client-address x-forwarded-for",
            "--set-header X-Forwarded-For:1: another setting gives X-Forwarded-For a value; give \
             each header line one value",
        ),
        (
            "--mask-header x-forwarded-for --client-address x-forwarded-for",
            "--mask-header x-forwarded-for: --client-address x-forwarded-for puts the address there \
             again; give --client-address none",
        ),
        (
            "--mask-limit 1MiB --mask-header Cookie",
            "--mask-limit 1MiB: no body is masked; leave it out, or give --mask-json, --mask-form, \
             --mask-regex or --filter-exec",
        ),
        (
            "--mask-limit 1 --mask-json $.a",
            "--mask-limit 1: is out of bounds; give from 1KiB to 16MiB",
        ),
        (
            "--mask-json user.email",
            "--mask-json user.email: no $ (the body) at character 1; write a path such as \
             $.user.email, or $.items[*].card=remove",
        ),
        ("--mark=x", "--mark x: is not a choice; give header or baggage"),
        (
            "--rewrite-path a=>b?",
            "--rewrite-path a=>b?: '?' cannot stand in a path; write it as %XX, and leave the query out",
        ),
    ] {
        assert_eq!(refusal(&format!("{LEAST} {flags}")), message);
    }
    let both = "--remove-header X-Forwarded-For --client-address x-forwarded-for";
    assert!(!rules(both).is_empty(), "the client's own goes");
    let kept = rules("--mask-json $.a");
    let context = Context {
        client: "192.0.2.7:4000".parse().expect("address"),
        production: "10.0.0.5:80".parse().expect("address"),
        id: 1,
    };
    assert_eq!(
        kept.judge(HEAD.as_bytes(), &context),
        Verdict::Send { head: Cow::Borrowed(HEAD.as_bytes()) }
    );
}
