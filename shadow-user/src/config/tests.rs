use std::io::Write as _;

use super::*;
use crate::choice::{List, SampleBy, Selection};
use crate::cli::{Cli, Command, one_line};
use crate::rates::written;
use crate::report::jsonl::{Only, Share, Target};
use clap::Parser;
use shadow_engine::compare::Thresholds;

fn flags(line: &str) -> MirrorArgs {
    let words = ["shadowtap", "mirror"].into_iter().chain(line.split_whitespace());
    match Cli::try_parse_from(words).expect("well-formed flags").command {
        Command::Mirror(args) => *args,
        _ => {
            panic!("these are the flags of mirror")
        }
    }
}

pub(super) const LEAST: &str = "--iface eth0 --port 80 --shadow 10.0.0.9:8080";

pub(super) fn load(line: &str) -> Result<Config, Refusal> {
    Config::load(flags(line))
}

pub(super) fn refusal(line: &str) -> String {
    load(line).expect_err("refused").to_string()
}

pub(super) fn from_file(file: &str, line: &str) -> Result<Config, String> {
    let file = parse_file(file)?;
    Config::merge(flags(line), file, Path::new("/etc/s.toml")).map_err(|error| error.to_string())
}

#[test]
fn several_shadows_are_servers_of_their_own() {
    let config = load(&format!("{LEAST} --shadow h:81 --baseline h:82")).expect("valid");
    let destinations: Vec<_> =
        config.destinations().map(|(role, setting)| (role, setting.text.as_str())).collect();
    let shadow = Role::Shadow;
    assert_eq!(
        destinations,
        [(shadow, "10.0.0.9:8080"), (shadow, "h:81"), (Role::Baseline, "h:82")]
    );
    let file = "iface = 'eth0'\nport = 80\nshadow = ['h:80', 'h:81']\nbaseline = 'h:82'";
    assert_eq!(from_file(file, "").expect("valid").shadow_names(), "h:80, h:81");
    for (line, expected) in [
        ("--shadow 10.0.0.9:8080", "--shadow 10.0.0.9:8080: is given twice; give it once"),
        (
            "--baseline 10.0.0.9:8080",
            "--baseline 10.0.0.9:8080: is a shadow as well; give another server, one that runs \
             production's version",
        ),
        (
            "--baseline h:82 --compare off",
            "--baseline h:82: has no answers to be compared with; leave it out, or give --compare \
             status or body",
        ),
    ] {
        assert_eq!(refusal(&format!("{LEAST} {line}")), expected);
    }
}

#[test]
fn defaults_are_those_of_the_help() {
    let config = load(LEAST).expect("valid");
    assert_eq!(config.iface[0].value, "eth0");
    assert_eq!(config.port[0].value, Service::Host(80));
    assert_eq!(config.shadows[0].value, HostPort { host: "10.0.0.9".into(), port: 8080 });
    assert_eq!(config.duration, None);
    assert_eq!(config.drain, Duration::from_secs(5));
    assert!(!config.dry_run);
    assert_eq!(config.source.value, SourceMode::Own);
    assert_eq!(config.client_address, ClientAddress::None);
    assert_eq!(config.source_ports.value, 16384..=32767);
    assert_eq!(config.source_ports.to_string(), "--source-ports 16384-32767 (the default)");
    assert_eq!(config.ring_size, 16 << 20);
    assert_eq!(config.gate_timeout, Duration::from_secs(5));
    assert_eq!(config.gate_action, GateAction::Abort);
    assert_eq!((config.pace, config.socket), (Pace::AsCaptured, Socket::Auto));
    assert_eq!(config.flow_memory, (256 - 36 - 16 - 8 - 8 - 8) << 20, "180 MiB for flows");
    assert_eq!(config.max_flows, 200_000);
    assert_eq!(config.choosing.selection, Selection::default());
    assert_eq!((config.choosing.by, config.choosing.seed), (SampleBy::Client, 0));
    assert!(config.control.is_none());
    assert_eq!(config.live, Live::Auto);
    assert_eq!(config.log_format, LogFormat::Text);
}

#[test]
fn comparing_is_off_in_a_dry_run() {
    assert_eq!(load(LEAST).expect("valid").compare, Compare::Status);
    assert_eq!(load(&format!("{LEAST} --compare body")).expect("valid").compare, Compare::Body);
    let dry = load(&format!("{LEAST} --compare body --dry-run")).expect("valid");
    assert_eq!(dry.compare, Compare::Off);
    let file = "iface = 'eth9'\nport = 8080\nshadow = '10.0.0.9:81'\ncompare = 'off'";
    assert_eq!(from_file(file, "").expect("valid").compare, Compare::Off);
}

#[test]
fn every_flag_reaches_its_field() {
    let config = load(
        "--iface eth0 --iface eth1 --port 10.0.0.5:80 --port [fd00::1]:443 --shadow [fd00::9]:81 \
         --listen 127.0.0.1:9100 --summary /tmp/s.json --duration 1m --drain 0s --dry-run \
         --source self --source-ports 2000-2999 --ring-size 64KiB --gate-timeout 1s \
         --gate-action send --pace off --socket raw --memory-limit 32MiB --max-flows 7 --live lines \
         --log-format json -vv",
    )
    .expect("valid");
    assert_eq!(config.iface.len(), 2);
    let [v4, v6] = ["10.0.0.5:80", "[fd00::1]:443"].map(|text| text.parse().expect("address"));
    assert_eq!(config.port[0].value, Service::Exactly(v4));
    assert_eq!(config.port[1].value, Service::Exactly(v6));
    assert_eq!(config.shadows[0].value, HostPort { host: "fd00::9".into(), port: 81 });
    assert_eq!(config.listen.expect("given").value, "127.0.0.1:9100".parse().expect("address"));
    assert_eq!(config.summary.expect("given").value, Path::new("/tmp/s.json"));
    assert_eq!(config.duration, Some(Duration::from_secs(60)));
    assert_eq!(config.drain, Duration::ZERO);
    assert!(config.dry_run);
    assert_eq!(config.source_ports.value, 2000..=2999);
    assert_eq!(config.ring_size, 65_536);
    assert_eq!(config.gate_timeout, Duration::from_secs(1));
    assert_eq!(config.gate_action, GateAction::Send);
    assert_eq!((config.pace, config.socket), (Pace::Off, Socket::Raw));
    assert_eq!(config.flow_memory, (32 << 20) - (128 << 10) - (16 << 20) - (512 << 10));
    assert_eq!(config.max_flows, 7);
    assert_eq!(config.live, Live::Lines);
    assert_eq!(config.log_format, LogFormat::Json);
    assert_eq!(config.verbose, 2);
}

#[test]
fn file_has_the_same_names() {
    let config = from_file(
        r#"
        iface = ["eth0", "eth1"]
        port = [80, "10.0.0.5:443"]
        shadow = "shadow.example:8080"
        listen = "127.0.0.1:9100"
        summary = "/tmp/s.json"
        duration = "20s"
        drain = "1s"
        dry-run = true
        source = "self"
        source-ports = "2000-2999"
        ring-size = 65536
        gate-timeout = "1s"
        gate-action = "send"
        pace = "off"
        memory-limit = "64MiB"
        max-flows = 7
        live = "off"
        log-format = "json"
        verbose = 1
        "#,
        "",
    )
    .expect("valid");
    assert_eq!(config.iface.len(), 2);
    assert_eq!(config.port[0].value, Service::Host(80));
    assert_eq!(config.shadows[0].value.host, "shadow.example");
    assert_eq!(config.duration, Some(Duration::from_secs(20)));
    assert!(config.dry_run);
    assert_eq!(config.ring_size, 65_536);
    assert_eq!(config.max_flows, 7);
    assert_eq!(config.verbose, 1);
}

#[test]
fn flags_win_over_the_file() {
    let file = "iface = 'eth9'\nport = 8080\nshadow = '10.0.0.9:81'\ndry-run = true\ndrain = '9s'";
    let config = from_file(file, "--port 80 --dry-run=false --drain 1s").expect("valid");
    assert_eq!(config.iface[0].value, "eth9");
    assert_eq!(config.port.len(), 1);
    assert_eq!(config.port[0].value, Service::Host(80));
    assert!(!config.dry_run);
    assert_eq!(config.drain, Duration::from_secs(1));
}

#[test]
fn refusals_name_the_setting_and_the_remedy() {
    let service = "give 80, 10.0.0.5:80, [fd00::1]:80, 0.0.0.0:80 or [::]:80";
    let host = "give host:port, as 10.0.0.9:8080, [fd00::9]:8080 or shadow.example:8080";
    let source = "give self, preserve or pool=CIDR, as pool=10.99.0.0/16 or pool=fd99::/64";
    let range = "give FIRST-LAST with 1024 <= FIRST <= LAST <= 65535, as 16384-32767";
    let cases = [
        ("--port 0".to_owned(), format!("--port 0: port 0 cannot be mirrored; {service}")),
        ("--port 10.0.0.5:0".into(), format!("--port 10.0.0.5:0: port 0 cannot be mirrored; {service}")),
        (
            "--port 99999".into(),
            format!("--port 99999: is neither a port nor an address with a port; {service}"),
        ),
        (
            "--port fd00::1:80".into(),
            format!("--port fd00::1:80: is neither a port nor an address with a port; {service}"),
        ),
        (format!("{LEAST} --port 80"), "--port 80: is given twice; give it once".into()),
        (format!("{LEAST} --iface eth0"), "--iface eth0: is given twice; give it once".into()),
        (
            format!("{LEAST} --iface a-name-much-too-long"),
            "--iface a-name-much-too-long: is no interface name; give 1 to 15 characters, as `ip \
             link` shows them"
                .into(),
        ),
        (
            format!("{LEAST} --listen 9100"),
            "--listen 9100: is no address with a port; give addr:port, as 127.0.0.1:9100 or \
             [::1]:9100"
                .into(),
        ),
        (
            format!("{LEAST} --duration 0s"),
            "--duration 0s: is no time at all; give more than 0, as 20s".into(),
        ),
        (
            format!("{LEAST} --source client"),
            format!("--source client: is not a choice; {source}"),
        ),
        (format!("{LEAST} --source pool"), format!("--source pool: has no network; {source}")),
        (
            format!("{LEAST} --source pool=10.9.0.0"),
            format!("--source pool=10.9.0.0: has no length of its prefix; {source}"),
        ),
        (
            format!("{LEAST} --source pool=10.9.0/24"),
            format!("--source pool=10.9.0/24: is no network; {source}"),
        ),
        (
            format!("{LEAST} --source pool=10.9.0.0/33"),
            format!("--source pool=10.9.0.0/33: has no prefix of 1 to 30 bits; {source}"),
        ),
        (
            format!("{LEAST} --source pool=fd99::/127"),
            "--source pool=fd99::/127: leaves no room for clients behind its prefix of 127 bits; \
             give a prefix of at most 126 bits"
                .into(),
        ),
        (
            format!("{LEAST} --client-address forwarded"),
            "--client-address forwarded: is not a choice; give none or proxy-protocol-v2 or \
             x-forwarded-for"
                .into(),
        ),
        (
            format!("{LEAST} --pool-announce"),
            "--pool-announce true: --source self (the default) has no pool to answer for; leave it \
             out, or give --source pool=CIDR"
                .into(),
        ),
        (
            format!("{LEAST} --source-ports 20"),
            format!("--source-ports 20: is no range of ports; {range}"),
        ),
        (
            format!("{LEAST} --source-ports 3000-2000"),
            format!("--source-ports 3000-2000: ends before it begins; {range}"),
        ),
        (
            format!("{LEAST} --source-ports 80-2000"),
            format!("--source-ports 80-2000: includes well-known ports; {range}"),
        ),
        (
            format!("{LEAST} --ring-size 5000"),
            "--ring-size 5000: the kernel's ring buffers are powers of two; give a power of two, \
             such as 8KiB"
                .into(),
        ),
        (
            format!("{LEAST} --ring-size 1"),
            "--ring-size 1: is out of bounds; give a power of two from 4KiB to 1GiB".into(),
        ),
        (
            format!("{LEAST} --ring-size lots"),
            "--ring-size lots: is no size; give bytes or a unit, as 16MiB".into(),
        ),
        (
            format!("{LEAST} --gate-action drop"),
            "--gate-action drop: is not a choice; give abort or send".into(),
        ),
        (
            format!("{LEAST} --pace fast"),
            "--pace fast: is not a choice; give as-captured or off".into(),
        ),
        (
            format!("{LEAST} --memory-limit 32MiB"),
            "--memory-limit 32MiB: leaves too little besides the daemon and three rings of up \
             to 16777216 bytes; give 80MiB or more, or a smaller --ring-size"
                .into(),
        ),
        (
            format!("{LEAST} --memory-limit 32MiB --compare off"),
            "--memory-limit 32MiB: leaves too little besides the daemon and two rings of up \
             to 16777216 bytes; give 48MiB or more, or a smaller --ring-size"
                .into(),
        ),
        (
            format!("{LEAST} --compare all"),
            "--compare all: is not a choice; give off or status or body".into(),
        ),
        (
            format!("{LEAST} --max-flows 0"),
            "--max-flows 0: is no count of flows; give a number from 1 on".into(),
        ),
        (
            format!("{LEAST} --dry-run=maybe"),
            "--dry-run maybe: is neither true nor false; give true or false".into(),
        ),
        (
            format!("{LEAST} --log-format xml"),
            "--log-format xml: is not a choice; give text or json".into(),
        ),
        (
            "--port 80 --shadow h:1".into(),
            "--iface: the interface on which clients arrive is missing; add --iface NAME, or iface \
             = … to the file of --config"
                .into(),
        ),
        (
            "--iface eth0 --shadow h:1".into(),
            "--port: the port to mirror is missing; add --port [ADDR:]PORT, or port = … to the \
             file of --config"
                .into(),
        ),
        (
            "--iface eth0 --port 80".into(),
            "--shadow: the server that gets the copy is missing; add --shadow HOST:PORT, or shadow \
             = … to the file of --config"
                .into(),
        ),
    ];
    for (line, expected) in cases {
        let line = if line.starts_with("--port") && !line.contains("--shadow") {
            format!("--iface eth0 {line} --shadow h:1")
        } else {
            line
        };
        assert_eq!(refusal(&line), expected, "for {line}");
    }
    for (shadow, what) in [
        ("10.0.0.9", "has no port"),
        (":80", "has no host"),
        ("fd00::9:80", "an IPv6 address needs brackets"),
        ("[10.0.0.9]:80", "has no IPv6 address between the brackets"),
        ("h:0", "has no port between 1 and 65535"),
        ("h:http", "has no port between 1 and 65535"),
    ] {
        assert_eq!(
            refusal(&format!("--iface eth0 --port 80 --shadow {shadow}")),
            format!("--shadow {shadow}: {what}; {host}")
        );
    }
    for name in ["duration", "drain", "gate-timeout"] {
        let message = refusal(&format!("{LEAST} --{name} 20"));
        assert!(message.starts_with(&format!("--{name} 20: is no time: ")), "{message}");
        assert!(message.ends_with("; give a number and a unit, as 20s"), "{message}");
    }
}

#[test]
fn a_bad_field_is_refused_with_its_file() {
    let error = from_file("port = 0", "--iface eth0 --shadow h:1").expect_err("refused");
    assert_eq!(
        error,
        "port = \"0\" in /etc/s.toml: port 0 cannot be mirrored; give 80, 10.0.0.5:80, \
         [fd00::1]:80, 0.0.0.0:80 or [::]:80"
    );
}

#[test]
fn a_bad_file_is_refused_on_one_line() {
    for (file, start) in [
        ("iface = 'eth0'\nprot = 80", "line 2: unknown field `prot`, expected one of `iface`"),
        ("config = 'x'", "line 1: unknown field `config`"),
        ("port = [80", "line 1: "),
        ("port = 1.5", "line 1: invalid type"),
    ] {
        let error = from_file(file, LEAST).expect_err("refused");
        assert!(error.starts_with(start), "{error}");
        assert_eq!(error.lines().count(), 1, "{error}");
    }
}

#[test]
fn a_missing_file_is_refused() {
    assert_eq!(
        refusal("--config /nonexistent/s.toml"),
        "--config /nonexistent/s.toml: cannot be read: No such file or directory (os error 2); \
         give a readable TOML file"
    );
}

#[test]
fn an_unknown_flag_is_one_line() {
    let error = Cli::try_parse_from(["shadowtap", "mirror", "--ifcae", "x"]).expect_err("refused");
    assert_eq!(one_line(&error), "unexpected argument '--ifcae' found; see shadowtap --help");
    let error = Cli::try_parse_from(["shadowtap"]).expect_err("refused");
    assert_eq!(one_line(&error), "no command is given; see shadowtap --help");
}

#[test]
fn a_service_selects_its_addresses() {
    let own: Vec<IpAddr> = ["10.0.0.5", "fd00::1"].map(|a| a.parse().expect("address")).into();
    let selects = |service: &str, address: &str| {
        super::service(service).expect("service").selects(address.parse().expect("address"), &own)
    };
    assert!(selects("80", "10.0.0.5:80"));
    assert!(selects("80", "[fd00::1]:80"));
    assert!(!selects("80", "10.0.0.5:81"));
    assert!(!selects("80", "10.0.0.9:80"));
    assert!(selects("10.0.0.9:80", "10.0.0.9:80"));
    assert!(selects("0.0.0.0:80", "10.0.0.5:80"));
    assert!(!selects("0.0.0.0:80", "[fd00::1]:80"));
    assert!(!selects("0.0.0.0:80", "10.0.0.9:80"), "what is sent to others is not seen on ingress");
}

#[test]
fn every_source_is_a_flag_and_a_field() {
    assert_eq!(
        load(&format!("{LEAST} --source preserve")).expect("valid").source.value,
        SourceMode::Preserve
    );
    let file = "iface = \"eth0\"\nport = 80\nshadow = \"10.0.0.9:8080\"\n\
                source = \"pool=10.99.0.0/16\"\nclient-address = \"proxy-protocol-v2\"\n";
    let config = from_file(file, "").expect("valid");
    let SourceMode::Pool { network, is_ipv4 } = config.source.value else { panic!("{config:?}") };
    assert!(is_ipv4 && network.contains("10.99.255.1".parse().expect("address")));
    assert!(!network.contains("10.98.255.1".parse().expect("address")));
    assert_eq!(config.client_address, ClientAddress::ProxyProtocolV2);
    let config = from_file(file, "--source self --client-address x-forwarded-for").expect("valid");
    assert_eq!(config.source.value, SourceMode::Own);
    assert_eq!(config.client_address, ClientAddress::XForwardedFor);
}

#[test]
fn what_is_chosen_is_a_flag_and_a_field() {
    let mut list = tempfile::NamedTempFile::new().expect("file");
    writeln!(list, "# partners\n192.0.2.0/24\n2001:db8::/32").expect("written");
    let list = list.path().display();
    let config = load(&format!(
        "{LEAST} --sample 0.01% --sample-by connection --seed 7 --client 10.0.0.0/8 --client @{list} \
         --exclude-client 10.1.2.3 --control /tmp/m.sock --cpu-limit 25% --pressure-limit off"
    ))
    .expect("valid");
    let Choosing { selection, by, seed, limits } = &config.choosing;
    assert_eq!(selection.sample.to_string(), "0.01%");
    assert_eq!((*by, *seed), (SampleBy::Connection, 7));
    assert_eq!(limits.cpu.to_string(), "25%");
    assert_eq!(limits.pressure.to_string(), "off");
    let nets = |list| selection.clients.of(list).map(|net| net.to_string()).collect::<Vec<_>>();
    assert_eq!(nets(List::Client), ["10.0.0.0/8", "192.0.2.0/24", "2001:db8::/32"]);
    assert_eq!(nets(List::Exclude), ["10.1.2.3/32"]);
    assert_eq!(config.control.expect("given").value, Place::At("/tmp/m.sock".into()));

    let file = "iface = \"eth0\"\nport = 80\nshadow = \"10.0.0.9:8080\"\nsample = \"10%\"\n\
                client = [\"10.0.0.0/8\", \"fd00::/8\"]\nexclude-client = \"10.1.0.0/16\"\n\
                control = \"off\"\nseed = 3\n";
    let config = from_file(file, "").expect("valid");
    assert_eq!(config.choosing.selection.clients.nets().count(), 3);
    assert_eq!(config.choosing.seed, 3);
    assert_eq!(config.choosing.limits.cpu.to_string(), "50%", "the host comes first");
    assert_eq!(config.choosing.limits.pressure.to_string(), "60%");
    assert_eq!(config.control.expect("given").value, Place::Off);
    let config = from_file(file, "--sample 20% --client 1.0.0.0/8").expect("valid");
    assert_eq!(config.choosing.selection.sample.to_string(), "20%");
    assert_eq!(config.choosing.selection.clients.nets().count(), 2, "a flag wins over the list");
}

#[test]
fn how_much_is_sent_is_a_flag_and_a_field() {
    let file = "iface = 'eth0'\nport = 80\nshadow = 'h:80'\nmax-rate = '50/s'\n\
                max-request-rate = '1000/s'\nmax-bandwidth = '100Mbit/s'\nramp = '10m'\n";
    let rates = |config: &Config| {
        let Rates { sessions, requests, bandwidth } = config.rates;
        [written(sessions), written(requests), written(bandwidth)]
    };
    let config = from_file(file, "").expect("valid");
    assert_eq!(rates(&config), ["50/s", "1000/s", "100Mbit/s"]);
    assert_eq!(config.ramp, Some(Duration::from_secs(600)));
    let config = from_file(file, "--max-rate 7/s --max-bandwidth none").expect("valid");
    assert_eq!(rates(&config), ["7/s", "1000/s", "none"]);
    let config = load(LEAST).expect("valid");
    assert_eq!((config.rates, config.ramp), (Rates::default(), None));
}

#[test]
fn what_cannot_be_chosen_is_refused() {
    for (flags, expected) in [
        (
            "--max-rate 50",
            "--max-rate 50: is no number per second; give a number per second, as 50/s, or none",
        ),
        (
            "--max-request-rate 0/s",
            "--max-request-rate 0/s: lets nothing through; give 1/s or more, or pause the mirror",
        ),
        (
            "--max-bandwidth 100MB/s",
            "--max-bandwidth 100MB/s: has no unit of bits; give bits per second, as 100Mbit/s, \
             1.5Gbit/s or 500kbit/s, or none",
        ),
        ("--ramp 0s", "--ramp 0s: is no time at all; give more than 0, as 20s"),
        (
            "--sample 10",
            "--sample 10: is no percentage; give more than 0% and up to 100%, as 10% or 0.01%",
        ),
        (
            "--sample 0%",
            "--sample 0%: chooses nobody; give more than 0% and up to 100%, as 10% or 0.01%",
        ),
        (
            "--cpu-limit 50",
            "--cpu-limit 50: is no limit; give more than 0% and up to 100000%, as 50%, or off",
        ),
        (
            "--pressure-limit 200%",
            "--pressure-limit 200%: is no limit; give more than 0% and up to 100%, as 50%, or off",
        ),
        ("--sample-by user", "--sample-by user: is not a choice; give client or connection"),
        ("--seed=-1", "--seed -1: is no seed; give a number from 0 to 18446744073709551615"),
        (
            "--client 10.0.0.1/8",
            "--client 10.0.0.1/8: has bits set after its first 8; give 10.0.0.0/8",
        ),
        (
            "--client @/nonexistent",
            "--client @/nonexistent: cannot be read: No such file or directory \
          (os error 2); give a readable file with a network on each line",
        ),
        (
            "--client 10.0.0.0/8 --exclude-client 10.0.0.0/8",
            "--exclude-client 10.0.0.0/8: 10.0.0.0/8 is \
          in --client as well; give it in one of them",
        ),
        (
            "--control m.sock",
            "--control m.sock: is no whole path; give a path from / on, as \
          /run/shadowtap/a.sock, or off",
        ),
    ] {
        assert_eq!(refusal(&format!("{LEAST} {flags}")), expected);
    }
}

#[test]
fn reports_and_rules_are_flags_and_fields() {
    let config = load(&format!(
        "{LEAST} --compare body --report /var/log/s.jsonl --report-only mismatch \
         --report-sample 1% --report-bodies --ignore header:X-Id --ignore json:$.at \
         --route /users/{{name}} --slower 50%+20ms --learn-noise /tmp/n --fail-on mismatch>0.1% \
         --fail-on p99>+20%"
    ))
    .expect("valid");
    let report = config.report.clone().expect("given");
    assert_eq!(report.target.value, Target::File("/var/log/s.jsonl".into()));
    assert_eq!((report.only, config.show_bodies), (Only::Mismatch, true));
    assert_eq!(Some(report.share), Share::new(0.01));
    assert!(!config.takes_stdout());
    let slower = config.judge.rules.slower.expect("a threshold");
    assert_eq!((slower.share, slower.least), (0.5, Duration::from_millis(20)));
    assert_eq!(config.judge.fail_on.len(), 2);
    assert_eq!(config.judge.learn_noise.expect("given").value, Path::new("/tmp/n"));

    let config = from_file(
        r#"
        iface = "eth0"
        port = 80
        shadow = "10.0.0.9:8080"
        compare = "body"
        report = "-"
        report-sample = "50%"
        ignore = ["header:X-Id", "query:state"]
        route = "/users/{name}"
        slower = "off"
        noise = "/etc/noise.json"
        noise-threshold = "10%,1%"
        fail-on = ["missing>0"]
        "#,
        "",
    )
    .expect("valid");
    assert!(config.takes_stdout() && !config.show_bodies);
    assert_eq!(config.live, Live::Off, "standard output has one writer");
    assert!(config.judge.rules.slower.is_none());
    assert_eq!(config.judge.thresholds, Thresholds { relative: 0.1, absolute: 0.01 });
    assert_eq!(config.judge.noise.expect("given").value, Path::new("/etc/noise.json"));
    assert_eq!(config.judge.fail_on[0].text, "missing>0");
}

#[test]
fn the_page_has_bodies_and_a_token_without_a_report() {
    let flags = format!("{LEAST} --report-bodies --listen-token-file /etc/shadowtap.token");
    let config = load(&flags).expect("valid");
    assert!(config.show_bodies && config.report.is_none());
    assert_eq!(config.listen_token_file.expect("given").value, Path::new("/etc/shadowtap.token"));
}

#[test]
fn comparing_bodies_takes_its_memory_from_the_flows() {
    let [status, body] = ["status", "body"]
        .map(|depth| load(&format!("{LEAST} --compare {depth}")).expect("valid").flow_memory);
    assert_eq!(status - body, 32 << 20);
}

#[test]
fn a_report_takes_its_memory_from_the_flows() {
    let [without, with] =
        ["", " --report -"].map(|more| load(&format!("{LEAST}{more}")).expect("valid").flow_memory);
    assert_eq!(without - with, QUEUE_OCTETS);
}

#[test]
fn what_does_not_go_together_is_refused() {
    for (flags, parts) in [
        ("--report-sample 1%", ["--report-sample 1%: there is no report", "add --report"]),
        ("--report - --report-sample 0%", ["--report-sample 0%: is no share", "as 1%"]),
        ("--report - --report-only some", ["--report-only some", "give all or mismatch"]),
        ("--report - --live lines", ["--live lines: standard output has", "--live off"]),
        ("--report - --compare off", ["--report -: nothing is compared", "--compare status"]),
        ("--report - --dry-run", ["--report -: nothing is compared", "no --dry-run"]),
        ("--fail-on missing>0 --compare off", ["--fail-on missing>0: nothing is compared", ""]),
        ("--noise /tmp/n --compare off", ["--noise /tmp/n: nothing is compared", ""]),
        ("--fail-on mismatch", ["--fail-on mismatch: no > or <", "write such as"]),
        ("--ignore cookie", ["--ignore cookie: no kind", "header:NAME"]),
        ("--noise-threshold 20%", ["--noise-threshold 20%: not two shares", "20%,0.03%"]),
        ("--slower fast", ["--slower fast: ", "write such as"]),
        ("--route users", ["--route users: no path", "write such as"]),
        ("--route /{a} --route /{b}", ["--route /{b}: ", "each path by one rule"]),
    ] {
        let message = refusal(&format!("{LEAST} {flags}"));
        for part in parts {
            assert!(message.contains(part), "{part} is not in: {message}");
        }
        assert_eq!(message.lines().count(), 1);
    }
}
