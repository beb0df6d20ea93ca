//! ICMP for IPv4 (RFC 792), and the errors that a router makes (RFC 1812 section 4.3).

use std::net::Ipv4Addr;

use crate::bytes::{Bytes, get16, get32, put, put16, put32};
use crate::checksum::{self, Delta};
use crate::ip::Protocol;
use crate::ipv4;

/// Octets of the header: type, code, checksum and four octets that depend on the type.
pub const LEN: usize = 8;

/// An error message is at most this many octets, IP header included (RFC 1812 section 4.3.2.3).
pub const ERROR_LEN: usize = 576;

/// A message's type.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Type(pub u8);

impl Type {
    /// Answers an echo request.
    pub const ECHO_REPLY: Self = Self(0);
    /// Destination unreachable: see [`mod@unreachable`].
    pub const UNREACHABLE: Self = Self(3);
    /// Source quench (deprecated, RFC 6633).
    pub const SOURCE_QUENCH: Self = Self(4);
    /// There is a better gateway.
    pub const REDIRECT: Self = Self(5);
    /// Are you there?
    pub const ECHO_REQUEST: Self = Self(8);
    /// TTL or reassembly time used up.
    pub const TIME_EXCEEDED: Self = Self(11);
    /// A header field makes no sense.
    pub const PARAMETER_PROBLEM: Self = Self(12);

    /// Does it quote the packet that it is about?
    #[inline]
    pub fn is_error(self) -> bool {
        matches!(
            self,
            Self::UNREACHABLE
                | Self::SOURCE_QUENCH
                | Self::REDIRECT
                | Self::TIME_EXCEEDED
                | Self::PARAMETER_PROBLEM
        )
    }
}

/// Codes of [`Type::UNREACHABLE`].
pub mod unreachable {
    /// No route to the network.
    pub const NET: u8 = 0;
    /// The host does not answer.
    pub const HOST: u8 = 1;
    /// The host does not speak the protocol.
    pub const PROTOCOL: u8 = 2;
    /// Nobody listens on the port.
    pub const PORT: u8 = 3;
    /// Too long for the next link, and may not be fragmented; the MTU is in the message.
    pub const FRAGMENTATION_NEEDED: u8 = 4;
    /// The source route can't be followed.
    pub const SOURCE_ROUTE_FAILED: u8 = 5;
    /// Forbidden by an administrator.
    pub const PROHIBITED: u8 = 13;
}

errors! {
    /// Why bytes are not an ICMP message.
    pub enum Error {
        /// Fewer than 8 octets.
        Truncated => "the message is shorter than an ICMP header",
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

    /// The next hop's MTU of "fragmentation needed" (RFC 1191 section 4); 0 from old routers.
    #[inline]
    pub fn mtu(&self) -> u16 {
        get16(&self.head, 6)
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
    /// [`parse_quoted`](ipv4::Packet::parse_quoted).
    #[inline]
    pub fn quoted(&self) -> Option<&[u8]> {
        self.kind().is_error().then_some(&*self.payload)
    }

    /// Is the message intact?
    pub fn verify_checksum(&self) -> bool {
        self.sum() == 0
    }

    fn sum(&self) -> u16 {
        checksum::Sum::ZERO
            .add_bytes(&*self.head)
            .add_bytes(&self.payload)
            .finish()
    }
}

impl Packet<&mut [u8]> {
    /// Turns an echo request into its answer and patches the checksum; the addresses are the
    /// caller's to swap. `false`, and nothing done, where it is none.
    #[inline]
    #[must_use]
    pub fn answer_echo(&mut self) -> bool {
        let is_request = self.kind() == Type::ECHO_REQUEST && self.code() == 0;
        if is_request {
            self.head[0] = Type::ECHO_REPLY.0;
            self.settle(Delta::u16(0x0800, 0));
        }
        is_request
    }

    /// Sets the MTU of "fragmentation needed" and patches the checksum.
    pub fn set_mtu(&mut self, mtu: u16) {
        let delta = Delta::u16(self.mtu(), mtu);
        put16(self.head, 6, mtu);
        self.settle(delta);
    }

    /// Pays what rewrites of the payload owe to the checksum. Addresses of the IP header around it
    /// are not covered.
    #[inline]
    pub fn settle(&mut self, owed: Delta) {
        let checksum = owed.apply(self.checksum());
        put16(self.head, 2, checksum);
    }

    /// Computes the checksum anew, whatever it was. After rewriting a quoted packet; verify first.
    pub fn fill_checksum(&mut self) {
        put16(self.head, 2, 0);
        let checksum = self.sum();
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

    /// Longer than the `mtu` of the next link, with DF set (RFC 1191 section 4).
    pub fn fragmentation_needed(mtu: u16) -> Self {
        Self {
            rest: u32::from(mtu),
            ..Self::unreachable(unreachable::FRAGMENTATION_NEEDED)
        }
    }

    /// The header field at octet `pointer` of the packet is not one that is obeyed.
    pub fn erroneous_field(pointer: u8) -> Self {
        Self {
            kind: Type::PARAMETER_PROBLEM,
            code: 0,
            rest: u32::from(pointer) << 24,
        }
    }

    /// The TTL ended here.
    pub fn time_exceeded() -> Self {
        Self {
            kind: Type::TIME_EXCEEDED,
            code: 0,
            rest: 0,
        }
    }

    /// Writes the IP packet that tells the sender of `about`, from `src`: with as much of `about`
    /// as [`ERROR_LEN`] and `out` have room for. Gives its length in octets; `None` where `about`
    /// is one that [`may_report`] forbids to answer, or `out` can't hold eight octets of its data.
    ///
    /// TTL 64, precedence "internetwork control" as RFC 1812 section 4.3.2.5 has it.
    pub fn emit(
        &self,
        out: &mut [u8],
        src: Ipv4Addr,
        about: &ipv4::Packet<&[u8]>,
    ) -> Option<usize> {
        if !may_report(about) {
            return None;
        }
        let room = out.len().min(ERROR_LEN).checked_sub(ipv4::LEN + LEN)?;
        let quote = about.bytes().take(room).count();
        let least = about.header_len() + about.payload().len().min(8);
        if quote < least {
            return None;
        }
        let (ip, rest) = out.split_first_chunk_mut::<{ ipv4::LEN }>()?;
        let message = rest.get_mut(..LEN + quote)?;
        self.write(message, about)?;
        ipv4::Header {
            src,
            dst: about.src(),
            protocol: Protocol::ICMP,
            ttl: 64,
            tos: 0xc0 | about.tos() & 0x1e,
            id: 0,
            dont_fragment: true,
            payload_len: u16::try_from(message.len()).ok()?,
        }
        .emit(ip);
        Some(ipv4::LEN + message.len())
    }

    fn write(&self, message: &mut [u8], about: &ipv4::Packet<&[u8]>) -> Option<()> {
        let (head, quote) = message.split_first_chunk_mut::<LEN>()?;
        put(head, 0, [self.kind.0, self.code, 0, 0]);
        put32(head, 4, self.rest);
        for (to, from) in quote.iter_mut().zip(about.bytes()) {
            *to = *from;
        }
        let sum = checksum::of(message);
        put(message, 2, sum.to_be_bytes());
        Some(())
    }
}

/// May an error be sent about this packet (RFC 1812 section 4.3.2.7)? Not about an error, not
/// about a later fragment, not to or about anything but one host. A broadcast on the link is the
/// caller's to know.
pub fn may_report(about: &ipv4::Packet<&[u8]>) -> bool {
    let (src, dst) = (about.src(), about.dst());
    let one_host = !(src.is_unspecified()
        || src.is_loopback()
        || src.is_multicast()
        || src.octets()[0] >= 240);
    let is_error = || Packet::parse(about.payload()).is_ok_and(|icmp| icmp.kind().is_error());
    one_host
        && !dst.is_multicast()
        && !dst.is_broadcast()
        && about.fragment_offset() == 0
        && !(about.protocol() == Protocol::ICMP && is_error())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::build::{self, echo_reply, echo_request, icmp, ip, udp};
    use proptest::prelude::*;

    const CLIENT: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 7);
    const VIP: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);

    #[test]
    fn an_echo_is_answered_in_place() {
        let mut bytes = ip(CLIENT, VIP)
            .with(echo_request(7, 1).payload("ping"))
            .bytes();
        let mut packet = ipv4::Packet::parse(&mut bytes[..]).unwrap();
        packet.swap_addresses();
        let mut message = Packet::parse(packet.payload_mut()).unwrap();
        assert_eq!((message.id(), message.seq()), (7, 1));
        assert!(message.answer_echo() && !message.answer_echo());
        assert_eq!(
            bytes,
            ip(VIP, CLIENT)
                .with(echo_reply(7, 1).payload("ping"))
                .bytes()
        );
    }

    #[test]
    fn errors_quote_the_packet() {
        let sent = ip(CLIENT, VIP).tos(0x10).with(udp(1, 2).payload([7; 40]));
        let cases = [
            (Problem::unreachable(unreachable::PORT), icmp(3, 3)),
            (Problem::fragmentation_needed(1400), icmp(3, 4).rest(1400)),
            (Problem::time_exceeded(), icmp(11, 0)),
        ];
        for (problem, message) in cases {
            let mut out = [0xaa; 1500];
            let about = sent.bytes();
            let len = problem.emit(&mut out, VIP, &ipv4::Packet::parse(&about[..]).unwrap());
            let want = ip(VIP, CLIENT)
                .tos(0xd0)
                .df()
                .with(message.quoting(&sent))
                .bytes();
            assert_eq!(&out[..len.unwrap()], want, "{problem:?}");
        }
    }

    #[test]
    fn a_long_packet_is_quoted_in_part() {
        let sent = ip(CLIENT, VIP)
            .options(&[1; 4])
            .with(udp(1, 2).payload([7; 1400]))
            .bytes();
        let about = ipv4::Packet::parse(&sent[..]).unwrap();
        for (room, want) in [
            (1500, Some(576)),
            (60, Some(60)),
            (59, None),
            (27, None),
            (0, None),
        ] {
            let mut out = vec![0; room];
            assert_eq!(
                Problem::time_exceeded().emit(&mut out, VIP, &about),
                want,
                "{room}"
            );
            if let Some(len) = want {
                let packet = ipv4::Packet::parse(&out[..]).unwrap();
                assert!(packet.verify_checksum());
                let message = Packet::parse(packet.payload()).unwrap();
                assert!(message.verify_checksum());
                assert_eq!(message.quoted(), Some(&sent[..len - 28]));
            }
        }
    }

    #[test]
    fn what_gets_no_error() {
        let message = || udp(1, 2);
        #[rustfmt::skip]
        let cases = [
            ("a datagram",            ip(CLIENT, VIP).with(message()),                        true),
            ("an echo",               ip(CLIENT, VIP).with(echo_request(1, 1)),               true),
            ("a first fragment",      ip(CLIENT, VIP).with(message()).fragment(0, true),      true),
            ("a later fragment",      ip(CLIENT, VIP).with(message()).fragment(8, false),     false),
            ("an error",              ip(CLIENT, VIP).with(icmp(3, 1)),                       false),
            ("an error about VIP",    ip(CLIENT, VIP).with(icmp(11, 0)),                      false),
            ("to a group",            ip(CLIENT, [224, 0, 0, 1]).with(message()),             false),
            ("to everybody",          ip(CLIENT, [255; 4]).with(message()),                   false),
            ("from nobody",           ip([0; 4], VIP).with(message()),                        false),
            ("from a group",          ip([224, 0, 0, 1], VIP).with(message()),                false),
            ("from loopback",         ip([127, 0, 0, 1], VIP).with(message()),                false),
            ("from class E",          ip([255; 4], VIP).with(message()),                      false),
        ];
        for (name, packet, want) in cases {
            let bytes = packet.bytes();
            assert_eq!(
                may_report(&ipv4::Packet::parse(&bytes[..]).unwrap()),
                want,
                "{name}"
            );
        }
    }

    #[test]
    fn the_mtu_is_patched() {
        let quoted = ip(VIP, CLIENT).with(udp(1, 2));
        let message = |mtu| {
            ip(CLIENT, VIP)
                .with(icmp(3, 4).rest(mtu).quoting(&quoted))
                .bytes()
        };
        let mut bytes = message(1500);
        let mut packet = ipv4::Packet::parse(&mut bytes[..]).unwrap();
        Packet::parse(packet.payload_mut()).unwrap().set_mtu(1480);
        assert_eq!(bytes, message(1480));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]

        #[test]
        fn any_bytes(mut bytes in proptest::collection::vec(any::<u8>(), 0..80), room in 0usize..100) {
            if let Ok(mut message) = Packet::parse(&mut bytes[..]) {
                let _ = (message.quoted().map(<[u8]>::len), message.answer_echo());
                message.fill_checksum();
                prop_assert!(message.verify_checksum());
            }
            let sent = ip(CLIENT, VIP).with(build::udp(1, 2).payload(bytes)).bytes();
            let mut out = vec![0; room];
            let _ = Problem::time_exceeded().emit(&mut out, VIP, &ipv4::Packet::parse(&sent[..]).unwrap());
        }
    }
}
