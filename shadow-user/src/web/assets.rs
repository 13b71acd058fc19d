//! The page's files, within the program.

use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse as _, Response};

const HTML: &str = "text/html; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";
const IMAGE: &str = "image/svg+xml";

/// The page itself.
pub const PAGE: (&str, &str) = (HTML, include_str!("assets/index.html"));

macro_rules! files {
    ($($kind:ident $name:literal),* $(,)?) => {
        /// Name, media type and text of each.
        const FILES: &[(&str, &str, &str)] =
            &[$(($name, $kind, include_str!(concat!("assets/", $name)))),*];
    };
}

files! {
    CSS "style.css",
    IMAGE "icon.svg",
    SCRIPT "api.js",
    SCRIPT "app.js",
    SCRIPT "dom.js",
    SCRIPT "endpoints.js",
    SCRIPT "examples.js",
    SCRIPT "fields.js",
    SCRIPT "filter.js",
    SCRIPT "format.js",
    SCRIPT "latency.js",
    SCRIPT "matrix.js",
    SCRIPT "mirror.js",
    SCRIPT "pair.js",
    SCRIPT "route.js",
    SCRIPT "verdict.js",
    SCRIPT "verdicts.js",
}

/// The file of this name below `/assets/`.
pub fn file(name: &str) -> Response {
    match FILES.iter().find(|(known, ..)| *known == name) {
        Some((_, kind, text)) => content((kind, text)),
        None => StatusCode::NOT_FOUND.into_response(),
    }
}

/// A media type and a text as an answer.
pub fn content((kind, text): (&'static str, &'static str)) -> Response {
    ([(CONTENT_TYPE, kind)], text).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_of_the_folder_is_served_and_every_import_is_there() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/src/web/assets");
        let entries = std::fs::read_dir(folder).expect("folder");
        let mut names: Vec<String> = entries
            .map(|entry| entry.expect("entry").file_name().into_string().expect("name"))
            .filter(|name| name != "index.html")
            .collect();
        names.sort();
        let mut known: Vec<&str> = FILES.iter().map(|(name, ..)| *name).collect();
        known.sort_unstable();
        assert_eq!(names, known);
        for (name, _, text) in FILES {
            for import in text.split("from \"./").skip(1) {
                let import = import.split('"').next().expect("name");
                assert!(known.contains(&import), "{name} imports {import}");
            }
        }
    }

    #[test]
    fn no_script_makes_markup_out_of_text() {
        let sinks = ["innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval("];
        let more =
            ["new Function", "srcdoc", "DOMParser", "createContextualFragment", "javascript:"];
        for (name, _, text) in FILES {
            for sink in sinks.iter().chain(&more) {
                assert!(!text.contains(sink), "{sink} in {name}");
            }
        }
    }
}
