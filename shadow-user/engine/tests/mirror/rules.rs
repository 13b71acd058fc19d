//! Requests that are left out, get another head, or are masked on their way.

use std::sync::Arc;

use shadow_engine::books::LeftOut;
use shadow_engine::exchange::{Depth, Head};
use shadow_engine::rules::{Filter, MaskJson, Rules, SetHeader};

use crate::script::{Dice, Exchange, Script};
use crate::wished::{check_all_arrived, check_bad_links, scripts};
use crate::world::{Weather, World};
use crate::{Named, act, clear, seeds};

/// The longest body that is masked, octets: of several segments.
const LIMIT: usize = 4_000;

fn rules() -> Rules {
    let mut rules = Rules::default();
    rules.filter(Filter::header("--exclude-header", "X-Skip=1").unwrap().negated());
    rules.set_header(SetHeader::parse("X-Shadow: 1").unwrap());
    rules.mask_json(MaskJson::parse("$.email=MASKED").unwrap());
    rules.limit_masks(LIMIT);
    rules
}

/// Some requests are to be left out or masked.
fn choose(dice: &mut Dice, exchange: &mut Exchange) {
    let text = String::from_utf8_lossy(&exchange.request);
    let target = text.split(' ').nth(1).unwrap().to_owned();
    let longer = if dice.chance(30) { LIMIT } else { 0 };
    let pad = "x".repeat(longer + dice.size(LIMIT as u64));
    let body = |email| format!(r#"{{"pad":"{pad}","email":"{email}"}}"#);
    let request = |fields: &str, body: &str| {
        let len = body.len();
        format!("POST {target} HTTP/1.1\r\nHost: a\r\n{fields}Content-Length: {len}\r\n\r\n{body}")
            .into_bytes()
    };
    let json = "Content-Type: application/json\r\n";
    let secret = body("secret");
    let (sent, wished) = match dice.below(4) {
        0 => (request(&format!("{json}X-Skip: 1\r\n"), &secret), None),
        1 => {
            let fields = format!("{json}X-Shadow: 1\r\n");
            let masked = request(&fields, &body("MASKED"));
            (request(json, &secret), (secret.len() <= LIMIT).then_some(masked))
        }
        _ => {
            // Else JSON might hide in it.
            let fields = b"Content-Type: application/octet-stream\r\n";
            let mut sent = exchange.request.clone();
            let end = sent.windows(4).position(|octets| octets == b"\r\n\r\n").unwrap() + 2;
            sent.splice(end..end, fields.iter().copied());
            let mut shaped = sent.clone();
            let end = end + fields.len();
            shaped.splice(end..end, *b"X-Shadow: 1\r\n");
            (sent, Some(shaped))
        }
    };
    (exchange.request, exchange.wished) = (sent, wished);
}

fn converse(seed: u64, weather: impl Fn(&mut Dice) -> Weather) -> (World, Vec<Script>) {
    let mut dice = Dice::new(seed);
    let weather = weather(&mut dice);
    let scripts = scripts(&mut dice, choose);
    let world = act(seed, weather, &scripts, |config| config.rules = Arc::new(rules()));
    (world, scripts)
}

#[test]
fn the_shadow_gets_the_wished_requests_and_no_other() {
    let mut left_out = [0, 0];
    for seed in seeds(0..600) {
        let _named = Named(seed);
        let (world, scripts) = converse(seed, clear);
        let books = world.engine.books();
        let wished = check_all_arrived(&world, &scripts);
        for (sum, reason) in left_out.iter_mut().zip([LeftOut::Filtered, LeftOut::Unmaskable]) {
            *sum += books.requests.skipped.get(reason);
        }
        check(&world, seed, wished);
    }
    assert!(left_out.iter().all(|count| *count > 30), "{left_out:?}");
}

/// Each request that was sent is paired with the answers to it.
fn check(world: &World, seed: u64, wished: u64) {
    let depth = [Depth::Off, Depth::Status, Depth::Body][seed as usize % 3];
    let exchanges = &world.engine.books().exchanges;
    if depth == Depth::Off {
        assert_eq!(exchanges.seen, 0);
        return;
    }
    assert_eq!((exchanges.seen, exchanges.paired), (wished, wished), "{exchanges:#?}");
    for exchange in &world.exchanges {
        let Head::Http1(head) = &exchange.request.head else { panic!("{exchange:#?}") };
        assert!(!String::from_utf8_lossy(head).contains("X-Skip"));
        let (production, shadow) =
            (exchange.production.as_ref().unwrap(), exchange.shadow.as_ref().unwrap());
        let longer = shadow.body.len.checked_sub(production.body.len);
        assert_eq!(longer, Some(world.longer_answers() as u64));
    }
}

#[test]
fn bad_links_change_nothing_of_what_is_wished() {
    check_bad_links(converse);
}

#[test]
fn a_capture_with_holes_never_sends_what_is_not_wished() {
    for seed in seeds(0..200) {
        let _named = Named(seed);
        let (world, _) = converse(seed, |dice| Weather { capture_loss: 2, ..clear(dice) });
        assert!(world.lost_capture || world.whole());
    }
}
