//! Any request and any rule: nothing panics, bounds hold, what is sent is a request with the framing of
//! its body, and no masked value is in it.

use std::sync::LazyLock;

use shadow_engine::rules::{
    Context, Filter, HeaderName, HostChange, Mark, MaskHeader, MaskJson, MaskParameter, MaskRegex,
    RewritePath, Rules, SetHeader, Verdict,
};

/// Most octets of a body that is masked here.
const LIMIT: usize = 4 << 10;

/// Checks one input: a head with its body behind it, or a flag's value.
pub fn check(input: &[u8]) {
    let Some(end) = input.windows(4).position(|four| four == b"\r\n\r\n") else {
        return flags(&String::from_utf8_lossy(input));
    };
    let (head, body) = input.split_at(end + 4);
    let context = Context {
        client: ([192, 0, 2, 1], 5_000).into(),
        production: ([192, 0, 2, 2], 80).into(),
        id: 1,
    };
    static RULES: LazyLock<[Rules; 3]> = LazyLock::new(|| [masks(), shape(), filters()]);
    for rules in &*RULES {
        match rules.judge(head, &context) {
            Verdict::Skip => assert!(rules.must_understand()),
            Verdict::Unmaskable(_) => assert!(rules.must_understand()),
            Verdict::Send { head: sent } => {
                if *sent != *head {
                    request(&sent);
                }
                masked(rules, &sent);
            }
            Verdict::Collect { plan, limit } => {
                assert_eq!(limit, LIMIT);
                let Ok(masked_body) = rules.mask_body(&plan, body) else { continue };
                assert!(masked_body.len() <= 2 * LIMIT);
                let sent = plan.head(masked_body.len());
                let fields = request(&sent);
                let of =
                    |name: &str| fields.iter().filter(|it| it.0.eq_ignore_ascii_case(name)).count();
                assert_eq!(of("content-length"), 1);
                assert_eq!(of("transfer-encoding") + of("content-encoding") + of("trailer"), 0);
                masked(rules, &sent);
                // What is masked stays as it is when it is masked again, but for hashes and regexes.
                if let Verdict::Collect { plan, .. } = rules.judge(&sent, &context) {
                    assert_eq!(plan.head(masked_body.len()), sent);
                }
            }
        }
    }
}

/// A head's fields; it is one, and whole.
fn request(head: &[u8]) -> Vec<(String, Vec<u8>)> {
    let mut headers = vec![httparse::EMPTY_HEADER; 1_100];
    let mut request = httparse::Request::new(&mut headers);
    let parsed = request.parse(head);
    assert_eq!(parsed, Ok(httparse::Status::Complete(head.len())), "{}", head.escape_ascii());
    request.headers.iter().map(|it| (it.name.to_owned(), it.value.to_vec())).collect()
}

/// No field that is to be masked has a value of the client's.
fn masked(rules: &Rules, head: &[u8]) {
    if !rules.masks() {
        return;
    }
    for (name, value) in request(head) {
        if name.eq_ignore_ascii_case("x-key") {
            assert_eq!(value, b"MASK");
        }
        assert!(!name.eq_ignore_ascii_case("x-gone"));
    }
}

fn masks() -> Rules {
    let mut rules = Rules::default();
    for header in ["X-Key=MASK", "X-Gone=remove"] {
        rules.mask_header(MaskHeader::parse(header).unwrap());
    }
    for parameter in ["token=MASK", "key=remove"] {
        rules.mask_query(MaskParameter::parse("--mask-query", parameter).unwrap());
        rules.mask_form(MaskParameter::parse("--mask-form", parameter).unwrap());
    }
    rules.mask_json(MaskJson::parse("$..key=MASK").unwrap());
    rules.mask_json(MaskJson::parse("$.a[*].user=remove").unwrap());
    rules.mask_regex(MaskRegex::parse("<([^>]*)> => <>").unwrap());
    rules.limit_masks(LIMIT);
    rules
}

fn shape() -> Rules {
    let mut rules = Rules::default();
    rules.set_header(SetHeader::parse("X-A: 1").unwrap());
    rules.remove_header(HeaderName::parse("--remove-header", "X-B").unwrap());
    rules.add_request_id(HeaderName::parse("--request-id-header", "X-Request-Id").unwrap());
    rules.change_host(HostChange::suffix("-shadow").unwrap());
    rules.rewrite_path(RewritePath::parse("/v1(.*) => $1").unwrap());
    rules.mark(Mark::Baggage);
    rules
}

fn filters() -> Rules {
    let mut rules = Rules::default();
    let filter = "not (path ~ '^/v2' or header['x-key'] or query['token'] = 1 or host = a)";
    rules.filter(Filter::parse(filter).unwrap());
    rules
}

fn flags(text: &str) {
    let mut rules = Rules::default();
    if let Ok(filter) = Filter::parse(text) {
        rules.filter(filter);
    }
    if let Ok(header) = SetHeader::parse(text) {
        rules.set_header(header);
    }
    if let Ok(host) = HostChange::set(text) {
        rules.change_host(host);
    }
    if let Ok(rule) = RewritePath::parse(text) {
        rules.rewrite_path(rule);
    }
    if let Ok(mask) = MaskHeader::parse(text) {
        rules.mask_header(mask);
    }
    if let Ok(mask) = MaskParameter::parse("--mask-query", text) {
        rules.mask_query(mask);
    }
    if let Ok(mask) = MaskJson::parse(text) {
        rules.mask_json(mask);
    }
    if let Ok(mask) = MaskRegex::parse(text) {
        rules.mask_regex(mask);
    }
    let context = Context {
        client: ([192, 0, 2, 1], 5_000).into(),
        production: ([192, 0, 2, 2], 80).into(),
        id: 1,
    };
    let head = b"GET /v1?a=b HTTP/1.1\r\nHost: a\r\nX-A: 2\r\n\r\n";
    if let Verdict::Send { head } = rules.judge(head, &context) {
        request(&head);
    }
}
