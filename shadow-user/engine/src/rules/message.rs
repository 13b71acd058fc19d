//! A head as lines that can be changed one by one: what is not changed is written octet by octet.

use std::borrow::Cow;
use std::mem::MaybeUninit;

use httparse::{Request, Status};

/// Most fields of one head, as `http` has it.
const MAX_FIELDS: usize = 1_024;

/// A head that no parser takes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Malformed;

/// One field.
#[derive(Clone, Debug)]
pub(super) struct Field<'h> {
    pub name: Cow<'h, [u8]>,
    pub value: Cow<'h, [u8]>,
    /// The line as it came, with its end; none for one that was changed.
    line: Option<&'h [u8]>,
}

impl<'h> Field<'h> {
    pub fn new(name: impl Into<Cow<'h, [u8]>>, value: impl Into<Cow<'h, [u8]>>) -> Self {
        Self { name: name.into(), value: value.into(), line: None }
    }

    pub fn is(&self, name: &str) -> bool {
        self.name.eq_ignore_ascii_case(name.as_bytes())
    }

    pub fn set(&mut self, value: Vec<u8>) {
        if *self.value != value {
            self.value = value.into();
            self.line = None;
        }
    }
}

/// A head's fields, or a trailer section's.
#[derive(Clone, Debug, Default)]
pub(super) struct Fields<'h> {
    pub list: Vec<Field<'h>>,
    /// Whether any was added or taken away.
    changed: bool,
}

impl<'h> Fields<'h> {
    /// Of a head behind its first line.
    pub fn parse(octets: &'h [u8]) -> Result<Self, Malformed> {
        let mut headers = [httparse::EMPTY_HEADER; MAX_FIELDS];
        match httparse::parse_headers(octets, &mut headers) {
            Ok(Status::Complete((used, headers))) if used == octets.len() => {
                Self::of(octets, headers)
            }
            _ => Err(Malformed),
        }
    }

    /// From names and values of their own.
    pub fn from_pairs(pairs: impl Iterator<Item = (&'h [u8], &'h [u8])>) -> Self {
        Self { list: pairs.map(|(name, value)| Field::new(name, value)).collect(), changed: false }
    }

    fn of(octets: &'h [u8], headers: &[httparse::Header<'h>]) -> Result<Self, Malformed> {
        // One line each, since a folded one is not taken; and the empty line.
        let lines: Vec<_> = octets.split_inclusive(|octet| *octet == b'\n').collect();
        if lines.len() != headers.len() + 1 {
            return Err(Malformed);
        }
        let fields = headers.iter().zip(lines).map(|(header, line)| Field {
            name: header.name.as_bytes().into(),
            value: header.value.into(),
            line: Some(line),
        });
        Ok(Self { list: fields.collect(), changed: false })
    }

    pub fn is_changed(&self) -> bool {
        self.changed || self.list.iter().any(|field| field.line.is_none())
    }

    /// The values of a field.
    pub fn values<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a [u8]> {
        self.list.iter().filter(move |field| field.is(name)).map(|field| &*field.value)
    }

    /// The elements of a list-based field (RFC 9110, 5.6.1), of all its lines.
    pub fn elements<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a [u8]> {
        self.values(name)
            .flat_map(|value| value.split(|octet| *octet == b','))
            .map(<[u8]>::trim_ascii)
            .filter(|element| !element.is_empty())
    }

    pub fn has(&self, name: &str) -> bool {
        self.values(name).next().is_some()
    }

    pub fn remove(&mut self, name: &str) {
        self.retain(|field| !field.is(name));
    }

    pub fn retain(&mut self, keep: impl FnMut(&Field<'h>) -> bool) {
        let before = self.list.len();
        self.list.retain(keep);
        self.changed |= self.list.len() != before;
    }

    pub fn push(&mut self, field: Field<'h>) {
        self.list.push(field);
        self.changed = true;
    }

    /// Sets a field once: in the place of its first line, or as the last.
    pub fn set(&mut self, name: &'h str, value: &'h [u8]) {
        match self.list.iter().position(|field| field.is(name)) {
            Some(first) => {
                self.list[first].set(value.to_vec());
                let mut place = 0..;
                self.retain(|field| place.next() == Some(first) || !field.is(name));
            }
            None => self.push(Field::new(name.as_bytes(), value)),
        }
    }

    /// The lines, without the empty one.
    pub fn write(&self, out: &mut Vec<u8>) {
        for field in &self.list {
            match field.line {
                Some(line) => out.extend_from_slice(line),
                None => {
                    for part in [&*field.name, b": ", &*field.value, b"\r\n"] {
                        out.extend_from_slice(part);
                    }
                }
            }
        }
    }
}

/// A request's head.
#[derive(Clone, Debug)]
pub(super) struct Message<'h> {
    pub method: &'h str,
    pub target: Cow<'h, [u8]>,
    pub fields: Fields<'h>,
    octets: &'h [u8],
    /// The first line with its end.
    line: &'h [u8],
    /// HTTP/1.x.
    pub minor: u8,
}

impl<'h> Message<'h> {
    /// Of a whole head with its empty line.
    pub fn parse(octets: &'h [u8]) -> Result<Self, Malformed> {
        let mut headers = [const { MaybeUninit::uninit() }; MAX_FIELDS];
        let mut request = Request::new(&mut []);
        let parsed = request.parse_with_uninit_headers(octets, &mut headers);
        let (Ok(Status::Complete(used)), Some(method), Some(target), Some(minor)) =
            (parsed, request.method, request.path, request.version)
        else {
            return Err(Malformed);
        };
        let line = octets.iter().position(|octet| *octet == b'\n').ok_or(Malformed)? + 1;
        if used != octets.len() {
            return Err(Malformed);
        }
        let (line, fields) = octets.split_at(line);
        Ok(Self {
            method,
            target: target.as_bytes().into(),
            fields: Fields::of(fields, request.headers)?,
            octets,
            line,
            minor,
        })
    }

    /// Whether a body follows (RFC 9112, 6.3).
    pub fn has_body(&self) -> bool {
        let is_long = |value: &[u8]| value.iter().any(|octet| matches!(octet, b'1'..=b'9'));
        self.fields.has("transfer-encoding") || self.fields.values("content-length").any(is_long)
    }

    /// Whether it asks for another protocol, or is CONNECT.
    pub fn may_tunnel(&self) -> bool {
        let names_it = |option: &[u8]| option.eq_ignore_ascii_case(b"upgrade");
        self.method == "CONNECT"
            || self.minor == 1
                && self.fields.has("upgrade")
                && self.fields.elements("connection").any(names_it)
    }

    /// The head: as it came where nothing was changed.
    pub fn finish(self) -> Cow<'h, [u8]> {
        if matches!(self.target, Cow::Borrowed(_)) && !self.fields.is_changed() {
            return Cow::Borrowed(self.octets);
        }
        let mut out = Vec::with_capacity(self.octets.len() + 128);
        self.write(&mut out);
        let empty = if self.octets.ends_with(b"\r\n") { &b"\r\n"[..] } else { b"\n" };
        out.extend_from_slice(empty);
        out.into()
    }

    /// All but the empty line.
    pub fn write(&self, out: &mut Vec<u8>) {
        match &self.target {
            Cow::Borrowed(_) => out.extend_from_slice(self.line),
            Cow::Owned(target) => {
                let version =
                    if self.minor == 0 { &b" HTTP/1.0\r\n"[..] } else { b" HTTP/1.1\r\n" };
                for part in [self.method.as_bytes(), b" ", target, version] {
                    out.extend_from_slice(part);
                }
            }
        }
        self.fields.write(out);
    }
}

/// A request target's parts (RFC 9112, 3.2), or those of a URL.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Target<'t> {
    /// Scheme and `://`, if it is of the absolute form.
    pub scheme: &'t [u8],
    /// Host and port, if it is of the absolute form.
    pub authority: &'t [u8],
    pub path: &'t [u8],
    /// Behind the question mark.
    pub query: Option<&'t [u8]>,
}

impl<'t> Target<'t> {
    /// Of the origin form or the absolute form; `*` and an authority have no path.
    pub fn parse(target: &'t [u8]) -> Option<Self> {
        let (scheme, authority, rest) = if target.starts_with(b"/") {
            (&[][..], &[][..], target)
        } else {
            let colon = target.windows(3).position(|three| three == b"://")?;
            if target[..colon].iter().any(|octet| matches!(octet, b'/' | b'?')) {
                return None;
            }
            let (scheme, rest) = target.split_at(colon + 3);
            let end = rest.iter().position(|octet| matches!(octet, b'/' | b'?'));
            let (authority, rest) = rest.split_at(end.unwrap_or(rest.len()));
            (scheme, authority, rest)
        };
        let (path, query) = match rest.iter().position(|octet| *octet == b'?') {
            Some(mark) => (&rest[..mark], Some(&rest[mark + 1..])),
            None => (rest, None),
        };
        Some(Self { scheme, authority, path, query })
    }

    pub fn write(&self) -> Vec<u8> {
        let mut out = [self.scheme, self.authority, self.path].concat();
        if let Some(query) = self.query {
            out.push(b'?');
            out.extend_from_slice(query);
        }
        out
    }
}
