//! Neighbour discovery (RFC 4861 sections 4.3, 4.4 and 7.1): who has this address, and I have.
//!
//! Read and answered from control, so messages are plain values. [`Message::parse`] makes every
//! check of sections 7.1.1 and 7.1.2; what it returns may be believed as far as the link may.

use std::net::Ipv6Addr;

use crate::bytes::get;
use crate::ethernet::Mac;
use crate::icmpv6::{self, Type};
use crate::ip::Protocol;
use crate::ipv6;

/// Octets of a message's type-dependent flags and target address, before the options.
const TARGET_END: usize = 16;

/// Neighbour discovery travels with this hop limit: it has passed no router.
const HOP_LIMIT: u8 = 255;

const SOURCE_MAC: u8 = 1;
const TARGET_MAC: u8 = 2;

const ROUTER: u32 = 1 << 31;
const SOLICITED: u32 = 1 << 30;
const OVERRIDE: u32 = 1 << 29;

errors! {
    /// Why a packet is not neighbour discovery.
    pub enum Error {
        /// Another protocol or another ICMPv6 message: nothing wrong with it.
        Other => "the packet is neither neighbour solicitation nor advertisement",
        /// It came through a router.
        HopLimit => "the hop limit is not 255: the message came through a router",
        /// Damaged.
        Checksum => "the ICMPv6 checksum is wrong",
        /// Shorter than its target address.
        Truncated => "the message ends before its target address does",
        /// The code is not 0.
        Code => "the code is not 0",
        /// The target is a group.
        Target => "the target is a multicast address",
        /// An option of length 0, or longer than the message.
        Option => "an option has length 0 or runs past the message",
        /// A solicitation from the unspecified address that is no probe: not to the
        /// solicited-node group, or with a MAC.
        Probe => "a probe goes to the solicited-node group and gives no MAC",
        /// An advertisement to a group that claims to be an answer.
        Solicited => "an advertisement to a group is not an answer",
    }
}

/// A neighbour solicitation or advertisement, with its addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Message {
    /// Who sends it; unspecified in a probe.
    pub src: Ipv6Addr,
    /// Whom it is sent to.
    pub dst: Ipv6Addr,
    /// The address it is about.
    pub target: Ipv6Addr,
    /// What it says about it.
    pub kind: Kind,
}

/// What a message says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Who has the target?
    Solicitation {
        /// The asker's MAC; none in a probe.
        source_mac: Option<Mac>,
    },
    /// The sender has.
    Advertisement {
        /// The target's MAC; may be missing in the answer to a unicast question.
        target_mac: Option<Mac>,
        /// The sender is a router.
        router: bool,
        /// This answers a solicitation.
        solicited: bool,
        /// It should replace a known MAC.
        overrides: bool,
    },
}

impl Message {
    /// Asks the whole link for the MAC of `target`.
    pub fn solicitation(mac: Mac, src: Ipv6Addr, target: Ipv6Addr) -> Self {
        Self {
            src,
            dst: solicited_node(target),
            target,
            kind: Kind::Solicitation {
                source_mac: Some(mac),
            },
        }
    }

    /// Asks whether anybody uses `target`, claiming nothing (RFC 4862 section 5.4.2).
    pub fn probe(target: Ipv6Addr) -> Self {
        let kind = Kind::Solicitation { source_mac: None };
        Self {
            src: Ipv6Addr::UNSPECIFIED,
            dst: solicited_node(target),
            target,
            kind,
        }
    }

    /// Tells everybody that `target` is at `mac` (RFC 4861 section 7.2.6).
    pub fn announcement(mac: Mac, target: Ipv6Addr, router: bool) -> Self {
        let kind = Kind::Advertisement {
            target_mac: Some(mac),
            router,
            solicited: false,
            overrides: true,
        };
        Self {
            src: target,
            dst: ALL_NODES,
            target,
            kind,
        }
    }

    /// The answer to this solicitation from `mac`, which has the target. A probe is answered to
    /// everybody (RFC 4861 section 7.2.4).
    #[must_use]
    pub fn reply(&self, mac: Mac, router: bool) -> Self {
        let probe = self.src.is_unspecified();
        Self {
            src: self.target,
            dst: if probe { ALL_NODES } else { self.src },
            target: self.target,
            kind: Kind::Advertisement {
                target_mac: Some(mac),
                router,
                solicited: !probe,
                overrides: true,
            },
        }
    }

    /// Reads and checks a packet.
    ///
    /// # Errors
    /// [`Error::Other`] for what is something else, the rest for what must be ignored.
    pub fn parse(packet: &ipv6::Packet<&[u8]>) -> Result<Self, Error> {
        let upper = packet.upper().map_err(|_| Error::Other)?;
        if upper.protocol != Protocol::ICMPV6 || upper.fragment.is_some() {
            return Err(Error::Other); // never in fragments, RFC 6980
        }
        let icmp = icmpv6::Packet::parse(packet.upper_payload(&upper)).map_err(|_| Error::Other)?;
        if !matches!(
            icmp.kind(),
            Type::NEIGHBOUR_SOLICITATION | Type::NEIGHBOUR_ADVERTISEMENT
        ) {
            return Err(Error::Other);
        }
        if packet.hop_limit() != HOP_LIMIT {
            return Err(Error::HopLimit);
        }
        if !icmp.verify_checksum(packet.src(), packet.dst()) {
            return Err(Error::Checksum);
        }
        Self::read(packet.src(), packet.dst(), &icmp)
    }

    fn read(src: Ipv6Addr, dst: Ipv6Addr, icmp: &icmpv6::Packet<&[u8]>) -> Result<Self, Error> {
        let (target, options) = icmp
            .payload()
            .split_first_chunk::<TARGET_END>()
            .ok_or(Error::Truncated)?;
        let target = Ipv6Addr::from(*target);
        if icmp.code() != 0 {
            return Err(Error::Code);
        }
        if target.is_multicast() {
            return Err(Error::Target);
        }
        let kind = match icmp.kind() {
            Type::NEIGHBOUR_SOLICITATION => Kind::Solicitation {
                source_mac: mac_option(options, SOURCE_MAC)?,
            },
            _ => advertisement(icmp.rest(), options)?,
        };
        let message = Self {
            src,
            dst,
            target,
            kind,
        };
        message.check()?;
        Ok(message)
    }

    /// The rules that tie addresses and contents together.
    fn check(&self) -> Result<(), Error> {
        match self.kind {
            Kind::Solicitation { source_mac }
                if self.src.is_unspecified()
                    && (source_mac.is_some() || self.dst != solicited_node(self.target)) =>
            {
                Err(Error::Probe)
            }
            Kind::Advertisement {
                solicited: true, ..
            } if self.dst.is_multicast() => Err(Error::Solicited),
            _ => Ok(()),
        }
    }

    /// The IPv6 packet: 64 octets, and 8 more with a MAC.
    pub fn emit(&self) -> Vec<u8> {
        let (kind, flags, option) = match self.kind {
            Kind::Solicitation { source_mac } => (
                Type::NEIGHBOUR_SOLICITATION,
                0,
                source_mac.map(|mac| (SOURCE_MAC, mac)),
            ),
            Kind::Advertisement {
                target_mac,
                router,
                solicited,
                overrides,
            } => {
                let flag = |on, bit| if on { bit } else { 0 };
                let flags =
                    flag(router, ROUTER) | flag(solicited, SOLICITED) | flag(overrides, OVERRIDE);
                (
                    Type::NEIGHBOUR_ADVERTISEMENT,
                    flags,
                    target_mac.map(|mac| (TARGET_MAC, mac)),
                )
            }
        };
        let mut body = [
            &[kind.0, 0, 0, 0][..],
            &flags.to_be_bytes(),
            &self.target.octets(),
        ]
        .concat();
        if let Some((option, mac)) = option {
            body.extend([option, 1]);
            body.extend(mac.0);
        }
        self.packet(body)
    }

    fn packet(&self, mut body: Vec<u8>) -> Vec<u8> {
        if let Ok(mut icmp) = icmpv6::Packet::parse(&mut body[..]) {
            icmp.fill_checksum(self.src, self.dst);
        }
        let mut head = [0; ipv6::LEN];
        ipv6::Header {
            src: self.src,
            dst: self.dst,
            next_header: Protocol::ICMPV6,
            hop_limit: HOP_LIMIT,
            traffic_class: 0,
            flow_label: 0,
            payload_len: u16::try_from(body.len()).expect("at most 32 octets"),
        }
        .emit(&mut head);
        [&head[..], &body].concat()
    }
}

fn advertisement(flags: u32, options: &[u8]) -> Result<Kind, Error> {
    Ok(Kind::Advertisement {
        target_mac: mac_option(options, TARGET_MAC)?,
        router: flags & ROUTER != 0,
        solicited: flags & SOLICITED != 0,
        overrides: flags & OVERRIDE != 0,
    })
}

/// The MAC in the first option of kind `wanted`; every option is checked, wanted or not.
fn mac_option(mut options: &[u8], wanted: u8) -> Result<Option<Mac>, Error> {
    let mut found = None;
    while let Some(&[kind, eights]) = options.first_chunk() {
        let len = usize::from(eights) * 8;
        let (option, rest) = options.split_at_checked(len).ok_or(Error::Option)?;
        if len == 0 {
            return Err(Error::Option);
        }
        if kind == wanted && len == 8 && found.is_none() {
            found = Some(Mac(get(option, 2)));
        }
        options = rest;
    }
    if options.is_empty() {
        Ok(found)
    } else {
        Err(Error::Option)
    }
}

/// Every node on the link.
pub const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);

/// The group that a node with `addr` listens to for solicitations (RFC 4291 section 2.7.1).
pub fn solicited_node(addr: Ipv6Addr) -> Ipv6Addr {
    let low = addr.to_bits() & 0xff_ffff;
    Ipv6Addr::from_bits(0xff02_0000_0000_0000_0000_0001_ff00_0000 | low)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::build::{icmp, ip, udp};
    use proptest::prelude::*;

    const US: Mac = Mac([2, 0, 0, 0, 0, 1]);
    const THEM: Mac = Mac([2, 0, 0, 0, 0, 2]);
    const CLIENT: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 7);
    const VIP: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0x12, 0x3456);

    fn parse(bytes: &[u8]) -> Result<Message, Error> {
        Message::parse(&ipv6::Packet::parse(bytes).unwrap())
    }

    #[test]
    fn groups() {
        assert_eq!(solicited_node(VIP).to_string(), "ff02::1:ff12:3456");
        assert_eq!(
            Mac::multicast_v6(solicited_node(VIP)).to_string(),
            "33:33:ff:12:34:56"
        );
    }

    #[test]
    fn a_solicitation_and_its_answer_as_built() {
        let target = VIP.octets();
        let asked = Message::solicitation(THEM, CLIENT, VIP);
        let body = [&target[..], &[1, 1], &THEM.0].concat();
        let want = ip(CLIENT, solicited_node(VIP))
            .ttl(255)
            .with(icmp(135, 0).payload(body))
            .bytes();
        assert_eq!(asked.emit(), want);
        assert_eq!(parse(&want), Ok(asked));

        let answer = asked.reply(US, true);
        let body = [&target[..], &[2, 1], &US.0].concat();
        let want = ip(VIP, CLIENT)
            .ttl(255)
            .with(icmp(136, 0).rest(0xe000_0000).payload(body))
            .bytes();
        assert_eq!(answer.emit(), want);
        assert_eq!(parse(&want), Ok(answer));
    }

    #[test]
    fn probes_are_answered_to_everybody() {
        let probe = Message::probe(VIP);
        assert_eq!(parse(&probe.emit()), Ok(probe));
        let answer = probe.reply(US, false);
        assert_eq!(answer, Message::announcement(US, VIP, false));
        assert_eq!(answer.dst, ALL_NODES);
        assert_eq!(parse(&answer.emit()), Ok(answer));
    }

    #[test]
    fn what_must_be_ignored() {
        let target = || VIP.octets().to_vec();
        let with = |extra: &[u8]| [&target()[..], extra].concat();
        let to_us = |message| ip(CLIENT, VIP).ttl(255).with(message);
        let none = Ipv6Addr::UNSPECIFIED;
        #[rustfmt::skip]
        let cases = [
            ("a datagram",              ip(CLIENT, VIP).ttl(255).with(udp(1, 2)),                             Error::Other),
            ("an echo",                 to_us(icmp(128, 0)),                                                  Error::Other),
            ("in a fragment",           to_us(icmp(135, 0).payload(target())).fragment(0, false),             Error::Other),
            ("through a router",        to_us(icmp(135, 0).payload(target())).ttl(254),                       Error::HopLimit),
            ("damaged",                 to_us(icmp(135, 0).payload(target()).bad_checksum()),                 Error::Checksum),
            ("no target",               to_us(icmp(135, 0).payload([0; 15])),                                 Error::Truncated),
            ("a code",                  to_us(icmp(135, 1).payload(target())),                                Error::Code),
            ("about a group",           to_us(icmp(135, 0).payload(ALL_NODES.octets())),                      Error::Target),
            ("an empty option",         to_us(icmp(135, 0).payload(with(&[1, 0, 0, 0, 0, 0, 0, 0]))),         Error::Option),
            ("a long option",           to_us(icmp(136, 0).payload(with(&[2, 2, 0, 0, 0, 0, 0, 0]))),         Error::Option),
            ("half an option",          to_us(icmp(136, 0).payload(with(&[2]))),                              Error::Option),
            ("a probe to one",          ip(none, VIP).ttl(255).with(icmp(135, 0).payload(target())),          Error::Probe),
            ("a probe with a MAC",      ip(none, solicited_node(VIP)).ttl(255)
                                            .with(icmp(135, 0).payload(with(&[1, 1, 2, 0, 0, 0, 0, 1]))),     Error::Probe),
            ("an answer to all",        ip(CLIENT, ALL_NODES).ttl(255)
                                            .with(icmp(136, 0).rest(SOLICITED).payload(target())),            Error::Solicited),
        ];
        for (name, packet, want) in cases {
            assert_eq!(parse(&packet.bytes()), Err(want), "{name}");
        }
    }

    #[test]
    fn other_options_are_stepped_over() {
        let body = [
            &VIP.octets()[..],
            &[14, 1, 0, 0, 0, 0, 0, 0],
            &[1, 1],
            &THEM.0,
        ]
        .concat();
        let message = parse(
            &ip(CLIENT, VIP)
                .ttl(255)
                .with(icmp(135, 0).payload(body))
                .bytes(),
        )
        .unwrap();
        assert_eq!(
            message.kind,
            Kind::Solicitation {
                source_mac: Some(THEM)
            }
        );
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(300))]

        #[test]
        fn any_bytes(kind in 133u8..138, body in proptest::collection::vec(any::<u8>(), 0..60)) {
            let _ = parse(&ip(CLIENT, VIP).ttl(255).with(icmp(kind, 0).payload(body)).bytes());
        }
    }
}
