use super::*;
use crate::check::tests::config;
use crate::host::{Interface, Route};
use crate::preflight::{Plan, Way};
use crate::shadows::Role;

fn plan(config: &Config) -> Plan {
    let interface = |index, name: &str| Interface {
        index,
        name: name.to_owned(),
        up: true,
        mtu: 1500,
        ..Interface::default()
    };
    let source = "10.77.0.2".parse().expect("address");
    Plan {
        taps: vec![interface(2, "eth0")],
        guards: vec![interface(2, "eth0")],
        ways: vec![Way {
            role: Role::Shadow,
            setting: config.shadows[0].clone(),
            shadow: config.shadows[0].text.parse().expect("address"),
            route: Route { oif: 2, source, mtu: None, local: false, neighbour: None },
            interface: interface(2, "eth0"),
            path_mtu: 1500,
        }],
    }
}

/// What is said of an outcome; `change` sets what was looked at further.
fn said(source: &str, outcome: Outcome, change: impl FnOnce(&mut Tried)) -> Vec<Finding> {
    let shadow = "10.77.0.3:8080";
    let config = config(&format!("--iface eth0 --port 80 --shadow {shadow} --source {source}"));
    let plan = plan(&config);
    let mut tried = Tried {
        probe: Probe::new(&config, &plan.ways[0], &[], 0),
        outcome,
        gateway: None,
        neighbour: Neighbour::Answers,
        elsewhere: None,
        forwards: false,
        direct: None,
        firewall: Some(Ok(Vec::new())),
    };
    change(&mut tried);
    judge(&config, &plan, &plan.ways[0], &tried)
}

fn one(source: &str, outcome: Outcome, change: impl FnOnce(&mut Tried)) -> String {
    let said = said(source, outcome, change);
    assert_eq!(said.len(), 1, "{said:?}");
    said[0].to_string()
}

const MODES: [&str; 3] = ["self", "preserve", "pool=10.99.0.0/24"];

#[test]
fn each_mode_probes_from_an_address_of_its_own() {
    let answered = |source| one(source, Outcome::Answered(2), |_| {});
    let by = "came back by the guard on eth0";
    assert_eq!(
        answered("self"),
        format!("ok: --source self: the shadow's answer to 10.77.0.2 {by}")
    );
    assert_eq!(
        answered("preserve"),
        format!(
            "ok: --source preserve: the shadow's answer to 192.0.2.1, which no client has, {by}"
        )
    );
    assert_eq!(
        answered("pool=10.99.0.0/24"),
        format!("ok: --source pool=10.99.0.0/24: the shadow's answer to 10.99.0.1 {by}")
    );
}

#[test]
fn a_reset_proves_the_way_back_in_every_mode() {
    for mode in MODES {
        assert_eq!(
            one(mode, Outcome::Refused, |_| {}),
            "warning: --shadow 10.77.0.3:8080: refuses connections (RST): nothing is mirrored \
             until a server listens there; start it; on its host: ss -ltn 'sport = :8080'"
        );
    }
}

#[test]
fn silence_is_a_warning_only_where_answers_are_known_to_come_here() {
    for mode in MODES {
        for change in
            [(|tried: &mut Tried| tried.neighbour = Neighbour::Silent) as fn(&mut Tried), |tried| {
                tried.direct = Some(Direct::Silent)
            }]
        {
            let level = said(mode, Outcome::Silent, change)[0].level;
            let expected = if mode == "self" { Level::Warning } else { Level::Problem };
            assert_eq!(level, expected, "{mode}");
        }
    }
}

#[test]
fn the_missing_route_is_given_with_its_values() {
    let no_route = |source: &str, gateway: Option<&str>| {
        let text = one(source, Outcome::Silent, |tried| {
            tried.direct = Some(Direct::Answers);
            tried.gateway = gateway.map(|text| text.parse().expect("address"));
        });
        text.split_once("; ").expect("a remedy").1.to_owned()
    };
    assert_eq!(
        no_route("preserve", None),
        "on the shadow's host: shadowtap route add --via 10.77.0.2 --port 8080"
    );
    assert!(no_route("preserve", Some("10.77.0.254")).contains("tunnel"));
    assert_eq!(
        no_route("pool=10.99.0.0/24", None),
        "on the shadow's host: ip route add 10.99.0.0/24 via 10.77.0.2"
    );
    assert_eq!(
        no_route("pool=10.99.0.0/24", Some("10.77.0.254")),
        "on the router 10.77.0.254: ip route add 10.99.0.0/24 via 10.77.0.2"
    );
}

#[test]
fn answers_that_come_in_elsewhere_are_a_problem_in_every_mode() {
    for mode in MODES {
        let text = one(mode, Outcome::Silent, |tried| {
            tried.elsewhere = Some("eth1".to_owned());
            tried.forwards = true;
        });
        assert!(text.starts_with("problem: --shadow 10.77.0.3:8080: is reached by eth0"), "{text}");
        let remedy = if mode == "self" {
            "ip route replace 10.77.0.3 dev eth1"
        } else {
            assert!(text.contains("would forward them to clients"), "{text}");
            "; add --iface eth1"
        };
        assert!(text.ends_with(remedy), "{text}");
    }
}

#[test]
fn who_reports_is_named_with_what_it_means() {
    let reporter = "10.77.0.254".parse().expect("address");
    let text = one("self", Outcome::Icmp { reporter, code: 13 }, |_| {});
    assert_eq!(
        text,
        "warning: --shadow 10.77.0.3:8080: 10.77.0.254 answers in its place: administratively \
         prohibited (ICMP); let TCP port 8080 pass there; on 10.77.0.254: nft list ruleset"
    );
    let text = one("preserve", Outcome::Icmp { reporter, code: 1 }, |_| {});
    assert!(text.starts_with("problem: ") && text.contains("host unreachable"), "{text}");
}

#[test]
fn a_firewall_that_cannot_be_asked_is_a_problem_all_the_same() {
    let refused = Outcome::Unsent(Unsent::NotPermitted);
    let text = one("self", refused, |tried| tried.firewall = Some(Err("not found".to_owned())));
    assert!(text.starts_with("problem: ") && text.contains("(not found)"), "{text}");
    assert!(text.ends_with("or look at iptables-save"), "{text}");
    let text = one("self", refused, |_| {});
    assert!(text.contains("iptables-legacy-save"), "{text}");
    let text = one("self", Outcome::Unsent(Unsent::TooLong), |_| {});
    assert!(text.contains("(too_long)"), "{text}");
}
