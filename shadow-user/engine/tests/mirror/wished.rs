//! Conversations of which some requests shall not arrive, or not as the client sent them.

use shadow_engine::books::Aborted;

use crate::script::{Dice, Exchange, Framing, Script};
use crate::world::{Weather, World};
use crate::{Named, clear, seeds};

/// Some scripts whose HTTP/1 requests `wish` sees to; of another protocol nothing shall arrive.
pub fn scripts(dice: &mut Dice, wish: impl Fn(&mut Dice, &mut Exchange)) -> Vec<Script> {
    (0..=dice.below(3)).map(|_| script(dice, &wish)).collect()
}

fn script(dice: &mut Dice, wish: impl Fn(&mut Dice, &mut Exchange)) -> Script {
    let mut script = Script::new(dice, 20_000);
    for exchange in &mut script.exchanges {
        match script.framing {
            Framing::Http1 => wish(dice, exchange),
            Framing::Lengths => exchange.wished = None,
        }
    }
    script
}

/// Requests of HTTP/1 scripts, and those of them that the shadow shall get.
pub fn counts(scripts: &[Script]) -> (u64, u64) {
    let http1 = scripts.iter().filter(|script| script.framing == Framing::Http1);
    let exchanges: Vec<_> = http1.flat_map(|script| &script.exchanges).collect();
    let wished = exchanges.iter().filter(|exchange| exchange.wished.is_some());
    (exchanges.len() as u64, wished.count() as u64)
}

/// On a clear link all that shall arrive has, and nothing else; how many requests that is.
pub fn check_all_arrived(world: &World, scripts: &[Script]) -> u64 {
    let books = world.engine.books();
    assert!(world.whole(), "{books:#?}");
    let others = scripts.iter().filter(|script| script.framing == Framing::Lengths).count();
    assert_eq!(books.flows.aborted.get(Aborted::Unmaskable), others as u64);
    assert_eq!(books.flows.mirrored + others as u64, books.flows.seen);
    let (all, wished) = counts(scripts);
    assert_eq!((books.requests.seen, books.requests.delivered), (all, wished), "{books:#?}");
    assert_eq!(books.requests.answered, wished);
    assert_eq!(books.requests.skipped.total(), all - wished);
    assert_eq!(books.gates.timed_out, 0);
    wished
}

/// Bad links change nothing of what arrives. The world asserts at every step that the shadow got a
/// beginning of what is wished.
pub fn check_bad_links(converse: impl Fn(u64, fn(&mut Dice) -> Weather) -> (World, Vec<Script>)) {
    let mut mirrored = 0;
    for seed in seeds(0..400) {
        let _named = Named(seed);
        let (world, scripts) = converse(seed, |dice| Weather {
            shadow_loss: dice.below(25),
            client_late: dice.below(20),
            client_duplicates: dice.below(20),
            ..clear(dice)
        });
        let books = world.engine.books();
        let (all, wished) = counts(&scripts);
        assert_eq!(books.requests.seen, all);
        if books.flows.aborted.total() == books.flows.aborted.get(Aborted::Unmaskable) {
            assert!(world.whole(), "{books:#?}");
            assert_eq!(books.requests.delivered, wished);
        }
        mirrored += books.flows.mirrored;
    }
    assert!(mirrored > 100 || std::env::var("SHADOWTAP_SEED").is_ok(), "only {mirrored}");
}
