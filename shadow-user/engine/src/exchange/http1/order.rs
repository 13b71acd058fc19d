//! Which request a leg answers next.

use std::collections::VecDeque;

/// The ordinals of the requests that a leg is sent.
#[derive(Debug, Default)]
pub(super) struct Order {
    next: u64,
    /// Requests from there on that the leg is not sent: the first of each row of them, and how many.
    left_out: VecDeque<(u64, u64)>,
}

impl Order {
    /// The leg is not sent this request, which comes behind all that were told of.
    pub fn leave_out(&mut self, ordinal: u64) {
        match self.left_out.back_mut() {
            Some((first, count)) if *first + *count == ordinal => *count += 1,
            _ => self.left_out.push_back((ordinal, 1)),
        }
    }

    /// The request that the response answers which begins now.
    pub fn take(&mut self) -> u64 {
        while let Some((_, count)) = self.left_out.pop_front_if(|(first, _)| *first == self.next) {
            self.next += count;
        }
        self.next += 1;
        self.next - 1
    }

    /// Whether the leg has begun to answer the request.
    pub fn has_taken(&self, ordinal: u64) -> bool {
        self.next > ordinal
    }

    /// Heap octets.
    pub fn memory(&self) -> usize {
        self.left_out.capacity() * size_of::<(u64, u64)>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_that_were_left_out_are_not_answered() {
        let mut order = Order::default();
        for ordinal in [0, 1, 3, 5, 6] {
            order.leave_out(ordinal);
        }
        assert_eq!(order.left_out.len(), 3);
        assert_eq!([(); 4].map(|()| order.take()), [2, 4, 7, 8]);
        assert!(order.has_taken(8) && !order.has_taken(9));
    }
}
