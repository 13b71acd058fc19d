//! Queries and forms: `name=value` with `&` between them (`application/x-www-form-urlencoded`).
//!
//! `form_urlencoded` decodes, as browsers and servers do.

use std::borrow::Cow;

/// Names and values, decoded.
pub(super) fn pairs(query: &[u8]) -> impl Iterator<Item = (Cow<'_, str>, Cow<'_, str>)> {
    query.split(|octet| *octet == b'&').filter_map(pair)
}

fn pair(parameter: &[u8]) -> Option<(Cow<'_, str>, Cow<'_, str>)> {
    form_urlencoded::parse(parameter).next()
}

/// What becomes of a parameter.
pub(super) enum Fate {
    /// It stays as it is.
    Keep,
    /// It goes.
    Remove,
    /// It gets this value.
    Set(Vec<u8>),
}

/// A query in which `fate` has decided on every parameter that has a value; none where all stays as
/// it is. A semicolon is part of a value, but some servers take it for an ampersand: what stays is
/// looked at so, too.
pub(super) fn edit(query: &[u8], fate: &mut impl FnMut(&str, &str) -> Fate) -> Option<Vec<u8>> {
    split(query, b'&', fate)
}

fn split(query: &[u8], joint: u8, fate: &mut impl FnMut(&str, &str) -> Fate) -> Option<Vec<u8>> {
    let mut kept: Vec<Cow<'_, [u8]>> = Vec::new();
    let mut is_changed = false;
    for parameter in query.split(|octet| *octet == joint) {
        let mark = parameter.iter().position(|octet| *octet == b'=');
        let decided = match (mark, pair(parameter)) {
            (Some(_), Some((name, value))) => fate(&name, &value),
            _ => Fate::Keep,
        };
        let new = match decided {
            Fate::Remove => {
                is_changed = true;
                continue;
            }
            Fate::Set(value) => {
                let mut new = parameter[..=mark.unwrap_or_default()].to_vec();
                new.extend(form_urlencoded::byte_serialize(&value).flat_map(str::bytes));
                Some(new)
            }
            Fate::Keep if joint == b'&' && parameter.contains(&b';') => {
                split(parameter, b';', fate)
            }
            Fate::Keep => None,
        };
        is_changed |= new.is_some();
        kept.push(new.map_or(Cow::Borrowed(parameter), Cow::Owned));
    }
    is_changed.then(|| kept.join(&joint))
}
