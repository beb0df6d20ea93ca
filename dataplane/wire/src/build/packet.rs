//! IP packets of either family.

use std::net::IpAddr;

use super::{Body, Frame, checksum, ether, len16};
use crate::ethernet::Mac;
use crate::ip::Protocol;

/// An IP packet to be.
#[derive(Clone, Debug)]
pub struct Packet {
    src: IpAddr,
    dst: IpAddr,
    ttl: u8,
    tos: u8,
    id: u32,
    flow_label: u32,
    dont_fragment: bool,
    /// Offset in octets and "more", for IPv4; IPv6 says it in an extension header.
    position: (u16, bool),
    options: Vec<u8>,
    extensions: Vec<Extension>,
    body: Body,
    spoil: u16,
}

#[derive(Clone, Debug)]
enum Extension {
    Options(Protocol, Vec<u8>),
    Fragment(u16, bool),
}

/// A packet without a payload: TTL 64, everything else 0. An IPv4 address beside an IPv6 one is
/// taken for its v4-mapped form.
pub fn ip(src: impl Into<IpAddr>, dst: impl Into<IpAddr>) -> Packet {
    let (src, dst) = same_family(src.into(), dst.into());
    Packet {
        src,
        dst,
        ttl: 64,
        tos: 0,
        id: 0,
        flow_label: 0,
        dont_fragment: false,
        position: (0, false),
        options: Vec::new(),
        extensions: Vec::new(),
        body: Body::Raw(Protocol::NONE, Vec::new()),
        spoil: 0,
    }
}

fn same_family(src: IpAddr, dst: IpAddr) -> (IpAddr, IpAddr) {
    match (src, dst) {
        (IpAddr::V4(src), IpAddr::V6(_)) => (src.to_ipv6_mapped().into(), dst),
        (IpAddr::V6(_), IpAddr::V4(dst)) => (src, dst.to_ipv6_mapped().into()),
        pair => pair,
    }
}

impl Packet {
    /// Carrying this.
    pub fn with(mut self, body: impl Into<Body>) -> Self {
        self.body = body.into();
        self
    }

    /// Carrying these bytes as a packet of `protocol`.
    pub fn raw(self, protocol: Protocol, bytes: impl Into<Vec<u8>>) -> Self {
        self.with(Body::Raw(protocol, bytes.into()))
    }

    /// With this TTL or hop limit.
    pub fn ttl(mut self, ttl: u8) -> Self {
        self.ttl = ttl;
        self
    }

    /// With this type of service or traffic class.
    pub fn tos(mut self, tos: u8) -> Self {
        self.tos = tos;
        self
    }

    /// With "don't fragment" (IPv4).
    pub fn df(mut self) -> Self {
        self.dont_fragment = true;
        self
    }

    /// With this identification: the low 16 bits in IPv4, the fragment header's in IPv6.
    pub fn id(mut self, id: u32) -> Self {
        self.id = id;
        self
    }

    /// With this flow label (IPv6).
    pub fn flow_label(mut self, label: u32) -> Self {
        self.flow_label = label & 0xf_ffff;
        self
    }

    /// Marked as the fragment that begins `offset` octets (a multiple of 8) into the payload; the
    /// body given with [`with`](Self::with) is then the fragment's own data.
    /// See also [`fragments`](Self::fragments).
    pub fn fragment(mut self, offset: u16, more: bool) -> Self {
        if self.is_v6() {
            self.extensions.push(Extension::Fragment(offset, more));
        } else {
            self.position = (offset, more);
        }
        self
    }

    /// With these IPv4 options, padded to four octets and cut at 40.
    pub fn options(mut self, options: &[u8]) -> Self {
        self.options = options.iter().copied().take(40).collect();
        self.options
            .resize(self.options.len().next_multiple_of(4), 0);
        self
    }

    /// With one more IPv6 extension header: `data` follows its two first octets, padded with
    /// zeros as its kind wants.
    pub fn extension(mut self, protocol: Protocol, data: &[u8]) -> Self {
        self.extensions
            .push(Extension::Options(protocol, data.to_vec()));
        self
    }

    /// With an IPv6 hop-by-hop header that says nothing.
    pub fn hop_by_hop(self) -> Self {
        self.extension(Protocol::HOP_BY_HOP, &PADN)
    }

    /// With IPv6 destination options that say nothing.
    pub fn destination(self) -> Self {
        self.extension(Protocol::DESTINATION, &PADN)
    }

    /// With an IPv6 routing header of an experimental type and no segments left.
    pub fn routing(self) -> Self {
        self.extension(Protocol::ROUTING, &[253, 0, 0, 0, 0, 0])
    }

    /// With a header checksum that is wrong (IPv4).
    pub fn bad_checksum(mut self) -> Self {
        self.spoil = 0x0101;
        self
    }

    /// Is it IPv6?
    pub fn is_v6(&self) -> bool {
        self.src.is_ipv6()
    }

    /// In an Ethernet frame from `src` to `dst`.
    pub fn ether(&self, src: Mac, dst: Mac) -> Frame {
        ether(src, dst).with(self)
    }

    /// The packet cut into fragments of at most `mtu` octets, headers included. Where not even
    /// eight octets of data fit, fragments have eight all the same.
    pub fn fragments(&self, mtu: usize) -> Vec<Packet> {
        let body = self.body.bytes(self.src, self.dst);
        let header = if self.is_v6() {
            48 + self.extension_bytes(Protocol::NONE).1.len()
        } else {
            20 + self.options.len()
        };
        let room = (mtu.saturating_sub(header) / 8 * 8).max(8);
        let last = body.len().div_ceil(room).saturating_sub(1);
        let protocol = self.body.protocol(self.is_v6());
        let cut = |(index, data): (usize, &[u8])| {
            self.clone()
                .raw(protocol, data)
                .fragment(len16(index * room), index != last)
        };
        body.chunks(room).enumerate().map(cut).collect()
    }

    /// The packet.
    pub fn bytes(&self) -> Vec<u8> {
        let body = self.body.bytes(self.src, self.dst);
        match (self.src, self.dst) {
            (IpAddr::V4(src), IpAddr::V4(dst)) => self.v4(src.octets(), dst.octets(), &body),
            (IpAddr::V6(src), IpAddr::V6(dst)) => self.v6(src.octets(), dst.octets(), &body),
            _ => unreachable!("`ip` made both of one family"),
        }
    }

    fn v4(&self, src: [u8; 4], dst: [u8; 4], body: &[u8]) -> Vec<u8> {
        let header_len = 20 + self.options.len();
        let words = u8::try_from(header_len / 4).expect("at most 40 octets of options");
        let (offset, more) = self.position;
        let position = u16::from(self.dont_fragment) << 14 | u16::from(more) << 13 | offset >> 3;
        let mut out = vec![0x40 | words, self.tos];
        out.extend(len16(header_len + body.len()).to_be_bytes());
        out.extend(&self.id.to_be_bytes()[2..]);
        out.extend(position.to_be_bytes());
        out.extend([self.ttl, self.body.protocol(false).0, 0, 0]);
        out.extend(src);
        out.extend(dst);
        out.extend(&self.options);
        let checksum = checksum(&out) ^ self.spoil;
        out[10..12].copy_from_slice(&checksum.to_be_bytes());
        out.extend(body);
        out
    }

    fn v6(&self, src: [u8; 16], dst: [u8; 16], body: &[u8]) -> Vec<u8> {
        let (next, extensions) = self.extension_bytes(self.body.protocol(true));
        let first = 6 << 28 | u32::from(self.tos) << 20 | self.flow_label;
        let mut out = first.to_be_bytes().to_vec();
        out.extend(len16(extensions.len() + body.len()).to_be_bytes());
        out.extend([next.0, self.ttl]);
        out.extend(src);
        out.extend(dst);
        out.extend(extensions);
        out.extend(body);
        out
    }

    /// The chain of extension headers before `upper`: the kind of its first, and its bytes.
    fn extension_bytes(&self, upper: Protocol) -> (Protocol, Vec<u8>) {
        self.extensions
            .iter()
            .rev()
            .fold((upper, Vec::new()), |(next, after), extension| {
                let mut bytes = extension.bytes(next, self.id);
                bytes.extend(after);
                (extension.protocol(), bytes)
            })
    }
}

/// A PadN option that fills an extension header of eight octets.
const PADN: [u8; 6] = [1, 4, 0, 0, 0, 0];

impl Extension {
    fn protocol(&self) -> Protocol {
        match self {
            Self::Options(protocol, _) => *protocol,
            Self::Fragment(..) => Protocol::FRAGMENT,
        }
    }

    fn bytes(&self, next: Protocol, id: u32) -> Vec<u8> {
        match self {
            Self::Options(protocol, data) => options(*protocol, next, data),
            Self::Fragment(offset, more) => {
                let [high, low] = (offset & 0xfff8 | u16::from(*more)).to_be_bytes();
                [&[next.0, 0, high, low][..], &id.to_be_bytes()].concat()
            }
        }
    }
}

/// An extension header that gives its own length: in eights, the first not counted; AH's in
/// fours, the first two not counted.
fn options(protocol: Protocol, next: Protocol, data: &[u8]) -> Vec<u8> {
    let len = (2 + data.len()).next_multiple_of(8);
    let words = if protocol == Protocol::AH {
        len / 4 - 2
    } else {
        len / 8 - 1
    };
    let mut out = vec![next.0, u8::try_from(words).unwrap_or(u8::MAX)];
    out.extend(data);
    out.resize(len, 0);
    out
}
