//! A protocol that is not HTTP: the same commands make the same dataset.

use std::time::Duration;

use anyhow::{Result, ensure};
use shadow_lab::{Lab, Mirror, Redis, wait_until};
use shadow_tests::check_ended;

/// Keys are drawn at random, values are fixed and increments commute: the dataset does not depend
/// on the order in which the connections' commands arrive.
fn benchmark(lab: &Lab, pipeline: &str) -> Result<()> {
    let address = lab.production.v4.to_string();
    let fixed = ["-h", &address, "-t", "set,get,incr", "-r", "5000", "-d", "100", "-q"];
    let text = lab
        .client
        .run("redis-benchmark", fixed.iter().chain(&["-n", "5000", "-c", "20", "-P", pipeline]))?;
    ensure!(text.contains("INCR"), "redis-benchmark printed {text}");
    Ok(())
}

#[test]
fn redis_benchmark_leaves_the_shadow_with_the_same_dataset() -> Result<()> {
    let lab = Lab::new()?;
    let (production, shadow) = (Redis::start(&lab.production)?, Redis::start(&lab.shadow)?);
    let to = lab.shadow.at4(6379).to_string();
    let flags = ["--iface", "eth0", "--port", "6379", "--shadow", &to, "--drain", "30s"];
    let mirror = Mirror::start(&lab.production, &flags)?;
    let empty = production.dataset()?;
    benchmark(&lab, "1")?;
    benchmark(&lab, "16")?;
    let wanted = production.dataset()?;
    ensure!(wanted != empty, "the benchmark wrote nothing");
    let ended = mirror.stop()?;
    check_ended(&ended)?;
    let books = &ended.books;
    ensure!(books.sum("flows.aborted") == 0, "{:#}", books.json());
    ensure!(books.sum("flows.skipped") == 0, "{:#}", books.json());
    ensure!(books.get("bytes.delivered") == books.get("bytes.captured"), "{:#}", books.json());
    let same = || shadow.dataset().is_ok_and(|found| found == wanted);
    wait_until("the same dataset", Duration::from_secs(5), same)?;
    let size = production.cli(&["DBSIZE"])?;
    ensure!(size == shadow.cli(&["DBSIZE"])?, "{size}");
    Ok(())
}
