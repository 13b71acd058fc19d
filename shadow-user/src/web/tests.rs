use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};

use super::board::Run;
use super::*;
use crate::report::Snapshot;

/// A server in a thread of its own, which lasts as long as the test's process.
fn serve() -> SocketAddr {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("listener");
    listener.set_nonblocking(true).expect("non-blocking");
    let address = listener.local_addr().expect("address");
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let published = crate::worker::Published::default();
        let run =
            Run { shadow: "10.0.0.9:80".to_owned(), compare: "off", bodies: false, noise: false };
        let access = Access::new(address, None).expect("access");
        let listening = crate::http::Listening { listener, access };
        let sources = crate::http::Sources { published: published.clone(), seen: None };
        published.store(Arc::new(Snapshot { at: crate::kernel::now(), ..Snapshot::default() }));
        runtime.expect("runtime").block_on(crate::http::serve(listening, sources, run))
    });
    address
}

fn ask(address: SocketAddr, method: &str, uri: &str, host: &str) -> TcpStream {
    let mut stream = TcpStream::connect(address).expect("connected");
    let head = format!("{method} {uri} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    stream.write_all(head.as_bytes()).expect("asked");
    stream
}

fn get(address: SocketAddr, uri: &str, host: &str) -> String {
    let mut text = String::new();
    ask(address, "GET", uri, host).read_to_string(&mut text).expect("answered");
    text
}

fn status(text: &str) -> &str {
    text.split(' ').nth(1).expect("a status")
}

#[test]
fn every_answer_of_the_page_tells_the_browser_to_run_nothing_else() {
    let address = serve();
    let answers = [
        ("/", "200", "no-cache"),
        ("/assets/app.js", "200", "no-cache"),
        ("/assets/passwd", "404", "no-store"),
        ("/api/v1/overview", "200", "no-store"),
        ("/api/v1/endpoint", "400", "no-store"),
        ("/api/v1/endpoint?name=x", "404", "no-store"),
        ("/api/v1/examples", "200", "no-store"),
        ("/api/v1/examples?what=x", "400", "no-store"),
        ("/api/v1/examples/7", "404", "no-store"),
        ("/api/v1/examples/x", "404", "no-store"),
    ];
    for (uri, expected, keep) in answers {
        let text = get(address, uri, "localhost").to_ascii_lowercase();
        assert_eq!(status(&text), expected, "{uri}");
        for field in [
            "content-security-policy: default-src 'none'; script-src 'self'; style-src 'self'; \
             connect-src 'self'; img-src 'self'; frame-ancestors 'none'; base-uri 'none'; \
             form-action 'none'\r\n",
            "x-content-type-options: nosniff\r\n",
            "referrer-policy: no-referrer\r\n",
            &format!("cache-control: {keep}\r\n"),
        ] {
            assert!(text.contains(field), "{field} is not in the answer to {uri}: {text}");
        }
    }
    assert_eq!(status(&get(address, "/nothing", "localhost")), "404");
}

#[test]
fn another_hosts_name_gets_figures_and_no_page() {
    let address = serve();
    for uri in ["/", "/assets/app.js", "/api/v1/overview", "/api/v1/events"] {
        assert_eq!(status(&get(address, uri, "evil.test")), "421", "{uri}");
    }
    for uri in ["/metrics", "/healthz"] {
        assert_eq!(status(&get(address, uri, "evil.test")), "200", "{uri}");
    }
}

#[test]
fn only_get_is_answered() {
    let mut text = String::new();
    ask(serve(), "POST", "/api/v1/overview", "localhost").read_to_string(&mut text).expect("text");
    assert_eq!(status(&text), "405");
}

#[test]
fn events_are_overviews_and_streams_are_bounded() {
    let address = serve();
    let first_event = |stream: TcpStream| {
        let lines = BufReader::new(stream).lines().map_while(Result::ok);
        lines.skip_while(|line| !line.starts_with("event: ")).take(2).collect::<Vec<_>>()
    };
    let mut open = Vec::new();
    for _ in 0..events::MOST {
        let stream = ask(address, "GET", "/api/v1/events", "localhost");
        let lines = first_event(stream.try_clone().expect("clone"));
        assert_eq!(lines[0], "event: overview");
        let data = lines[1].strip_prefix("data: ").expect("data");
        let overview: serde_json::Value = serde_json::from_str(data).expect("json");
        assert_eq!(overview["shadow"], "10.0.0.9:80");
        open.push(stream);
    }
    let refused = get(address, "/api/v1/events", "localhost");
    assert_eq!(status(&refused), "503");
    drop(open);
    // The places are free again as soon as the server has seen the connections close.
    let deadline = Instant::now() + Duration::from_secs(20);
    while first_event(ask(address, "GET", "/api/v1/events", "localhost")).is_empty() {
        assert!(Instant::now() < deadline, "no place has become free");
    }
}
