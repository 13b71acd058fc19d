//! A bad link: loss, duplication, reordering, corruption, jitter, a falling path MTU. Streams are
//! prefixes at every step and equal at a clean close, and every conversation comes to its end.

use std::time::Duration;

use shadow_engine::client::Close;

use crate::conversation::{Conversation, End, Plan, clean_plan};
use crate::sim::dice::Dice;
use crate::sim::for_each_seed;
use crate::sim::link::Rules;

fn worsen(rules: &mut Rules, dice: &mut Dice) {
    let share = |dice: &mut Dice, most: u64| dice.below(most * 10 + 1) as f64 / 1000.0;
    if dice.chance(0.9) {
        rules.loss = share(dice, 30);
    }
    if dice.chance(0.5) {
        rules.duplication = share(dice, 20);
    }
    if dice.chance(0.5) {
        rules.reordering = share(dice, 40);
        rules.hold = rules.latency * 3;
    }
    if dice.chance(0.5) {
        rules.corruption = share(dice, 10);
    }
    if dice.chance(0.5) {
        rules.jitter = rules.latency;
    }
    if dice.chance(0.2) {
        rules.rate = Some(dice.scale(20_000, 10_000_000));
        rules.queue = dice.scale(10_000, 200_000) as usize;
    }
}

fn bad_plan(dice: &mut Dice) -> Plan {
    let mut plan = clean_plan(dice);
    worsen(&mut plan.forth, dice);
    worsen(&mut plan.back, dice);
    if dice.chance(0.3) {
        let after = Duration::from_micros(dice.scale(1, 1_000_000));
        let mtu = if plan.config.remote.is_ipv4() {
            dice.pick(&[1400, 1280, 600, 552])
        } else {
            dice.pick(&[1400, 1280])
        };
        plan.mtu_change = Some((after, mtu));
    }
    plan
}

fn converse(seed: u64) {
    let mut dice = Dice::new(seed);
    let plan = bad_plan(&mut dice);
    let end = plan.end;
    let close = Conversation::new(plan, dice).run();
    match end {
        End::ClientFirst => assert_eq!(close, Close::Finished),
        End::ServerFirst | End::Together => {
            assert!(matches!(close, Close::Finished | Close::Reset), "{close:?}");
        }
        // The server's one RST can be lost after the client has said everything.
        End::ServerAborts => assert!(matches!(close, Close::Reset | Close::TimedOut), "{close:?}"),
        End::ClientAborts => {
            assert!(matches!(close, Close::Aborted | Close::Finished), "{close:?}");
        }
    }
}

// Two tests, so that two cores share the work.

#[test]
fn bad_links_first_half() {
    for_each_seed(0..20_000, converse);
}

#[test]
fn bad_links_second_half() {
    for_each_seed(20_000..40_000, converse);
}
