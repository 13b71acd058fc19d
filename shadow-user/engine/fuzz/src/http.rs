//! Any bytes in any pieces: nothing panics, the pieces make no difference, and
//! the events tell a sensible story.

use shadow_engine::http::{
    HttpError, Method, Recognition, RequestEvent, Requests, ResponseEvent, Responses,
    looks_like_request,
};

/// Checks one input. The first byte says how the rest is cut up and which
/// methods the responses answer.
pub fn check(input: &[u8]) {
    let Some((&mode, stream)) = input.split_first() else { return };
    requests(stream, usize::from(mode & 15) + 1);
    responses(stream, usize::from(mode & 15) + 1, mode >> 4);
    recognition(stream);
}

fn requests(stream: &[u8], piece: usize) {
    let run = |piece: usize| {
        let mut requests = Requests::new();
        let mut events = Vec::new();
        let mut result = Ok(());
        for bytes in stream.chunks(piece) {
            result = requests.push(bytes, &mut |event| events.push(event));
            if result.is_err() {
                assert_eq!(requests.push(bytes, &mut |_| unreachable!()), result);
                break;
            }
        }
        if requests.is_between() && requests.memory() != 0 {
            assert!(!requests.is_tunnel());
        }
        (events, result)
    };
    let whole = run(stream.len().max(1));
    assert_eq!(whole, run(piece), "requests, pieces of {piece}");
    assert_eq!(whole, run(1), "requests, pieces of 1");

    // Started, Head, Ended, again and again; offsets ascend.
    let mut last = 0;
    let mut expected = 0;
    for event in whole.0 {
        let (offset, kind, next) = match event {
            RequestEvent::Started { offset } => (offset, 0, 1),
            RequestEvent::Head { offset, .. } => (offset, 1, 2),
            RequestEvent::Ended { offset } => (offset, 2, 0),
            RequestEvent::Tunnel { offset } => (offset, 0, 9),
        };
        assert_eq!(kind, expected);
        assert!(last <= offset && offset <= stream.len() as u64);
        last = offset;
        expected = next;
    }
}

fn responses(stream: &[u8], piece: usize, methods: u8) {
    let run = |piece: usize| {
        let mut responses = Responses::new();
        for bit in 0..4 {
            responses.expect(match (methods >> bit & 1, bit) {
                (0, _) => Method::Other,
                (_, 3) => Method::Connect,
                _ => Method::Head,
            });
        }
        let mut events = Vec::new();
        for bytes in stream.chunks(piece) {
            let result = responses.push(bytes, &mut |event| events.push(event));
            if result.is_err() {
                assert_eq!(responses.end(&mut |_| unreachable!()), result);
                return (events, result);
            }
        }
        let result = responses.end(&mut |event| events.push(event));
        assert!(result.is_ok() || result == Err(HttpError::Truncated));
        (events, result)
    };
    let whole = run(stream.len().max(1));
    assert_eq!(whole, run(piece), "responses, pieces of {piece}");
    assert_eq!(whole, run(1), "responses, pieces of 1");

    let mut last = 0;
    let mut expected = 0;
    for event in whole.0 {
        let (offset, kinds, next) = match event {
            ResponseEvent::Started { offset } => (offset, 0, 1),
            ResponseEvent::Interim { offset, .. } => (offset, 1, 0),
            ResponseEvent::Head { offset, .. } => (offset, 1, 2),
            ResponseEvent::Ended { offset, upgrade, .. } => {
                (offset, 2, if upgrade { 9 } else { 0 })
            }
        };
        assert_eq!(kinds, expected);
        assert!(last <= offset && offset <= stream.len() as u64);
        last = offset;
        expected = next;
    }
}

/// Once decided, more bytes change nothing.
fn recognition(stream: &[u8]) {
    let whole = looks_like_request(stream);
    let mut decided = Recognition::NeedMore;
    for len in 0..=stream.len().min(200) {
        let now = looks_like_request(&stream[..len]);
        if decided != Recognition::NeedMore {
            assert_eq!(now, decided, "at {len}");
        }
        decided = now;
    }
    if decided != Recognition::NeedMore {
        assert_eq!(whole, decided);
    }
}
