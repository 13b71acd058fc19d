//! Streams about whose requests a program is asked.

use std::sync::Arc;

use super::*;
use crate::rules::{Proposal, Revision};

/// Only asked about; one body is masked before.
fn asking() -> EngineConfig {
    let mut rules = Rules::default();
    rules.mask_json(MaskJson::parse("$.email=M").unwrap());
    rules.limit_masks(LIMIT);
    rules.ask();
    config(rules, ClientAddress::None)
}

/// What the program wants of a request, which its target says.
fn program(proposal: &Proposal) -> Answered {
    let target = proposal.parts().unwrap().target;
    match &*target {
        b"/drop" => Answered::LeftOut(LeftOut::FilterExecDropped),
        b"/late" => Answered::LeftOut(LeftOut::FilterExecTimeout),
        b"/change" => {
            let body = Some(b"changed".to_vec());
            let revision = Revision { body, ..Revision::default() };
            Answered::Send(proposal.revise(revision, LIMIT).unwrap())
        }
        _ => Answered::Pass,
    }
}

impl Run {
    /// Answers the question that waits, if one does.
    fn answer(&mut self) -> bool {
        let Some((_, proposal)) = self.editor.poll_question(Instant::default()) else {
            return false;
        };
        self.answer_with(program(&proposal));
        true
    }

    fn answer_with(&mut self, answered: Answered) {
        let Self { editor, stream, gate, books, sent, fates, against } = self;
        let mut write = |bytes: &[u8]| sent.extend(bytes);
        let mut admit = || against.pop_front().flatten().map_or(Ok(()), Err);
        let pen = Pen { editor, write: &mut write, admit: &mut admit };
        stream.answer(answered, gate, pen, books);
        fates.extend(std::iter::from_fn(|| editor.take_fate()));
    }

    fn question(&mut self) -> Option<Arc<Proposal>> {
        self.editor.poll_question(Instant::default()).map(|(_, proposal)| proposal)
    }
}

const GET: &[u8] = b"GET /a HTTP/1.1\r\nHost: a\r\n\r\n";

#[test]
fn nothing_is_sent_before_the_program_has_answered() {
    let mut run = Run::new(&asking());
    run.push(&GET.repeat(2));
    assert_eq!((run.text().as_str(), run.stream.is_asking()), ("", true));
    assert_eq!((run.books.requests.seen, run.fates.len()), (1, 0));
    assert!(run.question().is_some() && run.question().is_none(), "it is asked once");
    run.answer_with(Answered::Pass);
    assert_eq!(run.text().as_bytes(), GET);
    assert_eq!((&*run.fates, run.books.requests.seen), (&[Fate::Sent][..], 2));
    assert!(run.answer() && !run.answer());
    assert_eq!(run.sent, GET.repeat(2));
    run.deliver();
    assert_eq!((run.books.requests.open(), run.books.bytes.open()), (0, 0));
}

#[test]
fn nobody_is_asked_about_requests_that_are_too_many() {
    let mut run = Run::new(&asking());
    run.against = [None, Some(LeftOut::MaxRequestRate), None].into();
    run.push(&GET.repeat(3));
    assert!(run.answer() && run.answer() && !run.answer());
    assert_eq!(run.fates, [Fate::Sent, Fate::LeftOut, Fate::Sent]);
    assert_eq!(run.books.requests.skipped.get(LeftOut::MaxRequestRate), 1);
    assert_eq!(run.sent, GET.repeat(2));
}

#[test]
fn the_end_of_the_stream_waits_behind_a_question() {
    let mut run = Run::new(&asking());
    run.push(GET);
    run.end();
    run.released();
    assert_eq!(run.gate.close(), None);
    assert!(run.answer());
    run.released();
    assert_eq!((run.gate.close(), run.sent.len()), (Some(Close::Fin), GET.len()));

    // What had come of a request behind it is no request.
    let mut run = Run::new(&asking());
    run.push(&[GET, &GET[..9]].concat());
    run.end();
    assert!(run.answer());
    run.deliver();
    assert_eq!((run.released(), run.gate.close()), (GET.len() as u64, Some(Close::Fin)));
    assert_eq!(run.books.bytes.skipped.get(LeftOut::Unmaskable), 9);
    assert_eq!((run.books.requests.open(), run.books.bytes.open()), (0, 0));
}

#[test]
fn what_a_program_cannot_be_asked_about_is_left_out() {
    let mut config = asking();
    let mut rules = Rules::default();
    rules.limit_masks(LIMIT);
    rules.ask();
    config.rules = Arc::new(rules);
    let long = format!("POST /a HTTP/1.1\r\nContent-Length: 101\r\n\r\n{}", "x".repeat(101));
    let upgrade = "GET /a HTTP/1.1\r\nConnection: upgrade\r\nUpgrade: w\r\n\r\n";
    for (stream, rest) in
        [(&*long, ""), (upgrade, "\x01frame"), ("CONNECT a:1 HTTP/1.1\r\n\r\n", "")]
    {
        let mut run = Run::of(&config, [stream, rest].concat().as_bytes(), &[5, 60]);
        run.deliver();
        assert_eq!((run.text().as_str(), run.stream.is_asking()), ("", false));
        let octets = (stream.len() + rest.len()) as u64;
        assert_eq!(run.books.requests.skipped.get(LeftOut::FilterExecUnaskable), 1);
        assert_eq!(run.books.bytes.skipped.get(LeftOut::FilterExecUnaskable), octets);
        assert_eq!((run.books.requests.open(), run.books.bytes.open()), (0, 0));
    }
    let run = Run::of(&config, b"\x00\x01\x02\x03 hello", &[1, 4]);
    assert_eq!((run.text().as_str(), run.editor.has_refused()), ("", true));
}

#[test]
fn a_question_and_what_waits_behind_it_count_as_memory() {
    let mut run = Run::new(&asking());
    run.editor.drop_fates();
    let before = run.editor.memory() + run.stream.memory();
    run.push(b"POST /a HTTP/1.1\r\nContent-Length: 90\r\n\r\n");
    run.push(&[b'x'; 90]);
    assert!(run.editor.memory() + run.stream.memory() >= before + 90);
    run.push(&[b'G'; 5_000]);
    assert!(run.editor.memory() + run.stream.memory() >= before + 5_090);
}

#[test]
fn a_program_sees_what_is_masked_and_no_framing() {
    let mut run = Run::new(&asking());
    let body = r#"{"email":"secret"}"#;
    run.push(JSON);
    run.push(format!("Transfer-Encoding: chunked\r\n\r\n12\r\n{body}\r\n0\r\n\r\n").as_bytes());
    let proposal = run.question().unwrap();
    let parts = proposal.parts().unwrap();
    assert_eq!((parts.method, &*parts.target), ("POST", &b"/a"[..]));
    assert_eq!(parts.fields, [(b"Content-Type".to_vec(), b"application/json".to_vec())]);
    assert_eq!(parts.body, br#"{"email":"M"}"#);
}

/// A request, and whether it is sent and how.
#[derive(Clone, Debug)]
struct Wished {
    request: Request,
    reason: Option<LeftOut>,
}

impl Wished {
    fn any() -> impl Strategy<Value = Self> {
        let targets = ["/a", "/drop", "/late", "/change", "/long"];
        (prop::sample::select(targets.to_vec()), "[a-z\r\n]{0,90}", prop::option::of(1_usize..30))
            .prop_map(|(target, body, chunks)| {
                let (body, reason) = match target {
                    "/drop" => (body, Some(LeftOut::FilterExecDropped)),
                    "/late" => (body, Some(LeftOut::FilterExecTimeout)),
                    "/long" => {
                        (body.repeat(2) + &"x".repeat(101), Some(LeftOut::FilterExecUnaskable))
                    }
                    _ => (body, None),
                };
                let media = "text/plain";
                let request = Request { target, media, wish: Wish::Reshaped, body, chunks };
                Self { request, reason }
            })
    }

    fn wished(&self) -> Option<(String, String)> {
        let Self { request: Request { target, body, .. }, reason } = self;
        let body = if *target == "/change" { "changed" } else { body };
        reason.is_none().then(|| ((*target).into(), body.into()))
    }
}

/// Targets and bodies, as a server reads them.
#[derive(Default)]
struct Served(Vec<(String, String)>);

impl Visitor<RequestEvent> for Served {
    fn event(&mut self, _: RequestEvent) {}

    fn head(&mut self, octets: std::borrow::Cow<'_, [u8]>) {
        let head = String::from_utf8_lossy(&octets);
        assert!(!head.contains("chunked"), "{head}");
        self.0.push((head.split(' ').nth(1).unwrap().to_owned(), String::new()));
    }

    fn body(&mut self, octets: &[u8]) {
        self.0.last_mut().unwrap().1 += &String::from_utf8_lossy(octets);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_000, ..ProptestConfig::default() })]

    /// However the stream is cut and however late answers come, the shadow reads what the program
    /// wants, in order, and every octet has its bucket.
    #[test]
    fn requests_keep_their_order_however_late_answers_come(
        requests in prop::collection::vec(Wished::any(), 1..8),
        cuts in prop::collection::vec(any::<Index>(), 0..12),
        answers in prop::collection::vec(0_usize..4, 12),
        len in prop::option::of(any::<Index>()),
    ) {
        let stream: Vec<u8> = requests.iter().flat_map(|one| one.request.wire()).collect();
        let len = len.map_or(stream.len(), |len| len.index(stream.len() + 1));
        let stream = &stream[..len];
        let mut cuts: Vec<_> = cuts.iter().map(|cut| cut.index(len + 1)).collect();
        cuts.extend([0, len]);
        cuts.sort_unstable();
        let mut config = asking();
        let mut rules = Rules::default();
        rules.limit_masks(LIMIT);
        rules.ask();
        config.rules = Arc::new(rules);
        let mut run = Run::new(&config);
        for (index, piece) in cuts.windows(2).enumerate() {
            run.push(&stream[piece[0]..piece[1]]);
            for _ in 0..answers.get(index).copied().unwrap_or(0) {
                run.answer();
            }
        }
        run.end();
        while run.answer() {}
        prop_assert!(!run.stream.is_asking());

        let wished: Vec<_> = requests.iter().filter_map(Wished::wished).collect();
        let (mut parser, mut served) = (Requests::new(), Served::default());
        parser.visit(&run.sent, &mut served).unwrap();
        prop_assert!(parser.is_between());
        prop_assert!(wished.starts_with(&served.0), "{:?} of {wished:?}", served.0);
        prop_assert_eq!(run.released(), run.sent.len() as u64);
        prop_assert_eq!(run.gate.close(), Some(Close::Fin));
        run.deliver();
        let books = &run.books;
        prop_assert_eq!((books.requests.open(), books.bytes.open()), (0, 0));
        prop_assert_eq!(books.bytes.captured, len as u64);
        if len == requests.iter().map(|one| one.request.wire().len()).sum::<usize>() {
            prop_assert_eq!(&served.0, &wished);
            let fates: Vec<_> = run.fates.iter().map(|fate| *fate != Fate::LeftOut).collect();
            let expected: Vec<_> = requests.iter().map(|one| one.reason.is_none()).collect();
            prop_assert_eq!(fates, expected);
            for reason in [
                LeftOut::FilterExecDropped, LeftOut::FilterExecTimeout, LeftOut::FilterExecUnaskable,
            ] {
                let left_out = requests.iter().filter(|one| one.reason == Some(reason));
                let count = left_out.clone().count() as u64;
                prop_assert_eq!(books.requests.skipped.get(reason), count);
                let octets: usize = left_out.map(|one| one.request.wire().len()).sum();
                prop_assert_eq!(books.bytes.skipped.get(reason), octets as u64);
            }
        }
    }
}
