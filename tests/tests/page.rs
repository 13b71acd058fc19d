//! The page in a real browser: what differs is found by clicking, and no server's text scripts it.

use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use shadow_lab::{Connection, Host, Lab, Mirror, Nginx, Request};
use shadow_tests::{Window, browse, shop};
use shadow_user::compare::{Compared, Seen};
use shadow_user::http::{self, Listening, Sources};
use shadow_user::report::{Mirrored, Snapshot};
use shadow_user::shadows::Role;
use shadow_user::web::access::Access;
use shadow_user::web::board::Run;
use shadow_user::worker::Published;

/// Serves the page of a run without a daemon, on `host`'s loopback, as long as the test runs; its
/// address.
fn serve(host: &Host, compared: Compared) -> Result<String> {
    let listener = host.enter(|| TcpListener::bind("127.0.0.1:0"))??;
    listener.set_nonblocking(true)?;
    let address = listener.local_addr()?;
    let listening = Listening { listener, access: Access::new(address, None)? };
    let published = Published::default();
    published.store(Arc::new(snapshot()));
    let seen = Seen::default();
    seen.store(Arc::new(compared));
    let run =
        Run { shadow: "10.0.0.9:8080".to_owned(), compare: "body", bodies: true, noise: true };
    let sources = Sources { published, seen: Some(seen) };
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(http::serve(listening, sources, run))
    });
    Ok(format!("http://{address}"))
}

/// A mirror's figures to go with the shop's.
fn snapshot() -> Snapshot {
    let mut snapshot = Snapshot { at: shadow_user::kernel::now(), ..Snapshot::default() };
    snapshot.started = shadow_engine::time::Instant::from_nanos(
        snapshot.at.as_nanos().saturating_sub(754_000_000_000),
    );
    let books = &mut snapshot.shadow.books;
    books.packets.captured = 91_240;
    (books.flows.seen, books.flows.mirrored) = (2_114, 2_071);
    books.bytes.captured = 11 << 20;
    books.bytes.delivered = 11 << 20;
    (books.requests.seen, books.requests.delivered) = (7_470, 7_470);
    books.requests.answered = 7_466;
    for micros in [21, 33, 40, 38, 62, 45, 47, 51, 160, 30] {
        snapshot.lag.add(Duration::from_micros(micros));
    }
    snapshot.shadow.memory = 3 << 20;
    let mut baseline = Mirrored { to: "10.0.0.8:8080".into(), ..snapshot.shadow.clone() };
    baseline.role = Role::Baseline;
    baseline.books.circuit.open = true;
    snapshot.others = vec![baseline];
    snapshot
}

#[test]
fn differences_are_found_by_clicking() -> Result<()> {
    let lab = Lab::new()?;
    let base = serve(&lab.production, shop::compared())?;
    browse(&lab.production, &base, async |window: Window| {
        window.open("/").await?;
        window.shows("#headline", "compared exchanges differ").await?;
        window.shows(".mirror", "baseline 10.0.0.8:8080").await?;
        window.shows(".mirror tr:last-child", "down").await?;
        // Sorted by what differs; sorted otherwise by a click.
        window.shows("#endpoints tbody tr:first-child", "/products/{id}/reviews").await?;
        window.click("#sort-name").await?;
        window.shows("#endpoints tbody tr:first-child", "DELETE").await?;
        // The filter leaves the endpoints in which production was fine and the shadow was not.
        window.click("#broken").await?;
        window.wait("#endpoints tbody", |text| rows(text) == 2).await?;
        let left = window.text("#endpoints tbody").await?;
        ensure!(left.contains("/checkout") && left.contains("/cart/items"), "{left}");
        // A cell of the matrix narrows it further.
        window.click("#matrix button[aria-label^='production 200, shadow 500']").await?;
        window.wait("#endpoints tbody", |text| text.contains("/checkout")).await?;
        window.wait("#endpoints tbody", |text| !text.contains("/cart")).await?;
        // From the endpoint to its field, to an example, to both answers.
        window.click("#clear").await?;
        window.click("#sort-differ").await?;
        window.follow_name("GET /products/{id}").await?;
        window.shows("h1", "/products/{id}").await?;
        window.shows("#fields tr.is-noise", "request_id").await?;
        window.click("#fields [data-field='body.price.amount']").await?;
        window.wait("#examples tbody", |text| text.lines().count() > 0).await?;
        window.click("#examples tbody a").await?;
        window.shows("#differences", "body.price.amount").await?;
        window.shows(".side.production .body", "\"amount\"").await?;
        window.shows(".side.shadow .body", "\"amount\"").await?;
        window.follow("GET /products/{id}").await?;
        window.shows("#latency", "production").await?;
        check_layout(&window).await
    })
}

fn rows(text: &str) -> usize {
    text.lines().filter(|line| !line.trim().is_empty()).count()
}

/// Nothing is wider than the window, on a screen and on a phone; everything has a name.
async fn check_layout(window: &Window) -> Result<()> {
    for (width, path) in [(1280, "/"), (500, "/"), (500, "/#/endpoint?name=GET+%2Fsearch")] {
        window.resize(width, 900).await?;
        window.open(path).await?;
        window.find("#latency tbody").await?;
        let script = "return document.documentElement.scrollWidth - innerWidth";
        let over = window.run(script, vec![]).await?;
        ensure!(over.as_i64().is_some_and(|over| over <= 0), "{path} at {width}: {over} too wide");
        let script = "return [...document.querySelectorAll('button, a, select, input')].filter(it => \
                      !(it.innerText || it.ariaLabel || it.labels?.length || it.querySelector('img'))).length \
                      + [...document.querySelectorAll('thead th')].filter(it => it.scope !== 'col').length";
        let nameless = window.run(script, vec![]).await?;
        ensure!(nameless == 0, "{nameless} elements without a name or scope at {path}");
    }
    Ok(())
}

#[test]
fn a_hostile_response_does_not_script_the_page() -> Result<()> {
    let lab = Lab::new()?;
    let base = serve(&lab.production, shop::hostile())?;
    browse(&lab.production, &base, async |window: Window| {
        window.open("/").await?;
        window.shows("#endpoints tbody", "<script>").await?;
        check_unharmed(&window).await?;
        for row in ["img", "fields"] {
            window.open("/").await?;
            window.click(&format!("#endpoints tbody a[href*='{row}']")).await?;
            window.shows("#fields", if row == "img" { "status" } else { "body" }).await?;
            check_unharmed(&window).await?;
            window.click("#examples tbody a").await?;
            window.shows(".side.shadow .status-line", "<script>").await?;
            window.shows(".side.shadow .head", "onerror").await?;
            window.shows(".side.shadow .body", "onerror").await?;
            check_unharmed(&window).await?;
        }
        // Even as markup it would run nothing: the policy holds, too.
        let script = "document.getElementById('main').innerHTML = arguments[0]; \
                      const it = document.createElement('script'); it.text = 'window.hacked = 1'; \
                      document.body.append(it)";
        window.run(script, vec![shop::HOSTILE.into()]).await?;
        tokio::time::sleep(Duration::from_millis(200)).await;
        let hacked = window.run("return window.hacked ?? null", vec![]).await?;
        ensure!(hacked.is_null(), "the policy let a script run");
        Ok(())
    })
}

/// The page has no element but its own.
async fn check_unharmed(window: &Window) -> Result<()> {
    let script = "return [window.hacked ?? null, document.scripts.length, document.images.length, \
                  document.querySelectorAll('[onerror], [onload], iframe, object, embed').length]";
    let found = window.run(script, vec![]).await?;
    ensure!(found == serde_json::json!([null, 1, 1, 0]), "the page was changed: {found}");
    Ok(())
}

/// A server's locations, but for what is planted.
fn locations(
    host: &Host,
    status: u16,
    version: u8,
    price: &str,
    items: &str,
    rate: &str,
) -> String {
    let files = host.folder().join("nginx-80/files");
    let hostile = "'<script>window.hacked=1</script><img src=x onerror=window.hacked=1>'";
    let hostile = if status == 200 { "'tame'" } else { hostile };
    format!(
        r#"
        default_type application/json;
        location = /same {{ return 200 '{{"a":1}}'; }}
        location = /status {{ return {status} '{{"a":1}}'; }}
        location = /header {{ add_header X-Version {version}; return 200 '{{"a":1}}'; }}
        location = /json {{ return 200 '{{"name":"lamp","price":{price}}}'; }}
        location = /order {{ return 200 '{{"items":[{items}]}}'; }}
        location = /late {{ alias {files}/1k.bin; limit_rate {rate}; }}
        location = /hostile {{ default_type text/html; add_header X-Text {hostile}; return 200 {hostile}; }}
"#,
        files = files.display()
    )
}

/// Endpoint, verdict, the field that differs, and its value on each leg.
const PLANTED: [(&str, &str, &str, &str, &str); 4] = [
    ("GET /status", "status", "status", "200", "503"),
    ("GET /header", "headers", "header.x-version", "1", "2"),
    ("GET /json", "body", "body.price", "12", "\"12\""),
    ("GET /order", "body", "body.items", "[1,2,3]", "[3,1,2]"),
];

/// How often each endpoint is asked.
const ROUNDS: usize = 3;

#[test]
fn planted_differences_of_an_nginx_pair_are_found_by_clicking() -> Result<()> {
    let lab = Lab::new()?;
    let start = |host: &Host, text: String| Nginx::start_with_locations(host, &text);
    let locations_of = (&lab.production, &lab.shadow);
    let production = start(&lab.production, locations(locations_of.0, 200, 1, "12", "1,2,3", "0"))?;
    let shadow = start(&lab.shadow, locations(locations_of.1, 503, 2, "\"12\"", "3,1,2", "512"))?;
    let to = lab.shadow.at4(80).to_string();
    let mut flags = vec!["--iface", "eth0", "--port", "80", "--shadow", &to, "--drain", "10s"];
    flags.extend(["--compare", "body", "--report-bodies"]);
    let mirror = Mirror::start(&lab.production, &flags)?;
    let stream = lab.client.connect(lab.production.at4(80), Duration::from_secs(5))?;
    let mut connection = Connection::new(stream, Duration::from_secs(20))?;
    let paths = ["/same", "/status", "/header", "/json", "/order", "/hostile", "/late"];
    for _ in 0..ROUNDS {
        for path in paths {
            ensure!(connection.exchange(&Request::get(path))?.status == 200, "{path}");
        }
    }
    drop(connection);
    let base = format!("http://{}", mirror.listen());
    browse(&lab.production, &base, async |window: Window| {
        window.open("/").await?;
        let all = ROUNDS * paths.len();
        window.shows("#headline", &format!("of {all} compared")).await?;
        window.shows("#verdict-match", &ROUNDS.to_string()).await?;
        for (endpoint, verdict, field, production, shadow) in PLANTED {
            find_by_clicking(&window, endpoint, verdict, field, production, shadow).await?;
        }
        window.open("/").await?;
        window.follow_name("GET /late").await?;
        window.shows("#verdict-slower", &ROUNDS.to_string()).await?;
        window.shows("#examples .tag", "slower").await?;
        window.open("/").await?;
        window.click("#broken").await?;
        window.wait("#endpoints tbody", |text| rows(text) == 1).await?;
        window.shows("#endpoints tbody", "/status").await?;
        window.open("/").await?;
        window.follow_name("GET /hostile").await?;
        window.click("#examples tbody a").await?;
        window.shows(".side.shadow .head", "<script>").await?;
        window.shows(".side.shadow .body", "<script>").await?;
        check_unharmed(&window).await
    })?;
    let ended = mirror.stop()?;
    drop((production, shadow));
    shadow_tests::check_ended(&ended)
}

/// From the overview to the endpoint, its field, an example, and both answers.
async fn find_by_clicking(
    window: &Window,
    endpoint: &str,
    verdict: &str,
    field: &str,
    production: &str,
    shadow: &str,
) -> Result<()> {
    window.open("/").await?;
    window.follow_name(endpoint).await?;
    window.shows(&format!("#verdict-{verdict}"), &ROUNDS.to_string()).await?;
    window.click(&format!("#fields [data-field='{field}']")).await?;
    window.shows("#examples .tag", verdict).await?;
    window.click("#examples tbody a").await?;
    window.shows("#differences tbody", field).await?;
    window.shows("#differences .value.production", production).await?;
    window.shows("#differences .value.shadow", shadow).await.map(drop)
}

/// Pictures of the documentation: name, what of the page, and the window's height.
const PICTURES: [(&str, &str, u32); 2] =
    [("page", "/", 1_120), ("page-endpoint", "/#/endpoint?name=GET+%2Fproducts%2F%7Bid%7D", 1_230)];

/// Writes the pictures of the documentation anew: as root,
/// `cargo test -p shadow-tests --test page screenshot -- --ignored`.
#[test]
#[ignore = "writes into docs/"]
fn screenshot() -> Result<()> {
    let lab = Lab::new()?;
    let base = serve(&lab.production, shop::compared())?;
    browse(&lab.production, &base, async |window: Window| {
        for (name, path, height) in PICTURES {
            window.resize(1280, height).await?;
            window.open(path).await?;
            window.find("#latency tbody").await?;
            // Bars have grown to their length.
            tokio::time::sleep(Duration::from_secs(2)).await;
            let picture = window.picture().await?;
            ensure!(picture.len() < 200_000, "{name}: {} bytes", picture.len());
            let path = format!("{}/../docs/{name}.png", env!("CARGO_MANIFEST_DIR"));
            std::fs::write(&path, picture).context(path)?;
        }
        Ok(())
    })
}
