//! What the rewriters ask of IP, the same of either family, so that each mode is written once
//! and compiled twice.

mod v4;
mod v6;

use wire::ethernet::Macs;
use wire::segment::{self, Segment};
use wire::{Delta, Protocol, plain, sctp};

use crate::conn::Address;
use crate::verdict::Reason;

/// A family of IP, named by how the tables store its addresses: `u32` is IPv4, `u128` IPv6.
pub trait Family: Address {
    /// Octets of a header without options.
    const HEADER: u16;
    /// The packet that every link of the family takes, in octets (RFC 791 section 3.2, RFC 8200
    /// section 5): where one inside a tunnel is no larger, it is for the tunnel to be cut.
    const LEAST_MTU: u16;
    /// The narrowest path that an ICMP error is believed to tell of, in octets.
    const LEAST_PATH: u16;
    /// What a tunnel calls a packet of this family.
    const TUNNELLED: Protocol;
    /// The family's own ICMP.
    const ICMP: Protocol;
    /// A packet to look at.
    type Seen<'a>: Ip<Self>;
    /// A packet to rewrite.
    type Open<'a>: IpMut<Self>;

    /// The packet at the start of `bytes`. With `quoted` it may be cut short, as one that an
    /// ICMP error is about.
    ///
    /// # Errors
    /// [`Reason::ShortHeader`] where it is no packet of this family.
    fn see(bytes: &[u8], quoted: bool) -> Result<Self::Seen<'_>, Reason>;

    /// As [`see`](Self::see), to rewrite.
    ///
    /// # Errors
    /// As [`see`](Self::see).
    fn open(bytes: &mut [u8], quoted: bool) -> Result<Self::Open<'_>, Reason>;

    /// Sends a plain packet one hop further between these MACs and says where the frame ends;
    /// `None`, and no change, where [`wire::plain`] knows better.
    fn pass_plain(frame: &mut [u8], macs: &Macs) -> Option<usize>;

    /// The same between the MACs that it has; says what the packet is then.
    fn age_plain(frame: &mut [u8]) -> Option<plain::Aged>;

    /// As [`pass_plain`](Self::pass_plain), between the new `ends`, which owe what `owed` says.
    fn readdress_plain(
        frame: &mut [u8],
        macs: &Macs,
        ends: impl Fn() -> plain::Ends<Self>,
        owed: impl Fn() -> plain::Owed,
    ) -> Option<usize>;

    /// What is owed to each checksum that covers an address.
    fn owed(old: Self, new: Self) -> Delta;

    /// The ICMP message in a packet from `source` to `destination`, if it is intact and an
    /// error that is translated: 3, 4 and 11 in IPv4, all below 128 in IPv6, as IPVS does.
    fn error(message: &[u8], source: Self, destination: Self) -> Option<Said<'_>>;

    /// Lets `change` rewrite what an ICMP error quotes, and pays to the message's checksum
    /// what that owes and, where it covers them, what the packet's addresses owe.
    ///
    /// # Errors
    /// What `change` says; [`Reason::ShortTransport`] where there is no message.
    fn requote(
        message: &mut [u8],
        addresses: Delta,
        change: impl FnOnce(&mut [u8]) -> Result<Delta, Reason>,
    ) -> Result<(), Reason>;

    /// Has an error about a packet that was too large ask for one that is smaller by `less` octets,
    /// down to [`Self::LEAST_MTU`]; any other stays as it is.
    fn narrow(message: &mut [u8], less: u16);
}

/// The transport header in a fragment that is not the first: none, but SCTP's would have to be
/// patched.
#[cold]
fn later<S>(protocol: Protocol) -> Result<Option<S>, Reason> {
    match protocol {
        Protocol::SCTP => Err(Reason::SctpFragment),
        _ => Ok(None),
    }
}

/// Why a transport header can't be rewritten.
#[cold]
fn refusal(error: segment::Error) -> Reason {
    match error {
        segment::Error::Sctp(sctp::Error::Fragment) => Reason::SctpFragment,
        _ => Reason::ShortTransport,
    }
}

/// What an ICMP error says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Said<'a> {
    /// Type.
    pub kind: u8,
    /// Code.
    pub code: u8,
    /// The next link's MTU in octets, where the packet was too large for it.
    pub mtu: Option<u32>,
    /// The packet it is about, perhaps cut short.
    pub quoted: &'a [u8],
}

/// A packet of the family `A`.
pub trait Ip<A> {
    /// Source address.
    fn src(&self) -> A;
    /// Destination address.
    fn dst(&self) -> A;
    /// Octets of the packet, as its header says.
    fn total_len(&self) -> usize;
    /// TTL or hop limit.
    fn hops(&self) -> u8;
    /// Type of service or traffic class: DSCP and ECN.
    fn tos(&self) -> u8;
    /// Whether no router may fragment it; none ever may in IPv6.
    fn dont_fragment(&self) -> bool;
    /// Whether it is no fragment.
    fn is_whole(&self) -> bool;
    /// The header's own checksum; 0 in IPv6, which has none.
    fn checksum(&self) -> u16;
    /// The upper protocol and its bytes; `None` in a fragment that is not the first, and where
    /// the extension headers are malformed.
    fn upper(&self) -> Option<(Protocol, &[u8])>;
}

/// A packet of the family `A`, open to be rewritten.
pub trait IpMut<A>: Ip<A> {
    /// Replaces the source; the transport's checksum is the caller's affair.
    fn set_src(&mut self, src: A);
    /// Replaces the destination; the transport's checksum is the caller's affair.
    fn set_dst(&mut self, dst: A);
    /// One hop further; a packet without hops left stays as it is.
    fn age(&mut self);
    /// As [`Ip::upper`], to rewrite.
    fn upper_mut(&mut self) -> Option<(Protocol, &mut [u8])>;
    /// The transport header; `None` in a fragment that is not the first.
    ///
    /// # Errors
    /// [`Reason::ShortTransport`] where it is malformed, or no protocol that we rewrite;
    /// [`Reason::SctpFragment`] in every fragment of SCTP; [`Reason::ShortHeader`] where it can't
    /// be found.
    fn segment(&mut self) -> Result<Option<Segment<&mut [u8]>>, Reason>;
}
