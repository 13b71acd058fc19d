//! A client's commands: arrays of bulk strings, or inline.

use super::resp::{Event, Malformed, Values};
use crate::http::Recognition;

/// Octets of a command's first words that are kept.
const MAX_WORD_LEN: usize = 32;

/// The longest inline command, as Redis has it.
const MAX_INLINE_LEN: usize = 64 * 1024;

/// Commands behind which replies do not follow commands one by one: what is published or copied comes
/// whenever it does.
const ENDS_PAIRING: [&str; 6] =
    ["SUBSCRIBE", "PSUBSCRIBE", "SSUBSCRIBE", "MONITOR", "SYNC", "PSYNC"];

/// Commands that are taken for Redis where a flow begins with one inline.
const INLINE: [&str; 24] = [
    "AUTH",
    "CLIENT",
    "COMMAND",
    "CONFIG",
    "DBSIZE",
    "DEL",
    "ECHO",
    "EXISTS",
    "GET",
    "HELLO",
    "HGET",
    "INCR",
    "INFO",
    "KEYS",
    "LPUSH",
    "MONITOR",
    "PING",
    "PUBLISH",
    "QUIT",
    "RPUSH",
    "SELECT",
    "SET",
    "SUBSCRIBE",
    "TIME",
];

/// Finds the ends of commands, and their names.
#[derive(Debug, Default)]
pub(super) struct Commands {
    form: Form,
    /// The first words, the rest of long ones cut off.
    words: [Word; 2],
    /// Words begun.
    count: usize,
}

#[derive(Debug, Default)]
enum Form {
    /// Between commands.
    #[default]
    Idle,
    Array {
        values: Values,
        /// In a bulk string's octets.
        within: bool,
    },
    Inline {
        len: usize,
        in_word: bool,
    },
}

#[derive(Debug, Default)]
struct Word {
    octets: [u8; MAX_WORD_LEN],
    len: usize,
}

impl Word {
    fn push(&mut self, octets: &[u8]) {
        for (to, from) in self.octets.iter_mut().skip(self.len).zip(octets) {
            *to = from.to_ascii_uppercase();
            self.len += 1;
        }
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(self.octets.get(..self.len).unwrap_or_default()).into_owned()
    }
}

impl Commands {
    /// Reads some of `bytes`, which are not empty; gives how many, and whether the command is whole.
    pub fn push(&mut self, bytes: &[u8]) -> Result<(usize, bool), Malformed> {
        if matches!(self.form, Form::Idle) {
            self.form = match bytes.first() {
                Some(b'*') => Form::Array { values: Values::default(), within: false },
                _ => Form::Inline { len: 0, in_word: false },
            };
        }
        match &mut self.form {
            Form::Idle => Ok((0, false)),
            Form::Array { values, within } => {
                let mut used = 0;
                while let Some(rest) = bytes.get(used..)
                    && !rest.is_empty()
                {
                    let left = usize::try_from(values.bulk_left()).unwrap_or(usize::MAX);
                    let word = rest.get(..left).unwrap_or(rest);
                    if *within && let Some(to) = self.words.get_mut(self.count.wrapping_sub(1)) {
                        to.push(word);
                    }
                    let (step, event) = values.push(rest)?;
                    used += step;
                    match event {
                        Event::Ended => return Ok((used, true)),
                        Event::Bulk => {
                            *within = true;
                            self.count += 1;
                        }
                        Event::More => {}
                    }
                }
                Ok((used, false))
            }
            Form::Inline { len, in_word } => {
                for (at, octet) in bytes.iter().enumerate() {
                    match octet {
                        b'\n' => return Ok((at + 1, true)),
                        _ if *len + at >= MAX_INLINE_LEN => return Err(Malformed),
                        b' ' | b'\t' | b'\r' => *in_word = false,
                        _ => {
                            self.count += usize::from(!*in_word);
                            *in_word = true;
                            if let Some(to) = self.words.get_mut(self.count.wrapping_sub(1)) {
                                to.push(&[*octet]);
                            }
                        }
                    }
                }
                *len += bytes.len();
                Ok((bytes.len(), false))
            }
        }
    }

    /// The command's name, in capitals, and whether replies can be told apart no longer behind it.
    pub fn take(&mut self) -> (Box<str>, bool) {
        let Self { words: [name, argument], .. } = std::mem::take(self);
        let name = name.text();
        // CLIENT REPLY turns replies off.
        let ends = ENDS_PAIRING.contains(&&*name) || name == "CLIENT" && argument.text() == "REPLY";
        (name.into(), ends)
    }
}

/// Whether a stream's first octets are Redis' protocol: an array of bulk strings, or a well-known
/// command inline.
pub(in crate::exchange) fn looks_like_command(bytes: &[u8]) -> Recognition {
    if let Some(rest) = bytes.strip_prefix(b"*") {
        let digits = rest.iter().take_while(|octet| octet.is_ascii_digit()).count();
        if digits > 7 || digits == 0 && !rest.is_empty() {
            return Recognition::No;
        }
        let behind = rest.get(digits..).unwrap_or_default();
        return match (behind.starts_with(b"\r\n$"), b"\r\n$".starts_with(behind)) {
            (true, _) => Recognition::Yes,
            (false, true) => Recognition::NeedMore,
            (false, false) => Recognition::No,
        };
    }
    let len = bytes.iter().take_while(|octet| octet.is_ascii_alphabetic()).count();
    let (word, behind) = bytes.split_at(len);
    let begins = |known: &&str| {
        known.as_bytes().get(..len).is_some_and(|begin| begin.eq_ignore_ascii_case(word))
    };
    let named = |known: &&str| known.as_bytes().eq_ignore_ascii_case(word);
    let known =
        if behind.is_empty() { INLINE.iter().any(begins) } else { INLINE.iter().any(named) };
    match behind {
        _ if !known => Recognition::No,
        [] | [b'\r'] => Recognition::NeedMore,
        [b'\n', ..] | [b'\r', b'\n', ..] => Recognition::Yes,
        // A whole line: HTTP's GET has a version at its end.
        [b' ', line @ ..] => match line.iter().position(|octet| *octet == b'\n') {
            Some(end) if !line[..end].windows(5).any(|part| part == b"HTTP/") => Recognition::Yes,
            None if line.len() < 1_024 => Recognition::NeedMore,
            _ => Recognition::No,
        },
        _ => Recognition::No,
    }
}
