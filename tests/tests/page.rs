//! The page in a real browser: what differs is found by clicking, and no server's text scripts it.

use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use shadow_lab::{Connection, Host, Lab, Mirror, Nginx, Request, wait_for};
use shadow_tests::{Window, browse, shop};
use shadow_user::compare::{Compared, Seen};
use shadow_user::http::{self, Listening, Sources};
use shadow_user::report::Snapshot;
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
    let books = &mut snapshot.books;
    books.packets.captured = 91_240;
    (books.flows.seen, books.flows.mirrored) = (2_114, 2_071);
    books.bytes.captured = 11 << 20;
    books.bytes.delivered = 11 << 20;
    (books.requests.seen, books.requests.delivered) = (7_470, 7_470);
    books.requests.answered = 7_466;
    for micros in [21, 33, 40, 38, 62, 45, 47, 51, 160, 30] {
        snapshot.lag.add(Duration::from_micros(micros));
    }
    snapshot.memory = 3 << 20;
    snapshot
}

#[test]
fn differences_are_found_by_clicking() -> Result<()> {
    let lab = Lab::new()?;
    let base = serve(&lab.production, shop::compared())?;
    browse(&lab.production, &base, async |window: Window| {
        window.open("/").await?;
        window.shows("#headline", "compared exchanges differ").await?;
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
        window.click("#endpoints a[href*='products%2F%7Bid%7D&'], #endpoints a[href$='products%2F%7Bid%7D']").await?;
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

/// Writes the picture of the documentation anew: `cargo xtask test e2e screenshot -- --ignored`.
#[test]
#[ignore = "writes into docs/"]
fn screenshot() -> Result<()> {
    let lab = Lab::new()?;
    let base = serve(&lab.production, shop::compared())?;
    let picture = browse(&lab.production, &base, async |window: Window| {
        window.open("/").await?;
        window.find("#latency tbody").await?;
        window.resize(1280, 1120).await?;
        // Bars have grown to their length.
        tokio::time::sleep(Duration::from_secs(2)).await;
        window.picture().await
    })?;
    ensure!(picture.len() < 200_000, "{} bytes", picture.len());
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/page.png");
    std::fs::write(path, picture).context("write docs/page.png")
}
