use config::model::{MAX_TIMEOUT, Persistence, PersistenceMask, Prefix, Real, Service, Timeouts};
use proptest::prelude::*;

use super::*;
use crate::command::{AccessEntry, AccessList, Clients, Command, ListOptions};
use crate::listing::{Rates, Totals};
use crate::names::fixed::Fixed;
use crate::names::{Names, Numeric};

/// The services that some lines of a save make; the numbers of each are 0.
fn load(text: &str, names: &dyn Names) -> Listing {
    let mut services: Vec<ListingService> = Vec::new();
    for call in crate::restore::calls(text) {
        match crate::grammar::parse("ipvsadm", &call.argv, names).expect(text) {
            Command::AddService(it) => services.push(ListingService::new(&it)),
            Command::AddAccess(it) => {
                let service = services
                    .iter_mut()
                    .find(|service| service.listen == it.listen);
                let service = service.expect("it stands before");
                let list = match it.list {
                    AccessList::Block => &mut service.block,
                    AccessList::Allow => &mut service.allow,
                };
                list.push(it.clients.to_string());
            }
            Command::AddReal { listen, real } => {
                let service = services.iter_mut().find(|service| service.listen == listen);
                service
                    .expect("it stands before")
                    .reals
                    .push(ListingReal::new(&real));
            }
            other => panic!("{other:?} does not belong in a save"),
        }
    }
    Listing {
        services,
        ..Listing::default()
    }
}

const SAVED: &str = "\
-A -t 172.16.100.1:80 -s rr -p 50
-a -t 172.16.100.1:80 -r 172.16.100.11:80 -g -w 3
-a -t 172.16.100.1:80 -r 172.16.100.12:80 -g -w 1
-A -t [2001:db8::1]:443 -s lc
-a -t [2001:db8::1]:443 -r [2001:db8::a]:443 -m -w 1
-A -u 172.16.100.2:53 -s wrr -o
-a -u 172.16.100.2:53 -r 10.0.0.53:5353 -m -w 100
-A --sctp-service 172.16.100.3:2905 -s sh -b sh-fallback,sh-port
-a --sctp-service 172.16.100.3:2905 -r 172.16.100.13:2905 -i -w 1 --tun-type gue --tun-port 6080 --tun-nocsum
-A -f 10 -s wlc -p 600 -M 255.255.255.0
-a -f 10 -r 172.16.100.14:0 -i -w 2 --tun-type ipip
-A -f 11 -6 -s mh -p 600 -M 64 -b mh-port
-A -f 12 -s wlc -p 9 --pe sip
-U -f 12 -k 192.0.2.7
-U -f 12 -k 198.51.100.0/24
-O -f 12 -2 192.0.0.0/8
-a -f 12 -r 172.16.100.15:81 -b -w 1
-a -f 12 -r 172.16.100.16:0 -i -w 1 --tun-type gre --tun-csum
-A -f 13 -s rr --conn-timeout 90 --proxy-protocol v1-insecure --expire-quiescent --mss-clamp
-A -f 14 -s rr -j enable --client-address toa
";

/// Family comes before protocol in the order of listings.
fn in_order(text: &str) -> String {
    let mut blocks: Vec<&str> = text.split_inclusive('\n').collect();
    let v6 = blocks
        .iter()
        .position(|line| line.starts_with("-A -t ["))
        .expect("it has one");
    let v6: Vec<&str> = blocks.drain(v6..v6 + 2).collect();
    let mark = blocks
        .iter()
        .position(|line| line.starts_with("-A -f"))
        .expect("it has one");
    blocks.splice(mark..mark, v6);
    blocks.concat()
}

#[test]
fn what_was_saved_is_saved_again() {
    let want = in_order(SAVED);
    assert_eq!(save(&load(SAVED, &Numeric), true, &Numeric), want);
    let nobody_adds = load(&want, &Numeric);
    assert_eq!(save(&nobody_adds, true, &Numeric), want);
}

#[test]
fn a_save_by_names_loads_by_names() {
    let text = "-A -t 10.0.0.11:80 -s rr\n-a -t 10.0.0.11:80 -r 10.0.0.11:80 -g -w 1\n";
    let listing = load(text, &Numeric);
    let named = save(&listing, false, &Fixed);
    assert_eq!(
        named,
        "-A -t web1:http -s rr\n-a -t web1:http -r web1:http -g -w 1\n"
    );
    assert_eq!(load(&named, &Fixed), listing);
}

fn busy() -> Listing {
    let mut listing = load(SAVED, &Numeric);
    let numbers = [
        (12, 4),
        (3, 11),
        (5, 2),
        (0, 120),
        (0, 0),
        (0, 0),
        (0, 0),
        (0, 0),
    ];
    let reals = listing
        .services
        .iter_mut()
        .flat_map(|service| &mut service.reals);
    for (real, (active, inactive)) in reals.zip(numbers) {
        (real.active, real.inactive) = (active, inactive);
    }
    listing
}

/// Takes out the dots that show where a line with blanks at its end ends.
fn blanks(text: &str) -> String {
    text.replace('·', "")
}

fn check(options: ListOptions, listing: &Listing, want: &str) {
    let options = ListOptions {
        numeric: true,
        ..options
    };
    assert_eq!(
        list(listing, &options, &Numeric),
        blanks(want),
        "{options:?}"
    );
}

#[test]
fn normal() {
    let want = "\
IP Virtual Server version 1.2.1 (size=4096)
Prot LocalAddress:Port Scheduler Flags
  -> RemoteAddress:Port           Forward Weight ActiveConn InActConn
TCP  172.16.100.1:80 rr persistent 50
  -> 172.16.100.11:80             Route   3      12         4         ·
  -> 172.16.100.12:80             Route   1      3          11        ·
UDP  172.16.100.2:53 wrr ops
  -> 10.0.0.53:5353               Masq    100    0          120       ·
SCTP 172.16.100.3:2905 sh (sh-fallback,sh-port)
  -> 172.16.100.13:2905           Tunnel  1      0          0         ·
TCP  [2001:db8::1]:443 lc
  -> [2001:db8::a]:443            Masq    1      5          2         ·
FWM  10 wlc persistent 600 mask 255.255.255.0
  -> 172.16.100.14:0              Tunnel  2      0          0         ·
FWM  11 IPv6 mh (mh-port) persistent 600 mask 64
FWM  12 wlc persistent 9 pe sip
  -> 172.16.100.15:81             FullNat 1      0          0         ·
  -> 172.16.100.16:0              Tunnel  1      0          0         ·
FWM  13 rr conn-timeout 90 ppv1-insecure expire-quiescent mss-clamp
FWM  14 rr synproxy toa
";
    check(ListOptions::default(), &busy(), want);
}

#[test]
fn one_service_has_no_version_line() {
    let mut listing = busy();
    listing.services.truncate(1);
    listing.services[0].reals[1].local = true;
    let service = Some(listing.services[0].listen);
    let want = "\
Prot LocalAddress:Port Scheduler Flags
  -> RemoteAddress:Port           Forward Weight ActiveConn InActConn
TCP  172.16.100.1:80 rr persistent 50
  -> 172.16.100.11:80             Route   3      12         4         ·
  -> 172.16.100.12:80             Local   1      3          11        ·
";
    check(
        ListOptions {
            service,
            ..ListOptions::default()
        },
        &listing,
        want,
    );
}

#[test]
fn unsorted_shows_the_newest_first() {
    let text = "\
-A -t 10.0.0.2:80 -s rr
-A -t 10.0.0.1:80 -s rr
-a -t 10.0.0.1:80 -r 10.0.1.1:80
-a -t 10.0.0.1:80 -r 192.168.1.1:80
-a -t 10.0.0.1:80 -r 10.0.1.2:80
";
    let nosort = "\
IP Virtual Server version 1.2.1 (size=4096)
Prot LocalAddress:Port Scheduler Flags
  -> RemoteAddress:Port           Forward Weight ActiveConn InActConn
TCP  10.0.0.2:80 rr
TCP  10.0.0.1:80 rr
  -> 10.0.1.2:80                  Route   1      0          0         ·
  -> 192.168.1.1:80               Route   1      0          0         ·
  -> 10.0.1.1:80                  Route   1      0          0         ·
";
    let listing = load(text, &Numeric);
    check(
        ListOptions {
            nosort: true,
            ..ListOptions::default()
        },
        &listing,
        nosort,
    );
    let sorted = "\
IP Virtual Server version 1.2.1 (size=4096)
Prot LocalAddress:Port Scheduler Flags
  -> RemoteAddress:Port           Forward Weight ActiveConn InActConn
TCP  10.0.0.1:80 rr
  -> 10.0.1.1:80                  Route   1      0          0         ·
  -> 10.0.1.2:80                  Route   1      0          0         ·
  -> 192.168.1.1:80               Route   1      0          0         ·
TCP  10.0.0.2:80 rr
";
    check(ListOptions::default(), &listing, sorted);
}

fn counted() -> Listing {
    let mut listing = load(SAVED, &Numeric);
    listing.services.truncate(1);
    let totals = |connections, packets_in, packets_out, bytes_in, bytes_out| Totals {
        connections,
        packets_in,
        packets_out,
        bytes_in,
        bytes_out,
    };
    let service = &mut listing.services[0];
    service.totals = totals(
        100_000_000,
        1_087_654_321,
        1_876_543_209,
        99_765_432_109,
        123_556_789_012_344,
    );
    service.reals[0].totals = totals(
        99_999_999,
        100_000_000,
        999_999_999,
        1_000_000_000,
        99_999_999_999,
    );
    service.reals[1].totals = totals(
        1,
        987_654_321,
        876_543_210,
        98_765_432_109,
        123_456_789_012_345,
    );
    service.rates = Rates {
        connections: 12_346,
        packets_in: 678_923,
        packets_out: 54_654,
        bytes_in: 987_698_765,
        bytes_out: 12_346_345_678,
    };
    service.reals[0].rates = Rates {
        connections: 1,
        packets_in: 22,
        packets_out: 333,
        bytes_in: 44_444,
        bytes_out: 555_555,
    };
    service.reals[1].rates.packets_in = 123_456_789;
    listing
}

#[test]
fn stats() {
    let want = "\
IP Virtual Server version 1.2.1 (size=4096)
Prot LocalAddress:Port               Conns   InPkts  OutPkts  InBytes OutBytes
  -> RemoteAddress:Port
TCP  172.16.100.1:80               100000K    1087M    1876M   99765M     123T
  -> 172.16.100.11:80             99999999  100000K  999999K    1000M   99999M
  -> 172.16.100.12:80                    1  987654K  876543K   98765M     123T
";
    check(
        ListOptions {
            stats: true,
            ..ListOptions::default()
        },
        &counted(),
        want,
    );
}

#[test]
fn exact_stats() {
    let mut listing = counted();
    listing.services[0].reals.truncate(1);
    let want = "\
IP Virtual Server version 1.2.1 (size=4096)
Prot LocalAddress:Port               Conns   InPkts  OutPkts  InBytes OutBytes
  -> RemoteAddress:Port
TCP  172.16.100.1:80              100000000 1087654321 1876543209 99765432109 123556789012344
  -> 172.16.100.11:80             99999999 100000000 999999999 1000000000 99999999999
";
    let options = ListOptions {
        stats: true,
        exact: true,
        rate: true,
        ..ListOptions::default()
    };
    check(options, &listing, want);
}

#[test]
fn rate() {
    let want = "\
IP Virtual Server version 1.2.1 (size=4096)
Prot LocalAddress:Port                 CPS    InPPS   OutPPS    InBPS   OutBPS
  -> RemoteAddress:Port
TCP  172.16.100.1:80                 12346   678923    54654  987698K   12346M
  -> 172.16.100.11:80                    1       22      333    44444   555555
  -> 172.16.100.12:80                    0 123456789        0        0        0
";
    check(
        ListOptions {
            rate: true,
            ..ListOptions::default()
        },
        &counted(),
        want,
    );
}

#[test]
fn large_numbers_change_unit_where_ipvsadm_does() {
    #[rustfmt::skip]
    let cases = [
        (0,                   "        0"),
        (99_999_999,          " 99999999"),
        (100_000_000,         "  100000K"),
        (999_999_999,         "  999999K"),
        (1_000_000_000,       "    1000M"),
        (99_999_999_999,      "   99999M"),
        (100_000_000_000,     "     100G"),
        (99_999_999_999_999,  "   99999G"),
        (100_000_000_000_000, "     100T"),
        (u64::MAX,            "18446744T"),
    ];
    for (number, want) in cases {
        assert_eq!(large_number(number, false), want, "{number}");
    }
}

#[test]
fn thresholds() {
    let mut listing = busy();
    listing.services.truncate(1);
    listing.services[0].reals.truncate(1);
    (
        listing.services[0].reals[0].upper,
        listing.services[0].reals[0].lower,
    ) = (900, 50);
    let want = "\
IP Virtual Server version 1.2.1 (size=4096)
Prot LocalAddress:Port            Uthreshold Lthreshold ActiveConn InActConn ·
  -> RemoteAddress:Port
TCP  172.16.100.1:80 rr persistent 50
  -> 172.16.100.11:80             900        50         12         4         ·
";
    check(
        ListOptions {
            thresholds: true,
            ..ListOptions::default()
        },
        &listing,
        want,
    );
}

#[test]
fn persistent() {
    let mut listing = busy();
    listing.services = listing.services.split_off(1);
    listing.services.truncate(1);
    listing.services[0].reals[0].persistent = 7;
    let want = "\
IP Virtual Server version 1.2.1 (size=4096)
Prot LocalAddress:Port            Weight    PersistConn ActiveConn InActConn ·
  -> RemoteAddress:Port
TCP  [2001:db8::1]:443 lc
  -> [2001:db8::a]:443            1         7           5          2         ·
";
    check(
        ListOptions {
            persistent: true,
            ..ListOptions::default()
        },
        &listing,
        want,
    );
}

#[test]
fn tunnels() {
    let text = "\
-A -t 172.16.100.3:2905 -s rr
-a -t 172.16.100.3:2905 -r 172.16.100.13 -i --tun-type gue --tun-port 6080
-a -t 172.16.100.3:2905 -r 172.16.100.14 -i --tun-type gue --tun-port 65535 --tun-remcsum
-a -t 172.16.100.3:2905 -r 172.16.100.15 -i --tun-type gre --tun-csum
-a -t 172.16.100.3:2905 -r 172.16.100.16 -i
-a -t 172.16.100.3:2905 -r 172.16.100.17
";
    let want = "\
IP Virtual Server version 1.2.1 (size=4096)
Prot LocalAddress:Port Scheduler Flags
  -> RemoteAddress:Port           Forward TunnelInfo    Weight ActiveConn InActConn
TCP  172.16.100.3:2905 rr
  -> 172.16.100.13:2905           Tunnel  gue:6080:-c   1      0          0         ·
  -> 172.16.100.14:2905           Tunnel  gue:65535:r+c 1      0          0         ·
  -> 172.16.100.15:2905           Tunnel  gre:+c        1      0          0         ·
  -> 172.16.100.16:2905           Tunnel  ipip          1      0          0         ·
  -> 172.16.100.17:2905           Route   n/a           1      0          0         ·
";
    check(
        ListOptions {
            tun_info: true,
            ..ListOptions::default()
        },
        &load(text, &Numeric),
        want,
    );
}

#[test]
fn timeouts_and_daemons() {
    let daemon = |role: &str, interface: &str| ListingDaemon {
        role: role.to_owned(),
        interface: interface.to_owned(),
        sync_id: 0,
        max_length: 1472,
        group: [224, 0, 0, 81].into(),
        port: 8848,
        ttl: 1,
    };
    let listing = Listing {
        timeouts: Some(Timeouts::default().into()),
        daemons: vec![daemon("master", "eth0"), daemon("backup", "eth1")],
        ..Listing::default()
    };
    let timeout = "Timeout (tcp tcpfin udp): 900 120 300\n";
    check(
        ListOptions {
            timeout: true,
            ..ListOptions::default()
        },
        &listing,
        timeout,
    );
    let daemons = "\
master sync daemon (mcast=eth0, syncid=0, maxlen=1472, group=224.0.0.81, port=8848, ttl=1)
backup sync daemon (mcast=eth1, syncid=0, maxlen=1472, group=224.0.0.81, port=8848, ttl=1)
";
    check(
        ListOptions {
            daemon: true,
            ..ListOptions::default()
        },
        &listing,
        daemons,
    );
    check(
        ListOptions {
            daemon: true,
            ..ListOptions::default()
        },
        &Listing::default(),
        "",
    );
}

fn connection(protocol: &str, expires: u32, state: &str, ends: [&str; 3]) -> ListingConnection {
    let [client, vip, real] = ends.map(|end| Endpoint::read(end).expect(end));
    ListingConnection {
        protocol: protocol.to_owned().into(),
        expires,
        state: state.to_owned().into(),
        client,
        vip,
        real,
        engine: None,
        engine_data: None,
    }
}

#[test]
fn connection_rows() {
    let web = ["192.168.1.50:54321", "172.16.100.1:80", "172.16.100.11:80"];
    let mark = ["192.168.1.50:0", "0.0.0.10:0", "10.1.1.1:0"];
    let v6 = [
        "[2001:db8::42]:50000",
        "[2001:db8::80]:80",
        "[2001:db8::a0a0]:80",
    ];
    let mut connections = vec![
        connection("TCP", 14 * 60 + 58, "ESTABLISHED", web),
        connection("IP", 9 * 60 + 50, "NONE", mark),
        connection("TCP", 14 * 60 + 59, "ESTABLISHED", v6),
        connection("TCP", 7200, "ESTABLISHED", web),
    ];
    let want = "\
IPVS connection entries
pro expire state       source             virtual            destination
TCP 14:58  ESTABLISHED 192.168.1.50:54321 172.16.100.1:80    172.16.100.11:80
IP  09:50  NONE        192.168.1.50:0     0.0.0.10:0         10.1.1.1:0
TCP 14:59  ESTABLISHED [2001:db8::42]:50000 [2001:db8::80]:80  [2001:db8::a0a0]:80
TCP 120:00 ESTABLISHED 192.168.1.50:54321 172.16.100.1:80    172.16.100.11:80
";
    let listing = Listing {
        connections: connections.clone(),
        ..Listing::default()
    };
    check(
        ListOptions {
            connections: true,
            ..ListOptions::default()
        },
        &listing,
        want,
    );

    connections.truncate(2);
    connections[0].engine = Some("sip".to_owned());
    connections[0].engine_data = Some("call-1".to_owned());
    let want = "\
IPVS connection entries
pro expire state       source             virtual            destination        pe name          pe_data
TCP 14:58  ESTABLISHED 192.168.1.50:54321 172.16.100.1:80    172.16.100.11:80   sip              call-1            ·
IP  09:50  NONE        192.168.1.50:0     0.0.0.10:0         10.1.1.1:0
";
    let listing = Listing {
        connections,
        ..Listing::default()
    };
    let options = ListOptions {
        connections: true,
        persistent: true,
        ..ListOptions::default()
    };
    check(options, &listing, want);
}

#[test]
fn names_and_long_names() {
    struct Long;
    impl Names for Long {
        fn host(&self, _: &str) -> Option<IpAddr> {
            None
        }
        fn port(&self, _: &str, _: Protocol) -> Option<u16> {
            None
        }
        fn host_name(&self, _: &IpAddr) -> Option<String> {
            Some("a-very-long-name.of-a-host.example".to_owned())
        }
        fn service_name(&self, port: u16, _: Protocol) -> Option<String> {
            (port == 80).then(|| "http".to_owned())
        }
    }
    let text = "\
-A -t 10.0.0.1:80 -s rr
-a -t 10.0.0.1:80 -r 10.0.0.2
-A -t [2001:db8::1]:81 -s rr
-a -t [2001:db8::1]:81 -r [2001:db8::2]:81 -m
";
    let want = "\
IP Virtual Server version 1.2.1 (size=4096)
Prot LocalAddress:Port Scheduler Flags
  -> RemoteAddress:Port           Forward Weight ActiveConn InActConn
TCP  a-very-long-name.of-a-host.e rr
  -> a-very-long-name.of-a-host.e Route   1      0          0         ·
TCP  [a-very-long-name.of-a-host.example]:81 rr
  -> [a-very-long-name.of-a-host.example]:81 Masq    1      0          0         ·
";
    let got = list(&load(text, &Numeric), &ListOptions::default(), &Long);
    assert_eq!(got, blanks(want));
}

fn any_mode() -> impl Strategy<Value = Mode> {
    let checksum = prop_oneof![
        Just(TunnelChecksum::None),
        Just(TunnelChecksum::Sum),
        Just(TunnelChecksum::Remote)
    ];
    let gre = prop_oneof![Just(TunnelChecksum::None), Just(TunnelChecksum::Sum)];
    prop_oneof![
        Just(Mode::Dr),
        Just(Mode::Nat),
        Just(Mode::FullNat),
        Just(Mode::Tun(Tunnel::Ipip)),
        (1u16.., checksum).prop_map(|(port, checksum)| Mode::Tun(Tunnel::Gue { port, checksum })),
        gre.prop_map(|checksum| Mode::Tun(Tunnel::Gre { checksum })),
    ]
}

fn any_listen() -> impl Strategy<Value = Listen> {
    let protocol = prop_oneof![
        Just(Protocol::Tcp),
        Just(Protocol::Udp),
        Just(Protocol::Sctp)
    ];
    let address =
        (protocol, any::<IpAddr>(), any::<u16>()).prop_map(|(protocol, address, port)| {
            Listen::Address {
                protocol,
                address,
                port,
            }
        });
    let family = prop_oneof![Just(Family::V4), Just(Family::V6)];
    let mark = (1u32.., family).prop_map(|(mark, family)| Listen::Mark { mark, family });
    prop_oneof![address, mark]
}

fn any_mask(family: Family) -> BoxedStrategy<PersistenceMask> {
    match family {
        Family::V4 => any::<std::net::Ipv4Addr>()
            .prop_map(PersistenceMask::V4)
            .boxed(),
        Family::V6 => (1u8..=128).prop_map(PersistenceMask::V6).boxed(),
    }
}

fn any_service() -> impl Strategy<Value = Service> {
    let parts = any_listen().prop_flat_map(|listen| {
        let persistence = (1..=MAX_TIMEOUT, any_mask(listen.family()), any::<bool>());
        let needs = matches!(listen, Listen::Address { port: 0, .. });
        let persistence = prop::option::weighted(if needs { 1.0 } else { 0.5 }, persistence);
        let scheduler = prop::sample::select(SchedulerKind::ALL.to_vec());
        (
            Just(listen),
            scheduler,
            0u8..8,
            persistence,
            any::<bool>(),
            any_more(listen),
        )
    });
    parts.prop_map(
        |(listen, scheduler, flags, persistence, one_packet, more)| Service {
            scheduler,
            flags: SchedulerFlags(flags),
            persistence: persistence.map(|(timeout, mask, sip)| Persistence {
                timeout,
                mask,
                engine: sip.then(|| "sip".to_owned()),
            }),
            one_packet: one_packet
                && !matches!(
                    listen,
                    Listen::Address {
                        protocol: Protocol::Tcp | Protocol::Sctp,
                        ..
                    }
                ),
            ..more
        },
    )
}

/// A service with what ipvsadm knows nothing of.
fn any_more(listen: Listen) -> impl Strategy<Value = Service> {
    let ways: Vec<ClientAddress> = ClientAddress::NAMES.iter().map(|row| row.1).collect();
    let list = || prop::collection::vec(any_network(listen.family()), 0..3);
    let parts = (
        prop::sample::select(ways),
        prop::option::of(1..=MAX_TIMEOUT),
        any::<[bool; 3]>(),
        (list(), list()),
    );
    parts.prop_map(
        move |(client_address, connection_timeout, set, (block, allow))| Service {
            client_address,
            connection_timeout,
            mss_clamp: set[0],
            expire_quiescent: set[1],
            synproxy: set[2],
            block,
            allow,
            ..Service::new(listen)
        },
    )
}

fn any_network(family: Family) -> impl Strategy<Value = Prefix> {
    (any::<u128>(), 0u8..=128).prop_map(move |(bits, length)| {
        let (address, length) = match family {
            Family::V4 => (
                IpAddr::from(bits.to_be_bytes().first_chunk::<4>().copied().expect("16")),
                length % 33,
            ),
            Family::V6 => (IpAddr::from(bits.to_be_bytes()), length),
        };
        let address = Prefix { address, length }.network();
        Prefix { address, length }
    })
}

/// A real server that `-a` can make for the service.
fn any_real(listen: Listen) -> impl Strategy<Value = Real> {
    let parts = (any::<IpAddr>(), any::<u16>(), any_mode(), 0u32..=65535);
    parts.prop_filter_map(
        "its family goes with the mode",
        move |(address, port, mode, weight)| {
            let tunnel = matches!(mode, Mode::Tun(_));
            if Family::of(&address) != listen.family() && !tunnel {
                return None;
            }
            let forced = matches!(listen, Listen::Address { .. }) && (tunnel || mode == Mode::Dr);
            let port = if forced { listen.port() } else { port };
            Some(Real {
                endpoint: Endpoint { address, port },
                mode,
                weight,
                upper: 0,
                lower: 0,
            })
        },
    )
}

fn any_model() -> impl Strategy<Value = Service> {
    any_service().prop_flat_map(|service| {
        let reals = prop::collection::vec(any_real(service.listen), 0..4);
        (Just(service), reals).prop_map(|(service, mut reals)| {
            reals.sort_by_key(|real| real.endpoint);
            Service { reals, ..service }
        })
    })
}

proptest! {
    #[test]
    fn a_save_makes_the_same_model(models in prop::collection::vec(any_model(), 0..4)) {
        let mut models = models;
        models.sort_by_key(|service| service.listen.sort_key());
        models.dedup_by_key(|service| service.listen);
        let services = models.iter().map(|service| {
            let reals = service.reals.iter().map(ListingReal::new).collect();
            ListingService { reals, ..ListingService::new(service) }
        });
        let listing = Listing { services: services.collect(), ..Listing::default() };
        let text = save(&listing, true, &Numeric);
        prop_assert_eq!(load(&text, &Numeric), listing, "{}", text);
    }

    #[test]
    fn commands_survive_as_words(service in any_model()) {
        let listen = service.listen;
        let mut commands: Vec<Command> = service.reals.iter().cloned().flat_map(|mut real| {
            (real.upper, real.lower) = (real.weight, real.weight / 2);
            let endpoint = real.endpoint;
            [
                Command::AddReal { listen, real: real.clone() },
                Command::EditReal { listen, real },
                Command::DeleteReal { listen, endpoint },
            ]
        }).collect();
        let bare = Service { reals: Vec::new(), ..service };
        for (list, all) in [(AccessList::Block, &bare.block), (AccessList::Allow, &bare.allow)] {
            for &network in all {
                let clients = Clients::Network(network);
                let entry = AccessEntry { list, listen, clients };
                commands.push(Command::AddAccess(entry.clone()));
                commands.push(Command::DeleteAccess(entry));
            }
        }
        // Lists have commands of their own.
        let settings = Service { block: Vec::new(), allow: Vec::new(), ..bare };
        commands.push(Command::AddService(settings.clone()));
        commands.push(Command::EditService(settings));
        commands.push(Command::DeleteService { listen });
        commands.push(Command::Zero(Some(listen)));
        commands.push(Command::List(ListOptions {
            service: Some(listen), numeric: true, nosort: true, ..ListOptions::default()
        }));
        for command in commands {
            let words = command.words();
            let got = crate::grammar::parse("ipvsadm", &words, &Numeric);
            prop_assert_eq!(got, Ok(command), "{:?}", words);
        }
    }
}
