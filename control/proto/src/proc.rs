//! What the kernel shows of IPVS below `/proc/net`, for programs that read it there (reference
//! B.15): `sluice proc ip_vs` and its like.
//!
//! One thing differs on purpose: an IPv6 persistence mask is its length, which the kernel prints
//! with its octets swapped.

use std::fmt::Write;
use std::net::IpAddr;
use std::str::FromStr;

use config::model::{Endpoint, Family, Listen, PersistenceMask};

use crate::errors::Failure;
use crate::layout::{VERSION_LINE, forward, sorted};
use crate::listing::{Listing, ListingConnection, ListingService, Rates, Totals};

/// The kernel counts persistence in these: a second has so many (`CONFIG_HZ` of Debian).
const JIFFIES: u64 = 250;

/// One of the kernel's files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProcFile {
    /// `ip_vs`: services and real servers.
    Services,
    /// `ip_vs_conn`: connections.
    Connections,
    /// `ip_vs_stats`: what everything together counts.
    Stats,
    /// `ip_vs_stats_percpu`: the same by worker.
    StatsPerCpu,
}

impl ProcFile {
    /// All of them.
    pub const ALL: [Self; 4] = [
        Self::Services,
        Self::Connections,
        Self::Stats,
        Self::StatsPerCpu,
    ];

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Services => "ip_vs",
            Self::Connections => "ip_vs_conn",
            Self::Stats => "ip_vs_stats",
            Self::StatsPerCpu => "ip_vs_stats_percpu",
        }
    }
}

impl FromStr for ProcFile {
    type Err = Failure;

    fn from_str(name: &str) -> Result<Self, Failure> {
        let found = Self::ALL.into_iter().find(|file| file.name() == name);
        found.ok_or_else(|| {
            let all = Self::ALL.map(Self::name).join(", ");
            Failure::usage(format!("proc: {name}: no such file; there are {all}"))
        })
    }
}

/// `ip_vs`.
pub fn services(listing: &Listing) -> String {
    let mut text = format!(
        "{VERSION_LINE}Prot LocalAddress:Port Scheduler Flags\n  \
         -> RemoteAddress:Port Forward Weight ActiveConn InActConn\n"
    );
    for service in sorted(listing) {
        push(&mut text, format_args!("{}\n", service_row(service)));
        // The kernel puts a new real server first.
        for real in service.reals.iter().rev() {
            let row = format_args!(
                "  -> {}      {:<7} {:<6} {:<10} {:<10}\n",
                bracketed(&real.endpoint),
                forward(real),
                real.weight,
                real.active,
                real.inactive
            );
            push(&mut text, row);
        }
    }
    text
}

fn service_row(service: &ListingService) -> String {
    let (key, end) = match service.listen {
        Listen::Mark { mark, .. } => (format!("FWM  {mark:08X}"), ""),
        Listen::Address {
            protocol,
            address,
            port,
        } => {
            let name = protocol.name().to_uppercase();
            let key = format!("{name}  {}", bracketed(&Endpoint { address, port }));
            (key, if address.is_ipv4() { " " } else { "" })
        }
    };
    let ops = if service.one_packet { "ops " } else { "" };
    let persistence = service.persistence.as_ref().map(|it| {
        let jiffies = u64::from(it.timeout) * JIFFIES;
        format!("persistent {jiffies} {:08X}", mask(it.mask))
    });
    let persistence = persistence.unwrap_or_default();
    format!("{key} {} {ops}{persistence}{end}", service.scheduler)
}

fn mask(mask: PersistenceMask) -> u32 {
    match mask {
        PersistenceMask::V4(dotted) => dotted.to_bits(),
        PersistenceMask::V6(length) => u32::from(length),
    }
}

/// What stands above the connections of `ip_vs_conn`.
pub const CONNECTIONS_TITLE: &str =
    "Pro FromIP   FPrt ToIP     TPrt DestIP   DPrt State       Expires PEName PEData\n";

/// Rows of `ip_vs_conn`.
pub fn connections(rows: &[ListingConnection]) -> String {
    let mut text = String::new();
    for row in rows {
        let [client, vip, real] = [row.client, row.vip, row.real].map(|end| plain(&end));
        let line = format_args!(
            "{:<3} {client} {vip} {real} {:<11} {:>7}",
            row.protocol, row.state, row.expires
        );
        push(&mut text, line);
        if let (Some(engine), Some(data)) = (&row.engine, &row.engine_data) {
            push(&mut text, format_args!(" {engine} {data}"));
        }
        text.push('\n');
    }
    text
}

/// `ip_vs_stats`.
pub fn stats(totals: &Totals, rates: &Rates) -> String {
    format!(
        "   Total Incoming Outgoing         Incoming         Outgoing\n   \
         Conns  Packets  Packets            Bytes            Bytes\n{}\n\n \
         Conns/s   Pkts/s   Pkts/s          Bytes/s          Bytes/s\n{}\n",
        hex(of_totals(totals)),
        hex(of_rates(rates))
    )
}

/// `ip_vs_stats_percpu`: a line for each worker, counted since the start; in the end all, since
/// `-Z`.
pub fn stats_per_cpu(workers: &[Totals], totals: &Totals, rates: &Rates) -> String {
    let mut text = String::from(
        "       Total Incoming Outgoing         Incoming         Outgoing\n\
         CPU    Conns  Packets  Packets            Bytes            Bytes\n",
    );
    for (worker, totals) in workers.iter().enumerate() {
        push(
            &mut text,
            format_args!("{worker:3X} {}\n", hex(of_totals(totals))),
        );
    }
    let rest = format_args!(
        "  ~ {}\n\n     Conns/s   Pkts/s   Pkts/s          Bytes/s          Bytes/s\n    {}\n",
        hex(of_totals(totals)),
        hex(of_rates(rates))
    );
    push(&mut text, rest);
    text
}

fn of_totals(it: &Totals) -> [u64; 5] {
    [
        it.connections,
        it.packets_in,
        it.packets_out,
        it.bytes_in,
        it.bytes_out,
    ]
}

fn of_rates(it: &Rates) -> [u64; 5] {
    [
        it.connections,
        it.packets_in,
        it.packets_out,
        it.bytes_in,
        it.bytes_out,
    ]
}

fn hex([a, b, c, d, e]: [u64; 5]) -> String {
    format!("{a:8X} {b:8X} {c:8X} {d:16X} {e:16X}")
}

/// Address and port as `ip_vs` has them.
fn bracketed(endpoint: &Endpoint) -> String {
    let (address, port) = (hex_address(endpoint.address), endpoint.port);
    match Family::of(&endpoint.address) {
        Family::V4 => format!("{address}:{port:04X}"),
        Family::V6 => format!("[{address}]:{port:04X}"),
    }
}

/// The same as `ip_vs_conn` has them.
fn plain(endpoint: &Endpoint) -> String {
    format!("{} {:04X}", hex_address(endpoint.address), endpoint.port)
}

/// Eight digits, or eight groups of four.
fn hex_address(address: IpAddr) -> String {
    match address {
        IpAddr::V4(v4) => format!("{:08X}", v4.to_bits()),
        IpAddr::V6(v6) => v6.segments().map(|group| format!("{group:04x}")).join(":"),
    }
}

fn push(text: &mut String, what: std::fmt::Arguments<'_>) {
    text.write_fmt(what).expect("a string takes everything");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::Command;
    use crate::grammar;
    use crate::listing::ListingReal;
    use crate::names::Numeric;

    /// What a listing shows of the services and real servers that these calls make.
    fn listing(calls: &str) -> Listing {
        let mut listing = Listing::default();
        for call in calls.lines() {
            let words: Vec<_> = call.split_whitespace().map(str::to_owned).collect();
            match grammar::ipvsadm("ipvsadm", &words, &Numeric).expect(call) {
                Command::AddService(it) => {
                    listing.services.push(ListingService::new(&it));
                }
                Command::AddReal { real, .. } => {
                    let service = listing.services.last_mut().expect("its service");
                    service.reals.push(ListingReal::new(&real));
                }
                other => panic!("{other:?} makes nothing"),
            }
        }
        listing
    }

    #[test]
    fn services_as_the_kernel_shows_them() {
        let mut listing = listing(
            "-A -t 172.16.100.1:80 -s rr -p 50\n\
             -a -t 172.16.100.1:80 -r 172.16.100.11:80 -g -w 3\n\
             -A -u 172.16.100.2:53 -s wrr -o\n\
             -A -t [2001:db8::80]:80 -s lc\n\
             -a -t [2001:db8::80]:80 -r [2001:db8::a]:80 -m\n\
             -A -f 10 -s wlc -p 600 -M 255.255.255.0\n",
        );
        listing.services[0].reals[0].active = 12;
        listing.services[0].reals[0].inactive = 4;
        let want = "IP Virtual Server version 1.2.1 (size=4096)\n\
            Prot LocalAddress:Port Scheduler Flags\n\
            \x20 -> RemoteAddress:Port Forward Weight ActiveConn InActConn\n\
            TCP  AC106401:0050 rr persistent 12500 FFFFFFFF \n\
            \x20 -> AC10640B:0050      Route   3      12         4         \n\
            UDP  AC106402:0035 wrr ops  \n\
            TCP  [2001:0db8:0000:0000:0000:0000:0000:0080]:0050 lc \n\
            \x20 -> [2001:0db8:0000:0000:0000:0000:0000:000a]:0050      Masq    1      0          0         \n\
            FWM  0000000A wlc persistent 150000 FFFFFF00\n";
        assert_eq!(services(&listing), want);
    }

    #[test]
    fn connections_as_the_kernel_shows_them() {
        let end = |text: &str| {
            text.parse().map(|at: std::net::SocketAddr| Endpoint {
                address: at.ip(),
                port: at.port(),
            })
        };
        let row = |client, vip, real| ListingConnection {
            protocol: "TCP".into(),
            expires: 57,
            state: "SYN_RECV".into(),
            client: end(client).expect(client),
            vip: end(vip).expect(vip),
            real: end(real).expect(real),
            engine: None,
            engine_data: None,
        };
        let rows = [
            row("10.0.79.182:69", "10.0.79.182:8080", "10.0.79.182:8081"),
            row("[2001:db8::1]:9", "[2001:db8::2]:80", "[::3]:80"),
        ];
        let want = "TCP 0A004FB6 0045 0A004FB6 1F90 0A004FB6 1F91 SYN_RECV         57\n\
            TCP 2001:0db8:0000:0000:0000:0000:0000:0001 0009 \
            2001:0db8:0000:0000:0000:0000:0000:0002 0050 \
            0000:0000:0000:0000:0000:0000:0000:0003 0050 SYN_RECV         57\n";
        assert_eq!(connections(&rows), want);
    }

    #[test]
    fn stats_as_the_kernel_shows_them() {
        let totals = Totals {
            connections: 0x1234,
            packets_in: 0xabcd,
            packets_out: 1,
            bytes_in: 0x1_2345_6789,
            bytes_out: 0,
        };
        let rates = Rates {
            connections: 16,
            ..Rates::default()
        };
        let want = "   Total Incoming Outgoing         Incoming         Outgoing\n\
            \x20  Conns  Packets  Packets            Bytes            Bytes\n\
            \x20   1234     ABCD        1        123456789                0\n\
            \n\
            \x20Conns/s   Pkts/s   Pkts/s          Bytes/s          Bytes/s\n\
            \x20     10        0        0                0                0\n";
        assert_eq!(stats(&totals, &rates), want);
        let want = "       Total Incoming Outgoing         Incoming         Outgoing\n\
            CPU    Conns  Packets  Packets            Bytes            Bytes\n\
            \x20 0     1234     ABCD        1        123456789                0\n\
            \x20 ~     1234     ABCD        1        123456789                0\n\
            \n\
            \x20    Conns/s   Pkts/s   Pkts/s          Bytes/s          Bytes/s\n\
            \x20         10        0        0                0                0\n";
        assert_eq!(stats_per_cpu(&[totals], &totals, &rates), want);
    }
}
