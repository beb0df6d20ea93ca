//! IPv4: a header checksum of its own, fragments told by every header.

use std::net::Ipv4Addr;

use wire::bytes::Bytes;
use wire::ethernet::Macs;
use wire::segment::Segment;
use wire::{Delta, Protocol, icmpv4, ipv4, plain};

use super::{Family, Ip, IpMut, Said, later, refusal};
use crate::verdict::Reason;

impl Family for u32 {
    const HEADER: u16 = 20;
    const LEAST_MTU: u16 = 68;
    // No link in use is narrower; Linux believes no less either (`min_pmtu`).
    const LEAST_PATH: u16 = 552;
    const TUNNELLED: Protocol = Protocol::IPIP;
    const ICMP: Protocol = Protocol::ICMP;
    type Seen<'a> = ipv4::Packet<&'a [u8]>;
    type Open<'a> = ipv4::Packet<&'a mut [u8]>;

    fn see(bytes: &[u8], quoted: bool) -> Result<Self::Seen<'_>, Reason> {
        parse(bytes, quoted)
    }

    #[inline]
    fn open(bytes: &mut [u8], quoted: bool) -> Result<Self::Open<'_>, Reason> {
        parse(bytes, quoted)
    }

    #[inline(always)]
    fn pass_plain(frame: &mut [u8], macs: &Macs) -> Option<usize> {
        plain::pass(frame, macs)
    }

    #[inline(always)]
    fn age_plain(frame: &mut [u8]) -> Option<plain::Aged> {
        plain::age(frame)
    }

    #[inline(always)]
    fn readdress_plain(
        frame: &mut [u8],
        macs: &Macs,
        ends: impl Fn() -> plain::Ends<Self>,
        owed: impl Fn() -> plain::Owed,
    ) -> Option<usize> {
        plain::readdress(frame, macs, ends, owed)
    }

    #[inline]
    fn owed(old: Self, new: Self) -> Delta {
        Delta::u32(old, new)
    }

    fn error(message: &[u8], _: Self, _: Self) -> Option<Said<'_>> {
        use icmpv4::{Type, unreachable::FRAGMENTATION_NEEDED};
        let icmp = icmpv4::Packet::parse(message).ok()?;
        let (kind, code) = (icmp.kind(), icmp.code());
        if !matches!(
            kind,
            Type::UNREACHABLE | Type::SOURCE_QUENCH | Type::TIME_EXCEEDED
        ) || !icmp.verify_checksum()
        {
            return None;
        }
        let too_large = kind == Type::UNREACHABLE && code == FRAGMENTATION_NEEDED;
        Some(Said {
            kind: kind.0,
            code,
            mtu: too_large.then(|| icmp.mtu().into()),
            quoted: icmp.into_payload(),
        })
    }

    fn requote(
        message: &mut [u8],
        _: Delta,
        change: impl FnOnce(&mut [u8]) -> Result<Delta, Reason>,
    ) -> Result<(), Reason> {
        let mut icmp = icmpv4::Packet::parse(message).map_err(|_| Reason::ShortTransport)?;
        let owed = change(icmp.payload_mut())?;
        icmp.settle(owed);
        Ok(())
    }

    fn narrow(message: &mut [u8], less: u16) {
        use icmpv4::{Type, unreachable::FRAGMENTATION_NEEDED};
        let Ok(mut icmp) = icmpv4::Packet::parse(message) else {
            return;
        };
        let too_large = icmp.kind() == Type::UNREACHABLE && icmp.code() == FRAGMENTATION_NEEDED;
        // Old routers don't say how much.
        if too_large && icmp.mtu() > Self::LEAST_MTU {
            let mtu = icmp.mtu().saturating_sub(less).max(Self::LEAST_MTU);
            icmp.set_mtu(mtu);
        }
    }
}

#[inline]
fn parse<B: Bytes>(bytes: B, quoted: bool) -> Result<ipv4::Packet<B>, Reason> {
    let parsed = if quoted {
        ipv4::Packet::parse_quoted(bytes)
    } else {
        ipv4::Packet::parse(bytes)
    };
    parsed.map_err(|_| Reason::ShortHeader)
}

impl<B: Bytes> Ip<u32> for ipv4::Packet<B> {
    #[inline]
    fn src(&self) -> u32 {
        self.src().to_bits()
    }

    #[inline]
    fn dst(&self) -> u32 {
        self.dst().to_bits()
    }

    #[inline]
    fn total_len(&self) -> usize {
        self.total_len()
    }

    #[inline]
    fn hops(&self) -> u8 {
        self.ttl()
    }

    #[inline]
    fn tos(&self) -> u8 {
        self.tos()
    }

    #[inline]
    fn is_whole(&self) -> bool {
        !self.is_fragment()
    }

    #[inline]
    fn dont_fragment(&self) -> bool {
        self.dont_fragment()
    }

    #[inline]
    fn checksum(&self) -> u16 {
        self.checksum()
    }

    fn upper(&self) -> Option<(Protocol, &[u8])> {
        let first = self.fragment_offset() == 0;
        first.then(|| (self.protocol(), self.payload()))
    }
}

impl IpMut<u32> for ipv4::Packet<&mut [u8]> {
    #[inline]
    fn set_src(&mut self, src: u32) {
        let _ = self.set_src(Ipv4Addr::from_bits(src));
    }

    #[inline]
    fn set_dst(&mut self, dst: u32) {
        let _ = self.set_dst(Ipv4Addr::from_bits(dst));
    }

    #[inline]
    fn age(&mut self) {
        let _ = self.decrement_ttl();
    }

    fn upper_mut(&mut self) -> Option<(Protocol, &mut [u8])> {
        let first = self.fragment_offset() == 0;
        first.then(|| (self.protocol(), self.payload_mut()))
    }

    #[inline]
    fn segment(&mut self) -> Result<Option<Segment<&mut [u8]>>, Reason> {
        let protocol = self.protocol();
        let found = if !self.is_fragment() {
            Segment::parse(protocol, self.payload_mut())
        } else if self.fragment_offset() == 0 {
            Segment::parse_first_fragment(protocol, self.payload_mut())
        } else {
            return later(protocol);
        };
        found.map(Some).map_err(refusal)
    }
}
