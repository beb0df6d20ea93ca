//! ICMP for IPv6 (RFC 4443). Its checksum covers the addresses too, so an address rewrite is
//! owed to it as to TCP's.

use std::net::Ipv6Addr;

use crate::bytes::{Bytes, get16, get32, put, put16, put32};
use crate::checksum::{self, Delta};
use crate::ip::Protocol;
use crate::ipv6;

/// Octets of the header: type, code, checksum and four octets that depend on the type.
pub const LEN: usize = 8;

/// An error message is at most this many octets, IP header included: the least MTU of IPv6
/// (RFC 4443 section 2.4 (c)).
pub const ERROR_LEN: usize = 1280;

/// A message's type.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Type(pub u8);

impl Type {
    /// Destination unreachable: see [`mod@unreachable`].
    pub const UNREACHABLE: Self = Self(1);
    /// Longer than the next link's MTU, which is in the message.
    pub const PACKET_TOO_BIG: Self = Self(2);
    /// Hop limit or reassembly time used up.
    pub const TIME_EXCEEDED: Self = Self(3);
    /// A header field makes no sense.
    pub const PARAMETER_PROBLEM: Self = Self(4);
    /// Are you there?
    pub const ECHO_REQUEST: Self = Self(128);
    /// Answers an echo request.
    pub const ECHO_REPLY: Self = Self(129);
    /// Who listens to groups? (RFC 2710)
    pub const LISTENER_QUERY: Self = Self(130);
    /// I listen (RFC 2710).
    pub const LISTENER_REPORT: Self = Self(131);
    /// I listen no more (RFC 2710).
    pub const LISTENER_DONE: Self = Self(132);
    /// Are there routers? (RFC 4861)
    pub const ROUTER_SOLICITATION: Self = Self(133);
    /// I am a router (RFC 4861).
    pub const ROUTER_ADVERTISEMENT: Self = Self(134);
    /// Who has this address? (RFC 4861)
    pub const NEIGHBOUR_SOLICITATION: Self = Self(135);
    /// I have (RFC 4861).
    pub const NEIGHBOUR_ADVERTISEMENT: Self = Self(136);
    /// There is a better first hop (RFC 4861).
    pub const REDIRECT: Self = Self(137);
    /// I listen, second version (RFC 3810).
    pub const LISTENER_REPORT_V2: Self = Self(143);

    /// Does it quote the packet that it is about? (Types below 128 do.)
    #[inline]
    pub fn is_error(self) -> bool {
        self.0 < 128
    }
}

/// Codes of [`Type::UNREACHABLE`].
pub mod unreachable {
    /// No route.
    pub const NO_ROUTE: u8 = 0;
    /// Forbidden by an administrator.
    pub const PROHIBITED: u8 = 1;
    /// The host does not answer.
    pub const ADDRESS: u8 = 3;
    /// Nobody listens on the port.
    pub const PORT: u8 = 4;
}

errors! {
    /// Why bytes are not an ICMPv6 message.
    pub enum Error {
        /// Fewer than 8 octets.
        Truncated => "the message is shorter than an ICMPv6 header",
    }
}

/// A message with a whole header.
#[derive(Debug)]
pub struct Packet<B: Bytes> {
    head: B::Array<LEN>,
    payload: B,
}

impl Clone for Packet<&[u8]> {
    #[inline]
    fn clone(&self) -> Self {
        *self
    }
}

impl Copy for Packet<&[u8]> {}

impl<B: Bytes> Packet<B> {
    /// Checks that the header is whole.
    ///
    /// # Errors
    /// [`Error::Truncated`].
    #[inline]
    pub fn parse(bytes: B) -> Result<Self, Error> {
        let (head, payload) = bytes.split_array().ok_or(Error::Truncated)?;
        Ok(Self { head, payload })
    }

    /// The type.
    #[inline]
    pub fn kind(&self) -> Type {
        Type(self.head[0])
    }

    /// The code.
    #[inline]
    pub fn code(&self) -> u8 {
        self.head[1]
    }

    /// The checksum, as it stands.
    #[inline]
    pub fn checksum(&self) -> u16 {
        get16(&self.head, 2)
    }

    /// The four octets that depend on the type.
    #[inline]
    pub fn rest(&self) -> u32 {
        get32(&self.head, 4)
    }

    /// The identifier of an echo.
    #[inline]
    pub fn id(&self) -> u16 {
        get16(&self.head, 4)
    }

    /// The sequence number of an echo.
    #[inline]
    pub fn seq(&self) -> u16 {
        get16(&self.head, 6)
    }

    /// The next link's MTU of "packet too big".
    #[inline]
    pub fn mtu(&self) -> u32 {
        self.rest()
    }

    /// What follows the header.
    #[inline]
    pub fn payload(&self) -> &[u8] {
        &self.payload
    }

    /// What follows the header, for as long as the message was borrowed.
    #[inline]
    pub fn into_payload(self) -> B {
        self.payload
    }

    /// The packet that an error is about, to be read with
    /// [`parse_quoted`](ipv6::Packet::parse_quoted).
    #[inline]
    pub fn quoted(&self) -> Option<&[u8]> {
        self.kind().is_error().then_some(&*self.payload)
    }

    /// Is the message intact, as part of a packet from `src` to `dst`?
    pub fn verify_checksum(&self, src: Ipv6Addr, dst: Ipv6Addr) -> bool {
        self.sum(src, dst) == 0
    }

    fn sum(&self, src: Ipv6Addr, dst: Ipv6Addr) -> u16 {
        // A message is part of a packet, which is never longer than 32 bits can say.
        let len = u32::try_from(LEN + self.payload.len()).unwrap_or(u32::MAX);
        let sum = checksum::pseudo_v6(src, dst, Protocol::ICMPV6, len);
        sum.add_bytes(&*self.head).add_bytes(&self.payload).finish()
    }
}

impl Packet<&mut [u8]> {
    /// Turns an echo request into its answer and patches the checksum; the addresses are the
    /// caller's to swap, which owes nothing. `false`, and nothing done, where it is none.
    #[inline]
    #[must_use]
    pub fn answer_echo(&mut self) -> bool {
        let is_request = self.kind() == Type::ECHO_REQUEST && self.code() == 0;
        if is_request {
            self.head[0] = Type::ECHO_REPLY.0;
            self.settle(Delta::u16(0x8000, 0x8100));
        }
        is_request
    }

    /// Sets the MTU of "packet too big" and patches the checksum.
    pub fn set_mtu(&mut self, mtu: u32) {
        let delta = Delta::u32(self.rest(), mtu);
        put32(self.head, 4, mtu);
        self.settle(delta);
    }

    /// Pays what rewrites of addresses and payload owe to the checksum.
    #[inline]
    pub fn settle(&mut self, owed: Delta) {
        let checksum = owed.apply(self.checksum());
        put16(self.head, 2, checksum);
    }

    /// Computes the checksum anew, whatever it was, as part of a packet from `src` to `dst`.
    /// After rewriting a quoted packet; verify first.
    pub fn fill_checksum(&mut self, src: Ipv6Addr, dst: Ipv6Addr) {
        put16(self.head, 2, 0);
        let checksum = self.sum(src, dst);
        put16(self.head, 2, checksum);
    }

    /// What follows the header, to rewrite.
    #[inline]
    pub fn payload_mut(&mut self) -> &mut [u8] {
        self.payload
    }
}

/// What a router says about a packet that it could not deliver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Problem {
    kind: Type,
    code: u8,
    rest: u32,
}

impl Problem {
    /// Destination unreachable, with a code of [`mod@unreachable`].
    pub fn unreachable(code: u8) -> Self {
        Self {
            kind: Type::UNREACHABLE,
            code,
            rest: 0,
        }
    }

    /// Longer than the `mtu` of the next link.
    pub fn too_big(mtu: u32) -> Self {
        Self {
            kind: Type::PACKET_TOO_BIG,
            code: 0,
            rest: mtu,
        }
    }

    /// The header field at octet `pointer` of the packet is not one that is obeyed.
    pub fn erroneous_field(pointer: u32) -> Self {
        Self {
            kind: Type::PARAMETER_PROBLEM,
            code: 0,
            rest: pointer,
        }
    }

    /// The hop limit ended here.
    pub fn time_exceeded() -> Self {
        Self {
            kind: Type::TIME_EXCEEDED,
            code: 0,
            rest: 0,
        }
    }

    /// Writes the IP packet that tells the sender of `about`, from `src`: with as much of `about`
    /// as [`ERROR_LEN`] and `out` have room for. Gives its length in octets; `None` where `about`
    /// is one that [`may_report`] forbids to answer, or `out` can't hold its header.
    pub fn emit(
        &self,
        out: &mut [u8],
        src: Ipv6Addr,
        about: &ipv6::Packet<&[u8]>,
    ) -> Option<usize> {
        if !may_report(about, self.kind == Type::PACKET_TOO_BIG) {
            return None;
        }
        let room = out.len().min(ERROR_LEN).checked_sub(ipv6::LEN + LEN)?;
        let quote = about.bytes().take(room).count();
        if quote < ipv6::LEN {
            return None;
        }
        let (ip, rest) = out.split_first_chunk_mut::<{ ipv6::LEN }>()?;
        let message = rest.get_mut(..LEN + quote)?;
        let header = ipv6::Header {
            src,
            dst: about.src(),
            next_header: Protocol::ICMPV6,
            hop_limit: 64,
            traffic_class: 0,
            flow_label: 0,
            payload_len: u16::try_from(message.len()).ok()?,
        };
        header.emit(ip);
        self.write(message, &header, about)?;
        Some(ipv6::LEN + message.len())
    }

    fn write(
        &self,
        message: &mut [u8],
        header: &ipv6::Header,
        about: &ipv6::Packet<&[u8]>,
    ) -> Option<()> {
        let (head, quote) = message.split_first_chunk_mut::<LEN>()?;
        put(head, 0, [self.kind.0, self.code, 0, 0]);
        put32(head, 4, self.rest);
        for (to, from) in quote.iter_mut().zip(about.bytes()) {
            *to = *from;
        }
        Packet::parse(message)
            .ok()?
            .fill_checksum(header.src, header.dst);
        Some(())
    }
}

/// May an error be sent about this packet (RFC 4443 section 2.4 (e))? Not about an error or a
/// redirect, not to anything but one host, and about a packet to a group only "too big". Not
/// about a later fragment either: that the first one gets one is enough.
pub fn may_report(about: &ipv6::Packet<&[u8]>, too_big: bool) -> bool {
    let one_host =
        !(about.src().is_unspecified() || about.src().is_multicast() || about.src().is_loopback());
    let Ok(upper) = about.upper() else {
        return false;
    };
    let is_error = || {
        Packet::parse(about.upper_payload(&upper))
            .is_ok_and(|message| message.kind().is_error() || message.kind() == Type::REDIRECT)
    };
    one_host
        && (too_big || !about.dst().is_multicast())
        && upper.fragment.is_none_or(|fragment| fragment.offset == 0)
        && !(upper.protocol == Protocol::ICMPV6 && is_error())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::build::{echo_reply, echo_request, icmp, ip, udp};
    use proptest::prelude::*;

    const CLIENT: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 7);
    const VIP: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0x10);
    const GROUP: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);

    #[test]
    fn an_echo_is_answered_in_place() {
        let mut bytes = ip(CLIENT, VIP)
            .with(echo_request(7, 1).payload("ping"))
            .bytes();
        let mut packet = ipv6::Packet::parse(&mut bytes[..]).unwrap();
        packet.swap_addresses();
        let mut message = Packet::parse(packet.payload_mut()).unwrap();
        assert!(message.answer_echo() && !message.answer_echo());
        assert_eq!(
            bytes,
            ip(VIP, CLIENT)
                .with(echo_reply(7, 1).payload("ping"))
                .bytes()
        );
    }

    #[test]
    fn an_address_is_owed() {
        let mut bytes = ip(CLIENT, VIP).with(echo_request(7, 1)).bytes();
        let mut packet = ipv6::Packet::parse(&mut bytes[..]).unwrap();
        let owed = packet.set_dst(CLIENT);
        Packet::parse(packet.payload_mut()).unwrap().settle(owed);
        assert_eq!(bytes, ip(CLIENT, CLIENT).with(echo_request(7, 1)).bytes());
    }

    #[test]
    fn errors_quote_the_packet() {
        let sent = ip(CLIENT, VIP).with(udp(1, 2).payload([7; 41]));
        let cases = [
            (Problem::unreachable(unreachable::PORT), icmp(1, 4)),
            (Problem::too_big(1400), icmp(2, 0).rest(1400)),
            (Problem::time_exceeded(), icmp(3, 0)),
        ];
        for (problem, message) in cases {
            let mut out = [0xaa; 1500];
            let about = sent.bytes();
            let len = problem.emit(&mut out, VIP, &ipv6::Packet::parse(&about[..]).unwrap());
            let want = ip(VIP, CLIENT).with(message.quoting(&sent)).bytes();
            assert_eq!(&out[..len.unwrap()], want, "{problem:?}");
        }
    }

    #[test]
    fn a_long_packet_is_quoted_in_part() {
        let sent = ip(CLIENT, VIP).with(udp(1, 2).payload([7; 1400])).bytes();
        let about = ipv6::Packet::parse(&sent[..]).unwrap();
        for (room, want) in [(1500, Some(1280)), (88, Some(88)), (87, None), (0, None)] {
            let mut out = vec![0; room];
            assert_eq!(
                Problem::time_exceeded().emit(&mut out, VIP, &about),
                want,
                "{room}"
            );
            if let Some(len) = want {
                let message = Packet::parse(&out[40..len]).unwrap();
                assert!(
                    message.verify_checksum(VIP, CLIENT) && !message.verify_checksum(VIP, GROUP)
                );
                assert_eq!(message.quoted(), Some(&sent[..len - 48]));
            }
        }
    }

    #[test]
    fn what_gets_no_error() {
        #[rustfmt::skip]
        let cases = [
            ("a datagram",          ip(CLIENT, VIP).with(udp(1, 2)),                                true,  true),
            ("an echo",             ip(CLIENT, VIP).with(echo_request(1, 1)),                       true,  true),
            ("to a group",          ip(CLIENT, GROUP).with(udp(1, 2)),                              false, true),
            ("from nobody",         ip(Ipv6Addr::UNSPECIFIED, VIP).with(udp(1, 2)),                 false, false),
            ("from a group",        ip(GROUP, VIP).with(udp(1, 2)),                                 false, false),
            ("an error",            ip(CLIENT, VIP).hop_by_hop().with(icmp(1, 0)),                  false, false),
            ("a redirect",          ip(CLIENT, VIP).with(icmp(137, 0)),                             false, false),
            ("a first fragment",    ip(CLIENT, VIP).with(udp(1, 2)).fragment(0, true),              true,  true),
            ("a later fragment",    ip(CLIENT, VIP).with(udp(1, 2)).fragment(8, true),              false, false),
        ];
        for (name, packet, want, want_too_big) in cases {
            let bytes = packet.bytes();
            let packet = ipv6::Packet::parse(&bytes[..]).unwrap();
            assert_eq!(
                (may_report(&packet, false), may_report(&packet, true)),
                (want, want_too_big),
                "{name}"
            );
        }
    }

    #[test]
    fn the_mtu_is_patched() {
        let message = |mtu| ip(CLIENT, VIP).with(icmp(2, 0).rest(mtu)).bytes();
        let mut bytes = message(1500);
        let mut packet = ipv6::Packet::parse(&mut bytes[..]).unwrap();
        Packet::parse(packet.payload_mut())
            .unwrap()
            .set_mtu(0x1_0000);
        assert_eq!(bytes, message(0x1_0000));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]

        #[test]
        fn any_bytes(mut bytes in proptest::collection::vec(any::<u8>(), 0..80), room in 0usize..200) {
            if let Ok(mut message) = Packet::parse(&mut bytes[..]) {
                let _ = (message.quoted().map(<[u8]>::len), message.answer_echo());
                message.fill_checksum(CLIENT, VIP);
                prop_assert!(message.verify_checksum(CLIENT, VIP));
            }
            let sent = ip(CLIENT, VIP).with(udp(1, 2).payload(bytes)).bytes();
            let mut out = vec![0; room];
            let _ = Problem::time_exceeded().emit(&mut out, VIP, &ipv6::Packet::parse(&sent[..]).unwrap());
        }
    }
}
