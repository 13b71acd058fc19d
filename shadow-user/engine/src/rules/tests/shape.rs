use proptest::prelude::*;

use super::*;

const HEAD: &str = "GET /v1/users/7?a=/v1/ HTTP/1.1\r\nHost: shop.example:8080\r\nX-A: 1\r\nx-a: 2\r\nX-B:3\r\n\r\n";

fn set(text: &str) -> SetHeader {
    SetHeader::parse(text).unwrap()
}

fn name(text: &str) -> HeaderName {
    HeaderName::parse("--remove-header", text).unwrap()
}

#[test]
fn fields_are_set_in_their_place_and_removed() {
    let rules = rules(|rules| {
        rules.set_header(set("X-A: new"));
        rules.set_header(set("X-Shadow:1"));
        rules.set_header(set("X-Empty:"));
        rules.remove_header(name("x-b"));
    });
    assert_eq!(
        sent(&rules, HEAD),
        "GET /v1/users/7?a=/v1/ HTTP/1.1\r\nHost: shop.example:8080\r\nX-A: new\r\nX-Shadow: 1\r\nX-Empty: \r\n\r\n"
    );
}

#[test]
fn hosts_get_a_suffix_before_the_port() {
    let rules = rules(|rules| rules.change_host(HostChange::suffix("-shadow").unwrap()));
    for (host, expected) in [
        ("foo:8080", "foo-shadow:8080"),
        ("foo", "foo-shadow"),
        ("foo.example", "foo.example-shadow"),
        ("10.0.0.5:80", "10.0.0.5:80"),
        ("[fd00::9]:80", "[fd00::9]:80"),
        ("[fd00::9]", "[fd00::9]"),
        ("", ""),
    ] {
        let head = format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n");
        assert_eq!(
            sent(&rules, &head).split_once("Host: ").unwrap().1,
            format!("{expected}\r\n\r\n")
        );
    }
    let proxied = "GET http://u@foo:81/x HTTP/1.1\r\nHost: foo:81\r\n\r\n";
    let expected = "GET http://u@foo-shadow:81/x HTTP/1.1\r\nHost: foo-shadow:81\r\n\r\n";
    assert_eq!(sent(&rules, proxied), expected);
    for as_it_is in ["GET / HTTP/1.0\r\n\r\n", "CONNECT foo:443 HTTP/1.1\r\nHost: foo:443\r\n\r\n"]
    {
        assert_eq!(sent(&rules, as_it_is), as_it_is);
    }
}

#[test]
fn a_host_can_be_set() {
    let rules = rules(|rules| rules.change_host(HostChange::set("new.example:81").unwrap()));
    assert!(sent(&rules, HEAD).contains("\r\nHost: new.example:81\r\n"));
    assert_eq!(
        sent(&rules, "GET / HTTP/1.0\r\n\r\n"),
        "GET / HTTP/1.0\r\nHost: new.example:81\r\n\r\n"
    );
    assert_eq!(
        sent(&rules, "GET http://foo?q HTTP/1.1\r\nHost: a\r\n\r\n"),
        "GET http://new.example:81?q HTTP/1.1\r\nHost: new.example:81\r\n\r\n"
    );
}

#[test]
fn the_first_rule_that_matches_rewrites_a_path() {
    let rule = |text| RewritePath::parse(text).unwrap();
    let rules = rules(|rules| {
        rules.rewrite_path(rule("^/none => /no"));
        rules.rewrite_path(rule("^/v1/(\\w+)/(?P<id>[0-9]+) => /v2/${id}/$1"));
        rules.rewrite_path(rule("v2 => v3"));
        rules.rewrite_path(rule("^/a/ =>"));
    });
    for (target, expected) in [
        ("/v1/users/7?a=/v1/", "/v2/7/users?a=/v1/"),
        ("/v1/users/7/more", "/v2/7/users/more"),
        ("/x/v2/v2", "/x/v3/v2"),
        ("/a/b", "/b"),
        ("/none", "/no"),
        ("http://foo/v2", "http://foo/v3"),
        ("*", "*"),
        ("/other", "/other"),
    ] {
        let head = format!("GET {target} HTTP/1.0\r\nA:b\r\n\r\n");
        assert_eq!(sent(&rules, &head), format!("GET {expected} HTTP/1.0\r\nA:b\r\n\r\n"));
    }
}

#[test]
fn requests_get_an_id_and_a_mark() {
    let rules = rules(|rules| {
        rules.add_request_id(name("X-Request-Id"));
        rules.mark(Mark::Baggage);
    });
    let head = sent(&rules, "GET / HTTP/1.1\r\nBaggage: a=b\r\n\r\n");
    let id = head.split_once("X-Request-Id: ").unwrap().1.split_once("\r\n").unwrap().0;
    assert!(id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_hexdigit()), "{id}");
    assert!(
        head.contains("Baggage: a=b\r\n")
            && head.ends_with("baggage: synthetic_request=true\r\n\r\n")
    );

    let other = Context { id: 10, ..context() };
    let Verdict::Send { head: second } = rules.judge(head.as_bytes(), &other) else { panic!() };
    assert!(second.windows(32).any(|octets| octets == id.as_bytes()), "the client's own stays");
    let Verdict::Send { head: third } = rules.judge(b"GET / HTTP/1.1\r\n\r\n", &other) else {
        panic!()
    };
    assert!(!third.windows(32).any(|octets| octets == id.as_bytes()), "each has its own");

    let marked = super::rules(|rules| rules.mark(Mark::Header));
    assert_eq!(
        sent(&marked, "GET / HTTP/1.1\r\nx-shadowtap: fake\r\n\r\n"),
        "GET / HTTP/1.1\r\nx-shadowtap: mirror\r\n\r\n"
    );
}

#[test]
fn what_would_break_a_message_is_refused() {
    for name in
        ["Content-Length", "transfer-encoding", "Connection", "Upgrade", "Expect", "TE", "Host"]
    {
        assert!(SetHeader::parse(&format!("{name}: 1")).is_err());
        assert!(HeaderName::parse("--remove-header", name).is_err());
        assert!(MaskHeader::parse(name).is_err());
    }
    for (text, what) in [
        ("X-A", "has no colon"),
        ("X A: 1", "has no field's name"),
        (": 1", "has no field's name"),
        ("X-A: 1\r\nX-B: 2", "has a control character in the value"),
        ("X-A: 1\0", "has a control character in the value"),
        ("X-A\r\nX-B: 2", "has no field's name"),
    ] {
        assert_eq!(SetHeader::parse(text).unwrap_err().what, what);
    }
    for host in ["", "a b", "a/b", "a:99999", "fd00::9", "[10.0.0.5]", "a\r\nb", "a:"] {
        assert!(HostChange::set(host).is_err(), "{host}");
    }
    for suffix in ["", ":80", "/x", "\r\n", "ü"] {
        assert!(HostChange::suffix(suffix).is_err(), "{suffix}");
    }
    for (rule, what) in [
        ("/a", "has no =>"),
        (" => /b", "has no regex before =>"),
        ("a( => /b", "unclosed group at character 2 of the regex"),
        ("a => /b?c", "'?' cannot stand in a path"),
        ("a => /b c", "' ' cannot stand in a path"),
        ("a => /b\r\n", "has no =>"),
        ("(a) => /$2", "the regex has no group $2"),
        ("(a) => /$1b", "the regex has no group $1b"),
    ] {
        match RewritePath::parse(rule) {
            Err(error) => assert_eq!(error.what, what, "{rule}"),
            // White space around the template is not part of it.
            Ok(_) => assert!(rule.ends_with('\n')),
        }
    }
}

/// A head's parts as a parser sees them.
fn parsed(head: &[u8]) -> (String, String, u8, Vec<(String, Vec<u8>)>) {
    let mut headers = [httparse::EMPTY_HEADER; 64];
    let mut request = httparse::Request::new(&mut headers);
    assert_eq!(request.parse(head), Ok(httparse::Status::Complete(head.len())), "{head:?}");
    let fields =
        request.headers.iter().map(|field| (field.name.to_owned(), field.value.to_vec())).collect();
    let text = |text: Option<&str>| text.unwrap().to_owned();
    (text(request.method), text(request.path), request.version.unwrap(), fields)
}

fn field() -> impl Strategy<Value = (String, String)> {
    // Few names, so that rules meet them, and in either case.
    let name =
        prop::sample::select(vec!["X-A", "x-a", "X-B", "X-C", "Cookie", "Accept", "Host", "host"]);
    (name.prop_map(str::to_owned), "[!-~ü]{0,3}( [!-~]{1,3})?")
}

proptest! {
    #[test]
    fn a_shaped_head_is_the_one_that_was_asked_for(
        method in "(GET|POST|DELETE|X)",
        path in "/[a-c]{0,3}(/[a-c]{0,2}){0,2}",
        query in "(\\?[a-z=&/]{0,6})?",
        minor in 0..2_u8,
        fields in prop::collection::vec(field(), 0..8),
        end in "\r?\n",
        set_name in prop::sample::select(vec!["X-A", "X-B", "Cookie", "X-New"]),
        set_value in "[!-~]{0,3}",
        removed in prop::sample::select(vec!["X-C", "x-b", "Accept"]),
        suffix in "-[a-z]{1,3}",
    ) {
        let mut head = format!("{method} {path}{query} HTTP/1.{minor}{end}");
        for (name, value) in &fields {
            head += &format!("{name}: {value}{end}");
        }
        head += &end;
        let rules = rules(|rules| {
            rules.set_header(set(&format!("{set_name}: {set_value}")));
            rules.remove_header(name(removed));
            rules.change_host(HostChange::suffix(&suffix).unwrap());
            rules.rewrite_path(RewritePath::parse("^/a(.*)$ => /z$1").unwrap());
            rules.mark(Mark::Header);
        });
        let is = |name: &str, other: &str| name.eq_ignore_ascii_case(other);
        let mut expected: Vec<(String, String)> = Vec::new();
        let mut is_set = false;
        for (name, value) in &fields {
            if is(name, removed) && !is(name, set_name) {
                continue;
            }
            if is(name, removed) || is(name, set_name) && is_set {
                continue;
            }
            let value = if is(name, set_name) {
                is_set = true;
                set_value.clone()
            } else if is(name, "host") {
                // The model for names and ports; the generator's odd values stay.
                String::from_utf8(host_model(value.trim(), &suffix)).unwrap()
            } else {
                value.trim().to_owned()
            };
            expected.push((name.clone(), value));
        }
        if !is_set {
            expected.push((set_name.to_owned(), set_value.clone()));
        }
        expected.push(("X-Shadowtap".into(), "mirror".into()));
        let path = match path.strip_prefix("/a") {
            Some(rest) => format!("/z{rest}"),
            None => path,
        };
        let (sent_method, target, sent_minor, sent_fields) = parsed(sent(&rules, &head).as_bytes());
        prop_assert_eq!((sent_method, target, sent_minor), (method, format!("{path}{query}"), minor));
        let expected: Vec<_> =
            expected.into_iter().map(|(name, value)| (name, value.into_bytes())).collect();
        prop_assert_eq!(sent_fields, expected);
    }

    #[test]
    fn no_flag_can_break_out_of_its_line(text in ".{0,40}") {
        for flag in [format!("X-A: {text}"), text.clone()] {
            if let Ok(header) = SetHeader::parse(&flag) {
                let rules = rules(|rules| rules.set_header(header.clone()));
                let (.., fields) = parsed(sent(&rules, "GET / HTTP/1.1\r\n\r\n").as_bytes());
                prop_assert_eq!(fields.len(), 1);
                prop_assert_eq!(&fields[0].0, header.name());
            }
        }
        if let Ok(host) = HostChange::set(&text) {
            let rules = rules(|rules| rules.change_host(host));
            let (.., fields) = parsed(sent(&rules, "GET / HTTP/1.1\r\n\r\n").as_bytes());
            prop_assert_eq!(fields, vec![("Host".to_owned(), text.clone().into_bytes())]);
        }
        if let Ok(rule) = RewritePath::parse(&format!("(b*) => {text}")) {
            let rules = rules(|rules| rules.rewrite_path(rule));
            let (_, target, ..) = parsed(sent(&rules, "GET /abb?c HTTP/1.1\r\n\r\n").as_bytes());
            prop_assert!(target.starts_with('/') && target.ends_with("?c"));
        }
    }
}

fn host_model(value: &str, suffix: &str) -> Vec<u8> {
    let (host, port) = match value.rfind([':', ']']) {
        Some(at) if value[at..].starts_with(':') => value.split_at(at),
        _ => (value, ""),
    };
    let name = host.rsplit('@').next().unwrap();
    if name.is_empty() || name.ends_with(']') {
        return value.as_bytes().to_vec();
    }
    format!("{host}{suffix}{port}").into_bytes()
}
