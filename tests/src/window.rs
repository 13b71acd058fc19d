//! A browser's window on a page, for tests that click.

use std::future::Future;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use fantoccini::elements::Element;
use fantoccini::wd::Capabilities;
use fantoccini::{Client, ClientBuilder, Locator};
use shadow_lab::{Browser, Host};
use tokio::time::{Instant, sleep};

/// How long something may take to appear: the page is told once a second.
const LIMIT: Duration = Duration::from_secs(20);
const POLL: Duration = Duration::from_millis(50);

/// A window.
#[derive(Debug)]
pub struct Window {
    client: Client,
    base: String,
}

/// Runs `test` with a window of 1280 by 1000 on `host`'s network; `base` is the page's address.
///
/// # Errors
/// When the browser does not start, or `test`'s own.
pub fn browse<T: Send, F: Future<Output = Result<T>>>(
    host: &Host,
    base: &str,
    test: impl FnOnce(Window) -> F + Send,
) -> Result<T> {
    let browser = Browser::start(host)?;
    // The driver's port is on the host's loopback: the whole client runs there.
    host.enter(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            let options = serde_json::json!({
                "goog:chromeOptions": { "args": browser.args() },
                "goog:loggingPrefs": { "browser": "ALL" },
            });
            let serde_json::Value::Object(options) = options else { bail!("no object") };
            let client =
                ClientBuilder::new(hyper_util::client::legacy::connect::HttpConnector::new())
                    .capabilities(Capabilities::from_iter(options))
                    .connect(&browser.url())
                    .await
                    .context("start Chromium")?;
            client.set_window_size(1280, 1000).await?;
            let window = Window { client: client.clone(), base: base.to_owned() };
            let result = test(window).await;
            client.close().await?;
            result
        })
    })?
}

impl Window {
    /// Goes to `path` of the page.
    ///
    /// # Errors
    /// When it does not load.
    pub async fn open(&self, path: &str) -> Result<()> {
        // From another page: behind a `#` alone nothing would be loaded.
        self.client.goto("about:blank").await?;
        self.client.goto(&format!("{}{path}", self.base)).await.with_context(|| path.to_owned())
    }

    /// Waits for the first element that `css` selects.
    ///
    /// # Errors
    /// When there is none in time.
    pub async fn find(&self, css: &str) -> Result<Element> {
        let wait = self.client.wait().at_most(LIMIT).every(POLL);
        let found = wait.for_element(Locator::Css(css)).await;
        found.with_context(|| format!("waited for {css}"))
    }

    /// Clicks on the first element that `css` selects.
    ///
    /// # Errors
    /// When there is none, or it cannot be clicked.
    pub async fn click(&self, css: &str) -> Result<()> {
        self.click_on(Locator::Css(css), css).await
    }

    /// Clicks on the link of this text.
    ///
    /// # Errors
    /// As [`Window::click`].
    pub async fn follow(&self, text: &str) -> Result<()> {
        self.click_on(Locator::LinkText(text), text).await
    }

    /// Clicks on the row of this endpoint.
    ///
    /// # Errors
    /// As [`Window::click`].
    pub async fn follow_name(&self, endpoint: &str) -> Result<()> {
        self.click(&format!("#endpoints a[data-name={endpoint:?}]")).await
    }

    async fn click_on(&self, locator: Locator<'_>, what: &str) -> Result<()> {
        let deadline = Instant::now() + LIMIT;
        loop {
            // What is drawn anew between the two calls is found again.
            let found = self.client.find(locator).await;
            let clicked = match found {
                Ok(element) => element.click().await,
                Err(error) => Err(error),
            };
            match clicked {
                Ok(()) => return Ok(()),
                Err(error) if Instant::now() > deadline => {
                    return Err(error).with_context(|| format!("waited to click on {what}"));
                }
                Err(_) => sleep(POLL).await,
            }
        }
    }

    /// The text that is shown where `css` selects, elements on lines of their own; none yet is no
    /// error.
    ///
    /// # Errors
    /// When the browser does not say.
    pub async fn text(&self, css: &str) -> Result<String> {
        let script = "return [...document.querySelectorAll(arguments[0])].map(it => it.innerText).join('\\n')";
        let value = self.run(script, vec![css.into()]).await?;
        // Numbers are grouped by narrow spaces.
        Ok(value.as_str().unwrap_or_default().replace(['\u{202f}', '\t'], " "))
    }

    /// Waits until the text where `css` selects passes.
    ///
    /// # Errors
    /// When it does not in time; the message holds the text.
    pub async fn wait(&self, css: &str, passes: impl Fn(&str) -> bool) -> Result<String> {
        let deadline = Instant::now() + LIMIT;
        loop {
            let text = self.text(css).await?;
            if passes(&text) {
                return Ok(text);
            }
            if Instant::now() > deadline {
                let page = self.text("body").await?;
                bail!("waited for {css}, which has “{text}” in {page}");
            }
            sleep(POLL).await;
        }
    }

    /// Waits until the text where `css` selects holds `part`.
    ///
    /// # Errors
    /// As [`Window::wait`].
    pub async fn shows(&self, css: &str, part: &str) -> Result<String> {
        let found = self.wait(css, |text| text.contains(part)).await;
        found.with_context(|| format!("looked for “{part}”"))
    }

    /// What a script returns.
    ///
    /// # Errors
    /// When it throws.
    pub async fn run(
        &self,
        script: &str,
        args: Vec<serde_json::Value>,
    ) -> Result<serde_json::Value> {
        self.client.execute(script, args).await.with_context(|| script.to_owned())
    }

    /// The window's picture as PNG.
    ///
    /// # Errors
    /// When there is none.
    pub async fn picture(&self) -> Result<Vec<u8>> {
        Ok(self.client.screenshot().await?)
    }

    /// Sets the window's outer size.
    ///
    /// # Errors
    /// When the browser refuses.
    pub async fn resize(&self, width: u32, height: u32) -> Result<()> {
        Ok(self.client.set_window_size(width, height).await?)
    }
}
