use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

fn query(text: &str) -> MaskParameter {
    MaskParameter::parse("--mask-query", text).unwrap()
}

fn post(media: &str, len: usize) -> String {
    format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Type: {media}\r\nContent-Length: {len}\r\n\r\n")
}

fn json_rules(masks: &[&str]) -> Rules {
    rules(|rules| {
        for mask in masks {
            rules.mask_json(MaskJson::parse(mask).unwrap());
        }
    })
}

/// A body of JSON, masked.
fn masked_json(masks: &[&str], body: &str) -> Result<String, Unmaskable> {
    let (head, masked) =
        whole(&json_rules(masks), &post("application/json", body.len()), body.as_bytes())?;
    assert!(head.ends_with(&format!("Content-Length: {}\r\n\r\n", masked.len())), "{head}");
    Ok(String::from_utf8(masked).unwrap())
}

#[test]
fn header_values_are_hashed_removed_or_replaced() {
    let rules = rules(|rules| {
        for mask in ["Authorization", "x-key=remove", "Cookie=a=b; c"] {
            rules.mask_header(MaskHeader::parse(mask).unwrap());
        }
    });
    let head = sent(
        &rules,
        "GET / HTTP/1.1\r\nauthorization: Basic s3cret\r\nX-Key: 1\r\nX-Key: 2\r\nCOOKIE: sid=s3cret\r\nAuthorization: Basic s3cret\r\n\r\n",
    );
    let lines: Vec<_> = head.lines().collect();
    let hash = lines[1].strip_prefix("authorization: ").unwrap();
    assert!(hash.len() == 24 && hash.bytes().all(|byte| byte.is_ascii_hexdigit()), "{hash}");
    assert_eq!(lines[2], "COOKIE: a=b; c");
    assert_eq!(lines[3], format!("Authorization: {hash}"), "equal values have equal masks");
    let other = rules.clone().with_secret([8; 16]);
    assert!(!sent(&other, "GET / HTTP/1.1\r\nAuthorization: Basic s3cret\r\n\r\n").contains(hash));
}

#[test]
fn parameters_are_masked_wherever_a_query_is() {
    let rules = rules(|rules| {
        rules.mask_query(query("token=remove"));
        rules.mask_query(query("user=nobody at all"));
    });
    for (url, expected) in [
        ("/a?token=x", "/a"),
        ("/a?b=1&token=x", "/a?b=1"),
        ("/a?token=x&b=1&TOKEN=y", "/a?b=1"),
        ("/a?to%6ben=x&b", "/a?b"),
        ("/a?user=x&b=%20&user=", "/a?user=nobody+at+all&b=%20&user=nobody+at+all"),
        ("/a?b=1;token=x&c", "/a?b=1&c"),
        ("/a?user=x;y=z", "/a?user=nobody+at+all"),
        ("http://foo?token=x", "http://foo"),
        ("http://foo/?b=http://c?token=x", "http://foo/?b=http://c?token=x"),
        ("/a?token", "/a?token"),
        ("/a?b=1&&c", "/a?b=1&&c"),
        ("/token=x", "/token=x"),
    ] {
        let head = format!("GET {url} HTTP/1.1\r\nReferer: {url}\r\n\r\n");
        assert_eq!(
            sent(&rules, &head),
            format!("GET {expected} HTTP/1.1\r\nReferer: {expected}\r\n\r\n")
        );
    }
}

#[test]
fn json_is_masked_and_the_rest_of_it_stays() {
    let body = " {\"a\" : 1.0e1,\n \"user\":{ \"email\":\"x@y\" , \"id\": 7}, \"user\":{\"email\":null}, \"l\":[ {\"k\":1}, {\"k\":[2]} , 3 ]}\n";
    for (masks, expected) in [
        (
            &["$.user.email=MASK", "$.l[*].k=K"][..],
            " {\"a\" : 1.0e1,\n \"user\":{ \"email\":\"MASK\" , \"id\": 7}, \"user\":{\"email\":\"MASK\"}, \"l\":[ {\"k\":\"K\"}, {\"k\":\"K\"} , 3 ]}\n",
        ),
        (
            &["$.user.email=remove", "$.l=remove"],
            " {\"a\" : 1.0e1,\n \"user\":{ \"id\": 7}, \"user\":{}}\n",
        ),
        (
            &["$.a=remove", "$..k=remove"],
            " {\n \"user\":{ \"email\":\"x@y\" , \"id\": 7}, \"user\":{\"email\":null}, \"l\":[ {}, {} , 3 ]}\n",
        ),
        (
            &["$.l[*]=remove", "$.user=\"quoted\""],
            " {\"a\" : 1.0e1,\n \"user\":\"\\\"quoted\\\"\", \"user\":\"\\\"quoted\\\"\", \"l\":[ ]}\n",
        ),
        (&["$.none"], body),
    ] {
        assert_eq!(masked_json(masks, body).unwrap(), expected, "{masks:?}");
    }
    // Whatever the escapes, a value's hash is the value's.
    let hashed = masked_json(&["$.*"], "{\"\\u0061\":\"x\\u0079\",\"b\":\"xy\",\"c\":12}").unwrap();
    let value: Value = serde_json::from_str(&hashed).unwrap();
    assert_eq!(value["a"], value["b"]);
    assert_ne!(value["a"], value["c"]);
    assert_eq!(masked_json(&["$.a"], "  ").unwrap(), "  ", "nothing is there");
}

#[test]
fn quoted_names_may_have_the_sign() {
    let body = "{\"a=b\":1,\"a\":2}";
    assert_eq!(masked_json(&["$[\"a=b\"]=X"], body).unwrap(), "{\"a=b\":\"X\",\"a\":2}");
    assert_eq!(masked_json(&["$.a=b=X"], body).unwrap(), "{\"a=b\":1,\"a\":\"b=X\"}");
    for wrong in ["user", "$", "$.a=", "$.a[0]", "$..a..b=hash"] {
        assert!(MaskJson::parse(wrong).is_err(), "{wrong}");
    }
}

#[test]
fn what_is_no_json_is_never_sent() {
    for body in ["{", "{\"a\":1}x", "{\"a\":1}{\"a\":2}", "nope", "{\"\\ud800\":1}", "\u{1}"] {
        assert_eq!(masked_json(&["$.a"], body), Err(Unmaskable::Malformed), "{body}");
    }
    let rules = json_rules(&["$.a=X"]);
    assert_eq!(
        whole(&rules, &post("application/json", 3), b"\"\xff\""),
        Err(Unmaskable::Malformed)
    );
    // No content type: what looks like JSON.
    let unnamed = "POST / HTTP/1.1\r\nContent-Length: 7\r\n\r\n";
    assert_eq!(whole(&rules, unnamed, b"{\"a\":1}").unwrap().1, b"{\"a\":\"X\"}");
    assert_eq!(whole(&rules, unnamed, b"{a:1}").map(drop), Err(Unmaskable::Malformed));
    assert_eq!(whole(&rules, unnamed, b"a={").unwrap().1, b"a={");
    // Of another type it is no JSON.
    let text = post("text/plain", 7);
    assert_eq!(whole(&rules, &text, b"{\"a\":1}").unwrap(), (text, b"{\"a\":1}".to_vec()));
    let deep = format!("{}1{}", "{\"b\":".repeat(70), "}".repeat(70));
    assert_eq!(masked_json(&["$..a"], &deep), Err(Unmaskable::Work));
    assert_eq!(masked_json(&["$.a"], &deep).unwrap(), deep, "no mask leads there");
}

#[test]
fn forms_and_patterns_are_masked_in_bodies() {
    let rules = rules(|rules| {
        rules.mask_form(MaskParameter::parse("--mask-form", "password=X").unwrap());
        rules.mask_regex(MaskRegex::parse(r"\b(\d{4})\d{8} => $1-CARD").unwrap());
    });
    let form = post("application/x-www-form-urlencoded; charset=utf-8", 9);
    let (head, body) = whole(&rules, &form, b"a=123456781234&pass%77ord=s3").unwrap();
    assert_eq!(String::from_utf8(body).unwrap(), "a=1234-CARD&pass%77ord=X");
    assert!(head.ends_with("Content-Length: 24\r\n\r\n"), "{head}");
    let (_, body) = whole(&rules, &post("image/png", 9), b"\xff 123456781234").unwrap();
    assert_eq!(body, b"\xff 1234-CARD");
    let multipart = whole(&rules, &post("multipart/form-data; boundary=x", 9), b"--x--");
    assert_eq!(multipart, Err(Unmaskable::Multipart));
}

#[test]
fn framing_follows_the_body() {
    let rules = json_rules(&["$.a=X"]);
    let head = "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nContent-Type: application/json\r\n\
                Trailer: Digest\r\nDigest: md5=x\r\nX: 1\r\n\r\n";
    let (head, body) = whole(&rules, head, b"{\"a\":1}").unwrap();
    assert_eq!(
        head,
        "POST / HTTP/1.1\r\nContent-Type: application/json\r\nX: 1\r\nContent-Length: 9\r\n\r\n"
    );
    assert_eq!(body, b"{\"a\":\"X\"}");
    let coded =
        "POST / HTTP/1.1\r\nTransfer-Encoding: gzip, chunked\r\nContent-Type: a/json\r\n\r\n";
    assert_eq!(whole(&rules, coded, b"").map(drop), Err(Unmaskable::Coding));
}

#[test]
fn trailers_that_are_to_be_masked_are_left_out() {
    let rules = rules(|rules| rules.mask_header(MaskHeader::parse("X-Token").unwrap()));
    let head = |trailer| {
        format!("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nTrailer: a, {trailer}\r\n\r\n")
    };
    assert!(matches!(rules.judge(head("x-token").as_bytes(), &context()), Verdict::Collect { .. }));
    assert!(matches!(rules.judge(head("b").as_bytes(), &context()), Verdict::Send { .. }));
}

#[test]
fn content_codings_are_taken_off_or_nothing_is_sent() {
    let rules = json_rules(&["$.a=X"]);
    let head = |coding: &str| {
        format!(
            "POST / HTTP/1.1\r\nContent-Type: application/json\r\nContent-Encoding: {coding}\r\n\
             Content-Length: 1\r\n\r\n"
        )
    };
    let body = b"{\"a\":1}";
    let (sent, masked) = whole(&rules, &head("gzip"), &gzip(body)).unwrap();
    assert_eq!(masked, b"{\"a\":\"X\"}");
    assert!(!sent.to_ascii_lowercase().contains("encoding"), "{sent}");
    let (_, masked) = whole(&rules, &head("gzip, gzip"), &gzip(&gzip(body))).unwrap();
    assert_eq!(masked, b"{\"a\":\"X\"}");
    for coding in
        ["gzip", "br", "deflate", "zstd", "compress", "aes128gcm", "gzip, gzip, gzip, gzip"]
    {
        assert_eq!(whole(&rules, &head(coding), body), Err(Unmaskable::Coding), "{coding}");
    }
    let bomb = gzip(&vec![b' '; 2 << 20]);
    assert_eq!(whole(&rules, &head("gzip"), &bomb), Err(Unmaskable::TooLong));
}

#[test]
fn bounds_hold() {
    let rules = rules(|rules| {
        rules.mask_regex(MaskRegex::parse("x* => ABCDEFGHIJ").unwrap());
        rules.limit_masks(100);
    });
    let head = post("text/plain", 100);
    let Verdict::Collect { limit, .. } = rules.judge(head.as_bytes(), &context()) else { panic!() };
    assert_eq!((limit, rules.collects()), (100, 100));
    assert_eq!(whole(&rules, &head, &[b'y'; 101]), Err(Unmaskable::TooLong));
    assert_eq!(whole(&rules, &head, &[b'y'; 50]), Err(Unmaskable::TooLong), "masks make it longer");
    assert!(whole(&rules, &head, &[b'y'; 5]).is_ok());
    let json = masked_json(&["$[*]=0123456789"], &format!("[{}1]", "1,".repeat(500_000)));
    assert_eq!(json, Err(Unmaskable::TooLong));
}

#[test]
fn another_protocol_cannot_be_masked() {
    let rules = rules(|rules| rules.mask_header(MaskHeader::parse("Cookie").unwrap()));
    for head in [
        "CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n",
        "GET / HTTP/1.1\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n\r\n",
    ] {
        let verdict = rules.judge(head.as_bytes(), &context());
        assert_eq!(verdict, Verdict::Unmaskable(Unmaskable::Tunnel));
    }
    sent(&rules, "GET / HTTP/1.1\r\nUpgrade: h2c\r\n\r\n");
}

/// A JSON value with a secret at `$.user.secret` and `$..deep` wherever it occurs.
fn tree(secret: String) -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i32>().prop_map(Value::from),
        "[a-z\"\\\\ü]{0,6}".prop_map(Value::from),
    ];
    let nested = leaf.prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::vec(("(a|b|deep|user)", inner), 0..4)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    });
    nested.prop_map(move |value| {
        json!({"user": {"secret": secret, "rest": place(value.clone(), &secret)}, "list": [value]})
    })
}

/// Puts the secret below every `deep`.
fn place(value: Value, secret: &str) -> Value {
    match value {
        Value::Object(members) => Value::Object(
            members
                .into_iter()
                .map(|(key, value)| match &*key {
                    "deep" => (key, json!([secret, {"x": secret}])),
                    _ => (key, place(value, secret)),
                })
                .collect(),
        ),
        Value::Array(values) => values.into_iter().map(|value| place(value, secret)).collect(),
        other => other,
    }
}

/// What masks are to make of it, without any text at hand.
fn expected(value: Value, masked: Option<&str>) -> Value {
    let Value::Object(members) = value else {
        return match value {
            Value::Array(values) => values.into_iter().map(|it| expected(it, masked)).collect(),
            other => other,
        };
    };
    let members = members.into_iter().filter_map(|(key, value)| match (&*key, masked) {
        ("deep", None) => None,
        ("deep", Some(text)) => Some((key, text.into())),
        _ => Some((key, expected(value, masked))),
    });
    Value::Object(members.collect())
}

proptest! {
    #[test]
    fn a_secret_is_nowhere_in_what_is_sent(
        secret in "[0-9A-Z]{16}",
        value in "[a-z]{0,4}",
        action in prop::sample::select(vec!["hash", "remove", "TEXT"]),
        media in prop::sample::select(vec!["application/json", "application/x-www-form-urlencoded", "text/plain"]),
        is_coded in any::<bool>(),
        is_chunked in any::<bool>(),
        spread in prop::collection::vec(0..4_usize, 1..6),
    ) {
        let rules = rules(|rules| {
            rules.mask_header(MaskHeader::parse(&format!("X-Key={action}")).unwrap());
            rules.mask_query(query(&format!("key={action}")));
            rules.mask_form(query(&format!("key={action}")));
            rules.mask_json(MaskJson::parse(&format!("$..key={action}")).unwrap());
            rules.mask_regex(MaskRegex::parse("<[^>]*> => <>").unwrap());
        });
        let parameter: Vec<_> = spread
            .iter()
            .map(|kind| match kind {
                0 => format!("key={secret}"),
                1 => format!("%6bey={secret}{value}"),
                2 => format!("a={value};KEY={secret}"),
                _ => format!("b={value}"),
            })
            .collect();
        let parameters = parameter.join("&");
        let body = match media {
            "application/json" => json!({
                "key": secret, "a": [value, {"key": {"x": [secret]}}], "b": format!("<{secret}>"),
            }).to_string(),
            "text/plain" => format!("{value}<{secret}>{value}<{secret}{value}>"),
            _ => parameters.clone(),
        };
        let body = if is_coded { gzip(body.as_bytes()) } else { body.into_bytes() };
        let coding = if is_coded { "Content-Encoding: gzip\r\n" } else { "" };
        let framing = match is_chunked {
            true => "Transfer-Encoding: chunked".to_owned(),
            false => format!("Content-Length: {}", body.len()),
        };
        let head = format!(
            "POST /{value}?{parameters} HTTP/1.1\r\nX-Key: {secret}\r\nReferer: http://a/?{parameters}\r\n\
             x-key:{value}{secret}\r\nContent-Type: {media}\r\n{coding}{framing}\r\n\r\n"
        );
        let (head, body) = whole(&rules, &head, &body).unwrap();
        let all = [head.as_bytes(), &body].concat();
        let text = String::from_utf8_lossy(&all);
        prop_assert!(!text.contains(&secret), "{}", text);
        let value = text.contains(&format!("/{value}?")) || text.contains(&format!("/{value} "));
        prop_assert!(value, "{}", text);
    }

    #[test]
    fn masked_json_is_the_value_that_was_asked_for(
        (secret, value) in "[0-9A-Z]{16}".prop_flat_map(|secret| (Just(secret.clone()), tree(secret))),
        is_pretty in any::<bool>(),
        is_removed in any::<bool>(),
    ) {
        let text = match is_pretty {
            true => serde_json::to_string_pretty(&value).unwrap(),
            false => value.to_string(),
        };
        let action = if is_removed { "remove" } else { "M" };
        let masks = [format!("$.user.secret={action}"), format!("$..deep={action}")];
        let masked = masked_json(&[&masks[0], &masks[1]], &text).unwrap();
        prop_assert!(!masked.contains(&secret));
        let mut wanted = expected(value, (!is_removed).then_some("M"));
        let user = wanted["user"].as_object_mut().unwrap();
        match is_removed {
            true => drop(user.shift_remove("secret")),
            false => user["secret"] = "M".into(),
        }
        prop_assert_eq!(serde_json::from_str::<Value>(&masked).unwrap(), wanted, "{}", masked);
    }
}
