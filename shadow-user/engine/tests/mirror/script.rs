//! A seeded conversation: what a client sends, and what a server answers.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};

/// Seeded randomness of a test.
pub struct Dice(ChaCha8Rng);

impl Dice {
    pub fn new(seed: u64) -> Self {
        Self(ChaCha8Rng::seed_from_u64(seed))
    }

    pub fn below(&mut self, bound: u64) -> u64 {
        self.0.next_u64() % bound
    }

    pub fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    /// Sizes as they occur: many small ones, a few large.
    pub fn size(&mut self, most: u64) -> usize {
        let bound = 1 << self.below(64 - u64::from(most.leading_zeros()));
        self.below(bound + 1) as usize
    }

    pub fn bytes(&mut self, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        self.0.fill_bytes(&mut bytes);
        bytes
    }
}

/// How messages are framed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Framing {
    Http1,
    /// Eight octets: the lengths of request and answer.
    Lengths,
}

#[derive(Clone, Debug)]
pub struct Exchange {
    /// The request as sent.
    pub request: Vec<u8>,
    /// As the shadow shall get it, if it shall.
    pub wished: Option<Vec<u8>>,
    /// Octets of production's answer, framing included.
    pub answer: usize,
    /// Sent without waiting for the answers before it.
    pub pipelined: bool,
}

#[derive(Clone, Debug)]
pub struct Script {
    pub framing: Framing,
    pub exchanges: Vec<Exchange>,
}

impl Script {
    pub fn new(dice: &mut Dice, largest: u64) -> Self {
        let framing = if dice.chance(60) { Framing::Http1 } else { Framing::Lengths };
        let exchanges = (0..=dice.below(6))
            .map(|index| {
                let body = dice.size(largest);
                let body = dice.bytes(body);
                let answer = dice.size(largest);
                let request = match framing {
                    Framing::Http1 => {
                        let head = format!(
                            "POST /{answer} HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n",
                            body.len()
                        );
                        [head.as_bytes(), &body].concat()
                    }
                    Framing::Lengths => [
                        &u32::try_from(body.len()).unwrap().to_be_bytes()[..],
                        &u32::try_from(answer).unwrap().to_be_bytes()[..],
                        &body,
                    ]
                    .concat(),
                };
                let pipelined = index > 0 && framing == Framing::Http1 && dice.chance(15);
                let answer = framing.answer(answer).len();
                Exchange { answer, wished: Some(request.clone()), request, pipelined }
            })
            .collect();
        Self { framing, exchanges }
    }

    /// What the shadow shall get of the client's stream.
    pub fn wished(&self) -> Vec<u8> {
        self.exchanges.iter().filter_map(|exchange| exchange.wished.clone()).flatten().collect()
    }
}

impl Framing {
    /// The framing of a client's stream, from its beginning.
    pub fn of(stream: &[u8]) -> Self {
        if stream.first() == Some(&b'P') { Self::Http1 } else { Self::Lengths }
    }

    /// The whole request at the beginning of `bytes`: its length, and the answer it asks for.
    pub fn request(self, bytes: &[u8]) -> Option<(usize, usize)> {
        match self {
            Self::Http1 => {
                let head = bytes.windows(4).position(|window| window == b"\r\n\r\n")? + 4;
                let text = std::str::from_utf8(&bytes[..head]).unwrap();
                let answer = text.strip_prefix("POST /").unwrap().split(' ').next().unwrap();
                let body = text.split("Content-Length: ").nth(1).unwrap();
                let body = body.split('\r').next().unwrap();
                let len = head + body.parse::<usize>().unwrap();
                (bytes.len() >= len).then(|| (len, answer.parse().unwrap()))
            }
            Self::Lengths => {
                let lengths = bytes.get(..8)?;
                let len = 8 + u32::from_be_bytes(lengths[..4].try_into().unwrap()) as usize;
                let answer = u32::from_be_bytes(lengths[4..].try_into().unwrap()) as usize;
                (bytes.len() >= len).then_some((len, answer))
            }
        }
    }

    /// An answer with `len` octets of body. Never empty: a turn is told by an answer.
    pub fn answer(self, len: usize) -> Vec<u8> {
        match self {
            Self::Http1 => {
                let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {len}\r\n\r\n");
                [head.as_bytes(), &vec![b'a'; len]].concat()
            }
            Self::Lengths => vec![b'a'; len + 1],
        }
    }
}
