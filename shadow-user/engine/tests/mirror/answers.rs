//! Production's answers beside the shadow's: what the engine pairs.

use shadow_engine::exchange::Unpaired;
use shadow_engine::exchange::{Depth, Status};

use crate::world::{Weather, World};
use crate::{Named, clear, converse, seeds};

/// Whether a conversation with this seed compares, and how deep.
fn depth(seed: u64) -> Depth {
    [Depth::Off, Depth::Status, Depth::Body][seed as usize % 3]
}

#[test]
fn every_request_is_paired_with_both_answers() {
    let mut abridged = 0;
    for seed in seeds(0..300).filter(|seed| depth(*seed) != Depth::Off) {
        let _named = Named(seed);
        let world = converse(seed, 100_000, clear);
        let books = world.engine.books();
        assert_eq!(books.exchanges.seen, world.requests(), "{books:#?}");
        assert_eq!(books.exchanges.paired, world.requests(), "{books:#?}");
        check(&world);
        if depth(seed) == Depth::Body {
            assert_eq!(world.abridged, 0);
        }
        abridged += world.abridged;
    }
    assert!(abridged > 100, "only {abridged} abridged");
}

#[test]
fn answers_that_were_not_captured_are_lost_and_no_others() {
    let mut lost = 0;
    for seed in seeds(0..200).filter(|seed| depth(*seed) != Depth::Off) {
        let _named = Named(seed);
        let world = converse(seed, 50_000, |dice| Weather { answer_loss: 3, ..clear(dice) });
        // Neither the mirror nor the number of exchanges suffers.
        assert!(world.whole());
        let exchanges = &world.engine.books().exchanges;
        assert_eq!(exchanges.seen, world.requests());
        check(&world);
        if world.lost_answers == 0 {
            assert_eq!(exchanges.paired, exchanges.seen);
        }
        lost += exchanges.unpaired_production.get(Unpaired::Lost);
    }
    assert!(lost > 50, "only {lost} lost");
}

/// What was paired is what was said, and in order of time.
fn check(world: &World) {
    assert_eq!(world.engine.memory(), 0);
    assert_eq!(world.exchanges.len() as u64, world.engine.books().exchanges.seen);
    for exchange in &world.exchanges {
        for answer in [&exchange.production, &exchange.shadow].into_iter().flatten() {
            assert_eq!(answer.status, Status::Http(200));
            assert!(answer.asked_at <= answer.first_at && answer.first_at <= answer.ended_at);
        }
        if let (Ok(production), Ok(shadow)) = (&exchange.production, &exchange.shadow) {
            assert!(production.asked_at <= shadow.asked_at, "{exchange:#?}");
            let longer = shadow.body.len.checked_sub(production.body.len);
            assert_eq!(longer, Some(world.longer_answers() as u64));
        }
    }
}
