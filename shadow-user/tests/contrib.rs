//! The files of `contrib/` fit what is written: every field has a mapping, every metric that a
//! dashboard asks for is there, and the pipelines name fields that exist.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use serde_json::Value;
use shadow_engine::compare::{Comparison, Difference, Kind, Opaque, Verdict};
use shadow_engine::exchange::{
    Body, Exchange, Head, Protocol, Request, Response, Status, Unpaired,
};
use shadow_engine::time::Instant;
use shadow_lab::contrib;
use shadow_user::compare::Compared;
use shadow_user::report::jsonl::{Told, Wall, write};
use shadow_user::report::{Exposition, Snapshot, metrics};

fn response(status: Status) -> Response {
    let at = Instant::from_nanos(1_000_000);
    Response {
        status,
        head: Head::default(),
        trailers: Head::default(),
        body: Body { len: 2, kept: b"{}".to_vec(), hash: Some(1) },
        asked_at: at,
        first_at: at + Duration::from_millis(1),
        ended_at: at + Duration::from_millis(2),
    }
}

fn exchange(
    protocol: Protocol,
    production: Result<Response, Unpaired>,
    shadow: Result<Response, Unpaired>,
) -> Exchange {
    Exchange {
        protocol,
        client: "10.0.0.7:4000".parse().expect("address"),
        server: "[fd00::5]:80".parse().expect("address"),
        number: 0,
        request: Request {
            at: Instant::from_nanos(1_000_000),
            method: "GET".into(),
            target: "/a?b=c".into(),
            head: Head::default(),
            body: Body { len: 1, kept: b"x".to_vec(), hash: None },
        },
        production,
        shadow,
    }
}

fn comparison() -> Comparison {
    Comparison {
        endpoint: "GET /a".into(),
        verdict: Verdict::Body,
        differences: vec![Difference {
            path: "body.b".into(),
            kind: Kind::Type,
            production: Some("1".into()),
            shadow: None,
            noise: false,
        }],
        more: 1,
        opaque: Some(Opaque::TooLong),
    }
}

/// Lines that together have every field there is.
fn lines() -> Vec<Value> {
    let answered = |status| Ok(response(status));
    let exchanges = [
        exchange(Protocol::Http1, answered(Status::Http(200)), answered(Status::Http(500))),
        exchange(Protocol::Http2, answered(Status::Grpc(0)), answered(Status::Grpc(14))),
        exchange(Protocol::Redis, answered(Status::Redis(b'+')), answered(Status::Redis(b'-'))),
        exchange(Protocol::Http1, Err(Unpaired::Lost), Err(Unpaired::Shed)),
    ];
    let lines = exchanges.iter().map(|exchange| {
        let mut line = Vec::new();
        let wall = Wall::since(SystemTime::UNIX_EPOCH);
        let comparison = comparison();
        let shadow = "10.0.0.9:80";
        let told = Told { shadow, exchange, comparison: &comparison, id: Some("4bf92f") };
        write(&mut line, wall, &told, true).expect("a line");
        serde_json::from_slice(&line).expect("JSON")
    });
    lines.collect()
}

#[test]
fn every_field_has_its_mapping() {
    let template = contrib::read("elasticsearch/shadowtap-template.json").expect("a template");
    let template = serde_json::from_str(&template).expect("JSON");
    for line in lines() {
        assert_eq!(contrib::unmapped(&template, &line), Vec::<String>::new(), "{line:#}");
    }
    // And no mapping is for a field that nothing writes.
    let mut mapped = Vec::new();
    leaves(&template["template"]["mappings"], "", &mut mapped);
    assert!(mapped.len() > 40, "{mapped:?}");
    for path in mapped {
        let is_there = lines().iter().any(|line| contrib::has_field(line, &path));
        assert!(is_there, "nothing writes {path}");
    }
}

fn leaves(mapping: &Value, path: &str, list: &mut Vec<String>) {
    match mapping["properties"].as_object() {
        Some(properties) => {
            for (name, mapping) in properties {
                let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                leaves(mapping, &path, list);
            }
        }
        None => list.push(path.to_owned()),
    }
}

#[test]
fn the_pipelines_read_what_is_written() {
    let text = contrib::read("logstash/shadowtap.conf").expect("a pipeline");
    let fields = contrib::logstash_fields(&text).expect("well formed");
    // Logstash's own.
    let own = ["tags", "log", "host", "event.original"];
    let ours: Vec<_> = fields.iter().filter(|field| !own.contains(&field.as_str())).collect();
    assert!(!ours.is_empty());
    for field in ours {
        assert!(contrib::has_field(&lines()[0], field), "nothing writes {field}");
    }
    let dataset = &lines()[0]["event"]["dataset"];
    assert!(text.contains(&format!("data_stream_dataset => {dataset}")), "{dataset}");

    let text = contrib::read("filebeat/shadowtap.yml").expect("a configuration");
    let filebeat = contrib::yaml(&text).expect("YAML");
    let input = &filebeat["filebeat.inputs"][0];
    assert_eq!(input["type"], "filestream");
    assert_eq!(input["parsers"][0]["ndjson"]["target"], "", "fields stand at the root");
    assert_eq!(input["parsers"][0]["ndjson"]["overwrite_keys"], true, "the time is the line's");
    let unless = &filebeat["processors"][0]["drop_event"]["when"]["not"]["equals"];
    assert_eq!(&unless["event.dataset"], dataset);
    let index = filebeat["output.elasticsearch"]["index"].as_str().expect("an index");
    let template = contrib::read("elasticsearch/shadowtap-template.json").expect("a template");
    let template: Value = serde_json::from_str(&template).expect("JSON");
    let pattern = template["index_patterns"][0].as_str().expect("a pattern");
    assert!(index.starts_with(pattern.trim_end_matches('*')), "{index} is not of {pattern}");
}

#[test]
fn the_dashboard_asks_for_metrics_that_there_are() {
    let mut compared = Compared::default();
    let status = |code| Ok(response(Status::Http(code)));
    let exchange = exchange(Protocol::Http1, status(200), status(500));
    let comparison = comparison();
    compared.add(&exchange, &comparison);
    let compared = Some(Arc::new(compared));
    let text = metrics::render(&Snapshot::default(), compared, Exposition::Text).expect("metrics");
    let known = contrib::metric_names(&text);
    let dashboard = contrib::read("grafana/shadowtap.json").expect("a dashboard");
    let dashboard: Value = serde_json::from_str(&dashboard).expect("JSON");
    let queries = contrib::queries(&dashboard);
    assert!(queries.len() > 15, "{queries:#?}");
    for query in queries {
        let names = contrib::metric_names(&query);
        assert!(!names.is_empty(), "{query}");
        for name in names {
            assert!(known.contains(name), "there is no {name}, for which asks {query}");
        }
    }
}
