//! Which clients are mirrored, chosen in the kernel and changed while the mirror runs: whole sessions
//! of exactly those, and nothing lost that the books do not name.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use nix::sys::signal::Signal;
use serde_json::Value;
use shadow_common::{Address, place};
use shadow_lab::{Connection, Entry, Host, Mirror, Mix, Nginx, Request, wait_until};
use shadow_tests::{Family, Stage, check_ended, check_lossless, ctl, shadowtap, wait_for_shadow};
use shadow_user::choice::Sample;

const LIMIT: Duration = Duration::from_secs(20);

/// The address of one of 250 users.
fn user(number: u8) -> [u8; 4] {
    [10, 78, 0, number]
}

/// Gives the client's host the addresses of users `1..=count`.
fn add_users(stage: &Stage, count: u8) -> Result<()> {
    let add =
        format!("for n in $(seq 1 {count}); do echo address add 10.78.0.$n/32 dev eth0; done");
    stage.lab.client.run("sh", ["-c", &format!("({add}) | ip -batch -")])?;
    let route = "route add 10.78.0.0/24 dev eth0";
    stage.lab.production.run("ip", route.split_whitespace())?;
    Ok(())
}

/// Two requests of each user on one connection, by curl.
fn browse(stage: &Stage, users: impl Iterator<Item = u8>) -> Result<()> {
    let users: Vec<_> = users.map(|user| user.to_string()).collect();
    let url = format!("http://{}/small.txt", stage.lab.production.v4);
    let curl = format!(
        "curl -sSf --max-time 20 --interface 10.78.0.$n -H \"X-Request-Id: $n\" -o /dev/null -o /dev/null \
         {url}?1 {url}?2 || exit 1"
    );
    let script = format!("for n in {}; do {curl}; done", users.join(" "));
    stage.lab.client.run("sh", ["-c", &script]).map(drop)
}

/// How many requests of each user are in a log.
fn by_user(log: &[Entry]) -> Result<BTreeMap<u8, usize>> {
    let mut users = BTreeMap::new();
    for entry in log {
        let user = entry.id.parse().with_context(|| format!("no user: {}", entry.id))?;
        *users.entry(user).or_default() += 1;
    }
    Ok(users)
}

#[test]
fn a_sample_is_the_whole_sessions_of_the_same_users_in_every_run() -> Result<()> {
    let stage = Stage::new()?;
    add_users(&stage, 200)?;
    let is_in = |share: &str, number: u8| {
        let bound = Sample::parse(share).map_err(|(what, _)| anyhow::anyhow!(what));
        Ok::<_, anyhow::Error>(
            u64::from(place(0, &Address::from_v4(user(number)), [0; 2])) < bound?.bound(),
        )
    };
    let mut before = BTreeSet::new();
    let mut logged = 0;
    for (share, users) in [("30%", 200_u8), ("30%", 100), ("60%", 100)] {
        let mirror = stage.mirror(Family::V4, &["--sample", share, "--live", "off"])?;
        browse(&stage, 1..=users)?;
        let mut expected = BTreeSet::new();
        for number in 1..=users {
            if is_in(share, number)? {
                expected.insert(number);
            }
        }
        wait_for_shadow(&stage.shadow, logged + 2 * expected.len())?;
        let ended = mirror.stop()?;
        check_ended(&ended)?;
        check_lossless(&ended.books, 2 * expected.len())?;
        let books = &ended.books;
        ensure!(books.get("flows.seen") == expected.len() as u64, "{:#}", books.json());
        ensure!(books.get("exchanges.paired") == 2 * expected.len() as u64, "{:#}", books.json());
        ensure!(books.get("packets.passed.sampled_out") > 0, "{:#}", books.json());
        let log = stage.shadow.log()?.split_off(logged);
        logged += log.len();
        let found = by_user(&log)?;
        ensure!(found.values().all(|count| *count == 2), "half a session: {found:?}");
        let found: BTreeSet<u8> = found.into_keys().collect();
        ensure!(found == expected, "{share}: {found:?} instead of {expected:?}");
        ensure!((users as usize / 10..users as usize).contains(&found.len()), "{}", found.len());
        ensure!(before.iter().filter(|user| **user <= users).all(|user| found.contains(user)));
        before = found;
    }
    ensure!(stage.production.logged() == 2 * 400);
    Ok(())
}

/// What it says when it refuses.
fn refusal(production: &Host, args: &[&str]) -> Result<String> {
    let output = shadowtap(production, &[&["ctl"], args].concat())?;
    let error = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    ensure!(output.status.code() == Some(2), "ctl {args:?}: {}: {error}", output.status);
    ensure!(error.lines().count() == 1, "{error}");
    Ok(error)
}

#[test]
fn clients_are_mirrored_by_their_networks_which_change_while_running() -> Result<()> {
    let stage = Stage::new()?;
    add_users(&stage, 240)?;
    let production = &stage.lab.production;
    let list = production.folder().join("excluded.txt");
    fs::write(&list, "# a lab\n10.78.0.64/26\n")?;
    let list = format!("@{}", list.display());
    // A setting in the file, and a flag.
    let file = production.folder().join("m.toml");
    fs::write(&file, "client = [\"10.78.0.0/25\", \"10.78.0.100\"]\nlive = \"off\"\n")?;
    let file = file.display().to_string();
    let mirror = stage.mirror(Family::V4, &["--config", &file, "--exclude-client", &list])?;
    let mut expected: Vec<u8> = Vec::new();
    let mut arrive = |users: &[u8], mirrored: &[u8]| -> Result<()> {
        browse(&stage, users.iter().copied())?;
        expected.extend(mirrored);
        expected.extend(mirrored);
        wait_for_shadow(&stage.shadow, expected.len())?;
        let mut found: Vec<u8> =
            stage.shadow.log()?.iter().map(|entry| Ok(entry.id.parse()?)).collect::<Result<_>>()?;
        found.sort_unstable();
        expected.sort_unstable();
        ensure!(found == expected, "{found:?} instead of {expected:?}");
        Ok(())
    };
    let users = [1, 63, 64, 100, 101, 127, 128, 200];
    arrive(&users, &[1, 63, 100])?;
    let said = ctl(production, &["set", "client", "add", "10.78.0.192/26"])?;
    ensure!(said == "client 10.78.0.0/25 10.78.0.100/32 10.78.0.192/26\n", "{said}");
    arrive(&users, &[1, 63, 100, 200])?;
    ctl(production, &["set", "exclude-client", "remove", &list])?;
    arrive(&users, &[1, 63, 64, 100, 101, 127, 200])?;
    ctl(production, &["set", "client", "to"])?;
    ctl(production, &["set", "exclude-client", "to", "10.78.0.0/26"])?;
    arrive(&users, &[64, 100, 101, 127, 128, 200])?;
    // Thousands at once.
    let many = production.folder().join("many.txt");
    let nets: String = (0..20_000_u32)
        .map(|number| format!("{}\n", std::net::Ipv4Addr::from(0x0b00_0000 + number)))
        .collect();
    fs::write(&many, nets + "10.78.0.200\n")?;
    ctl(production, &["set", "client", "to", &format!("@{}", many.display())])?;
    arrive(&users, &[200])?;
    let get: Value = serde_json::from_str(&ctl(production, &["get"])?)?;
    ensure!(get["client"].as_array().is_some_and(|nets| nets.len() == 20_001), "{}", get["sample"]);
    let ended = mirror.stop()?;
    check_ended(&ended)?;
    check_lossless(&ended.books, expected.len())?;
    ensure!(ended.books.get("packets.passed.client") > 0, "{:#}", ended.books.json());
    ensure!(ended.books.get("settings.changed.client") == 3, "{:#}", ended.books.json());
    ensure!(ended.books.get("settings.changed.exclude_client") == 2, "{:#}", ended.books.json());
    ensure!(ended.stderr.contains("client is 20001 networks, and was none"), "{}", ended.stderr);
    Ok(())
}

#[test]
fn a_change_lets_open_flows_be_and_a_pause_too() -> Result<()> {
    let stage = Stage::new()?;
    let (client, production) = (&stage.lab.client, &stage.lab.production);
    let open = |name: &'static str| -> Result<(Connection, &'static str)> {
        Ok((Connection::new(client.connect(production.at4(80), LIMIT)?, LIMIT)?, name))
    };
    let ask = |(connection, name): &mut (Connection, &'static str)| -> Result<()> {
        let request = Request::get("/small.txt").header("X-Request-Id", *name);
        ensure!(connection.exchange(&request)?.status == 200, "{name}");
        Ok(())
    };
    let mut unseen = open("before the mirror, silent")?;
    let mirror = stage.mirror(Family::V4, &["--sample", "100%", "--live", "off"])?;
    let mut first = open("from the start")?;
    ask(&mut first)?;
    wait_for_shadow(&stage.shadow, 1)?;
    ensure!(ctl(production, &["set", "sample", "0.0000001%"])? == "sample 0.0000001%\n");
    let mut second = open("while nobody was chosen")?;
    ask(&mut second)?;
    ask(&mut first)?;
    wait_for_shadow(&stage.shadow, 2)?;
    ensure!(ctl(production, &["set", "sample", "100%"])? == "sample 100%\n");
    ask(&mut second)?;
    ensure!(ctl(production, &["pause"])? == "paused true\n");
    let mut third = open("in the pause")?;
    ask(&mut third)?;
    ask(&mut first)?;
    wait_for_shadow(&stage.shadow, 3)?;
    // Its packets are copied, by what was chosen at the start; but a session is not begun.
    ask(&mut unseen)?;
    wait_until("the flow", LIMIT, || {
        let metric = mirror.metric("shadowtap_flows_skipped");
        metric.is_ok_and(|count| count == Some(1.0))
    })?;
    ensure!(ctl(production, &["resume"])? == "paused false\n");
    ask(&mut third)?;
    let mut fourth = open("after the pause")?;
    ask(&mut fourth)?;
    wait_for_shadow(&stage.shadow, 4)?;
    drop((first, second, third, fourth, unseen));
    let ended = mirror.stop()?;
    check_ended(&ended)?;
    let books = &ended.books;
    ensure!(books.get("flows.skipped.paused") == 1, "{:#}", books.json());
    ensure!(
        books.get("flows.mirrored") == 2 && books.sum("flows.aborted") == 0,
        "{:#}",
        books.json()
    );
    ensure!(books.get("packets.passed.paused") > 0, "{:#}", books.json());
    ensure!(books.get("packets.passed.sampled_out") > 0, "{:#}", books.json());
    let names: Vec<_> = stage.shadow.log()?.into_iter().map(|entry| entry.id).collect();
    let start = "from the start";
    ensure!(names == [start, start, start, "after the pause"], "{names:?}");
    Ok(())
}

#[test]
fn changes_under_load_lose_nothing_that_the_books_do_not_name() -> Result<()> {
    let stage = Stage::new()?;
    let production = &stage.lab.production;
    let flags = ["--sample", "50%", "--sample-by", "connection", "--live", "off"];
    let mirror = stage.mirror(Family::V4, &flags)?;
    let changes: [&[&str]; 10] = [
        &["set", "sample", "5%"],
        &["set", "sample", "100%"],
        &["pause"],
        &["set", "sample", "20%"],
        &["resume"],
        &["set", "exclude-client", "add", "10.77.0.1"],
        &["set", "exclude-client", "to"],
        &["set", "client", "add", "10.77.0.0/24"],
        &["set", "sample", "70%"],
        &["set", "client", "remove", "10.77.0.0/24"],
    ];
    const ROUNDS: usize = 4;
    let mix = Mix { max_body: 64 << 10, ..Mix::new(vec![production.at4(80)], 0xC0) };
    let report = stage.send_while(&mix, || {
        for change in changes.repeat(ROUNDS) {
            ctl(production, change)?;
            std::thread::sleep(Duration::from_millis(30));
        }
        Ok(())
    })?;
    let log = stage.production_log(&report)?;
    let ended = mirror.stop()?;
    check_ended(&ended)?;
    let books = &ended.books;
    println!("{:#}", books.json());
    for key in ["packets.lost", "flows.aborted"] {
        ensure!(books.sum(key) == 0, "{key}: {:#}", books.json());
    }
    let skipped = books.sum("flows.skipped") - books.get("flows.skipped.paused");
    ensure!(skipped == books.get("flows.skipped.handshake"), "{:#}", books.json());
    ensure!(books.sum("settings.changed") == (ROUNDS * changes.len()) as u64, "{:#}", books.json());
    for reason in ["sampled_out", "client", "paused"] {
        ensure!(books.get(&format!("packets.passed.{reason}")) > 0, "{reason}: {:#}", books.json());
    }
    let delivered = books.get("requests.delivered") as usize;
    let shadow: BTreeSet<String> =
        stage.shadow.log_of(delivered)?.into_iter().map(|entry| entry.id).collect();
    ensure!(shadow.len() == delivered, "{} requests of {delivered}", shadow.len());
    let mut connections: BTreeMap<u64, Vec<bool>> = BTreeMap::new();
    for entry in &log {
        connections.entry(entry.connection).or_default().push(shadow.contains(&entry.id));
    }
    let [mut whole, mut none] = [0, 0];
    for (number, there) in connections {
        if there.iter().all(|there| *there) {
            whole += 1;
        } else if there.iter().any(|there| *there) {
            bail!("half of connection {number}: {there:?}");
        } else {
            none += 1;
        }
    }
    println!("{whole} connections whole, {none} not at all");
    ensure!(whole > 20 && none > 20, "{whole} connections whole, {none} not at all");
    Ok(())
}

/// The sockets of a host's mirrors, alive or not.
fn sockets(host: &Host) -> Result<Vec<PathBuf>> {
    let namespace = fs::metadata(format!("/run/netns/{}", host.namespace))?.ino();
    let mut found = Vec::new();
    for entry in fs::read_dir("/run/shadowtap")? {
        let path = entry?.path();
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned());
        if name.is_some_and(|n| n.starts_with(&format!("{namespace}-")) && n.ends_with(".sock")) {
            found.push(path);
        }
    }
    Ok(found)
}

#[test]
fn ctl_finds_the_mirror_and_only_root_is_heard() -> Result<()> {
    let stage = Stage::new()?;
    let production = &stage.lab.production;
    let _second = Nginx::start_on(production, 81)?;
    let none = "no mirror runs in this network namespace";
    ensure!(refusal(production, &["status"])?.contains(none));
    let mut killed = stage.mirror(Family::V4, &["--live", "off"])?;
    let [path] = &sockets(production)?[..] else { bail!("one socket") };
    let mode = fs::metadata(path)?.mode();
    ensure!(mode & 0o7777 == 0o600, "{mode:o}");
    killed.process.signal(Signal::SIGKILL)?;
    killed.process.wait(LIMIT)?;
    ensure!(path.exists(), "as a killed one leaves it");
    ensure!(refusal(production, &["pause"])?.contains(none));

    let mirror = stage.mirror(Family::V4, &["--live", "off", "--sample", "10%"])?;
    let status = ctl(production, &["status"])?;
    for part in [
        "eth0 port 80 to 10.77.0.3:80, capturing",
        "sample 10%, client none",
        "packets   selected 0",
    ] {
        ensure!(status.contains(part), "{part} is not in {status}");
    }
    let status: Value = serde_json::from_str(&ctl(production, &["status", "--json"])?)?;
    ensure!(
        status["settings"]["paused"] == "false" && status["books"]["flows"]["seen"] == 0,
        "{status:#}"
    );
    ensure!(mirror.metric("shadowtap_settings_sample_ratio")? == Some(0.1));
    for (args, expected) in [
        (&["set", "sample", "0"][..], "set sample: is no percentage; give more than 0%"),
        (&["set", "port", "80"], "set port: cannot be changed while a mirror runs; set sample, "),
        (&["set", "client", "remove", "10.0.0.0/8"], "set client: 10.0.0.0/8 is not in it; "),
        (&["set", "client", "add", "@/nonexistent"], "set client @/nonexistent: cannot be read: "),
        (
            &["--control", "/nonexistent", "get"],
            "--control /nonexistent: no mirror answers there: ",
        ),
    ] {
        let refusal = refusal(production, args)?;
        ensure!(refusal.starts_with(&format!("shadowtap: {expected}")), "{refusal}");
    }

    // Whoever speaks otherwise is answered; whoever says nothing is in nobody's way for long.
    let silent = (0..6).map(|_| UnixStream::connect(path)).collect::<std::io::Result<Vec<_>>>()?;
    let begun = std::time::Instant::now();
    ctl(production, &["set", "sample", "20%"])?;
    println!("behind silent connections: {:?}", begun.elapsed());
    drop(silent);
    let mut stream = UnixStream::connect(path)?;
    stream.set_read_timeout(Some(LIMIT))?;
    let mut lines = BufReader::new(stream.try_clone()?);
    for (line, answer) in [
        ("GET / HTTP/1.1\r\n", "{\"refused\":\"no request: "),
        (
            "{\"do\":\"set\",\"name\":\"sample\",\"to\":[\"30%\"]}\n",
            "{\"ok\":{\"sample\":\"30%\"}}\n",
        ),
    ] {
        stream.write_all(line.as_bytes())?;
        let mut text = String::new();
        lines.read_line(&mut text)?;
        ensure!(text.starts_with(answer), "{text}");
    }
    // More than a line may have.
    let mut text = String::new();
    let _ = stream.write_all(&vec![b'x'; (4 << 20) + 1]);
    lines.read_line(&mut text)?;
    ensure!(text.contains("longer than 4194304 bytes"), "{text}");

    let other = stage.lab.shadow.at4(80).to_string();
    let place = production.folder().join("other.sock").display().to_string();
    let flags =
        ["--iface", "eth0", "--port", "81", "--shadow", &other, "--source-ports", "2000-2999"];
    let second = Mirror::start(production, &[&flags[..], &["--live", "off"]].concat())?;
    let two = refusal(production, &["status"])?;
    ensure!(two.contains("2 mirrors run: ") && two.contains("-eth0-80.sock, "), "{two}");
    let at = path.display().to_string();
    ensure!(ctl(production, &["status", "--control", &at])?.contains("sample 30%"));
    second.stop()?;
    let off =
        Mirror::start(production, &[&flags[..], &["--live", "off", "--control", "off"]].concat())?;
    ensure!(sockets(production)?.len() == 1);
    off.stop()?;
    let elsewhere =
        Mirror::start(production, &[&flags[..], &["--live", "off", "--control", &place]].concat())?;
    ensure!(ctl(production, &["--control", &place, "status"])?.contains("port 81"));
    ensure!(
        ctl(production, &["status"])?.contains("port 80"),
        "the only one of the default places"
    );
    let taken = shadowtap(
        production,
        &[
            "mirror",
            "--iface",
            "eth0",
            "--port",
            "82",
            "--shadow",
            &other,
            "--source-ports",
            "3000-3999",
            "--control",
            &place,
        ],
    )?;
    let error = String::from_utf8_lossy(&taken.stderr).into_owned();
    ensure!(
        taken.status.code() == Some(2) && error.contains("another process listens there"),
        "{error}"
    );
    elsewhere.stop()?;
    ensure!(!PathBuf::from(&place).exists());
    let ended = mirror.stop()?;
    check_ended(&ended)?;
    ensure!(ended.books.get("settings.changed.sample") == 2, "{:#}", ended.books.json());
    ensure!(sockets(production)?.is_empty(), "nothing is left");
    Ok(())
}
