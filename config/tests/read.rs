//! What a file says, in the model's words.

use std::net::IpAddr;
use std::path::Path;

use config::model::{
    ClientAddress, Config, Endpoint, Listen, MacAddress, MarkRule, Mode, Neighbour, Persistence,
    PersistenceMask, Port, Prefix, Protocol, Real, Route, SchedulerFlags, SchedulerKind, Service,
    Tunnel, TunnelChecksum, Unmatched,
};
use config::toml::{read, read_file};

fn address(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

fn prefix(text: &str) -> Prefix {
    text.parse().expect("a prefix")
}

fn config(text: &str) -> Config {
    read(text, "lb.toml")
        .unwrap_or_else(|errors| panic!("{errors}"))
        .config
}

fn design() -> Config {
    config(include_str!("files/good/design.toml"))
}

#[test]
fn vlans_ports_stand_behind_those_that_carry_them() {
    let config = config(include_str!("files/good/vlans.toml"));
    let shown = |port: &Port| {
        let over = port.vlan.as_ref();
        let over = over.map(|vlan| (vlan.parent.clone(), vlan.id));
        (port.name.clone(), over, port.mtu)
    };
    let over = |parent: &str, id| Some((parent.to_owned(), id));
    let want = [
        ("wan", None, 9000),
        ("lan", None, 1500),
        ("wan.10", over("wan", 10), 9000),
        ("wan.4094", over("wan", 4094), 1500),
        ("lan.10", over("lan", 10), 1500),
    ];
    let ports: Vec<_> = config.ports.iter().map(shown).collect();
    assert_eq!(
        ports,
        want.map(|(name, over, mtu)| (name.to_owned(), over, mtu))
    );
}

#[test]
fn nothing_said_is_the_default() {
    assert_eq!(config("version = 1"), Config::default());
}

#[test]
fn connections_v6_defaults_to_a_quarter() {
    let dataplane = config("version = 1\ndataplane = { connections = 1000 }").dataplane;
    assert_eq!(
        (dataplane.connections, dataplane.connections_v6),
        (1000, 250)
    );
    assert_eq!(dataplane.workers, [0]);
}

#[test]
fn the_network_of_the_design() {
    let config = design();
    assert_eq!(config.dataplane.workers, [1, 2]);
    assert_eq!(config.control.group.as_deref(), Some("lb"));
    let [wan, lan] = &config.ports[..] else {
        panic!("two ports")
    };
    assert_eq!(wan.device.as_deref(), Some("0000:3b:00.0"));
    assert_eq!(
        wan.addresses,
        [prefix("192.0.2.2/24"), prefix("2001:db8::2/64")]
    );
    assert_eq!(wan.mac, Some(MacAddress([2, 0, 0, 0, 0, 1])));
    assert_eq!((lan.device.as_ref(), lan.mac, lan.mtu), (None, None, 1500));
    let route = Route {
        to: prefix("0.0.0.0/0"),
        via: vec![address("192.0.2.1")],
    };
    assert_eq!(config.routes, [route]);
    let mac = MacAddress([2, 0, 0, 0, 1, 1]);
    let neighbour = Neighbour {
        address: address("10.1.0.1"),
        mac,
        port: "lan".to_owned(),
    };
    assert_eq!(config.neighbours, [neighbour]);
    assert_eq!(config.vips[0].unmatched, Unmatched::Kernel);
    let rule = MarkRule {
        mark: 5,
        protocol: Some(Protocol::Tcp),
        from: None,
        to: prefix("192.0.2.0/28"),
        ports: Some((80, 443)),
        port: None,
    };
    assert_eq!(config.marks, [rule]);
    let sysctl = [("conn_reuse_mode", 1), ("expire_nodest_conn", 0)];
    assert_eq!(
        config.sysctl,
        sysctl.map(|(name, value)| (name.to_owned(), value))
    );
}

#[test]
fn the_service_of_the_design() {
    let listen = Listen::Address {
        protocol: Protocol::Tcp,
        address: address("192.0.2.10"),
        port: 80,
    };
    let mask = PersistenceMask::V4([255; 4].into());
    let real = |text, port, mode, weight| Real {
        endpoint: Endpoint {
            address: address(text),
            port,
        },
        mode,
        weight,
        upper: 0,
        lower: 0,
    };
    let gue = Tunnel::Gue {
        port: 6080,
        checksum: TunnelChecksum::None,
    };
    let service = Service {
        scheduler: SchedulerKind::Wrr,
        persistence: Some(Persistence {
            timeout: 300,
            mask,
            engine: None,
        }),
        local_addresses: vec![address("10.1.0.250"), address("10.1.0.251")],
        client_address: ClientAddress::Toa,
        reals: vec![
            real("10.1.0.11", 8080, Mode::FullNat, 3),
            real("10.1.0.12", 80, Mode::Tun(gue), 1),
        ],
        ..Service::new(listen)
    };
    assert_eq!(design().services, [service]);
}

#[test]
fn flags_are_bits() {
    let flags = |scheduler, flags: &str| {
        let keys = format!("listen = 'fwm 1'\nscheduler = '{scheduler}'\nflags = {flags}");
        config(&format!("version = 1\n[[service]]\n{keys}")).services[0].flags
    };
    assert_eq!(flags("sh", "['sh-port', 'sh-fallback']"), SchedulerFlags(3));
    assert_eq!(flags("mh", "['mh-fallback']"), SchedulerFlags(1));
    assert_eq!(flags("mh", "['mh-port']"), SchedulerFlags(2));
    assert_eq!(flags("rr", "['flag-1', 'flag-3']"), SchedulerFlags(5));
}

/// The port of a real server by mode, reference A.3.
#[test]
fn ports_of_reals() {
    let port = |listen: &str, real: &str, mode: &str| {
        let real = format!("address = '{real}'\nmode = '{mode}'");
        let text =
            format!("version = 1\n[[service]]\nlisten = '{listen}'\n[[service.real]]\n{real}");
        config(&text).services[0].reals[0].endpoint.port
    };
    #[rustfmt::skip]
    let cases = [
        ("tcp 192.0.2.10:80",     "10.1.0.11",            "dr",  80),
        ("tcp 192.0.2.10:80",     "10.1.0.11:8080",       "dr",  80),
        ("tcp 192.0.2.10:80",     "10.1.0.11:8080",       "tun", 80),
        ("tcp 192.0.2.10:80",     "10.1.0.11:8080",       "nat", 8080),
        ("tcp 192.0.2.10:80",     "10.1.0.11",            "nat", 80),
        ("tcp [2001:db8::10]:80", "2001:db8::11",         "nat", 80),
        ("tcp [2001:db8::10]:80", "[2001:db8::11]:8080",  "nat", 8080),
        ("fwm 5",                 "10.1.0.11",            "dr",  0),
        ("fwm 5",                 "10.1.0.11:8080",       "dr",  8080),
    ];
    for (listen, real, mode, want) in cases {
        assert_eq!(port(listen, real, mode), want, "{listen} {real} {mode}");
    }
}

#[test]
fn services_read_as_they_show() {
    for text in [
        "tcp 10.0.0.1:80",
        "udp [2001:db8::1]:53",
        "sctp 10.0.0.1:0",
        "fwm 5",
        "fwm 5 ipv6",
    ] {
        assert_eq!(
            text.parse::<Listen>()
                .map(|listen| listen.to_string())
                .as_deref(),
            Ok(text)
        );
    }
    for text in [
        "",
        "tcp",
        "tcp 10.0.0.1:",
        "tcp 10.0.0.1:+80",
        "tcp  10.0.0.1:80",
        "tcp [2001:db8::1]",
        "tcp [10.0.0.1]:80",
        "icmp 10.0.0.1:80",
        "fwm -1",
        "fwm 5 ipv4",
        "fwm 5 ipv6 ",
        "TCP 10.0.0.1:80",
    ] {
        assert_eq!(text.parse::<Listen>(), Err(()), "{text}");
    }
}

#[test]
fn files_that_cannot_be_read() {
    let message = |path: &str| {
        read_file(Path::new(path))
            .expect_err("it can't be read")
            .to_string()
    };
    let missing = "/nowhere/lb.toml: there is no such file; config/examples has some to start from";
    assert_eq!(message("/nowhere/lb.toml"), missing);
    let folder = message(env!("CARGO_MANIFEST_DIR"));
    assert!(
        folder.ends_with(": cannot be read: Is a directory (os error 21)"),
        "{folder}"
    );
}

#[test]
fn a_file_is_named_as_the_operator_named_it() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/files/bad/version.toml");
    let errors = read_file(&path).expect_err("version 2");
    assert_eq!(
        errors.to_string(),
        format!("{}:1: version 2 is not 1", path.display())
    );
}
