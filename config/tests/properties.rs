//! What must hold for every file and every configuration.

use std::net::IpAddr;

use config::model::{
    ClientAddress, Config, Control, Dataplane, Endpoint, Family, Held, Hugepages, Idle, Listen,
    MacAddress, MarkRule, Mode, Neighbour, Persistence, PersistenceMask, Port, Prefix, Protocol,
    Real, ReturnTo, Route, SchedulerFlags, SchedulerKind, Service, SorryServer, Steering, Timeouts,
    Tunnel, TunnelChecksum, Unmatched, Vip, Vlan,
};
use config::toml::{read, read_bytes, write};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;

proptest! {
    #[test]
    fn any_bytes_never_panic(bytes in vec(any::<u8>(), 0..300)) {
        let _ = read_bytes(&bytes, "lb.toml");
    }

    /// Pieces of real files, so that more than the first character of TOML is reached.
    #[test]
    fn any_pieces_never_panic(pieces in vec(select(PIECES), 0..40)) {
        let _ = read(&pieces.concat(), "lb.toml");
    }

    /// No message, however strange the text that it repeats, is more than one line.
    #[test]
    fn messages_are_lines(key in ".{0,80}", value in any::<String>()) {
        let text = format!("version = 1\n[control]\n{key:?} = 1\ngroup = {value:?}\n");
        if let Err(errors) = read(&text, "lb.toml") {
            for message in errors.0 {
                prop_assert!(!message.to_string().contains(['\n', '\r']), "{message}");
            }
        }
    }

    #[test]
    fn what_is_written_reads_the_same(config in config()) {
        let text = write(&config);
        match read(&text, "lb.toml") {
            Ok(loaded) => {
                prop_assert_eq!(loaded.config, config, "{}", text);
                prop_assert_eq!(loaded.warnings, [], "{}", text);
            }
            Err(errors) => prop_assert!(false, "{errors}\n{text}"),
        }
    }
}

#[test]
fn deep_nesting_is_an_error() {
    for open in ["[", "{a=", "a."] {
        let text = format!("version = 1\nx = {}", open.repeat(100_000));
        assert!(read(&text, "lb.toml").is_err(), "{open}");
    }
    assert!(read(&"a.".repeat(100_000), "lb.toml").is_err());
}

const PIECES: &[&str] = &[
    "version = 1\n",
    "[[service]]\n",
    "[[service.real]]\n",
    "[[port]]\n",
    "[[route]]\n",
    "[[mark]]\n",
    "[[vip]]\n",
    "[[neighbour]]\n",
    "[sysctl]\n",
    "[dataplane]\n",
    "[timeouts]\n",
    "listen = ",
    "address = ",
    "mode = \"tun\"\n",
    "mode = \"fullnat\"\n",
    "tunnel = ",
    "via = ",
    "to = ",
    "name = ",
    "workers = ",
    "addresses = ",
    "persistence = ",
    "persistence_mask = ",
    "flags = ",
    "scheduler = \"sh\"\n",
    "sync_threshold = ",
    "sync_ports = ",
    "mark = ",
    "\"tcp 192.0.2.1:0\"\n",
    "\"fwm 1 ipv6\"\n",
    "\"[2001:db8::1]:80\"\n",
    "\"192.0.2.1/0\"\n",
    "\"::/128\"\n",
    "\":\"\n",
    "\"]:1\"\n",
    "\"[\"\n",
    "\"é\"\n",
    "-9223372036854775808\n",
    "0x0\n",
    "1\n",
    "[1, 2]\n",
    "[]\n",
    "{ type = \"gue\" }\n",
    "[[1]]\n",
    "1.5\n",
    "1979-05-27\n",
    "true\n",
    "=",
    "\r\n",
];

/// The subnet of the port that every generated configuration has: `10.0.0.0/8`.
fn near() -> impl Strategy<Value = IpAddr> {
    (1..=0x00ff_fffeu32).prop_map(|host| IpAddr::V4((0x0a00_0000 | host).into()))
}

fn far(family: Family) -> BoxedStrategy<IpAddr> {
    match family {
        Family::V4 => (0xc000_0200..=0xc000_02ffu32)
            .prop_map(|a| IpAddr::V4(a.into()))
            .boxed(),
        Family::V6 => any::<u64>()
            .prop_map(|a| IpAddr::V6(((0x2001_0db8 << 96) | u128::from(a)).into()))
            .boxed(),
    }
}

fn any_far() -> impl Strategy<Value = IpAddr> {
    prop_oneof![far(Family::V4), far(Family::V6)]
}

fn mac() -> impl Strategy<Value = MacAddress> {
    any::<[u8; 5]>().prop_map(|[a, b, c, d, e]| MacAddress([2, a, b, c, d, e]))
}

/// Any text that a string key takes.
fn text() -> impl Strategy<Value = String> {
    "[^\0]{1,8}"
}

fn network(address: IpAddr, length: u8) -> Prefix {
    let longest = if address.is_ipv4() { 32 } else { 128 };
    let prefix = Prefix {
        address,
        length: length.min(longest),
    };
    Prefix {
        address: prefix.network(),
        ..prefix
    }
}

fn networks() -> impl Strategy<Value = Prefix> {
    (any_far(), 0..=128u8).prop_map(|(address, length)| network(address, length))
}

fn dataplane() -> impl Strategy<Value = Dataplane> {
    let idle = select(vec![Idle::Auto, Idle::Spin, Idle::Pause, Idle::Sleep]);
    let hugepages = select(vec![Hugepages::Auto, Hugepages::Require, Hugepages::Off]);
    let steering = select(vec![Steering::Tuple, Steering::Client]);
    let workers = proptest::collection::btree_set(any::<u16>(), 1..5);
    let sizes = (1..=1_000_000_000u32, 0..=1_000_000_000u32);
    (workers, sizes, steering, idle, hugepages).prop_map(
        |(workers, (connections, connections_v6), steering, idle, hugepages)| Dataplane {
            workers: workers.into_iter().collect(),
            connections,
            connections_v6,
            steering,
            idle,
            hugepages,
        },
    )
}

fn control() -> impl Strategy<Value = Control> {
    (text(), option::of(text()), 0..=3600u32).prop_map(|(socket, group, stop_delay)| Control {
        socket,
        group,
        stop_delay,
    })
}

fn port() -> impl Strategy<Value = Port> {
    let sizes = (
        68..=9198u16,
        option::of(64..=1u32 << 24),
        option::of(256..=u16::MAX),
    );
    (option::of(text()), option::of(mac()), sizes).prop_map(
        |(device, mac, (mtu, mbufs, mbuf_size))| Port {
            name: "lan".to_owned(),
            device,
            addresses: vec![Prefix {
                address: [10, 255, 255, 255].into(),
                length: 8,
            }],
            mac,
            mtu,
            return_to: [ReturnTo::Route, ReturnTo::Sender][usize::from(mtu % 2)],
            mbufs,
            mbuf_size,
            vlan: None,
        },
    )
}

/// Ports of VLANs over `lan`, whose MTU theirs is a part of.
fn vlans() -> impl Strategy<Value = Vec<(u16, Option<MacAddress>, u16)>> {
    vec((1..=4094u16, option::of(mac()), 1..=4u16), 0..3)
}

fn over(parent: &Port, (id, mac, part): (u16, Option<MacAddress>, u16)) -> Port {
    Port {
        name: format!("lan.{id}"),
        device: None,
        addresses: Vec::new(),
        mac,
        mtu: (parent.mtu / part).max(68),
        mbufs: None,
        mbuf_size: None,
        vlan: Some(Vlan {
            parent: parent.name.clone(),
            id,
        }),
        ..*parent
    }
}

fn lan() -> impl Strategy<Value = Option<String>> {
    option::of(Just("lan".to_owned()))
}

fn route() -> impl Strategy<Value = Route> {
    let via = proptest::collection::btree_set(near(), 1..4);
    (far(Family::V4), 0..=32u8, via).prop_map(|(to, length, via)| Route {
        to: network(to, length),
        via: via.into_iter().collect(),
    })
}

fn vip() -> impl Strategy<Value = Vip> {
    let held = select(vec![Held::Always, Held::Never]);
    let unmatched = select(vec![Unmatched::Drop, Unmatched::Reject, Unmatched::Kernel]);
    (any_far(), held, unmatched, lan()).prop_map(|(address, held, unmatched, port)| Vip {
        address,
        held,
        unmatched,
        port,
    })
}

fn protocol() -> impl Strategy<Value = Protocol> {
    select(vec![Protocol::Tcp, Protocol::Udp, Protocol::Sctp])
}

fn mark() -> impl Strategy<Value = MarkRule> {
    let from = option::of((any::<u64>(), 0..=32u8));
    let ports = option::of(any::<(u16, u16)>()).prop_map(|p| p.map(|(a, b)| (a.min(b), a.max(b))));
    (
        1..=u32::MAX,
        option::of(protocol()),
        from,
        networks(),
        ports,
        lan(),
    )
        .prop_map(|(mark, protocol, from, to, ports, port)| MarkRule {
            mark,
            protocol,
            from: from.map(|(_, length)| network(to.address, length)),
            to,
            ports,
            port,
        })
}

fn sysctl() -> impl Strategy<Value = Vec<(String, i64)>> {
    let one = |name: &str, value| (name.to_owned(), value);
    (0..=3i64, 0..=6u32, 0..=9i64, 0..=99i64).prop_map(move |(reuse, ports, first, period)| {
        vec![
            one("conn_reuse_mode", reuse),
            one("sync_threshold", first),
            one("sync_period", period),
            one("sync_ports", 1 << ports),
        ]
    })
}

fn timeouts() -> impl Strategy<Value = Timeouts> {
    let seconds = 1..=2_678_400u32;
    (seconds.clone(), seconds.clone(), seconds).prop_map(|(tcp, tcp_fin, udp)| Timeouts {
        tcp,
        tcp_fin,
        udp,
    })
}

fn listen() -> impl Strategy<Value = Listen> {
    let mark = (1..=u32::MAX, select(vec![Family::V4, Family::V6]));
    prop_oneof![
        (protocol(), any_far(), any::<u16>()).prop_map(|(protocol, address, port)| {
            Listen::Address {
                protocol,
                address,
                port,
            }
        }),
        mark.prop_map(|(mark, family)| Listen::Mark { mark, family }),
    ]
}

fn persistence(listen: Listen) -> impl Strategy<Value = Option<Persistence>> {
    let tcp = matches!(
        listen,
        Listen::Address {
            protocol: Protocol::Tcp | Protocol::Sctp,
            ..
        }
    );
    let mask = match listen.family() {
        Family::V4 => any::<[u8; 4]>()
            .prop_map(|a| PersistenceMask::V4(a.into()))
            .boxed(),
        Family::V6 => (1..=128u8).prop_map(PersistenceMask::V6).boxed(),
    };
    let engine = option::of(Just("sip".to_owned())).prop_map(move |e| e.filter(|_| !tcp));
    let all_ports = listen.address().is_some() && listen.port() == 0;
    let set = (1..=2_678_400u32, mask, engine).prop_map(|(timeout, mask, engine)| Persistence {
        timeout,
        mask,
        engine,
    });
    option::weighted(if all_ports { 1.0 } else { 0.5 }, set)
}

fn tunnel() -> impl Strategy<Value = Tunnel> {
    let sums = vec![
        TunnelChecksum::None,
        TunnelChecksum::Sum,
        TunnelChecksum::Remote,
    ];
    let gue = (1..=u16::MAX, select(sums.clone()));
    prop_oneof![
        Just(Tunnel::Ipip),
        gue.prop_map(|(port, checksum)| Tunnel::Gue { port, checksum }),
        select(sums[..2].to_vec()).prop_map(|checksum| Tunnel::Gre { checksum }),
    ]
}

/// Reals that are on the port's subnet, or anywhere if their mode does not care.
fn real(listen: Listen) -> impl Strategy<Value = Real> {
    let own = listen.port();
    let port = if listen.address().is_some() {
        Just(own).boxed()
    } else {
        any::<u16>().boxed()
    };
    let dr = match listen.family() {
        Family::V4 => (near(), port.clone(), Just(Mode::Dr)).boxed(),
        Family::V6 => (far(Family::V6), any::<u16>(), Just(Mode::Nat)).boxed(),
    };
    let target = prop_oneof![
        dr,
        (any_far(), port, tunnel().prop_map(Mode::Tun)),
        (far(listen.family()), any::<u16>(), Just(Mode::Nat)),
        (far(listen.family()), any::<u16>(), Just(Mode::FullNat)),
    ];
    let thresholds = any::<(u16, u16)>().prop_map(|(a, b)| (a.max(b).into(), a.min(b).into()));
    let parts = (target, 0..=65535u32, thresholds);
    let real = parts.prop_map(|((address, port, mode), weight, (upper, lower))| Real {
        endpoint: Endpoint { address, port },
        mode,
        weight,
        upper,
        lower,
    });
    real.prop_filter("one of the director's own is for DR alone", move |real| {
        real.mode == Mode::Dr || listen.address() != Some(real.endpoint.address)
    })
}

/// What may stand on a list of clients.
fn listed(family: Family) -> impl Strategy<Value = Prefix> {
    let longest: u8 = if family == Family::V4 { 32 } else { 128 };
    (far(family), 0..=longest).prop_map(|(address, length)| network(address, length))
}

fn sorry_server(listen: Listen) -> impl Strategy<Value = SorryServer> {
    (real(listen), any::<bool>()).prop_map(|(real, inhibit)| SorryServer {
        real: Real {
            mode: match real.mode {
                Mode::Tun(_) => Mode::Tun(Tunnel::Ipip),
                mode => mode,
            },
            weight: 1,
            upper: 0,
            lower: 0,
            ..real
        },
        inhibit,
    })
}

fn service() -> impl Strategy<Value = Service> {
    listen().prop_flat_map(|listen| {
        let clients: Vec<ClientAddress> = ClientAddress::NAMES.iter().map(|row| row.1).collect();
        let scheduler = (
            select(&SchedulerKind::ALL),
            (0..8u8).prop_map(SchedulerFlags),
        );
        let options = (any::<bool>(), select(clients), any::<bool>());
        let more = (
            vec(listed(listen.family()), 0..3),
            vec(listed(listen.family()), 0..3),
            option::of(1..=2_678_400u32),
            any::<(bool, bool)>(),
        );
        let local = far(listen.family());
        let parts = (
            scheduler,
            persistence(listen),
            options,
            local,
            more,
            vec(real(listen), 0..4),
            option::of(sorry_server(listen)),
        );
        parts.prop_map(
            move |(scheduler, persistence, options, local, more, reals, sorry)| {
                let udp = !matches!(
                    listen,
                    Listen::Address {
                        protocol: Protocol::Tcp | Protocol::Sctp,
                        ..
                    }
                );
                let reals = distinct(reals, |real| real.endpoint);
                let tells = match listen {
                    Listen::Address { protocol, .. } => options.1.tells_of(protocol),
                    Listen::Mark { .. } => true,
                };
                let hidden = |real: &Real| real.mode == Mode::FullNat;
                // Elsewhere it is a warning.
                let in_vain = !tells || !reals.is_empty() && !reals.iter().any(hidden);
                Service {
                    scheduler: scheduler.0,
                    flags: scheduler.1,
                    persistence,
                    one_packet: options.0 && udp,
                    local_addresses: vec![local],
                    client_address: if in_vain {
                        ClientAddress::None
                    } else {
                        options.1
                    },
                    mss_clamp: options.2,
                    block: distinct(more.0, |one| *one),
                    allow: distinct(more.1, |one| *one),
                    connection_timeout: more.2,
                    expire_quiescent: more.3.0,
                    synproxy: more.3.1,
                    sorry_server: sorry
                        .filter(|sorry| reals.iter().all(|it| it.endpoint != sorry.real.endpoint)),
                    reals,
                    ..Service::new(listen)
                }
            },
        )
    })
}

fn distinct<T, K: PartialEq>(mut items: Vec<T>, key: impl Fn(&T) -> K) -> Vec<T> {
    let mut seen = Vec::new();
    items.retain(|item| {
        let key = key(item);
        let new = !seen.contains(&key);
        seen.push(key);
        new
    });
    items
}

fn neighbour() -> impl Strategy<Value = Neighbour> {
    (near(), mac()).prop_map(|(address, mac)| Neighbour {
        address,
        mac,
        port: "lan".to_owned(),
    })
}

fn config() -> impl Strategy<Value = Config> {
    let network = (
        vec(route(), 0..3),
        vec(neighbour(), 0..3),
        vec(vip(), 0..3),
        vec(mark(), 0..3),
    );
    let single = (dataplane(), control(), sysctl(), timeouts());
    let ports = (port(), vlans()).prop_map(|(lan, vlans)| {
        let vlans = distinct(vlans, |&(id, ..)| id);
        let over: Vec<_> = vlans.into_iter().map(|vlan| over(&lan, vlan)).collect();
        [vec![lan], over].concat()
    });
    (single, ports, network, vec(service(), 0..5)).prop_map(
        |((dataplane, control, sysctl, timeouts), ports, network, services)| Config {
            dataplane,
            control,
            ports,
            routes: distinct(network.0, |route| route.to),
            neighbours: distinct(network.1, |neighbour| neighbour.address),
            vips: distinct(network.2, |vip| vip.address),
            marks: network.3,
            sysctl,
            timeouts,
            services: distinct(services, |service| service.listen),
        },
    )
}
