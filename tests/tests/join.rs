//! Flows that were open before the mirror: HTTP/1 joins at its next request, others are skipped.

use std::io::Write;
use std::time::Duration;

use anyhow::{Result, ensure};
use shadow_lab::{Connection, Lab, Mirror, Redis, Request, content};
use shadow_tests::{Family, Stage, check_ended, wait_for_shadow};

fn get(id: &str) -> Request {
    Request::get("/1k.bin").header("X-Request-Id", id)
}

#[test]
fn an_open_http_connection_joins_at_its_next_request() -> Result<()> {
    let stage = Stage::new()?;
    let stream = stage.lab.client.connect(stage.lab.production.at4(80), Duration::from_secs(5))?;
    let mut connection = Connection::new(stream, Duration::from_secs(5))?;
    connection.exchange(&get("before"))?;
    let mirror = stage.mirror(Family::V4, &[])?;
    for id in ["first", "second", "third"] {
        connection.exchange(&get(id))?;
    }
    wait_for_shadow(&stage.shadow, 3)?;
    drop(connection);
    let ended = mirror.stop()?;
    check_ended(&ended)?;
    let ids: Vec<_> = stage.shadow.log()?.into_iter().map(|entry| entry.id).collect();
    ensure!(ids == ["first", "second", "third"], "{ids:?}");
    ensure!(ended.books.get("flows.mirrored") == 1, "{:#}", ended.books.json());
    Ok(())
}

#[test]
fn an_upload_under_way_is_not_joined_but_the_request_after_it_is() -> Result<()> {
    let stage = Stage::new()?;
    let stream = stage.lab.client.connect(stage.lab.production.at4(80), Duration::from_secs(5))?;
    let mut connection = Connection::new(stream, Duration::from_secs(5))?;
    let upload = Request::post("/digest", content(9, 1 << 20).to_vec());
    let upload = upload.header("X-Request-Id", "under way");
    let body = upload.content();
    connection.write(&upload.head())?;
    connection.write(&body[..300_000])?;
    connection.stream().flush()?;
    let mirror = stage.mirror(Family::V4, &[])?;
    connection.write(&body[300_000..])?;
    ensure!(connection.receive(false)?.status == 200);
    connection.exchange(&get("next"))?;
    wait_for_shadow(&stage.shadow, 1)?;
    drop(connection);
    let ended = mirror.stop()?;
    check_ended(&ended)?;
    let ids: Vec<_> = stage.shadow.log()?.into_iter().map(|entry| entry.id).collect();
    ensure!(ids == ["next"], "{ids:?}");
    Ok(())
}

#[test]
fn an_open_connection_of_another_protocol_is_skipped_and_counted() -> Result<()> {
    let lab = Lab::new()?;
    let (_production, shadow) = (Redis::start(&lab.production)?, Redis::start(&lab.shadow)?);
    let mut stream = lab.client.connect(lab.production.at4(6379), Duration::from_secs(5))?;
    let mut ask = |text: &str| -> Result<()> {
        stream.write_all(text.as_bytes())?;
        let mut answer = [0; 64];
        ensure!(std::io::Read::read(&mut stream, &mut answer)? > 0);
        Ok(())
    };
    ask("SET before 1\r\n")?;
    let to = lab.shadow.at4(6379).to_string();
    let flags = ["--iface", "eth0", "--port", "6379", "--shadow", &to];
    let mirror = Mirror::start(&lab.production, &flags)?;
    ask("SET after 1\r\n")?;
    ask("SET after 2\r\n")?;
    let ended = mirror.stop()?;
    check_ended(&ended)?;
    let books = &ended.books;
    ensure!(books.get("flows.seen") == 1, "{:#}", books.json());
    ensure!(books.sum("flows.skipped") == 1, "{:#}", books.json());
    ensure!(shadow.cli(&["DBSIZE"])? == "0", "the middle of a stream reached the shadow");
    Ok(())
}
