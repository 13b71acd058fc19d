//! Streams edited as a session does it.

mod asking;

use proptest::prelude::*;
use proptest::sample::Index;

use super::*;
use crate::books::Books;
use crate::config::{GateAction, Pace};
use crate::http::{RequestEvent, Requests, Visitor};
use crate::rules::{Filter, MaskJson, MaskParameter, SetHeader};
use crate::session::gate::{Close, Gate, GatePolicy};
use crate::session::stream::Stream;
use crate::time::{Duration, Instant};

/// A stream through an editor.
struct Run {
    editor: Editor,
    stream: Stream,
    gate: Gate,
    books: Books,
    sent: Vec<u8>,
    fates: Vec<Fate>,
    /// What stands against the next request that would be sent, and those behind it.
    against: VecDeque<Option<LeftOut>>,
}

fn address(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

fn config(rules: Rules, client_address: ClientAddress) -> EngineConfig {
    let mut config =
        EngineConfig::new(address("10.0.0.9:8080"), address("10.0.0.5:0").ip(), [7; 16]);
    config.rules = Arc::new(rules);
    config.client_address = client_address;
    config
}

/// The longest body that is masked, octets.
const LIMIT: usize = 100;

/// Neither filtered nor masked: what is not HTTP/1 may pass.
fn shaping() -> EngineConfig {
    let mut rules = Rules::default();
    rules.set_header(SetHeader::parse("X-Shadow: 1").unwrap());
    config(rules, ClientAddress::None)
}

fn filtering() -> EngineConfig {
    let mut config = shaping();
    let rules = Arc::get_mut(&mut config.rules).unwrap();
    rules.filter(Filter::path("--exclude-path", "^/skip").unwrap().negated());
    config
}

/// Both, and JSON is masked, but no multipart form can be.
fn masking() -> EngineConfig {
    let mut config = filtering();
    let rules = Arc::get_mut(&mut config.rules).unwrap();
    rules.mask_json(MaskJson::parse("$.email=M").unwrap());
    rules.mask_form(MaskParameter::parse("--mask-form", "email").unwrap());
    rules.limit_masks(LIMIT);
    config
}

fn editor(config: &EngineConfig, sent: &mut Vec<u8>) -> Option<Editor> {
    let (client, production) = (address("192.0.2.7:4000"), address("10.0.0.5:80"));
    Editor::new(config, client, production, |bytes| sent.extend(bytes))
}

impl Run {
    fn new(config: &EngineConfig) -> Self {
        let mut sent = Vec::new();
        let mut editor = editor(config, &mut sent).unwrap();
        assert!(editor.keep_fates() || config.rules.is_empty());
        Self {
            editor,
            stream: Stream::default(),
            gate: Gate::new(Instant::default(), Instant::default()),
            books: Books::default(),
            sent,
            fates: Vec::new(),
            against: VecDeque::new(),
        }
    }

    /// A whole stream, cut at `cuts`.
    fn of(config: &EngineConfig, stream: &[u8], cuts: &[usize]) -> Self {
        let mut run = Self::new(config);
        let mut cuts: Vec<_> = cuts.iter().map(|cut| cut % (stream.len() + 1)).collect();
        cuts.extend([0, stream.len()]);
        cuts.sort_unstable();
        for piece in cuts.windows(2) {
            run.push(&stream[piece[0]..piece[1]]);
        }
        run.end();
        run
    }

    fn push(&mut self, bytes: &[u8]) {
        self.push_heard(bytes, 0);
    }

    /// The client has seen so many octets of production's answers.
    fn push_heard(&mut self, bytes: &[u8], heard: u64) {
        let Self { editor, stream, gate, books, sent, fates, against } = self;
        let mut write = |bytes: &[u8]| sent.extend(bytes);
        let mut admit = || against.pop_front().flatten().map_or(Ok(()), Err);
        let pen = Pen { editor, write: &mut write, admit: &mut admit };
        stream.push(bytes, heard, Instant::default(), gate, Some(pen), books);
        fates.extend(std::iter::from_fn(|| editor.take_fate()));
    }

    fn end(&mut self) {
        let Self { editor, stream, gate, books, sent, .. } = self;
        let mut write = |bytes: &[u8]| sent.extend(bytes);
        let pen = Pen { editor, write: &mut write, admit: &mut || Ok(()) };
        stream.push_close(Close::Fin, 0, Instant::default(), gate, Some(pen), books);
    }

    /// Octets that need not wait for the shadow any more.
    fn released(&mut self) -> u64 {
        let policy = GatePolicy {
            timeout: Duration::from_secs(5),
            action: GateAction::Abort,
            pace: Pace::Off,
        };
        self.gate.advance(Instant::default(), policy, &mut self.books.gates).unwrap();
        self.editor.sent(self.gate.released())
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.sent).into_owned()
    }

    /// The shadow acknowledges all that was sent.
    fn deliver(&mut self) {
        let (settled, left_out) = self.editor.received(self.sent.len() as u64);
        self.books.bytes.delivered = settled - left_out;
        self.stream.delivered(settled, &mut self.books);
    }
}

const STREAM: &str = "POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nxyz\
    GET /b HTTP/1.1\r\nHost: b\r\n\r\n";

#[test]
fn nothing_is_edited_unless_asked_for() {
    let config = config(Rules::default(), ClientAddress::None);
    assert!(editor(&config, &mut Vec::new()).is_none());
}

#[test]
fn the_proxy_header_stands_before_any_stream() {
    let config = config(Rules::default(), ClientAddress::ProxyProtocolV2);
    for stream in [STREAM.as_bytes(), b"\x00\x01", b"GET / HT"] {
        let run = Run::of(&config, stream, &[1]);
        assert!(run.sent.ends_with(stream));
        assert_eq!(run.sent.len(), stream.len() + 28);
        assert_eq!((run.editor.sent(0), run.editor.sent(2)), (28, 30));
        assert!(!run.editor.is_unshaped());
    }
}

#[test]
fn what_is_no_request_goes_as_it_is_where_it_may() {
    let forwarded = config(Rules::default(), ClientAddress::XForwardedFor);
    for config in [forwarded, shaping()] {
        for stream in [&b"\x00\x01\x02\x03 hello"[..], b"GET / HT", b"GET \x00 nonsense\r\n\r\n"] {
            let run = Run::of(&config, stream, &[1, 4]);
            assert_eq!(run.sent, stream);
            assert_eq!(run.editor.left_out(), 0);
        }
    }
}

#[test]
fn what_is_no_request_is_refused_where_it_must_be_understood() {
    for stream in [
        &b"\x00\x01\x02\x03 hello"[..],
        b"GET \x00 nonsense\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    ] {
        let run = Run::of(&masking(), stream, &[1, 4]);
        assert_eq!((run.text().as_str(), run.editor.has_refused()), ("", true));
    }
    // What was read before has gone.
    let run = Run::of(&masking(), b"GET /a HTTP/1.1\r\n\r\n\x01\n\n", &[]);
    assert_eq!(run.text(), "GET /a HTTP/1.1\r\nX-Shadow: 1\r\n\r\n");
    assert!(run.editor.has_refused());
}

#[test]
fn half_a_head_never_goes_where_it_must_be_understood() {
    let mut run = Run::of(&masking(), b"GET /secret HTTP/1.1\r\nAuthoriz", &[3]);
    run.deliver();
    assert_eq!(run.text(), "");
    assert_eq!(run.books.bytes.skipped.get(LeftOut::Unmaskable), 30);
    assert_eq!(run.books.bytes.open(), 0);
}

#[test]
fn a_tunnel_is_left_out_with_its_request() {
    let fields = "HTTP/1.1\r\nConnection: upgrade\r\nUpgrade: w\r\n\r\n";
    for (target, reason) in [("/skip", LeftOut::Filtered), ("/ws", LeftOut::Unmaskable)] {
        let upgrade = format!("GET {target} {fields}");
        let mut run = Run::of(&masking(), format!("{upgrade}\x01\x02frame").as_bytes(), &[20]);
        run.deliver();
        assert_eq!((run.text().as_str(), run.editor.has_refused()), ("", false));
        assert_eq!(run.books.bytes.skipped.get(reason), upgrade.len() as u64 + 7);
        assert_eq!(run.books.bytes.open(), 0);

        // A request may follow all the same: production has declined.
        let stream = format!("{upgrade}GET /b HTTP/1.1\r\n\r\n");
        let run = Run::of(&masking(), stream.as_bytes(), &[60]);
        assert_eq!(run.text(), "GET /b HTTP/1.1\r\nX-Shadow: 1\r\n\r\n");
    }
}

#[test]
fn a_tunnel_behind_a_request_that_was_sent_is_refused_or_goes_as_it_is() {
    let stream = b"CONNECT a:1 HTTP/1.1\r\n\r\n\x01\x02frame";
    let run = Run::of(&filtering(), stream, &[]);
    assert_eq!(run.text(), "CONNECT a:1 HTTP/1.1\r\nX-Shadow: 1\r\n\r\n");
    assert!(run.editor.has_refused());
    let run = Run::of(&shaping(), stream, &[]);
    assert!(run.text().ends_with("\r\n\r\n\x01\x02frame"));
    assert!(run.editor.is_unshaped());
}

const JSON: &[u8] = b"POST /a HTTP/1.1\r\nContent-Type: application/json\r\n";

#[test]
fn a_body_that_grows_too_long_is_left_out_from_its_head_on() {
    let mut run = Run::new(&masking());
    run.push(JSON);
    run.push(b"Transfer-Encoding: chunked\r\n\r\n50\r\n");
    run.push(&[b'x'; 0x50]);
    assert_eq!((run.editor.left_out(), run.fates.len()), (0, 0));
    run.push(b"\r\n50\r\n");
    run.push(&[b'x'; 0x50]);
    assert_eq!(run.fates, [Fate::LeftOut]);
    run.push(b"\r\n0\r\n\r\nGET /b HTTP/1.1\r\n\r\n");
    run.end();
    run.deliver();
    assert_eq!(run.text(), "GET /b HTTP/1.1\r\nX-Shadow: 1\r\n\r\n");
    let requests = &run.books.requests;
    assert_eq!((requests.seen, requests.skipped.get(LeftOut::Unmaskable)), (2, 1));
    assert_eq!((requests.open(), run.books.bytes.open()), (0, 0));
}

#[test]
fn a_request_that_no_rule_changes_is_not_edited() {
    let mut rules = Rules::default();
    rules.filter(Filter::safe_methods());
    let mut run = Run::new(&config(rules, ClientAddress::None));
    run.push(b"GET /a HTTP/1.1\r\n\r\nGET /b HTTP/1.1\r\n\r\n");
    assert_eq!(run.text(), "GET /a HTTP/1.1\r\n\r\nGET /b HTTP/1.1\r\n\r\n");
    assert_eq!(run.editor.offsets.memory(), 0);
}

#[test]
fn requests_that_are_too_many_are_left_out_whole() {
    let mut run = Run::new(&masking());
    let against = [None, Some(LeftOut::MaxRequestRate), Some(LeftOut::MaxBandwidth), None];
    run.against = against.into();
    run.push(b"GET /a HTTP/1.1\r\n\r\nPOST /b HTTP/1.1\r\nContent-Length: 2\r\n\r\n");
    // One that the filters do not choose is not asked for.
    run.push(b"bbGET /skip HTTP/1.1\r\n\r\n");
    run.push(JSON);
    run.push(b"Content-Length: 2\r\n\r\n[]GET /d HTTP/1.1\r\n\r\n");
    run.end();
    let shaped = |path| format!("GET {path} HTTP/1.1\r\nX-Shadow: 1\r\n\r\n");
    assert_eq!(run.text(), shaped("/a") + &shaped("/d"));
    assert_eq!(run.fates, [Fate::Sent, Fate::LeftOut, Fate::LeftOut, Fate::LeftOut, Fate::Sent]);
    let requests = &run.books.requests;
    assert_eq!((requests.seen, requests.skipped.total()), (5, 3));
    assert_eq!(requests.skipped.get(LeftOut::MaxRequestRate), 1);
    assert_eq!(requests.skipped.get(LeftOut::MaxBandwidth), 1);
    assert!(run.against.is_empty());
}

#[test]
fn a_stream_is_read_from_any_request_on() {
    for proxy in [false, true] {
        let address = if proxy { ClientAddress::ProxyProtocolV2 } else { ClientAddress::None };
        let config = config(Rules::default(), address);
        let mut run = Run::new(&shaping());
        run.sent.clear();
        let (client, production) = (self::address("192.0.2.7:4000"), self::address("10.0.0.5:80"));
        run.editor = editor(&config, &mut run.sent)
            .unwrap_or_else(|| Editor::midway(&config, client, production, 0));
        let header = run.sent.len() as u64;
        let request = b"GET /a HTTP/1.1\r\n\r\n";
        let len = request.len() as u64;
        run.push(request);
        assert!(run.editor.begin_to_read() && !run.editor.begin_to_read());
        run.against = [Some(LeftOut::MaxRequestRate), None].into();
        run.push(request);
        run.push(request);
        assert_eq!(run.sent.len() as u64, header + 2 * len);
        assert_eq!(run.editor.sent(3 * len), header + 2 * len);
        assert_eq!(run.editor.received(header + len), (2 * len, len));
        assert_eq!(run.editor.received(header + 2 * len), (3 * len, len));
        assert!(!run.editor.is_unshaped());
        // Another protocol passes, from there on.
        run.push(b"no request\r\n\r\n");
        assert!(run.sent.ends_with(b"no request\r\n\r\n"));
        assert!(!run.editor.is_unshaped());
    }
}

#[test]
fn nobody_waits_for_the_answer_to_what_was_not_sent() {
    let request = b"GET /a HTTP/1.1\r\n\r\n";
    let skipped = b"POST /skip HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n";
    let mut run = Run::new(&masking());
    run.push(skipped);
    run.push_heard(b"ok", 25);
    // To the request before there will be no answer.
    run.push_heard(request, 50);
    assert_eq!(run.released(), run.sent.len() as u64);
    let first = run.sent.len() as u64;
    // To this there will be one, and the other goes before it.
    run.push_heard(skipped, 75);
    run.push_heard(b"ok", 100);
    run.push_heard(request, 125);
    assert_eq!(run.released(), first);
    run.gate.answered_response();
    assert_eq!(run.released(), 2 * first);
}

#[test]
fn a_request_that_is_collected_is_not_continued_by_the_shadow() {
    let mut run = Run::new(&masking());
    run.push(JSON);
    run.push(b"Expect: 100-continue\r\nContent-Length: 2\r\n\r\n");
    run.push_heard(b"[]", 25);
    assert!(run.text().ends_with("Content-Length: 2\r\n\r\n[]"));
    assert_eq!(run.released(), run.sent.len() as u64);

    // One that is not collected is.
    let mut run = Run::new(&masking());
    run.push(b"POST /a HTTP/1.1\r\nContent-Type: a/b\r\nExpect: 100-continue\r\n");
    run.push(b"Content-Length: 2\r\n\r\n");
    run.push_heard(b"[]", 25);
    assert_eq!(run.released() + 2, run.sent.len() as u64);
    run.gate.answered_head();
    assert_eq!(run.released(), run.sent.len() as u64);
}

#[test]
fn what_is_collected_counts_as_memory() {
    let mut run = Run::new(&masking());
    run.editor.drop_fates();
    let before = run.editor.memory();
    run.push(JSON);
    run.push(b"Content-Length: 90\r\n\r\n");
    run.push(&[b' '; 88]);
    assert!(run.editor.memory() >= before + 88);
    run.push(b"[]");
    run.deliver();
    assert_eq!(run.editor.memory(), before);
}

/// What is wished of a request.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Wish {
    Reshaped,
    Masked,
    LeftOut(LeftOut),
}

#[derive(Clone, Debug)]
struct Request {
    target: &'static str,
    media: &'static str,
    wish: Wish,
    body: String,
    chunks: Option<usize>,
}

impl Request {
    fn any() -> impl Strategy<Value = Self> {
        let kinds = [
            ("/a", "text/plain", Wish::Reshaped),
            ("/b", "application/json", Wish::Masked),
            ("/skip", "application/json", Wish::LeftOut(LeftOut::Filtered)),
            ("/c", "multipart/form-data; boundary=x", Wish::LeftOut(LeftOut::Unmaskable)),
        ];
        let body = prop_oneof![
            8 => "[a-z\r\n]{0,80}".prop_map(|pad| {
                format!(r#"{{"pad":"{}","email":"secret"}}"#, pad.replace(['\r', '\n'], ""))
            }),
            1 => Just(String::new()),
            1 => "[a-z\r\n]{1,150}",
        ];
        let chunks = prop::option::of(1_usize..30);
        (prop::sample::select(kinds.to_vec()), body, chunks).prop_map(
            |((target, media, wish), body, chunks)| {
                let is_there = chunks.is_some() || !body.is_empty();
                let fails =
                    body.len() > LIMIT || !(body.trim().is_empty() || body.starts_with('{'));
                let wish = match wish {
                    Wish::LeftOut(LeftOut::Filtered) => wish,
                    Wish::Masked | Wish::LeftOut(_) if !is_there => Wish::Reshaped,
                    Wish::Masked if fails => Wish::LeftOut(LeftOut::Unmaskable),
                    wish => wish,
                };
                Self { target, media, wish, body, chunks }
            },
        )
    }

    fn wire(&self) -> Vec<u8> {
        let Self { target, media, body, .. } = self;
        let head = format!("POST {target} HTTP/1.1\r\nContent-Type: {media}\r\n");
        let Some(size) = self.chunks else {
            return format!("{head}Content-Length: {}\r\n\r\n{body}", body.len()).into_bytes();
        };
        let mut wire = format!("{head}Transfer-Encoding: chunked\r\n\r\n").into_bytes();
        for chunk in body.as_bytes().chunks(size) {
            wire.extend(format!("{:x}\r\n", chunk.len()).bytes());
            wire.extend(chunk);
            wire.extend(b"\r\n");
        }
        wire.extend(b"0\r\nX-Mail: secret\r\n\r\n");
        wire
    }

    /// Target, body and whether it is chunked, as the shadow shall read it.
    fn wished(&self) -> Option<(String, String, bool)> {
        match self.wish {
            Wish::LeftOut(_) => None,
            Wish::Reshaped => Some((self.target.into(), self.body.clone(), self.chunks.is_some())),
            Wish::Masked => Some((self.target.into(), self.body.replace("secret", "M"), false)),
        }
    }
}

/// What a server reads.
#[derive(Default)]
struct Read(Vec<(String, String, bool)>);

impl Visitor<RequestEvent> for Read {
    fn event(&mut self, _: RequestEvent) {}

    fn head(&mut self, octets: std::borrow::Cow<'_, [u8]>) {
        let head = String::from_utf8_lossy(&octets);
        let target = head.split(' ').nth(1).unwrap().to_owned();
        assert!(head.contains("X-Shadow: 1"), "{head}");
        self.0.push((target, String::new(), head.contains("chunked")));
    }

    fn body(&mut self, octets: &[u8]) {
        self.0.last_mut().unwrap().1 += &String::from_utf8_lossy(octets);
    }

    fn trailers(&mut self, octets: &[u8]) {
        assert_eq!(octets, b"\r\n");
    }
}

fn read(stream: &[u8]) -> Vec<(String, String, bool)> {
    let (mut requests, mut read) = (Requests::new(), Read::default());
    requests.visit(stream, &mut read).unwrap();
    assert!(requests.is_between());
    read.0
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_000, ..ProptestConfig::default() })]

    /// The shadow reads exactly the wished-for requests, however the stream was cut.
    #[test]
    fn the_shadow_reads_what_is_wished(
        requests in prop::collection::vec(Request::any(), 1..8),
        cuts in prop::collection::vec(any::<usize>(), 0..12),
    ) {
        let stream: Vec<u8> = requests.iter().flat_map(Request::wire).collect();
        let mut run = Run::of(&masking(), &stream, &cuts);
        let wished: Vec<_> = requests.iter().filter_map(Request::wished).collect();
        prop_assert_eq!(read(&run.sent), wished);
        prop_assert_eq!(&run.sent, &Run::of(&masking(), &stream, &[]).sent);

        let fates: Vec<_> = run.fates.iter().map(|fate| *fate != Fate::LeftOut).collect();
        let expected: Vec<_> = requests.iter().map(|one| one.wished().is_some()).collect();
        prop_assert_eq!(fates, expected);

        run.deliver();
        let books = &run.books;
        for reason in [LeftOut::Filtered, LeftOut::Unmaskable] {
            let left_out = requests.iter().filter(|one| one.wish == Wish::LeftOut(reason));
            prop_assert_eq!(books.requests.skipped.get(reason), left_out.clone().count() as u64);
            let octets: usize = left_out.map(|one| one.wire().len()).sum();
            prop_assert_eq!(books.bytes.skipped.get(reason), octets as u64);
        }
        prop_assert_eq!((books.requests.open(), books.bytes.open()), (0, 0));
    }

    /// Whatever is captured when the stream ends, the shadow reads a beginning of what is wished, and
    /// each octet is in its place.
    #[test]
    fn a_stream_that_breaks_off_is_accounted_for(
        requests in prop::collection::vec(Request::any(), 1..5),
        cuts in prop::collection::vec(any::<usize>(), 0..6),
        len in any::<Index>(),
    ) {
        let stream: Vec<u8> = requests.iter().flat_map(Request::wire).collect();
        let stream = &stream[..len.index(stream.len())];
        let mut run = Run::of(&masking(), stream, &cuts);
        let whole = Run::of(&masking(), &requests.iter().flat_map(Request::wire).collect::<Vec<_>>(), &[]);
        prop_assert!(whole.sent.starts_with(&run.sent));
        let mut last = 0;
        for sent in 0..run.sent.len() as u64 {
            let (received, left_out) = run.editor.received(sent);
            prop_assert!(received >= last && left_out <= received);
            prop_assert!(run.editor.covered(sent) >= received);
            prop_assert!(run.editor.sent(received) >= sent.min(run.editor.sent(received)));
            last = received;
        }
        run.deliver();
        prop_assert_eq!(run.books.bytes.open(), 0);
        prop_assert_eq!(run.editor.received(run.sent.len() as u64).0, stream.len() as u64);
    }

    #[test]
    fn every_request_gets_the_clients_address(cuts in prop::collection::vec(any::<usize>(), 0..12)) {
        let config = config(Rules::default(), ClientAddress::XForwardedFor);
        let run = Run::of(&config, STREAM.as_bytes(), &cuts);
        let line = "X-Forwarded-For: 192.0.2.7\r\n\r\n";
        prop_assert_eq!(run.text(), STREAM.replace("\r\n\r\n", &format!("\r\n{line}")));
    }
}
