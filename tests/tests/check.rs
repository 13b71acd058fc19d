//! `shadowtap check`: every finding provoked once, and each remedy, as it is printed, tried.

use std::ffi::CString;
use std::io;
use std::net::TcpListener;
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};
use std::thread::scope;

use anyhow::{Context, Result, ensure};
use shadow_lab::{Host, Lab, Link, Mirror, Nginx, Relay, Tcpdump, Topology, binary, curl};
use shadow_tests::{Family, Stage, at, attached, check_ended, shadowtap};

const FAMILIES: [Family; 2] = [Family::V4, Family::V6];

/// What a verb said.
#[derive(Debug)]
struct Said {
    status: Option<i32>,
    stdout: String,
    stderr: String,
}

impl Said {
    /// The one finding of this level that is not `ok`, of which there must be no other.
    fn only(&self, level: &str) -> Result<&str> {
        let odd: Vec<&str> = self.stdout.lines().filter(|line| !line.starts_with("ok: ")).collect();
        ensure!(odd.len() == 1 && odd[0].starts_with(level), "not one {level}: {self:?}");
        ensure!(odd[0].contains("; "), "no remedy: {self:?}");
        let status = if level == "problem" { 2 } else { 0 };
        ensure!(self.status == Some(status), "{self:?}");
        Ok(odd[0])
    }

    fn in_order(&self) -> Result<()> {
        let ok = self.stdout.lines().all(|line| line.starts_with("ok: "));
        ensure!(ok && self.status == Some(0) && self.stderr.is_empty(), "{self:?}");
        Ok(())
    }
}

fn run(host: &Host, verb: &str, shadow: &str, flags: &str) -> Result<Said> {
    let mut args = vec![verb, "--port", "80", "--shadow", shadow];
    if !flags.contains("--iface") {
        args.extend(["--iface", "eth0"]);
    }
    args.extend(flags.split_whitespace());
    let before = attached(host)?;
    let output = shadowtap(host, &args)?;
    ensure!(attached(host)? == before, "{args:?}: left something attached");
    ensure!(!host.pins()?.exists(), "{args:?}: left pins");
    Ok(Said {
        status: output.status.code(),
        stdout: String::from_utf8(output.stdout)?,
        stderr: String::from_utf8(output.stderr)?,
    })
}

fn check(host: &Host, shadow: &str, flags: &str) -> Result<Said> {
    run(host, "check", shadow, flags)
}

/// Has every word.
fn names(text: &str, words: &[&str]) -> Result<()> {
    for word in words {
        ensure!(text.contains(word), "{word:?} is not in {text}");
    }
    Ok(())
}

/// The command at the end of a finding, as a user copies it.
fn remedy(finding: &str) -> Result<&str> {
    let (_, remedy) = finding.rsplit_once("; ").context("no remedy")?;
    Ok(remedy.rsplit_once(": ").map_or(remedy, |(_, command)| command))
}

/// Runs a remedy on `host`.
fn follow(host: &Host, finding: &str) -> Result<()> {
    let command = remedy(finding)?;
    let words = shell_words(command);
    let (program, args) = words.split_first().context("no command")?;
    if program == "shadowtap" {
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        let output = shadowtap(host, &args)?;
        ensure!(output.status.success(), "{command}: {output:?}");
        return Ok(());
    }
    host.run(program, args).map(drop)
}

fn shell_words(command: &str) -> Vec<String> {
    command.split_whitespace().map(|word| word.trim_matches('\'').to_owned()).collect()
}

fn shadow(lab: &Lab, family: Family) -> String {
    at(&lab.shadow, family).to_string()
}

fn pool(family: Family) -> &'static str {
    match family {
        Family::V4 => "--source pool=10.99.7.0/24",
        Family::V6 => "--source pool=fd99::7:0/112",
    }
}

/// One finding, on hosts of its own.
type Case = Box<dyn FnOnce() -> Result<()> + Send>;
type Words = &'static [&'static str];

/// Runs all at once: most of their time they wait for what does not come.
fn together(cases: Vec<Case>) -> Result<()> {
    scope(|scope| {
        let threads: Vec<_> = cases.into_iter().map(|case| scope.spawn(case)).collect();
        threads.into_iter().try_for_each(|thread| {
            thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    })
}

#[test]
fn where_nothing_stands_against_it_every_line_is_ok_and_nothing_is_left() -> Result<()> {
    for family in FAMILIES {
        let stage = Stage::with_route()?;
        let lab = &stage.lab;
        let via = at(&lab.production, family).ip().to_string();
        lab.shadow.run("ip", ["route", "add", &pool(family)[14..], "via", &via])?;
        let summary = lab.production.folder().join("summary.json");
        let flags = format!("--summary {}", summary.display());
        let at_client = Tcpdump::start(&lab.client, "eth0", "tcp or icmp")?;
        for source in ["", "--source preserve", pool(family)] {
            let said = check(&lab.production, &shadow(lab, family), &format!("{flags} {source}"))?;
            said.in_order()?;
            names(&said.stdout, &["ok: --iface eth0", "MTU is 1500", "ok: /sys/fs/bpf"])?;
            names(&said.stdout, &["ok: --source ", "came back by the guard on eth0"])?;
        }
        ensure!(!summary.exists(), "the summary of nothing is there");
        ensure!(at_client.stop()?.count("")? == 0, "the client was told");
        ensure!(stage.shadow.logged() == 0, "the shadow served something");
        // Nothing of the probe is left at the shadow.
        let open = lab.shadow.run("ss", "-Htn state established state syn-recv".split(' '))?;
        ensure!(open.trim().is_empty(), "{open}");
    }
    Ok(())
}

/// `preserve` while the shadow answers clients directly: refused before a client hears of it.
#[test]
fn preserve_without_the_route_is_refused_and_nothing_reaches_a_client() -> Result<()> {
    together(FAMILIES.map(|family| Box::new(move || without_the_route(family)) as _).into())
}

fn without_the_route(family: Family) -> Result<()> {
    let stage = Stage::new()?;
    let lab = &stage.lab;
    lab.production.sysctl("net.ipv4.ip_forward", "1")?;
    lab.production.sysctl("net.ipv6.conf.all.forwarding", "1")?;
    let at_client = Tcpdump::start(&lab.client, "eth0", "ip or ip6")?;
    let (host, to) = (&lab.production, shadow(lab, family));
    let said = check(host, &to, "--source preserve")?;
    let finding = said.only("problem")?;
    let via = at(host, family).ip();
    ensure!(remedy(finding)? == format!("shadowtap route add --via {via} --port 80"), "{finding}");
    names(finding, &["--source preserve", "would reach the clients"])?;
    let refused = run(host, "mirror", &to, "--source preserve --live off")?;
    ensure!(refused.status == Some(2) && refused.stderr.lines().count() == 1, "{refused:?}");
    ensure!(finding.ends_with(refused.stderr.trim_start_matches("shadowtap: ").trim_end()));

    // Production's own answers were seen, and nothing else.
    curl(&lab.client, &["-g", &format!("http://{}/small.txt", at(host, family))])?;
    let capture = at_client.stop()?;
    ensure!(capture.count(&format!("src host {via}"))? >= 4, "the capture is blind");
    let link = lab.shadow.run("ip", ["-br", "link", "show", "eth0"])?;
    let mac = link.split_whitespace().nth(2).context("a MAC address")?;
    for filter in [
        format!("ether host {mac} and not ether multicast and not icmp6"),
        "net 192.0.2.0/24 or net 2001:db8::/32".to_owned(),
        "icmp or (icmp6 and ip6[40] < 128)".to_owned(),
    ] {
        let lines = capture.lines(&filter)?;
        ensure!(lines.is_empty(), "{filter}: {lines:#?}");
    }

    follow(&lab.shadow, finding)?;
    check(host, &to, "--source preserve")?.in_order()?;
    let output = shadowtap(&lab.shadow, &["route", "del"])?;
    ensure!(output.status.success(), "{output:?}");
    Ok(())
}

#[test]
fn a_pool_without_its_route_is_refused_with_the_command() -> Result<()> {
    let routed = || -> Result<()> {
        let lab = Lab::with(Topology::Routed)?;
        let _nginx = Nginx::start(&lab.shadow)?;
        let to = shadow(&lab, Family::V4);
        let said = check(&lab.production, &to, pool(Family::V4))?;
        let finding = said.only("problem")?;
        names(finding, &["on the router 10.77.0.254: ip route add 10.99.7.0/24 via 10.77.0.2"])?;
        follow(lab.router.as_ref().context("a router")?, finding)?;
        check(&lab.production, &to, pool(Family::V4))?.in_order()?;
        // No route on the shadow leads by way of another's router.
        let said = check(&lab.production, &to, "--source preserve")?;
        names(said.only("problem")?, &["by a tunnel", "router 10.77.0.254"])
    };
    let on_link = |family| -> Result<()> {
        let lab = Lab::new()?;
        let _nginx = Nginx::start(&lab.shadow)?;
        let (host, to) = (&lab.production, shadow(&lab, family));
        let refused = run(host, "mirror", &to, &format!("{} --live off", pool(family)))?;
        ensure!(refused.status == Some(2), "{refused:?}");
        let (net, via) = (&pool(family)[14..], at(host, family).ip());
        names(&refused.stderr, &[&format!("on the shadow's host: ip route add {net} via {via}")])?;
        follow(&lab.shadow, &refused.stderr)?;
        check(host, &to, pool(family))?.in_order()
    };
    together(vec![
        Box::new(routed),
        Box::new(move || on_link(Family::V4)),
        Box::new(move || on_link(Family::V6)),
    ])
}

/// A warning, once the way back is proven.
fn refuses() -> Result<()> {
    let lab = Lab::new()?;
    let (host, to) = (&lab.production, shadow(&lab, Family::V4));
    for source in ["", "--source preserve"] {
        if !source.is_empty() {
            let output =
                shadowtap(&lab.shadow, &["route", "add", "--via", "10.77.0.2", "--port", "80"])?;
            ensure!(output.status.success(), "{output:?}");
        }
        let said = check(host, &to, source)?;
        names(said.only("warning")?, &["refuses connections (RST)", "ss -ltn 'sport = :80'"])?;
    }
    let output = shadowtap(&lab.shadow, &["route", "del"])?;
    ensure!(output.status.success(), "{output:?}");
    let said = check(host, &to, "--source preserve")?;
    names(said.only("problem")?, &["no server listens", "shadowtap route add --via 10.77.0.2"])?;

    // The circuit breaker waits for it.
    let mirror = Mirror::start(host, &["--iface", "eth0", "--port", "80", "--shadow", &to])?;
    let ended = mirror.stop()?;
    check_ended(&ended)?;
    names(&ended.stderr, &["WARN", "refuses connections (RST)"])
}

/// A shadow with `verdict` on what comes to its port.
fn walled(verdict: &'static str, source: &'static str, level: &'static str, words: Words) -> Case {
    Box::new(move || {
        let lab = Lab::new()?;
        let _nginx = Nginx::start(&lab.shadow)?;
        lab.shadow.run("nft", ["add table inet wall"])?;
        let chain = "add chain inet wall in { type filter hook input priority 0; }";
        lab.shadow.run("nft", [chain])?;
        lab.shadow.run("nft", [&format!("add rule inet wall in tcp dport 80 {verdict}")])?;
        let said = check(&lab.production, &shadow(&lab, Family::V4), source)?;
        names(said.only(level)?, words)
    })
}

/// A shadow at an address of the network that no host has.
fn nobody(to: &'static str, source: &'static str, level: &'static str, words: Words) -> Case {
    Box::new(move || {
        let lab = Lab::new()?;
        let said = check(&lab.production, to, source)?;
        names(said.only(level)?, words)
    })
}

#[test]
fn shadows_that_refuse_are_silent_walled_in_or_not_there_are_told_apart() -> Result<()> {
    let silent = &["does not answer within 3.5s", "tcpdump -n host 10.77.0.2 and tcp port 80"];
    let rejects = &["10.77.0.3 answers in its place", "prohibited", "on 10.77.0.3: nft list"];
    let no_arp = &["10.77.0.77 does not answer ARP on eth0", "ip neigh show 10.77.0.77 dev eth0"];
    let no_nd = &["fd77::77 does not answer neighbour discovery on eth0"];
    together(vec![
        Box::new(refuses),
        walled("drop", "", "warning", silent),
        walled(
            "drop",
            "--source preserve",
            "problem",
            &["answers neither 192.0.2.1 nor 10.77.0.2"],
        ),
        walled("reject with icmp admin-prohibited", "", "warning", rejects),
        nobody("10.77.0.77:80", "", "warning", no_arp),
        nobody("10.77.0.77:80", "--source preserve", "problem", no_arp),
        nobody("[fd77::77]:80", "", "warning", no_nd),
    ])
}

/// A mirror's host with one rule in a chain of its firewall.
fn fenced(
    chain: &'static str,
    rule: &'static str,
    family: Family,
    source: &'static str,
    words: Words,
) -> Case {
    Box::new(move || {
        let stage = Stage::with_route()?;
        let (host, to) = (&stage.lab.production, shadow(&stage.lab, family));
        host.run("nft", ["add table inet wall"])?;
        host.run("nft", [&format!("add chain inet wall out {{ type {chain}; }}")])?;
        host.run("nft", [&format!("add rule inet wall out {rule}")])?;
        let said = check(host, &to, source)?;
        let finding = said.only("problem")?;
        names(finding, &[&format!("`{rule}` in chain out of table inet wall")])?;
        names(finding, words)?;
        follow(host, finding)?;
        check(host, &to, source)?.in_order()
    })
}

#[test]
fn the_rule_of_this_hosts_firewall_is_named_and_its_remedy_works() -> Result<()> {
    let output = "filter hook output priority 0";
    let invalid = &["not what follows it (EPERM)", "conntrack"];
    together(vec![
        fenced(output, "tcp dport 80 drop", Family::V4, "", &["(EPERM), by"]),
        fenced(output, "tcp dport 80 drop", Family::V6, "--source preserve", &["(EPERM), by"]),
        fenced(output, "ct state invalid drop", Family::V4, "", invalid),
        fenced(
            "filter hook postrouting priority 0",
            "ct state invalid drop",
            Family::V6,
            "",
            invalid,
        ),
        fenced(
            "nat hook postrouting priority 100",
            "oifname \"eth0\" masquerade",
            Family::V4,
            "--source preserve",
            &["gives the mirror's packets its own address"],
        ),
    ])
}

#[test]
fn answers_that_come_in_by_another_interface_are_found() -> Result<()> {
    // The shadow's answers take the second link to the mirror's host.
    let asymmetric = || -> Result<_> {
        let stage = Stage::new()?;
        let Lab { production, shadow: far, .. } = &stage.lab;
        let relay = Relay::between(production, far, Link::default())?;
        production.sysctl("net.ipv4.ip_forward", "1")?;
        far.run("ip", "route add default via 10.77.2.2 dev link0 table 77".split(' '))?;
        far.run("ip", "rule add ipproto tcp sport 80 table 77".split(' '))?;
        Ok((relay, stage))
    };
    let preserve = move || -> Result<()> {
        let (_relay, stage) = asymmetric()?;
        let (host, to) = (&stage.lab.production, shadow(&stage.lab, Family::V4));
        let said = check(host, &to, "--source preserve")?;
        let words = ["by eth0, but its answers come in by link0", "forward them to clients"];
        names(said.only("problem")?, &words)?;
        check(host, &to, "--source preserve --iface eth0 --iface link0")?.in_order()
    };
    let own = move || -> Result<()> {
        let (_relay, stage) = asymmetric()?;
        let (host, to) = (&stage.lab.production, shadow(&stage.lab, Family::V4));
        let said = check(host, &to, "")?;
        let finding = said.only("problem")?;
        names(finding, &["come in by link0", "would reset each session"])?;
        follow(host, finding)?;
        check(host, &to, "")?.in_order()
    };
    together(vec![Box::new(preserve), Box::new(own)])
}

#[test]
fn interfaces_on_which_packets_escape_the_tap_are_named() -> Result<()> {
    let stage = Stage::new()?;
    let (host, to) = (&stage.lab.production, shadow(&stage.lab, Family::V4));
    host.run("ip", "link set dev eth0 gro_max_size 131072".split(' '))?;
    let said = check(host, &to, "")?;
    let finding = said.only("warning")?;
    names(finding, &["as much as 131072 bytes (BIG TCP)"])?;
    follow(host, finding)?;
    check(host, &to, "")?.in_order()?;

    let xdp = host.enter(|| pass_by_xdp("eth0"))??;
    let said = check(host, &to, "")?;
    let finding = said.only("warning")?;
    names(finding, &["an XDP program sees its packets before the tap", "eth0 xdp off"])?;
    drop(xdp);

    host.run("ip", "link add br0 type bridge".split(' '))?;
    host.run("ip", "address flush dev eth0".split(' '))?;
    host.run("ip", "link set eth0 master br0".split(' '))?;
    host.run("ip", ["address", "add", &format!("{}/24", host.v4), "dev", "br0"])?;
    host.run("ip", "link set br0 up".split(' '))?;
    let said = check(host, &to, "")?;
    names(said.only("warning")?, &["is a port of the bridge br0", "give --iface br0"])?;
    let said = check(host, &to, "--iface eth0 --iface br0")?;
    names(said.only("problem")?, &["--iface eth0: what arrives on it is seen again on br0"])?;
    check(host, &to, "--iface br0")?.in_order()
}

/// Attaches the shortest XDP program to an interface, until the descriptor is closed.
fn pass_by_xdp(interface: &str) -> Result<OwnedFd> {
    /// Their numbers, from linux/bpf.h.
    const PROG_LOAD: i32 = 5;
    const LINK_CREATE: i32 = 28;
    const TYPE_XDP: u64 = 6;
    const ATTACH_XDP: u64 = 37;
    /// `r0 = XDP_PASS; exit`
    static PROGRAM: [u64; 2] = [0x2_0000_00b7, 0x95];
    let index = host_index(interface)?;
    let load = [
        TYPE_XDP | (PROGRAM.len() as u64) << 32,
        PROGRAM.as_ptr() as u64,
        c"GPL".as_ptr() as u64,
        0,
        0,
        0,
    ];
    let program = bpf(PROG_LOAD, &load)?;
    let create = [program.as_raw_fd() as u64 | u64::from(index) << 32, ATTACH_XDP];
    bpf(LINK_CREATE, &create)
}

fn host_index(interface: &str) -> Result<u32> {
    let name = CString::new(interface)?;
    // SAFETY: a string that ends with NUL.
    let index = unsafe { libc::if_nametoindex(name.as_ptr()) };
    ensure!(index != 0, "no {interface}");
    Ok(index)
}

fn bpf(command: i32, attributes: &[u64]) -> Result<OwnedFd> {
    // SAFETY: the kernel reads as many bytes of `attributes` as it is told, and what they point
    // to is static.
    let fd = unsafe {
        libc::syscall(libc::SYS_bpf, command, attributes.as_ptr(), size_of_val(attributes))
    };
    ensure!(fd >= 0, "bpf({command}): {}", io::Error::last_os_error());
    // SAFETY: it is new, and nobody else's.
    Ok(unsafe { OwnedFd::from_raw_fd(i32::try_from(fd)?) })
}

#[test]
fn what_mirror_refuses_is_a_problem_here() -> Result<()> {
    let stage = Stage::new()?;
    let (host, to) = (&stage.lab.production, shadow(&stage.lab, Family::V4));
    let refused = |to: &str, flags: &str, words: &[&str]| -> Result<()> {
        names(check(host, to, flags)?.only("problem")?, words)
    };
    refused(&to, "--iface eth9", &["--iface eth9", "no such interface"])?;
    refused("192.0.2.9:80", "", &["--shadow 192.0.2.9:80", "no route", "ip route get"])?;
    refused(&to, "--source-ports 40000-41000", &["ip_local_port_range"])?;
    {
        let _listener = host.enter(|| TcpListener::bind("0.0.0.0:20000"))??;
        refused(&to, "", &["--source-ports", "0.0.0.0:20000 is in use"])?;
    }
    host.run("ip", "route add 10.77.0.3 dev eth0 mtu lock 500".split(' '))?;
    refused(&to, "", &["MTU 500 is less than 576 bytes", "raise the MTU of eth0"])?;
    host.run("ip", "route del 10.77.0.3 dev eth0".split(' '))?;
    let lab = Lab::with(Topology::SecondInterface)?;
    lab.production.run("ip", "link set eth0 down".split(' '))?;
    let said = check(&lab.production, "10.77.1.3:80", "")?;
    names(said.only("problem")?, &["is down", "ip link set eth0 up"])?;

    let mirror = stage.mirror(Family::V4, &[])?;
    let pid = mirror.process.pid().to_string();
    let args = ["check", "--iface", "eth0", "--port", "80", "--shadow", &to];
    let output = shadowtap(host, &args)?;
    ensure!(output.status.code() == Some(2), "{output:?}");
    names(&String::from_utf8_lossy(&output.stdout), &["already mirrored by process", &pid])?;
    check_ended(&mirror.stop()?)
}

#[test]
fn without_a_bpf_file_system_the_guards_end_is_foretold() -> Result<()> {
    let stage = Stage::with_route()?;
    let unmounted = |source: &str| -> Result<Said> {
        let mut command = stage.lab.production.command("unshare");
        command.args(["--mount", "sh", "-c", "umount -l /sys/fs/bpf && exec \"$0\" \"$@\""]);
        command.arg(binary()?).args(["check", "--iface", "eth0", "--port", "80"]);
        command.args(["--shadow", "10.77.0.3:80", "--source", source]);
        let output = command.output()?;
        Ok(Said {
            status: output.status.code(),
            stdout: String::from_utf8(output.stdout)?,
            stderr: String::from_utf8(output.stderr)?,
        })
    };
    for (source, level) in [("self", "warning"), ("preserve", "problem")] {
        let said = unmounted(source)?;
        names(said.only(level)?, &["mount it: mount -t bpf bpf /sys/fs/bpf"])?;
    }
    Ok(())
}

#[test]
fn a_dry_run_sends_nothing_and_no_check_is_the_users_own_choice() -> Result<()> {
    let stage = Stage::new()?;
    let (host, to) = (&stage.lab.production, shadow(&stage.lab, Family::V4));
    let at_shadow = Tcpdump::start(&stage.lab.shadow, "eth0", "tcp")?;
    check(host, &to, "--source preserve --dry-run")?.in_order()?;
    let mirror = stage.mirror(Family::V4, &["--source", "preserve", "--dry-run"])?;
    check_ended(&mirror.stop()?)?;
    let mirror = stage.mirror(Family::V4, &["--source", "preserve", "--no-check"])?;
    check_ended(&mirror.stop()?)?;
    stage.guard(&["remove"])?;
    ensure!(at_shadow.stop()?.count("")? == 0, "something was sent");
    Ok(())
}

/// A probe takes nothing away from a mirror that runs beside it to the same shadow.
#[test]
fn a_check_beside_a_running_mirror_does_not_disturb_it() -> Result<()> {
    let stage = Stage::new()?;
    let (host, to) = (&stage.lab.production, shadow(&stage.lab, Family::V4));
    let second = Nginx::start_on(host, 81)?;
    let mirror = stage.mirror(Family::V4, &[])?;
    let args = ["check", "--iface", "eth0", "--port", "81", "--shadow", &to];
    let own = [&args[..], &["--source-ports", "2000-2999"]].concat();
    let report = scope(|scope| -> Result<_> {
        let load = scope.spawn(|| stage.send(&stage.mix(Family::V4, 500, 5)));
        for _ in 0..5 {
            let output = shadowtap(host, &own)?;
            ensure!(output.status.success(), "{output:?}");
        }
        load.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })?;
    let ended = mirror.stop()?;
    check_ended(&ended)?;
    shadow_tests::check_lossless(&ended.books, report.completed.len())?;
    ensure!(second.errors().is_empty(), "{}", second.errors());
    Ok(())
}
