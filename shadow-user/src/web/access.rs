//! Who may see the page.
//!
//! On a loopback address everyone on this host, as `/metrics`; there the `Host` field must name this
//! host, or a page from elsewhere could have its own name resolve to here and read everything (DNS
//! rebinding). On any other address, or where a token is set, those who have the token.

use std::net::{IpAddr, SocketAddr};

use axum::extract::Query;
use axum::http::header::{AUTHORIZATION, COOKIE, HOST, LOCATION, SET_COOKIE, WWW_AUTHENTICATE};
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::{IntoResponse as _, Response};
use serde::Deserialize;

use super::Token;

/// Seconds that a browser keeps what it got for the token: a working day.
const COOKIE_SECONDS: u32 = 12 * 60 * 60;
/// The rule of one listener.
#[derive(Clone, Debug)]
pub struct Access {
    token: Option<Token>,
    is_loopback: bool,
    /// What browsers get for the token. Of this process alone, so that the token itself is kept
    /// nowhere, and with the port in its name: cookies are shared by all ports of a host.
    cookie: (String, Token),
}

#[derive(Deserialize)]
struct Given {
    token: Option<String>,
}

impl Access {
    /// For a listener at `address`.
    ///
    /// # Errors
    /// When the kernel gives no random numbers.
    pub fn new(address: SocketAddr, token: Option<Token>) -> Result<Self, getrandom::Error> {
        let mut secret = [0; 16];
        getrandom::fill(&mut secret)?;
        let secret = format!("{:032x}", u128::from_ne_bytes(secret));
        Ok(Self {
            token,
            is_loopback: address.ip().to_canonical().is_loopback(),
            cookie: (format!("shadowtap-{}", address.port()), Token::from_secret(secret)),
        })
    }

    /// `None` when the request may go on, else its answer.
    pub fn refuse(&self, uri: &Uri, headers: &HeaderMap) -> Option<Response> {
        match &self.token {
            Some(token) => self.ask_for(token, uri, headers),
            None if !self.is_loopback => Some(line(
                StatusCode::FORBIDDEN,
                "this address is not a loopback address and no token is set; start shadowtap with \
                 --listen-token-file FILE, or listen on 127.0.0.1 and come by ssh -L",
            )),
            None if names_loopback(headers) => None,
            None => Some(line(
                StatusCode::MISDIRECTED_REQUEST,
                "the Host of this request is not this host; open it as 127.0.0.1 or localhost, or \
                 start shadowtap with --listen-token-file FILE",
            )),
        }
    }

    fn ask_for(&self, token: &Token, uri: &Uri, headers: &HeaderMap) -> Option<Response> {
        let (name, secret) = &self.cookie;
        if bearer(headers).is_some_and(|given| token.is(given))
            || cookies(headers, name).any(|given| secret.is(given))
        {
            return None;
        }
        let given = Query::<Given>::try_from_uri(uri).ok().and_then(|Query(given)| given.token);
        if uri.path() == "/" && given.is_some_and(|given| token.is(&given)) {
            let cookie = format!(
                "{name}={}; Path=/; Max-Age={COOKIE_SECONDS}; HttpOnly; SameSite=Strict",
                secret.text()
            );
            let fields = [(SET_COOKIE, cookie), (LOCATION, "/".to_owned())];
            return Some((StatusCode::SEE_OTHER, fields).into_response());
        }
        let mut response = line(
            StatusCode::UNAUTHORIZED,
            "the token is needed: open /?token=TOKEN once, or send Authorization: Bearer TOKEN",
        );
        if let Ok(value) = "Bearer".parse() {
            response.headers_mut().insert(WWW_AUTHENTICATE, value);
        }
        Some(response)
    }
}

fn line(status: StatusCode, text: &str) -> Response {
    (status, format!("{text}\n")).into_response()
}

/// Whatever the port: a tunnel has its own.
fn names_loopback(headers: &HeaderMap) -> bool {
    let mut hosts = headers.get_all(HOST).iter();
    let (Some(Ok(host)), None) = (hosts.next().map(|host| host.to_str()), hosts.next()) else {
        return false;
    };
    let Ok(authority) = host.parse::<axum::http::uri::Authority>() else { return false };
    let name = authority.host().trim_start_matches('[').trim_end_matches(']');
    let is_loopback = |ip: IpAddr| ip.to_canonical().is_loopback();
    name.eq_ignore_ascii_case("localhost") || name.parse().is_ok_and(is_loopback)
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = headers.get(AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

fn cookies<'a>(headers: &'a HeaderMap, name: &'a str) -> impl Iterator<Item = &'a str> {
    let fields = headers.get_all(COOKIE).iter().filter_map(|field| field.to_str().ok());
    fields
        .flat_map(|field| field.split(';'))
        .filter_map(move |pair| pair.trim().strip_prefix(name)?.strip_prefix('='))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOKEN: &str = "0123456789abcdef";

    fn access(address: &str, token: Option<&str>) -> Access {
        let token = token.map(|text| Token::new(text).expect("token"));
        Access::new(address.parse().expect("address"), token).expect("access")
    }

    fn status(access: &Access, uri: &str, fields: &[(&str, &str)]) -> u16 {
        answer(access, uri, fields).map_or(200, |response| response.status().as_u16())
    }

    fn answer(access: &Access, uri: &str, fields: &[(&str, &str)]) -> Option<Response> {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            let name = axum::http::HeaderName::from_bytes(name.as_bytes()).expect("name");
            headers.append(name, value.parse().expect("value"));
        }
        access.refuse(&uri.parse().expect("uri"), &headers)
    }

    #[test]
    fn on_loopback_the_host_must_be_loopback() {
        let access = access("127.0.0.1:9180", None);
        for host in ["127.0.0.1:9180", "localhost", "LOCALHOST:8080", "[::1]:9180", "127.8.8.8"] {
            assert_eq!(status(&access, "/", &[("host", host)]), 200, "{host}");
        }
        for host in ["evil.test", "127.0.0.1.evil.test", "10.0.0.1", "localhost.evil.test", "", "@"]
        {
            assert_eq!(status(&access, "/", &[("host", host)]), 421, "{host}");
        }
        assert_eq!(status(&access, "/", &[]), 421);
        assert_eq!(status(&access, "/", &[("host", "localhost"), ("host", "evil.test")]), 421);
    }

    #[test]
    fn elsewhere_nothing_is_shown_without_a_token() {
        for address in ["10.0.0.1:9180", "0.0.0.0:9180", "[::]:9180"] {
            let host = [("host", "127.0.0.1")];
            assert_eq!(status(&access(address, None), "/api/v1/overview", &host), 403, "{address}");
        }
    }

    #[test]
    fn a_token_opens_as_bearer_and_in_the_address_once() {
        for address in ["10.0.0.1:9180", "127.0.0.1:9180"] {
            let access = access(address, Some(TOKEN));
            assert_eq!(status(&access, "/", &[("host", "localhost")]), 401);
            let bearer = format!("bearer {TOKEN}");
            assert_eq!(status(&access, "/api/v1/overview", &[("authorization", &bearer)]), 200);
            for wrong in ["Bearer", "Bearer ", "Bearer 0123456789abcdeg", "Bearer 0123456789abcde"]
            {
                assert_eq!(status(&access, "/", &[("authorization", wrong)]), 401, "{wrong}");
            }
            assert_eq!(status(&access, "/?token=0123456789abcdeg", &[]), 401);
            assert_eq!(status(&access, &format!("/api/v1/overview?token={TOKEN}"), &[]), 401);
            let response = answer(&access, &format!("/?token={TOKEN}"), &[]).expect("an answer");
            assert_eq!(response.status(), 303);
            assert_eq!(response.headers()["location"], "/");
            let cookie = response.headers()["set-cookie"].to_str().expect("text");
            assert!(cookie.contains("; HttpOnly; SameSite=Strict"), "{cookie}");
            assert!(!cookie.contains(TOKEN), "{cookie}");
            let pair = cookie.split(';').next().expect("pair");
            assert_eq!(status(&access, "/", &[("cookie", &format!("a=b; {pair}"))]), 200);
            assert_eq!(status(&access, "/", &[("cookie", "shadowtap-9180=")]), 401);
        }
    }
}
