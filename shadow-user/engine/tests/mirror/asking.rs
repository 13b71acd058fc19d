//! A program is asked about requests, and takes its time.

use std::sync::Arc;

use shadow_engine::Answered;
use shadow_engine::books::{Aborted, LeftOut};
use shadow_engine::exchange::Depth;
use shadow_engine::rules::{Proposal, Revision, Rules};
use shadow_engine::time::Duration;

use crate::script::{Dice, Exchange, Script};
use crate::wished::{check_all_arrived, check_bad_links, scripts};
use crate::world::{Weather, World};
use crate::{Named, act_with, clear, seeds};

/// The longest body that is shown to the program, octets.
const LIMIT: usize = 8_000;

/// How long it may take.
const TIMEOUT: Duration = Duration::from_millis(200);

const REASONS: [LeftOut; 3] =
    [LeftOut::FilterExecDropped, LeftOut::FilterExecTimeout, LeftOut::FilterExecUnaskable];

/// Does what the request's `Wish` says; now and then too late to be heard.
fn program(proposal: &Proposal, dice: &mut Dice) -> Option<(Duration, Answered)> {
    let parts = proposal.parts().unwrap();
    let wish = parts.fields.iter().find(|(name, _)| name == b"Wish").unwrap();
    let takes = Duration::from_micros(dice.below(150_000));
    match &*wish.1 {
        b"drop" => Some((takes, Answered::LeftOut(LeftOut::FilterExecDropped))),
        b"hang" => None,
        b"late" => Some((TIMEOUT + takes, Answered::Pass)),
        b"change" => {
            let body = Some(vec![b'c'; parts.body.len() / 2]);
            let revision = Revision { body, ..Revision::default() };
            Some((takes, Answered::Send(proposal.revise(revision, LIMIT).unwrap())))
        }
        _ => Some((takes, Answered::Pass)),
    }
}

/// The program drops, changes or forgets some requests.
fn wish(dice: &mut Dice, exchange: &mut Exchange) {
    let end = exchange.request.windows(4).position(|octets| octets == b"\r\n\r\n").unwrap();
    let (head, body) = exchange.request.split_at(end + 4);
    let target = String::from_utf8_lossy(head).split(' ').nth(1).unwrap().to_owned();
    let wish = ["pass", "pass", "pass", "drop", "change", "hang", "late"][dice.below(7) as usize];
    let request = |body: &[u8]| {
        let len = body.len();
        let head = format!("POST {target} HTTP/1.1\r\nHost: a\r\nWish: {wish}\r\n");
        [format!("{head}Content-Length: {len}\r\n\r\n").as_bytes(), body].concat()
    };
    let wished = match wish {
        _ if body.len() > LIMIT => None,
        "pass" => Some(request(body)),
        "change" => Some(request(&vec![b'c'; body.len() / 2])),
        _ => None,
    };
    (exchange.request, exchange.wished) = (request(body), wished);
}

fn converse(seed: u64, weather: impl Fn(&mut Dice) -> Weather) -> (World, Vec<Script>) {
    let mut dice = Dice::new(seed);
    let weather = weather(&mut dice);
    let scripts = scripts(&mut dice, wish);
    let world = act_with(Some(program), seed, weather, &scripts, |config| {
        let mut rules = Rules::default();
        rules.ask();
        rules.limit_masks(LIMIT);
        config.rules = Arc::new(rules);
        config.filter_timeout = TIMEOUT;
    });
    (world, scripts)
}

#[test]
fn the_shadow_gets_what_the_program_wants_and_in_order() {
    let mut left_out = [0; REASONS.len()];
    let mut late = 0;
    for seed in seeds(0..600) {
        let _named = Named(seed);
        let (world, scripts) = converse(seed, clear);
        let books = world.engine.books();
        let wished = check_all_arrived(&world, &scripts);
        if seed as usize % 3 != Depth::Off as usize {
            let exchanges = &books.exchanges;
            assert_eq!((exchanges.seen, exchanges.paired), (wished, wished), "{exchanges:#?}");
        }
        for (sum, reason) in left_out.iter_mut().zip(REASONS) {
            *sum += books.requests.skipped.get(reason);
        }
        late += world.answered_late;
    }
    let alone = std::env::var("SHADOWTAP_SEED").is_ok();
    assert!(alone || left_out.iter().all(|count| *count > 30) && late > 30, "{left_out:?} {late}");
}

#[test]
fn bad_links_change_nothing_of_what_the_program_wants() {
    check_bad_links(converse);
}

/// Sessions end while their questions are open: the answers find nobody, and the books balance.
#[test]
fn flows_that_end_meanwhile_leave_nothing_behind() {
    let (mut late, mut aborted) = (0, 0);
    for seed in seeds(0..300) {
        let _named = Named(seed);
        let (world, _) = converse(seed, |dice| Weather {
            capture_loss: 2 * u64::from(seed % 2 == 0),
            shadow_loss: (60 + dice.below(30)) * (seed % 2),
            ..clear(dice)
        });
        late += world.answered_late;
        let flows = &world.engine.books().flows;
        aborted += flows.aborted.total() - flows.aborted.get(Aborted::Unmaskable);
        assert!(world.lost_capture || world.whole() || flows.aborted.total() > 0);
    }
    let alone = std::env::var("SHADOWTAP_SEED").is_ok();
    assert!(alone || late > 0 && aborted > 30, "{late} {aborted}");
}
