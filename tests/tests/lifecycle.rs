//! Turned on and off, with interfaces that come and go and other tools' programs beside ours:
//! production never notices, and the mirror goes on.

use std::time::Duration;

use anyhow::{Result, ensure};
use nix::sys::signal::Signal;
use shadow_common::{Address, ServiceKey};
use shadow_lab::{
    Connection, Host, Mirror, Mix, Request, Tcpdump, check_against_client, curl, wait_until,
};
use shadow_tests::{Family, Stage, at, attached, check_ended, check_lossless};
use shadow_user::kernel::{AttachMode, LoadOptions, Programs};

const LIMIT: Duration = Duration::from_secs(20);
const CYCLES: usize = 100;

#[test]
fn a_hundred_starts_and_stops_disturb_no_connection_of_production() -> Result<()> {
    let stage = Stage::new()?;
    let (client, production) = (&stage.lab.client, &stage.lab.production);
    // Not the client's own: it answers a late segment of a connection that it has closed with one.
    let resets = "(not src host 10.77.0.1 and tcp[tcpflags] & tcp-rst != 0) or \
                  (not src host fd77::1 and ip6[6] = 6 and ip6[53] & 4 != 0)";
    let at_client = Tcpdump::start(client, "eth0", resets)?;
    // Lives through all of it, with a request now and then.
    let stream = client.connect(at(production, Family::V4), LIMIT)?;
    let mut lasting = Connection::new(stream, LIMIT)?;

    let targets = vec![production.at4(80), production.at6(80)];
    let mix = Mix { rate: Some(150), max_body: 32 << 10, ..Mix::new(targets, 100) };
    let report = stage.send_while(&mix, || {
        for cycle in 0..CYCLES {
            let mut mirror = stage.mirror(Family::V4, &["--drain", "0s", "--live", "off"])?;
            let response = lasting.exchange(&Request::get("/small.txt"))?;
            ensure!(response.status == 200, "{}", response.status);
            // Most ends are those of a crash: the next one takes over what is left.
            if cycle % 4 == 0 || cycle + 1 == CYCLES {
                check_ended(&mirror.stop()?)?;
            } else {
                mirror.process.signal(Signal::SIGKILL)?;
                mirror.process.wait(LIMIT)?;
            }
        }
        Ok(())
    })?;
    ensure!(report.completed.len() >= 10 * CYCLES, "{} requests", report.completed.len());
    let mut log = stage.production.log_of(report.completed.len() + CYCLES)?;
    // The lasting connection's requests have no number.
    log.retain(|entry| !entry.id.is_empty());
    let differences = check_against_client(&report.completed, &log);
    ensure!(differences.is_empty(), "production's log: {differences}");
    let at_client = at_client.stop()?;
    ensure!(at_client.count("tcp")? == 0, "{:#?}", at_client.lines("tcp")?);
    ensure!(attached(production)? == 0 && !production.pins()?.exists());
    Ok(())
}

/// Sends `count` requests, which all arrive at the shadow.
fn all_arrive(stage: &Stage, family: Family, count: u64, seed: u64) -> Result<()> {
    let before = stage.shadow.logged();
    let mix = Mix { rate: Some(500), max_body: 8 << 10, ..stage.mix(family, count, seed) };
    let report = stage.send(&mix)?;
    let wanted = before + report.completed.len();
    wait_until("every request at the shadow", LIMIT, || stage.shadow.logged() >= wanted)
}

/// What a mirror must have said by now.
fn says(mirror: &Mirror, words: &str) -> Result<()> {
    wait_until(words, LIMIT, || mirror.process.stderr().contains(words))
}

/// Waits until a request arrives at the shadow again: addresses are looked at once a second.
fn goes_on(stage: &Stage, family: Family) -> Result<()> {
    let uri = format!("http://{}/small.txt", at(&stage.lab.production, family));
    wait_until("the mirror to go on", LIMIT, || {
        let before = stage.shadow.logged();
        let sent = curl(&stage.lab.client, &["-g", "--max-time", "1", &uri]);
        let arrived = || stage.shadow.logged() > before;
        sent.is_ok() && wait_until("it", Duration::from_millis(500), arrived).is_ok()
    })
}

#[test]
fn an_interface_that_was_down_is_mirrored_as_before() -> Result<()> {
    for (family, source, seed) in [
        (Family::V4, &["--source", "pool=10.77.0.128/26", "--pool-announce"][..], 0x51),
        (Family::V6, &["--source", "self"], 0x52),
    ] {
        let stage = Stage::new()?;
        let production = &stage.lab.production;
        let mirror = stage.mirror(family, source)?;
        all_arrive(&stage, family, 50, seed)?;
        production.run("ip", ["link", "set", "eth0", "down"])?;
        says(&mirror, "eth0 is down")?;
        production.run("ip", ["link", "set", "eth0", "up"])?;
        says(&mirror, "eth0 is up again")?;
        if source.contains(&"--pool-announce") {
            says(&mirror, "the pool is answered for again")?;
        }
        // With the link went its addresses of IPv6.
        let v6 = format!("address replace {}/64 dev eth0 nodad", production.v6);
        production.run("ip", v6.split_whitespace())?;
        goes_on(&stage, family)?;
        all_arrive(&stage, family, 50, seed + 0x10)?;
        let ended = mirror.stop()?;
        check_ended(&ended)?;
        ensure!(ended.books.get("requests.delivered") >= 100, "{:#}", ended.books.json());
    }
    Ok(())
}

/// Takes `eth0` of `host` away, and gives it one that is new in all but its name and addresses.
fn replace(host: &Host, while_gone: impl FnOnce() -> Result<()>) -> Result<()> {
    let ip = |args: String| host.run("ip", args.split_whitespace()).map(drop);
    // The other end, in the segment's own namespace, is taken along.
    let wire = host.namespace.replace("production", "wire-a");
    ip("link delete eth0".into())?;
    while_gone()?;
    ip(format!("link add eth0 type veth peer name again netns {wire}"))?;
    let output = std::process::Command::new("ip")
        .args(["-n", &wire, "link", "set", "again", "master", "br0", "up"])
        .output()?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    ip(format!("address add {}/24 dev eth0", host.v4))?;
    ip(format!("address add {}/64 dev eth0 nodad", host.v6))?;
    ip("link set eth0 up".into())
}

#[test]
fn an_interface_that_comes_back_is_mirrored_again() -> Result<()> {
    for (family, source, seed) in [
        (Family::V4, &["--source", "self"][..], 0x71),
        (Family::V4, &["--source", "pool=10.77.0.128/26", "--pool-announce"], 0x72),
        (Family::V6, &["--source", "pool=fd77::5:0/112", "--pool-announce"], 0x73),
    ] {
        let stage = Stage::new()?;
        let production = &stage.lab.production;
        let mirror = stage.mirror(family, source)?;
        all_arrive(&stage, family, 50, seed)?;
        replace(production, || says(&mirror, "eth0 is gone: nothing more is captured from it"))?;
        says(&mirror, "eth0 is back, and the mirror attached to it")?;
        if source.contains(&"--pool-announce") {
            says(&mirror, "the pool is answered for again")?;
        }
        // Its Ethernet address is another.
        for host in [&stage.lab.client, &stage.lab.shadow] {
            host.run("ip", ["neigh", "flush", "dev", "eth0"])?;
        }
        goes_on(&stage, family)?;
        all_arrive(&stage, family, 50, seed + 0x10)?;
        let guards = stage.guard(&["show"])?;
        ensure!(guards.lines().count() == 2 && guards.contains("eth0"), "one guard: {guards}");
        let ended = mirror.stop()?;
        check_ended(&ended)?;
        ensure!(ended.books.get("requests.delivered") >= 100, "{:#}", ended.books.json());
        stage.guard(&["remove"])?;
        ensure!(attached(production)? == 0 && !production.pins()?.exists());
    }
    Ok(())
}

/// Another tool's program on production's `eth0`: counts packets to port 80, and passes them on.
struct Other(Programs);

impl Other {
    fn attach(host: &Host, attach: AttachMode) -> Result<Self> {
        let options = LoadOptions { attach, requests_bytes: 4_096, ..LoadOptions::default() };
        let mut programs = Programs::load(options)?;
        let port = 80_u16.to_be_bytes();
        programs.set_services(&[ServiceKey {
            address: Address::ANY_V4,
            port,
            reserved: [0; 2],
        }])?;
        host.enter(|| programs.attach_tap("eth0"))??;
        Ok(Self(programs))
    }

    fn seen(&self) -> Result<u64> {
        Ok(self.0.counters()?.tap.total())
    }
}

#[test]
fn other_tools_programs_before_and_behind_ours_go_on_and_so_do_ours() -> Result<()> {
    let stage = Stage::new()?;
    let production = &stage.lab.production;
    let ip = |args: &str| production.run("ip", args.split_whitespace());
    // A real filter of tc, which copies what arrives to an interface that counts.
    ip("link add sink type veth peer name drain")?;
    ip("link set sink up")?;
    ip("link set drain up")?;
    let tc = |args: &str| production.run("tc", args.split_whitespace());
    tc("qdisc add dev eth0 clsact")?;
    tc("filter add dev eth0 ingress pref 7 protocol ip u32 match ip dport 80 0xffff \
        action mirred egress mirror dev sink")?;
    let copied = || -> Result<u64> {
        let text = ip("-s -o link show drain")?;
        let numbers = text.split_once("RX:").map(|(_, rest)| rest).unwrap_or_default();
        let mut numbers = numbers.split_whitespace().filter_map(|word| word.parse::<u64>().ok());
        Ok(numbers.nth(1).unwrap_or(0))
    };

    let mirror_of = || stage.mirror(Family::V4, &["--live", "off"]);
    // Attached before ours: it then stands behind. Attached later: before.
    let behind = Other::attach(production, AttachMode::Auto)?;
    let mirror = mirror_of()?;
    let before = Other::attach(production, AttachMode::Auto)?;
    let filter = Other::attach(production, AttachMode::Clsact)?;

    let mix = Mix { rate: Some(500), max_body: 8 << 10, ..stage.mix(Family::V4, 200, 0x90) };
    let report = stage.send(&mix)?;
    mirror.wait_for_answers(LIMIT)?;
    let ended = mirror.stop()?;
    check_ended(&ended)?;
    check_lossless(&ended.books, report.completed.len())?;
    let captured = ended.books.get("packets.captured");
    ensure!(captured > 200, "{captured} packets");
    for (place, other) in [("behind", &behind), ("before", &before), ("clsact", &filter)] {
        // The last packets of a connection may come when ours has gone.
        let seen = other.seen()?;
        ensure!(seen >= captured, "{place}: {seen} of {captured} packets");
    }
    ensure!(copied()? >= captured, "tc's filter copied {} of {captured} packets", copied()?);

    // Ours gone, all of theirs is as it was.
    let seen = [behind.seen()?, before.seen()?, filter.seen()?, copied()?];
    stage.send(&Mix { rate: Some(500), ..stage.mix(Family::V4, 50, 0x91) })?;
    let now = [behind.seen()?, before.seen()?, filter.seen()?, copied()?];
    ensure!(now.iter().zip(seen).all(|(now, seen)| *now > seen), "{seen:?} and then {now:?}");
    let filters = tc("filter show dev eth0 ingress")?;
    ensure!(filters.contains("pref 7 u32"), "{filters}");
    production.enter(|| drop((behind, before, filter)))?;
    Ok(())
}
