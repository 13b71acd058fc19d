//! The end of the socket that is in the mirror: a task beside the others, bounded in what it reads,
//! how long it waits and whom it serves at once.

use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::time::Duration;

use anyhow::Context as _;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, oneshot};
use tokio::time::timeout;

use super::protocol::{Answer, MAX_LINE, Request};
use super::settings::{Change, Name};
use super::socket::Socket;
use crate::report::{VERSION, summary};
use crate::setting::{Refusal, Wrong};
use crate::worker::{Command, Published};

/// Connections that are served at once; more wait in the socket's queue.
const CONNECTIONS: usize = 4;

/// The longest wait for a request's line, or for room for its answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// What does not change while the mirror runs.
#[derive(Clone, Debug)]
pub struct Run {
    /// The interfaces.
    pub iface: String,
    /// What is mirrored.
    pub port: String,
    /// The server under test.
    pub shadow: String,
}

/// What answers are made of.
#[derive(Clone)]
struct Ends {
    commands: Sender<Command>,
    published: Published,
    run: Run,
}

/// Serves until the runtime ends.
///
/// # Errors
/// When the socket cannot be used at all.
pub async fn serve(
    socket: &Socket,
    commands: Sender<Command>,
    published: Published,
    run: Run,
) -> anyhow::Result<()> {
    let listener = socket.listener.try_clone().context("the control socket cannot be used")?;
    let listener = UnixListener::from_std(listener).context("the control socket cannot be used")?;
    let ends = Ends { commands, published, run };
    let room = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let permit = Arc::clone(&room).acquire_owned().await?;
        match listener.accept().await {
            Ok((stream, _)) => {
                let ends = ends.clone();
                tokio::spawn(async move {
                    // Whoever left needs no answer.
                    let _ = converse(stream, &ends).await;
                    drop(permit);
                });
            }
            // Such as too many open files: they may be fewer soon.
            Err(error) => {
                tracing::warn!("the control socket takes no connection: {error}");
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        }
    }
}

/// Answers line by line until the other end closes, is silent for too long or talks too much.
async fn converse(mut stream: UnixStream, ends: &Ends) -> std::io::Result<()> {
    let (read, mut write) = stream.split();
    let mut lines = BufReader::new(read);
    let mut line = Vec::new();
    loop {
        line.clear();
        let mut bounded = (&mut lines).take(MAX_LINE);
        let Ok(read) = timeout(PATIENCE, bounded.read_until(b'\n', &mut line)).await else {
            return Ok(());
        };
        if read? == 0 {
            return Ok(());
        }
        let is_whole = line.ends_with(b"\n");
        let answer = if is_whole {
            answer(&line, ends).await
        } else {
            Answer::Refused(format!("a request is longer than {MAX_LINE} bytes; give less at once"))
        };
        let mut text = serde_json::to_vec(&answer)?;
        text.push(b'\n');
        match timeout(PATIENCE, write.write_all(&text)).await {
            Ok(written) => written?,
            Err(_) => return Ok(()),
        }
        if !is_whole {
            return Ok(());
        }
    }
}

async fn answer(line: &[u8], ends: &Ends) -> Answer {
    let result = match serde_json::from_slice(line) {
        Ok(Request::Status) => Ok(status(ends)),
        Ok(Request::Get) => Ok(ends.published.load().settings.values()),
        Ok(Request::Set { name, to }) => set(&name, &to, ends).await,
        Err(error) => Err(format!("no request: {error}; send such as {{\"do\":\"status\"}}")),
    };
    match result {
        Ok(value) => Answer::Ok(value),
        Err(refusal) => Answer::Refused(refusal),
    }
}

fn status(ends: &Ends) -> Value {
    let snapshot = ends.published.load();
    let Run { iface, port, shadow } = &ends.run;
    json!({
        "version": VERSION,
        "pid": std::process::id(),
        "phase": snapshot.phase.label(),
        "iface": iface,
        "port": port,
        "shadow": shadow,
        "settings": snapshot.settings.briefs(),
        "books": summary::figures_json(&snapshot),
    })
}

/// Changes a setting; what it is then.
async fn set(name: &str, to: &[String], ends: &Ends) -> Result<Value, String> {
    let subject = format!("set {name}");
    let refusal = |(what, remedy): Wrong| Refusal::new(&*subject, what, remedy).to_string();
    let name = Name::parse(name).map_err(refusal)?;
    let change = Change::parse(name, to).map_err(refusal)?;
    let (done, answer) = oneshot::channel();
    let gone = || format!("{subject}: the mirror ends; start it again with --{}", name.flag());
    ends.commands.send(Command::Change { change, done }).map_err(|_| gone())?;
    let settings = answer.await.map_err(|_| gone())?.map_err(refusal)?;
    Ok(json!({ name.flag(): name.brief(&settings) }))
}
