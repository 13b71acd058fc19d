//! A clean link: every stream arrives whole, whatever the ends do.

use shadow_engine::client::Close;

use crate::conversation::{Conversation, End, clean_plan};
use crate::sim::dice::Dice;
use crate::sim::for_each_seed;

fn converse(seed: u64) {
    let mut dice = Dice::new(seed);
    let plan = clean_plan(&mut dice);
    let end = plan.end;
    let close = Conversation::new(plan, dice).run();
    match end {
        End::ClientFirst | End::ServerFirst | End::Together => {
            assert_eq!(close, Close::Finished);
        }
        End::ClientAborts => assert_eq!(close, Close::Aborted),
        End::ServerAborts => assert_eq!(close, Close::Reset),
    }
}

#[test]
fn a_thousand_conversations_on_a_clean_link() {
    for_each_seed(0..1_000, converse);
}
