//! IPv6: no header checksum, and extension headers before the transport's.

use std::net::Ipv6Addr;

use wire::bytes::Bytes;
use wire::ethernet::Macs;
use wire::segment::Segment;
use wire::{Delta, Protocol, icmpv6, ipv6, plain};

use super::{Family, Ip, IpMut, Said, later, refusal};
use crate::verdict::Reason;

impl Family for u128 {
    const HEADER: u16 = 40;
    const LEAST_MTU: u16 = 1280;
    const LEAST_PATH: u16 = 1280;
    const TUNNELLED: Protocol = Protocol::IPV6;
    const ICMP: Protocol = Protocol::ICMPV6;
    type Seen<'a> = ipv6::Packet<&'a [u8]>;
    type Open<'a> = ipv6::Packet<&'a mut [u8]>;

    fn see(bytes: &[u8], quoted: bool) -> Result<Self::Seen<'_>, Reason> {
        parse(bytes, quoted)
    }

    #[inline]
    fn open(bytes: &mut [u8], quoted: bool) -> Result<Self::Open<'_>, Reason> {
        parse(bytes, quoted)
    }

    #[inline(always)]
    fn pass_plain(frame: &mut [u8], macs: &Macs) -> Option<usize> {
        plain::pass_v6(frame, macs)
    }

    #[inline(always)]
    fn age_plain(frame: &mut [u8]) -> Option<plain::Aged> {
        plain::age_v6(frame)
    }

    #[inline(always)]
    fn readdress_plain(
        frame: &mut [u8],
        macs: &Macs,
        ends: impl Fn() -> plain::Ends<Self>,
        owed: impl Fn() -> plain::Owed,
    ) -> Option<usize> {
        plain::readdress_v6(frame, macs, ends, owed)
    }

    #[inline]
    fn owed(old: Self, new: Self) -> Delta {
        Delta::u128(old, new)
    }

    fn error(message: &[u8], source: Self, destination: Self) -> Option<Said<'_>> {
        let icmp = icmpv6::Packet::parse(message).ok()?;
        let (kind, ends) = (icmp.kind(), [source, destination].map(Ipv6Addr::from_bits));
        if !kind.is_error() || !icmp.verify_checksum(ends[0], ends[1]) {
            return None;
        }
        Some(Said {
            kind: kind.0,
            code: icmp.code(),
            mtu: (kind == icmpv6::Type::PACKET_TOO_BIG).then(|| icmp.mtu()),
            quoted: icmp.into_payload(),
        })
    }

    fn requote(
        message: &mut [u8],
        addresses: Delta,
        change: impl FnOnce(&mut [u8]) -> Result<Delta, Reason>,
    ) -> Result<(), Reason> {
        let mut icmp = icmpv6::Packet::parse(message).map_err(|_| Reason::ShortTransport)?;
        let owed = change(icmp.payload_mut())?;
        icmp.settle(owed.and(addresses));
        Ok(())
    }

    fn narrow(message: &mut [u8], less: u16) {
        let Ok(mut icmp) = icmpv6::Packet::parse(message) else {
            return;
        };
        let least = u32::from(Self::LEAST_MTU);
        if icmp.kind() == icmpv6::Type::PACKET_TOO_BIG && icmp.mtu() > least {
            let mtu = icmp.mtu().saturating_sub(less.into()).max(least);
            icmp.set_mtu(mtu);
        }
    }
}

#[inline]
fn parse<B: Bytes>(bytes: B, quoted: bool) -> Result<ipv6::Packet<B>, Reason> {
    let parsed = if quoted {
        ipv6::Packet::parse_quoted(bytes)
    } else {
        ipv6::Packet::parse(bytes)
    };
    parsed.map_err(|_| Reason::ShortHeader)
}

/// Whether the upper header is in this packet.
fn is_first(upper: &ipv6::Upper) -> bool {
    upper.fragment.is_none_or(|fragment| fragment.offset == 0)
}

impl<B: Bytes> Ip<u128> for ipv6::Packet<B> {
    #[inline]
    fn src(&self) -> u128 {
        self.src().to_bits()
    }

    #[inline]
    fn dst(&self) -> u128 {
        self.dst().to_bits()
    }

    #[inline]
    fn total_len(&self) -> usize {
        self.total_len()
    }

    #[inline]
    fn hops(&self) -> u8 {
        self.hop_limit()
    }

    #[inline]
    fn tos(&self) -> u8 {
        self.traffic_class()
    }

    #[inline]
    fn dont_fragment(&self) -> bool {
        true
    }

    #[inline]
    fn is_whole(&self) -> bool {
        self.upper().is_ok_and(|upper| upper.fragment.is_none())
    }

    #[inline]
    fn checksum(&self) -> u16 {
        0
    }

    fn upper(&self) -> Option<(Protocol, &[u8])> {
        let upper = self.upper().ok()?;
        is_first(&upper).then(|| (upper.protocol, self.upper_payload(&upper)))
    }
}

impl IpMut<u128> for ipv6::Packet<&mut [u8]> {
    #[inline]
    fn set_src(&mut self, src: u128) {
        let _ = self.set_src(Ipv6Addr::from_bits(src));
    }

    #[inline]
    fn set_dst(&mut self, dst: u128) {
        let _ = self.set_dst(Ipv6Addr::from_bits(dst));
    }

    #[inline]
    fn age(&mut self) {
        let _ = self.decrement_hop_limit();
    }

    fn upper_mut(&mut self) -> Option<(Protocol, &mut [u8])> {
        let upper = self.upper().ok()?;
        is_first(&upper).then(|| (upper.protocol, self.upper_payload_mut(&upper)))
    }

    #[inline]
    fn segment(&mut self) -> Result<Option<Segment<&mut [u8]>>, Reason> {
        let upper = self.upper().map_err(|_| Reason::ShortHeader)?;
        let bytes = self.upper_payload_mut(&upper);
        let found = match upper.fragment {
            None => Segment::parse(upper.protocol, bytes),
            Some(fragment) if fragment.offset > 0 => return later(upper.protocol),
            Some(fragment) if fragment.more => Segment::parse_first_fragment(upper.protocol, bytes),
            // A fragment that is the whole packet (RFC 6946).
            Some(_) => Segment::parse(upper.protocol, bytes),
        };
        found.map(Some).map_err(refusal)
    }
}
