//! The filter's grammar.
//!
//! winnow reads it: it is in the tree already for TOML, has no macros and no run-time tables, and
//! says at which octet it stopped.

use winnow::ascii::multispace0;
use winnow::combinator::{
    alt, cut_err, delimited, eof, fail, not, opt, peek, preceded, repeat, separated, terminated,
};
use winnow::error::{ContextError, ParseError, StrContext, StrContextValue};
use winnow::prelude::*;
use winnow::token::{one_of, take_till, take_while};

use super::super::pattern::compile;
use super::{Expr, Field, Test};
use crate::compare::ignore::is_token;

/// Parentheses and `not`s within each other.
const MAX_DEPTH: usize = 32;

/// Longest filter, octets.
const MAX_LEN: usize = 4_096;

/// The expression, or what is wrong and at which character.
pub(super) fn parse(text: &str) -> Result<Expr, String> {
    if text.len() > MAX_LEN {
        return Err(format!("is longer than {MAX_LEN} octets"));
    }
    whole.parse(text).map_err(|error: ParseError<&str, ContextError>| {
        let before = text.get(..error.offset()).unwrap_or(text);
        // What stands between two words belongs to neither.
        let behind = text.get(before.len()..).unwrap_or_default();
        let space = behind.len() - behind.trim_start().len();
        let at = before.chars().count() + behind[..space].chars().count() + 1;
        let what = match (error.inner().cause(), error.inner().context().next()) {
            (Some(cause), _) => cause.to_string(),
            (None, Some(StrContext::Expected(StrContextValue::Description(what)))) => {
                format!("{what} is expected")
            }
            (None, _) => "something else is expected".to_owned(),
        };
        format!("{what} at character {at}")
    })
}

fn whole(input: &mut &str) -> ModalResult<Expr> {
    let expr = or(input, MAX_DEPTH)?;
    cut_err((multispace0, eof)).context(expected("and, or, or the end")).parse_next(input)?;
    Ok(expr)
}

const fn expected(what: &'static str) -> StrContext {
    StrContext::Expected(StrContextValue::Description(what))
}

fn or(input: &mut &str, depth: usize) -> ModalResult<Expr> {
    let first = and(input, depth)?;
    let more = |input: &mut &str| and(input, depth);
    let mut all: Vec<_> = repeat(0.., preceded(word("or"), cut_err(more))).parse_next(input)?;
    all.insert(0, first);
    Ok(if all.len() == 1 { all.remove(0) } else { Expr::Any(all) })
}

fn and(input: &mut &str, depth: usize) -> ModalResult<Expr> {
    let first = unary(input, depth)?;
    let more = |input: &mut &str| unary(input, depth);
    let mut all: Vec<_> = repeat(0.., preceded(word("and"), cut_err(more))).parse_next(input)?;
    all.insert(0, first);
    Ok(if all.len() == 1 { all.remove(0) } else { Expr::All(all) })
}

fn unary(input: &mut &str, depth: usize) -> ModalResult<Expr> {
    let Some(deeper) = depth.checked_sub(1) else {
        return cut_err(fail).context(expected("less than 32 levels")).parse_next(input);
    };
    if opt(word("not")).parse_next(input)?.is_some() {
        let negated = cut_err(|input: &mut &str| unary(input, deeper)).parse_next(input)?;
        return Ok(Expr::Not(Box::new(negated)));
    }
    if opt(sign("(")).parse_next(input)?.is_some() {
        let inner = |input: &mut &str| or(input, deeper);
        let closed =
            terminated(cut_err(inner), cut_err(sign(")")).context(expected(") or and, or")));
        return { closed }.parse_next(input);
    }
    test(input)
}

fn test(input: &mut &str) -> ModalResult<Expr> {
    let field = field(input)?;
    let is = |value: String| Expr::Test(field.clone(), Test::Is(value.into_bytes().into()));
    let matches = |regex| Expr::Test(field.clone(), Test::Matches(regex));
    let negate = |expr| Expr::Not(Box::new(expr));
    let list = delimited(
        cut_err(sign("(")).context(expected("( and a list")),
        separated(1.., value, sign(",")),
        cut_err(sign(")")).context(expected(", or )")),
    );
    let regex = || {
        let text = preceded(multispace0, quoted);
        cut_err(text.try_map(compile_quoted)).context(expected("a regex in quotes"))
    };
    let operation = alt((
        preceded(sign("!="), value.map(|value| negate(is(value)))),
        preceded(sign("!~"), regex().map(|regex| negate(matches(regex)))),
        preceded(sign("="), value.map(is)),
        preceded(sign("~"), regex().map(matches)),
        preceded(
            word("in"),
            list.map(|list: Vec<_>| Expr::Any(list.into_iter().map(is).collect())),
        ),
    ));
    if let Some(test) = opt(operation).parse_next(input)? {
        return Ok(test);
    }
    if matches!(field, Field::Header(_) | Field::Query(_)) {
        return Ok(Expr::Test(field.clone(), Test::Exists));
    }
    cut_err(fail).context(expected("=, !=, ~, !~ or in")).parse_next(input)
}

fn field(input: &mut &str) -> ModalResult<Field> {
    let what = "method, path, host, header[\"NAME\"], query[\"NAME\"], not or (";
    if opt(word("header")).parse_next(input)?.is_some() {
        let name = subscript.verify(|name: &String| is_token(name));
        let name =
            cut_err(name).context(expected("[\"NAME\"] with a field's name")).parse_next(input)?;
        return Ok(Field::Header(name.to_ascii_lowercase().into()));
    }
    if opt(word("query")).parse_next(input)?.is_some() {
        let name = cut_err(subscript).context(expected("[\"NAME\"] with a parameter's name"));
        return { name }.map(|name| Field::Query(name.into())).parse_next(input);
    }
    cut_err(alt((
        word("method").value(Field::Method),
        word("path").value(Field::Path),
        word("host").value(Field::Host),
    )))
    .context(expected(what))
    .parse_next(input)
}

fn subscript(input: &mut &str) -> ModalResult<String> {
    delimited(sign("["), preceded(multispace0, quoted), sign("]")).parse_next(input)
}

fn value(input: &mut &str) -> ModalResult<String> {
    let bare = take_while(1.., is_bare).map(str::to_owned);
    cut_err(preceded(multispace0, alt((quoted, bare))))
        .context(expected("a value, in quotes unless it is a word"))
        .parse_next(input)
}

/// Between double or single quotes; no octet between them means anything but itself, so that a
/// regex is what it is.
fn quoted(input: &mut &str) -> ModalResult<String> {
    let quote = peek(one_of(['"', '\''])).parse_next(input)?;
    let text = delimited(quote, take_till(0.., quote), quote);
    { text }.map(|text: &str| text.to_owned()).parse_next(input)
}

fn compile_quoted(
    text: String,
) -> Result<regex::bytes::Regex, super::super::pattern::PatternError> {
    compile(&text)
}

fn is_bare(c: char) -> bool {
    c.is_ascii_alphanumeric() || "_-./:*+%".contains(c)
}

fn sign<'s>(text: &'static str) -> impl ModalParser<&'s str, &'s str, ContextError> {
    preceded(multispace0, text)
}

fn word<'s>(text: &'static str) -> impl ModalParser<&'s str, &'s str, ContextError> {
    delimited(multispace0, text, not(one_of(is_bare)))
}
