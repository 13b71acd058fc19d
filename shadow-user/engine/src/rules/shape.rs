//! What is changed in a request's head, beside masks.

use std::hash::Hasher as _;
use std::net::{IpAddr, Ipv4Addr};

use siphasher::sip128::{Hasher128 as _, SipHasher24};

use super::Context;
use super::message::{Field, Message, Target};
use super::pattern::Replace;
use crate::compare::RuleError;
use crate::compare::ignore::is_token;
use crate::iss::Secret;

/// Fields that say where the message ends, or what connection it is on.
const FRAMING: [&str; 11] = [
    "connection",
    "content-encoding",
    "content-length",
    "expect",
    "http2-settings",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// Reads the name of a field that may be changed.
pub(super) fn field_name(
    flag: &'static str,
    text: &str,
    name: &str,
) -> Result<Box<str>, RuleError> {
    let error = |what: &str, remedy: &str| Err(RuleError::new(flag, text, what, remedy));
    if !is_token(name) {
        return error(
            "has no field's name",
            "write the name as it stands before the colon, such as X-Shadow",
        );
    }
    if FRAMING.iter().any(|framing| framing.eq_ignore_ascii_case(name)) {
        return error(
            "this field says where the message ends, or what connection it is on",
            "name another field; the mirror sets this one as the message needs it",
        );
    }
    if name.eq_ignore_ascii_case("host") {
        return error(
            "Host is what the request is sent to",
            "give --set-host HOST or --host-suffix SUFFIX",
        );
    }
    Ok(name.into())
}

/// A header line of the user's: `--set-header`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct SetHeader {
    name: Box<str>,
    value: Box<str>,
}

impl SetHeader {
    /// Reads `NAME: VALUE`.
    ///
    /// # Errors
    ///
    /// It is not of that form, or the field is not to be changed.
    pub fn parse(text: &str) -> Result<Self, RuleError> {
        let remedy = "write NAME: VALUE, as X-Shadow: 1";
        let Some((name, value)) = text.split_once(':') else {
            return Err(RuleError::new("--set-header", text, "has no colon", remedy));
        };
        let value = value.trim();
        if value.chars().any(|c| c.is_control() && c != '\t') {
            let what = "has a control character in the value";
            return Err(RuleError::new("--set-header", text, what, "write the value on one line"));
        }
        Ok(Self { name: field_name("--set-header", text, name)?, value: value.into() })
    }

    /// The field's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }
}

/// The name of a field to remove or to add: `--remove-header`, `--request-id-header`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct HeaderName(Box<str>);

impl HeaderName {
    /// Reads `NAME`.
    ///
    /// # Errors
    ///
    /// It is no name, or the field is not to be changed.
    pub fn parse(flag: &'static str, text: &str) -> Result<Self, RuleError> {
        field_name(flag, text, text).map(Self)
    }

    /// The name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.0
    }
}

/// The host that the shadow is asked for.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum HostChange {
    /// This one, with its port if it has one: `--set-host`.
    Set(Box<str>),
    /// The client's with this behind its name and before its port: `--host-suffix`.
    Suffix(Box<str>),
}

impl HostChange {
    /// Reads `--set-host`: a name or an address, and a port if need be.
    ///
    /// # Errors
    ///
    /// It is neither.
    pub fn set(text: &str) -> Result<Self, RuleError> {
        let (host, port) = split_port(text);
        let is_port = port.is_empty() || port[1..].parse::<u16>().is_ok();
        let is_v6 = host
            .strip_prefix('[')
            .and_then(|host| host.strip_suffix(']'))
            .is_some_and(|host| host.parse::<IpAddr>().is_ok_and(|ip| ip.is_ipv6()));
        if !is_port || !(is_v6 || is_name(host)) {
            let remedy = "write such as shadow.example, shadow.example:8080 or [fd00::9]:8080";
            return Err(RuleError::new("--set-host", text, "is no host", remedy));
        }
        Ok(Self::Set(text.into()))
    }

    /// Reads `--host-suffix`.
    ///
    /// # Errors
    ///
    /// No host's name can end so.
    pub fn suffix(text: &str) -> Result<Self, RuleError> {
        if !is_name(text) {
            let remedy = "write letters, digits, dots and hyphens, as -shadow";
            return Err(RuleError::new("--host-suffix", text, "is no end of a name", remedy));
        }
        Ok(Self::Suffix(text.into()))
    }

    fn apply(&self, message: &mut Message<'_>) {
        // CONNECT's target is the host, and its field must say the same (RFC 9112, 3.2.3).
        if message.method == "CONNECT" {
            return;
        }
        let target = Target::parse(&message.target).filter(|target| !target.authority.is_empty());
        if let Some(target) = target {
            let authority = self.of(target.authority);
            message.target = Target { authority: &authority, ..target }.write().into();
        }
        let fields = &mut message.fields;
        if let Self::Set(host) = self
            && !fields.has("host")
        {
            fields.push(Field::new(&b"Host"[..], host.as_bytes().to_vec()));
        }
        for field in fields.list.iter_mut().filter(|field| field.is("host")) {
            let host = self.of(&field.value);
            field.set(host);
        }
    }

    fn of(&self, authority: &[u8]) -> Vec<u8> {
        match self {
            Self::Set(host) => host.as_bytes().to_vec(),
            Self::Suffix(suffix) => {
                let colon = authority.iter().rposition(|octet| matches!(octet, b':' | b']'));
                let end = colon.filter(|at| authority[*at] == b':').unwrap_or(authority.len());
                let (host, port) = authority.split_at(end);
                let user = host.iter().rposition(|octet| *octet == b'@').map_or(0, |at| at + 1);
                let name = &host[user..];
                let is_address =
                    str::from_utf8(name).is_ok_and(|it| it.parse::<Ipv4Addr>().is_ok());
                // An address has no name that could be lengthened.
                if name.is_empty() || name.ends_with(b"]") || is_address {
                    return authority.to_vec();
                }
                [host, suffix.as_bytes(), port].concat()
            }
        }
    }
}

/// The port comes with its colon.
fn split_port(authority: &str) -> (&str, &str) {
    match authority.rfind([':', ']']) {
        Some(at) if authority[at..].starts_with(':') => authority.split_at(at),
        _ => (authority, ""),
    }
}

fn is_name(text: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
    !text.is_empty() && text.len() <= 253 && text.bytes().all(fits)
}

/// A rule for paths: `--rewrite-path`.
#[derive(Clone, Debug)]
pub struct RewritePath(Replace);

impl RewritePath {
    /// Reads `REGEX => TEMPLATE`.
    ///
    /// # Errors
    ///
    /// It is not of that form, or the template would not make a path.
    pub fn parse(text: &str) -> Result<Self, RuleError> {
        let flag = "--rewrite-path";
        let remedy = "write REGEX => TEMPLATE, as ^/v1/(.*) => /v2/$1";
        let replace = Replace::parse(flag, text, remedy)?;
        let is_path = |c: char| c.is_ascii_graphic() && !matches!(c, '?' | '#');
        match replace.template().chars().find(|c| !is_path(*c)) {
            Some(c) => {
                let what = format!("{c:?} cannot stand in a path");
                Err(RuleError::new(flag, text, what, "write it as %XX, and leave the query out"))
            }
            None => Ok(Self(replace)),
        }
    }

    /// Rewrites the first match; whether there was one.
    fn apply(&self, message: &mut Message<'_>) -> bool {
        let Some(target) = Target::parse(&message.target) else { return false };
        let Some(captures) = self.0.pattern.captures(target.path) else { return false };
        let whole = captures.get_match().range();
        let mut path = target.path[..whole.start].to_vec();
        self.0.expand(&captures, &mut path);
        path.extend_from_slice(&target.path[whole.end..]);
        if !path.starts_with(b"/") {
            path.insert(0, b'/');
        }
        if path != target.path {
            message.target = Target { path: &path, ..target }.write().into();
        }
        true
    }
}

/// How a mirrored request is marked as one: `--mark`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Mark {
    /// `X-Shadowtap: mirror`.
    Header,
    /// `synthetic_request=true` in W3C Baggage, which tracing hands on from service to service.
    Baggage,
}

impl Mark {
    const fn name(self) -> &'static str {
        match self {
            Self::Header => "X-Shadowtap",
            Self::Baggage => "baggage",
        }
    }

    fn apply(self, message: &mut Message<'_>) {
        match self {
            Self::Header => message.fields.set(self.name(), b"mirror"),
            // Lines of one name are one list.
            Self::Baggage => {
                message
                    .fields
                    .push(Field::new(self.name().as_bytes(), &b"synthetic_request=true"[..]));
            }
        }
    }
}

/// Everything that is changed.
#[derive(Clone, Debug, Default)]
pub(super) struct Shape {
    pub rewrite: Vec<RewritePath>,
    pub host: Option<HostChange>,
    pub remove: Vec<HeaderName>,
    pub set: Vec<SetHeader>,
    pub request_id: Option<HeaderName>,
    pub mark: Option<Mark>,
}

impl Shape {
    pub fn is_empty(&self) -> bool {
        self.rewrite.is_empty()
            && self.host.is_none()
            && self.remove.is_empty()
            && self.set.is_empty()
            && self.request_id.is_none()
            && self.mark.is_none()
    }

    pub fn apply<'h>(&'h self, message: &mut Message<'h>, secret: &Secret, context: &Context) {
        let _ = self.rewrite.iter().any(|rule| rule.apply(message));
        if let Some(host) = &self.host {
            host.apply(message);
        }
        for name in &self.remove {
            message.fields.remove(name.name());
        }
        for header in &self.set {
            message.fields.set(&header.name, header.value.as_bytes());
        }
        if let Some(name) = &self.request_id
            && !message.fields.values(name.name()).any(|value| !value.is_empty())
        {
            message.fields.remove(name.name());
            let id = request_id(secret, context).into_bytes();
            message.fields.push(Field::new(name.name().as_bytes(), id));
        }
        if let Some(mark) = self.mark {
            mark.apply(message);
        }
    }
}

/// A correlation id: 32 hexadecimal digits, as nginx' `$request_id`, that nobody can foresee.
pub(super) fn request_id(secret: &Secret, context: &Context) -> String {
    let mut hasher = SipHasher24::new_with_key(secret);
    hasher.write(b"request id");
    for address in [context.client, context.production] {
        match address.ip() {
            IpAddr::V4(ip) => hasher.write(&ip.to_ipv6_mapped().octets()),
            IpAddr::V6(ip) => hasher.write(&ip.octets()),
        }
        hasher.write(&address.port().to_be_bytes());
    }
    hasher.write(&context.id.to_be_bytes());
    format!("{:032x}", hasher.finish128().as_u128())
}
