use super::*;

const JSON: &str = include_str!("ruleset.json");
const TEXT: &str = include_str!("ruleset.txt");

fn ruleset() -> Ruleset {
    Ruleset::parse(JSON, TEXT.to_owned()).expect("nft's own words")
}

fn packet(source: &str, destination: &str, state: &'static str) -> Outbound {
    Outbound {
        source: source.parse().expect("address"),
        destination: destination.parse().expect("address"),
        oif: "eth0".to_owned(),
        state,
    }
}

/// The names of the rules, the sure ones with `!`.
fn names(packet: &Outbound) -> Vec<String> {
    let culprits = ruleset().culprits(packet);
    let name = |it: &Culprit| format!("{}{}", if it.sure { "!" } else { "" }, it.text);
    culprits.iter().map(name).collect()
}

const MAYBE: [&str; 2] = ["ip daddr @s drop comment \"no\"", "tcp flags syn / fin,syn drop"];

#[test]
fn the_rule_that_surely_meets_is_the_last_named() {
    let found = names(&packet("10.0.0.5:16384", "10.0.0.1:80", "new"));
    assert_eq!(found, ["!ip daddr 10.0.0.1 tcp dport 80 counter packets 0 bytes 0 drop"]);
    let found = names(&packet("10.0.0.5:16384", "10.0.0.9:80", "invalid"));
    assert_eq!(found, ["!ct state invalid drop"]);
    let found = names(&packet("192.0.2.1:16384", "10.0.0.9:80", "new"));
    let rejects = "!ct state { invalid, new } oifname \"eth*\" tcp sport 16384-32767 ip saddr != \
                   10.0.0.0/8 reject with icmp port-unreachable";
    assert_eq!(found, [rejects]);
}

#[test]
fn what_is_not_understood_may_meet() {
    let found = names(&packet("10.0.0.5:16384", "10.0.0.9:81", "new"));
    let vmap = "meta skuid 0 tcp dport vmap { 80 : drop, 81 : accept }";
    assert_eq!(found, [MAYBE[0], MAYBE[1], vmap, "!oifname \"eth0\" masquerade"]);
    let other = Outbound { oif: "eth1".to_owned(), ..packet("10.0.0.5:1", "10.0.0.9:81", "new") };
    assert_eq!(names(&other), [MAYBE[0], MAYBE[1], vmap]);
    // Of IPv6 only what is in family inet.
    let found = names(&packet("[fd00::5]:1", "[fd00::9]:81", "new"));
    assert_eq!(found, [MAYBE[1], vmap]);
}

#[test]
fn a_chains_policy_is_named_when_nothing_accepts_before() {
    let json = r#"{"nftables": [
        {"chain": {"family": "ip", "table": "filter", "name": "OUTPUT", "handle": 1,
                   "type": "filter", "hook": "output", "prio": 0, "policy": "drop"}},
        {"rule": {"family": "ip", "table": "filter", "chain": "OUTPUT", "handle": 2, "expr": [
            {"match": {"op": "==", "left": {"payload": {"protocol": "tcp", "field": "dport"}},
                       "right": {"set": [443, {"range": [8000, 8999]}]}}}, {"accept": null}]}}
    ]}"#;
    let ruleset = Ruleset::parse(json, String::new()).expect("nft's words");
    assert_eq!(ruleset.culprits(&packet("10.0.0.5:1", "10.0.0.9:8080", "new")), []);
    let found = ruleset.culprits(&packet("10.0.0.5:1", "10.0.0.9:80", "new"));
    assert_eq!(found[0].name(), "`policy drop` in chain OUTPUT of table ip filter");
    assert_eq!(found[0].handle, None);
    assert_eq!(
        found[0].remedy(&Sources::Own(16_384, 32_767), "10.0.0.9:80".parse().expect("address")),
        "iptables -t filter -I OUTPUT -d 10.0.0.9 -p tcp --dport 80 --sport 16384:32767 -j ACCEPT"
    );
}

#[test]
fn a_remedy_stands_before_the_rule_and_lets_no_more_pass_than_the_mirrors() {
    let culprits = ruleset().culprits(&packet("10.0.0.5:16384", "10.0.0.1:80", "new"));
    let shadow = "10.0.0.1:80".parse().expect("address");
    assert_eq!(
        culprits[0].remedy(&Sources::Own(16_384, 32_767), shadow),
        "nft insert rule inet f out ip daddr 10.0.0.1 tcp dport 80 tcp sport 16384-32767 accept"
    );
    assert_eq!(
        culprits[0].remedy(&Sources::Foreign, shadow),
        "nft insert rule inet f out ip daddr 10.0.0.1 tcp dport 80 accept"
    );
    assert_eq!(
        culprits[0].name(),
        "`ip daddr 10.0.0.1 tcp dport 80 counter packets 0 bytes 0 drop` in chain out of table \
         inet f"
    );
}
