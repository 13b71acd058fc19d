//! What is left out when answers are compared.

use super::path::JsonPath;
use super::rules::RuleError;

/// One value of `--ignore`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Ignore {
    /// `header:NAME`: a field of heads and trailers, by its lower-case name.
    Header(Box<str>),
    /// `json:PATH`: places in JSON bodies.
    Json(JsonPath),
    /// `query:NAME`: a query parameter of the URLs that answers carry (`Location`).
    Query(Box<str>),
}

impl Ignore {
    /// Reads `header:NAME`, `json:PATH` or `query:NAME`.
    ///
    /// # Errors
    ///
    /// It is none of the three.
    pub fn parse(text: &str) -> Result<Self, RuleError> {
        let error = |what: String, remedy| RuleError::new("--ignore", text, what, remedy);
        let (kind, value) = text
            .split_once(':')
            .ok_or_else(|| error("no kind".into(), "write header:NAME, json:PATH or query:NAME"))?;
        match kind {
            "header" if is_token(value) => Ok(Self::Header(value.to_ascii_lowercase().into())),
            "header" => Err(error(
                "not a field name".into(),
                "write the name as it stands before the colon, such as header:X-Build",
            )),
            "json" => JsonPath::parse(value).map(Self::Json).map_err(|wrong| {
                error(
                    wrong.to_string(),
                    "write a path such as json:$.items[*].price, or as a report shows it",
                )
            }),
            "query" if !value.is_empty() && !value.contains(['&', '=', '?', '#']) => {
                Ok(Self::Query(value.into()))
            }
            "query" => Err(error(
                "not a parameter's name".into(),
                "write the name alone, such as query:state",
            )),
            other => Err(error(
                format!("unknown kind {other}"),
                "write header:NAME, json:PATH or query:NAME",
            )),
        }
    }
}

/// RFC 9110, 5.6.2.
pub(crate) fn is_token(name: &str) -> bool {
    let tchar = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    !name.is_empty() && name.bytes().all(tchar)
}
