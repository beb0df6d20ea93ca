//! What a frame is, before anybody asks what to do with it.
//!
//! Every length is checked here, once; each malformation has a reason of its own. Nothing is
//! looked up and nothing changes.

use std::net::IpAddr;
use std::slice::from_ref;

use arrayvec::ArrayVec;
use wire::ethernet::{self, EtherType, Mac};
use wire::plain::Plain;
use wire::segment::Segment;
use wire::{Protocol, ipv4, ipv6, sctp, tcp, udp};

use crate::conn::sctp::signals;
use crate::conn::{Guess, Hash, Key};
use crate::fragments::{Datagram, Extent, Piece, Transport};
use crate::port::{BURST, Frame, RxFlags};
use crate::services::PortView;
use crate::state::Stored;
use crate::verdict::{PuntClass, Reason, Verdict};

/// A well-formed packet of a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packet<A> {
    /// Its tuple.
    pub key: Key<A>,
    /// The tuple's hash; nothing where its connection is not looked for.
    pub hash: Hash,
    /// What the next link asks about it.
    pub shape: Shape,
    /// TCP's control bits; what stands for them in SCTP ([`signals`]); none for UDP.
    pub flags: tcp::Flags,
    /// Where its connection most likely is, once
    /// [`State::prefetch_entries`](crate::state::State::prefetch_entries) has set it.
    pub guess: Guess,
    /// Whether it is one that [`wire::plain`] rewrites: whole, without options or extensions.
    pub plain: bool,
    /// Whether it is a later fragment: it goes where its packet's first one went, opens
    /// nothing, and says nothing of the connection's state.
    pub later: bool,
}

/// What decides whether a packet may take one more hop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// Octets of the IP packet, header included.
    pub length: u32,
    /// Hops left.
    pub ttl: u8,
    /// Whether no router may fragment it; always so in IPv6.
    pub dont_fragment: bool,
}

/// What a frame turned out to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parsed {
    /// TCP, UDP or SCTP over IPv4.
    V4(Packet<u32>),
    /// TCP, UDP or SCTP over IPv6: the packet at this place of [`Parses::v6`]. Kept apart, so that
    /// its 64 octets don't travel with every IPv4 packet (measured: 36 instructions).
    V6(u8),
    /// A fragment of TCP, UDP or SCTP that has not met its packet's first one: that at this place of
    /// [`Parses::fragments`].
    Fragment(u8),
    /// IP that belongs to no flow of its own.
    Other {
        /// Its destination.
        destination: IpAddr,
        /// What it carries.
        protocol: Protocol,
    },
    /// Decided already.
    Decided(Verdict),
}

/// A burst's frames, parsed.
#[derive(Debug, Default)]
pub struct Parses {
    /// One for each frame, in their order.
    pub frames: ArrayVec<Parsed, BURST>,
    /// The packets of IPv6 flows among them.
    pub v6: ArrayVec<Packet<u128>, BURST>,
    /// The fragments among them.
    pub fragments: ArrayVec<Fragment, BURST>,
}

/// Where frames come in: a port, made ready for many of them.
#[derive(Clone, Copy, Debug)]
pub struct Gate<'a> {
    view: &'a PortView,
    mac: u64,
    mtu: u16,
}

impl<'a> Gate<'a> {
    /// That of the port with this view.
    #[inline]
    pub fn of(view: &'a PortView) -> Self {
        Self {
            view,
            mac: view.mac.word(),
            mtu: view.mtu,
        }
    }

    /// Whether nothing but its flow decides about a plain packet.
    #[inline(always)]
    fn is_ordinary<A>(&self, plain: &Plain<A>) -> bool {
        (plain.to.word() == self.mac) & (plain.total_len <= self.mtu)
    }
}

/// Where connections are looked for.
pub trait Locate {
    /// The hash of a tuple; a look-up for it follows.
    fn locate<A: Stored>(&self, key: &Key<A>) -> Hash;
}

/// For those who only want to know what a frame says.
#[derive(Clone, Copy, Debug)]
struct Nowhere;

impl Locate for Nowhere {
    fn locate<A: Stored>(&self, _: &Key<A>) -> Hash {
        Hash::default()
    }
}

/// A fragment of TCP, UDP or SCTP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fragment {
    /// Whose part it is.
    pub of: Whole,
    /// Which part.
    pub piece: Piece,
    /// What the first fragment says.
    pub transport: Option<Transport>,
}

/// A packet that came in fragments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whole {
    /// Of IPv4.
    V4(Datagram<u32>),
    /// Of IPv6.
    V6(Datagram<u128>),
}

impl Parses {
    /// Forgets the burst before.
    pub fn clear(&mut self) {
        self.frames.clear();
        self.v6.clear();
        self.fragments.clear();
    }

    /// Whether the frame at place `at` is a flow's packet of whose connection there was no trace
    /// when the burst was looked up.
    #[inline]
    pub fn is_unknown(&self, at: usize) -> bool {
        let guess = match self.frames.get(at) {
            Some(Parsed::V4(packet)) => packet.guess,
            Some(Parsed::V6(place)) => self.v6[usize::from(*place)].guess,
            _ => return false,
        };
        guess == Guess::NONE
    }

    /// Parses `frame`, which came by the port of `view`: at most [`BURST`] frames. Without a
    /// view nothing can be for us: no snapshot names the port yet. `gathered` is what the first
    /// fragment said of the packet that `frame` is a fragment of.
    pub fn push<F: Frame>(
        &mut self,
        frame: &F,
        view: Option<&PortView>,
        gathered: Option<Transport>,
    ) {
        self.push_all(from_ref(frame), view.map(Gate::of), gathered, &Nowhere);
    }

    /// Parses frames that came by `gate`, of packets whose connections are looked for: with their
    /// hashes from `tables`.
    #[inline(never)]
    pub fn push_all<F: Frame>(
        &mut self,
        frames: &[F],
        gate: Option<Gate<'_>>,
        gathered: Option<Transport>,
        tables: &impl Locate,
    ) {
        let Some(gate) = &gate else {
            let nowhere = frames.iter().map(|_| Parsed::Decided(drop(Reason::NoPort)));
            return self.frames.extend(nowhere);
        };
        let mut left = frames;
        while let Some(others) = self.push_plain(left, gate, tables) {
            left = self.push_others(others, gate, gathered, tables);
        }
    }

    /// Plain packets of IPv4, for as long as they come: most, at a quarter of the cost (measured: 300
    /// instructions to 80). What is left begins with another.
    #[inline(always)]
    fn push_plain<'f, F: Frame>(
        &mut self,
        frames: &'f [F],
        gate: &Gate<'_>,
        tables: &impl Locate,
    ) -> Option<&'f [F]> {
        for (at, frame) in frames.iter().enumerate() {
            match Plain::<u32>::parse(frame.bytes()) {
                Some(plain)
                    if gate.is_ordinary(&plain)
                        && !is_nobody_v4(plain.src)
                        && frame.is_ordinary() =>
                {
                    self.frames.push(Parsed::V4(of_plain(&plain, tables)));
                }
                _ => return frames.get(at..),
            }
        }
        None
    }

    /// Those of IPv6, for as long as they come; if the first is none, whatever that is.
    #[inline(never)]
    fn push_others<'f, F: Frame>(
        &mut self,
        frames: &'f [F],
        gate: &Gate<'_>,
        gathered: Option<Transport>,
        tables: &impl Locate,
    ) -> &'f [F] {
        let mut left = frames.iter();
        let mut taken = false;
        while let Some(frame) = left.as_slice().first() {
            match Plain::<u128>::parse(frame.bytes()) {
                Some(plain)
                    if gate.is_ordinary(&plain)
                        && !is_nobody_v6(plain.src)
                        && frame.is_ordinary() =>
                {
                    let parsed = self.keep_v6(of_plain(&plain, tables));
                    self.frames.push(parsed);
                }
                _ if taken => break,
                _ => self.push_classified(frame, gate, gathered, tables),
            }
            taken = true;
            left.next();
        }
        left.as_slice()
    }

    /// What is not plain.
    #[cold]
    #[inline(never)]
    fn push_classified<F: Frame>(
        &mut self,
        frame: &F,
        gate: &Gate<'_>,
        gathered: Option<Transport>,
        tables: &impl Locate,
    ) {
        let mut parsed = match self.classify(frame, gate.view, gathered) {
            Ok(parsed) => parsed,
            Err(verdict) => Parsed::Decided(verdict),
        };
        match &mut parsed {
            Parsed::V4(packet) => packet.hash = tables.locate(&packet.key),
            Parsed::V6(place) => {
                let packet = &mut self.v6[usize::from(*place)];
                packet.hash = tables.locate(&packet.key);
            }
            _ => {}
        }
        self.frames.push(parsed);
    }

    #[inline]
    fn keep_v6(&mut self, packet: Packet<u128>) -> Parsed {
        let place = u8::try_from(self.v6.len()).expect("a burst is small");
        self.v6.push(packet);
        Parsed::V6(place)
    }
}

impl Parses {
    #[cold]
    #[inline(never)]
    fn classify<F: Frame>(
        &mut self,
        frame: &F,
        view: &PortView,
        gathered: Option<Transport>,
    ) -> Result<Parsed, Verdict> {
        let ethernet = ethernet::Frame::parse(frame.bytes());
        let ethernet = ethernet.map_err(|_| drop(Reason::ShortFrame))?;
        let destination = ethernet.dst();
        let ours = destination == view.mac || view.any_mac && !destination.is_multicast();
        if !ours && !is_shared(destination, view) {
            return Err(drop(Reason::NotOurMac));
        }
        let flags = frame.rx_flags();
        if flags.any(RxFlags::VLAN_STRIPPED) {
            return Err(drop(Reason::Vlan));
        }
        let is_ip = matches!(ethernet.ethertype(), EtherType::IPV4 | EtherType::IPV6);
        if is_ip && flags.any(RxFlags::SEGMENTED) {
            return Err(drop(Reason::Oversize));
        }
        let link = Arrival {
            view,
            shared: !ours,
            gathered,
        };
        match ethernet.ethertype() {
            EtherType::IPV4 => self.ipv4(ethernet.into_payload(), &link),
            EtherType::IPV6 => self.ipv6(ethernet.into_payload(), &link),
            EtherType::ARP => Err(Verdict::Punt(PuntClass::Neighbour)),
            EtherType::VLAN | EtherType::QINQ => Err(drop(Reason::Vlan)),
            _ => Err(Verdict::Punt(PuntClass::Other)),
        }
    }

    fn ipv4(&mut self, bytes: &[u8], link: &Arrival<'_>) -> Result<Parsed, Verdict> {
        let ip = ipv4::Packet::parse(bytes).map_err(|error| drop(malformed_v4(error)))?;
        if ip.total_len() > usize::from(link.view.mtu) {
            return Err(drop(Reason::Oversize));
        }
        if !ip.verify_checksum() {
            return Err(drop(Reason::BadChecksum));
        }
        if is_nobody_v4(ip.src().to_bits()) {
            return Err(drop(Reason::BadSource));
        }
        let protocol = ip.protocol();
        if link.shared {
            // Shared frames never belong to a service (RFC 1122 §3.2.1.3, §4.1.3.6, §4.2.3.10).
            return Err(Verdict::Punt(class(protocol, false)));
        }
        if !has_ports(protocol) {
            return Ok(Parsed::Other {
                destination: ip.dst().into(),
                protocol,
            });
        }
        let (ports, flags) = if ip.is_fragment() {
            match link.gathered {
                Some(gathered) => {
                    after_first(gathered, protocol, ip.payload(), ip.fragment_offset())?
                }
                None => return self.fragment_v4(&ip),
            }
        } else {
            transport(protocol, ip.payload())?
        };
        Ok(Parsed::V4(Packet {
            key: Key {
                source: ip.src().to_bits(),
                destination: ip.dst().to_bits(),
                source_port: ports.0,
                destination_port: ports.1,
                protocol: protocol.0,
            },
            hash: Hash::default(),
            shape: Shape {
                length: len32(ip.total_len()),
                ttl: ip.ttl(),
                dont_fragment: ip.dont_fragment(),
            },
            flags,
            guess: Guess::NONE,
            plain: false,
            later: ip.fragment_offset() != 0,
        }))
    }

    fn ipv6(&mut self, bytes: &[u8], link: &Arrival<'_>) -> Result<Parsed, Verdict> {
        let ip = ipv6::Packet::parse(bytes).map_err(|error| drop(malformed_v6(error)))?;
        if ip.total_len() > usize::from(link.view.mtu) {
            return Err(drop(Reason::Oversize));
        }
        if ip.src().is_multicast() || ip.src().is_loopback() {
            return Err(drop(Reason::BadSource));
        }
        let upper = ip.upper().map_err(|error| drop(malformed_v6(error)))?;
        let (protocol, payload) = (upper.protocol, ip.upper_payload(&upper));
        if link.shared {
            return Err(Verdict::Punt(shared_v6(protocol, payload)));
        }
        if !has_ports(protocol) {
            if is_discovery(protocol, payload) {
                return Err(Verdict::Punt(PuntClass::Neighbour));
            }
            return Ok(Parsed::Other {
                destination: ip.dst().into(),
                protocol,
            });
        }
        // One that is first and last is a whole packet (RFC 6946).
        let part = upper.fragment.filter(|part| part.offset != 0 || part.more);
        let (ports, flags) = match (part, link.gathered) {
            (None, _) => transport(protocol, payload)?,
            (Some(part), Some(gathered)) => after_first(gathered, protocol, payload, part.offset)?,
            (Some(part), None) => return self.fragment_v6(&ip, &upper, &part),
        };
        Ok(self.keep_v6(Packet {
            key: Key {
                source: ip.src().to_bits(),
                destination: ip.dst().to_bits(),
                source_port: ports.0,
                destination_port: ports.1,
                protocol: protocol.0,
            },
            hash: Hash::default(),
            shape: Shape {
                length: len32(ip.total_len()),
                ttl: ip.hop_limit(),
                dont_fragment: true,
            },
            flags,
            guess: Guess::NONE,
            plain: false,
            later: part.is_some_and(|part| part.offset != 0),
        }))
    }

    #[cold]
    fn fragment_v4(&mut self, ip: &ipv4::Packet<&[u8]>) -> Result<Parsed, Verdict> {
        let extent = Extent {
            headers: ip.header_len(),
            offset: ip.fragment_offset(),
            length: ip.payload().len(),
            extensions: 0,
            more: ip.more_fragments(),
        };
        let (source, destination) = (ip.src().to_bits(), ip.dst().to_bits());
        let datagram = Datagram::v4(source, destination, ip.protocol().0, ip.id());
        self.fragment(Whole::V4(datagram), ip.protocol(), &extent, ip.payload())
    }

    #[cold]
    fn fragment_v6(
        &mut self,
        ip: &ipv6::Packet<&[u8]>,
        upper: &ipv6::Upper,
        part: &ipv6::FragmentInfo,
    ) -> Result<Parsed, Verdict> {
        let data = part.header_offset + ipv6::FRAGMENT_LEN;
        let extent = Extent {
            headers: part.header_offset,
            offset: part.offset,
            length: ip.payload().len().saturating_sub(data),
            extensions: upper.offset.saturating_sub(data),
            more: part.more,
        };
        let datagram = Datagram::v6(ip.src().to_bits(), ip.dst().to_bits(), part.id);
        self.fragment(
            Whole::V6(datagram),
            upper.protocol,
            &extent,
            ip.upper_payload(upper),
        )
    }

    fn fragment(
        &mut self,
        of: Whole,
        protocol: Protocol,
        extent: &Extent,
        payload: &[u8],
    ) -> Result<Parsed, Verdict> {
        let piece = Piece::new(protocol, extent).map_err(drop)?;
        let transport = if piece.is_first() {
            let ports = ports_of_first(protocol, payload);
            let (source_port, destination_port) = ports.ok_or(drop(Reason::FragmentTiny))?;
            Some(Transport {
                source_port,
                destination_port,
                protocol: protocol.0,
            })
        } else {
            None
        };
        let place = u8::try_from(self.fragments.len()).expect("a burst is small");
        self.fragments.push(Fragment {
            of,
            piece,
            transport,
        });
        Ok(Parsed::Fragment(place))
    }
}

/// Whether nobody sends from this address: a group's, and the loopback's.
#[inline]
fn is_nobody_v6(source: u128) -> bool {
    source >> 120 == 0xff || source == 1
}

#[inline(always)]
fn of_plain<A: Stored>(plain: &Plain<A>, tables: &impl Locate) -> Packet<A> {
    let key = Key {
        source: plain.src,
        destination: plain.dst,
        source_port: plain.src_port,
        destination_port: plain.dst_port,
        protocol: plain.protocol,
    };
    Packet {
        key,
        hash: tables.locate(&key),
        shape: Shape {
            length: u32::from(plain.total_len),
            ttl: plain.ttl,
            dont_fragment: plain.dont_fragment,
        },
        flags: plain.flags,
        guess: Guess::NONE,
        plain: true,
        later: false,
    }
}

/// How a frame came.
struct Arrival<'a> {
    view: &'a PortView,
    /// Not for us alone.
    shared: bool,
    gathered: Option<Transport>,
}

/// Source and destination port of a first fragment that has its whole transport header.
fn ports_of_first(protocol: Protocol, payload: &[u8]) -> Option<(u16, u16)> {
    if protocol == Protocol::SCTP {
        let packet = sctp::Packet::parse(payload).ok()?;
        return Some((packet.src_port(), packet.dst_port()));
    }
    let segment = Segment::parse_first_fragment(protocol, payload).ok()?;
    Some(segment.ports())
}

/// Ports of a fragment whose packet's first one is known, and what it says of its connection if
/// it is the first itself.
fn after_first(
    gathered: Transport,
    protocol: Protocol,
    payload: &[u8],
    offset: usize,
) -> Result<((u16, u16), tcp::Flags), Verdict> {
    let ports = (gathered.source_port, gathered.destination_port);
    let tiny = drop(Reason::FragmentTiny);
    let flags = match protocol {
        Protocol::TCP if offset == 0 => tcp::Packet::parse(payload).map_err(|_| tiny)?.flags(),
        Protocol::SCTP if offset == 0 => signals(&sctp::Packet::parse(payload).map_err(|_| tiny)?),
        _ => tcp::Flags::default(),
    };
    Ok((ports, flags))
}

/// Whether frames for this MAC are for us and others: broadcast, and the groups we joined.
#[cold]
fn is_shared(destination: Mac, view: &PortView) -> bool {
    destination.is_broadcast() || view.any_mac || view.groups.binary_search(&destination).is_ok()
}

/// Whether packets of this protocol belong to flows.
#[inline]
fn has_ports(protocol: Protocol) -> bool {
    matches!(protocol, Protocol::TCP | Protocol::UDP | Protocol::SCTP)
}

/// Ports, and what the packet says of its connection.
#[inline]
fn transport(protocol: Protocol, bytes: &[u8]) -> Result<((u16, u16), tcp::Flags), Verdict> {
    if protocol == Protocol::TCP {
        let segment = tcp::Packet::parse(bytes).map_err(|_| drop(Reason::ShortTransport))?;
        Ok(((segment.src_port(), segment.dst_port()), segment.flags()))
    } else if protocol == Protocol::SCTP {
        let packet = sctp::Packet::parse(bytes).map_err(|_| drop(Reason::ShortTransport))?;
        Ok(((packet.src_port(), packet.dst_port()), signals(&packet)))
    } else {
        let datagram = udp::Packet::parse(bytes).map_err(|_| drop(Reason::ShortTransport))?;
        Ok((
            (datagram.src_port(), datagram.dst_port()),
            tcp::Flags::default(),
        ))
    }
}

#[inline]
fn drop(reason: Reason) -> Verdict {
    Verdict::Drop(reason)
}

#[inline]
fn len32(octets: usize) -> u32 {
    u32::try_from(octets).expect("an IP packet has at most 65575 octets")
}

fn malformed_v4(error: ipv4::Error) -> Reason {
    match error {
        ipv4::Error::Truncated => Reason::ShortHeader,
        ipv4::Error::Version => Reason::BadVersion,
        ipv4::Error::HeaderLength => Reason::BadIhl,
        ipv4::Error::TotalLength => Reason::ShortLength,
        ipv4::Error::PastFrame => Reason::BadLength,
    }
}

fn malformed_v6(error: ipv6::Error) -> Reason {
    match error {
        ipv6::Error::Truncated => Reason::ShortHeader,
        ipv6::Error::Version => Reason::BadVersion,
        ipv6::Error::PastFrame => Reason::BadLength,
        ipv6::Error::ExtensionTruncated
        | ipv6::Error::ChainTooLong
        | ipv6::Error::SecondFragment => Reason::HeaderChain,
    }
}

/// Whether no host may send from this address: "this network", loopback, multicast, class E
/// and broadcast (RFC 1122 §3.2.1.3).
#[inline]
fn is_nobody_v4(source: u32) -> bool {
    // Below 1 and from 224 on: one comparison.
    source.wrapping_sub(1 << 24) >= 223 << 24 || source >> 24 == 127
}

/// Neighbour and router discovery: ICMPv6 types 133 to 137 (RFC 4861 §4).
#[inline]
fn is_discovery(protocol: Protocol, message: &[u8]) -> bool {
    protocol == Protocol::ICMPV6 && matches!(message.first(), Some(133..=137))
}

fn shared_v6(protocol: Protocol, message: &[u8]) -> PuntClass {
    if is_discovery(protocol, message) {
        PuntClass::Neighbour
    } else {
        class(protocol, false)
    }
}

/// The class of a packet for an address of ours (`ours`) or for a group.
pub fn class(protocol: Protocol, ours: bool) -> PuntClass {
    match protocol {
        Protocol::VRRP => PuntClass::Vrrp,
        Protocol::OSPF => PuntClass::Routing,
        _ if ours => PuntClass::Local,
        _ => PuntClass::Other,
    }
}
