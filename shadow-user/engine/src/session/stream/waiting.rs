//! What comes behind a request about which a program is asked.

use std::collections::VecDeque;

use crate::session::gate::Close;
use crate::time::Instant;

/// What is known of a stretch of the client's stream, or of its end.
#[derive(Clone, Copy, Debug)]
pub(super) struct Piece {
    /// Octets of production's answers that the client had acknowledged with it.
    pub acknowledged: u64,
    pub captured_at: Instant,
    /// The client had seen an answer that it had not with its bytes before, as was found already.
    pub heard: bool,
}

/// Stretches of the stream that were not read yet, in order, and its end.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    pieces: VecDeque<(Vec<u8>, Piece)>,
    close: Option<(Close, Piece)>,
    /// Heap octets of all pieces.
    octets: usize,
}

impl Waiting {
    pub fn push(&mut self, bytes: &[u8], piece: Piece) {
        self.octets += bytes.len();
        self.pieces.push_back((bytes.to_vec(), piece));
    }

    /// Takes back the end of the piece that was popped last.
    pub fn put_back(&mut self, bytes: &[u8], piece: Piece) {
        self.octets += bytes.len();
        self.pieces.push_front((bytes.to_vec(), piece));
    }

    pub fn pop(&mut self) -> Option<(Vec<u8>, Piece)> {
        let piece = self.pieces.pop_front();
        match &piece {
            Some((bytes, _)) => self.octets -= bytes.len(),
            None => self.pieces = VecDeque::new(),
        }
        piece
    }

    pub fn close(&mut self, close: Close, piece: Piece) {
        self.close = Some((close, piece));
    }

    pub fn take_close(&mut self) -> Option<(Close, Piece)> {
        self.close.take()
    }

    pub fn is_empty(&self) -> bool {
        self.pieces.is_empty()
    }

    /// Heap octets.
    pub fn memory(&self) -> usize {
        size_of::<Self>() + self.octets + self.pieces.capacity() * size_of::<(Vec<u8>, Piece)>()
    }
}
