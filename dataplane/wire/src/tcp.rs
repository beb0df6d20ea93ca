//! TCP header (RFC 9293 section 3.1).
//!
//! [`Packet::parse`] checks the data offset against the segment; options are walked lazily and
//! tolerate garbage, since a director forwards what it does not understand.

use std::fmt;
use std::net::IpAddr;

use crate::bytes::{Bytes, get16, get32, put, put16, put32};
use crate::checksum::{self, Delta};
use crate::ip::Protocol;

/// Octets of a header without options.
pub const LEN: usize = 20;

/// The control bits (RFC 9293 section 3.1; ECE and CWR RFC 3168).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Flags(pub u8);

impl Flags {
    /// No more data from the sender.
    pub const FIN: Self = Self(0x01);
    /// Synchronize sequence numbers.
    pub const SYN: Self = Self(0x02);
    /// Reset the connection.
    pub const RST: Self = Self(0x04);
    /// Push.
    pub const PSH: Self = Self(0x08);
    /// The acknowledgement number counts.
    pub const ACK: Self = Self(0x10);
    /// The urgent pointer counts.
    pub const URG: Self = Self(0x20);
    /// ECN echo.
    pub const ECE: Self = Self(0x40);
    /// Congestion window reduced.
    pub const CWR: Self = Self(0x80);

    /// Are all of `other`'s bits set?
    #[inline]
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// SYN.
    #[inline]
    pub const fn syn(self) -> bool {
        self.contains(Self::SYN)
    }

    /// ACK.
    #[inline]
    pub const fn ack(self) -> bool {
        self.contains(Self::ACK)
    }

    /// FIN.
    #[inline]
    pub const fn fin(self) -> bool {
        self.contains(Self::FIN)
    }

    /// RST.
    #[inline]
    pub const fn rst(self) -> bool {
        self.contains(Self::RST)
    }

    /// Both sets of bits.
    #[inline]
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// tcpdump's letters: `S`, `S.`, `F.`, `R`, `P.`, and `none`.
impl fmt::Display for Flags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 == 0 {
            return f.write_str("none");
        }
        let letters = [
            (Self::FIN, 'F'),
            (Self::SYN, 'S'),
            (Self::RST, 'R'),
            (Self::PSH, 'P'),
            (Self::ACK, '.'),
            (Self::URG, 'U'),
            (Self::ECE, 'E'),
            (Self::CWR, 'W'),
        ];
        for (_, letter) in letters.into_iter().filter(|&(flag, _)| self.contains(flag)) {
            write!(f, "{letter}")?;
        }
        Ok(())
    }
}

errors! {
    /// Why bytes are not a TCP segment.
    pub enum Error {
        /// Fewer than 20 octets.
        Truncated => "the segment is shorter than a TCP header",
        /// The data offset is below 20 octets or past the segment.
        DataOffset => "the TCP data offset is below 20 octets or past the segment",
    }
}

/// A well-formed TCP segment.
#[derive(Debug)]
pub struct Packet<B: Bytes> {
    head: B::Array<LEN>,
    options: B,
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
    /// Checks the data offset against the segment.
    ///
    /// # Errors
    /// One [`Error`] for each malformation.
    #[inline]
    pub fn parse(bytes: B) -> Result<Self, Error> {
        let (head, rest) = bytes.split_array::<LEN>().ok_or(Error::Truncated)?;
        let options = (usize::from(head[12] >> 4) * 4)
            .checked_sub(LEN)
            .ok_or(Error::DataOffset)?;
        let (options, payload) = rest.split(options).ok_or(Error::DataOffset)?;
        Ok(Self {
            head,
            options,
            payload,
        })
    }

    /// Source port.
    #[inline]
    pub fn src_port(&self) -> u16 {
        get16(&self.head, 0)
    }

    /// Destination port.
    #[inline]
    pub fn dst_port(&self) -> u16 {
        get16(&self.head, 2)
    }

    /// Sequence number.
    #[inline]
    pub fn seq(&self) -> u32 {
        get32(&self.head, 4)
    }

    /// Acknowledgement number; counts only with [`Flags::ACK`].
    #[inline]
    pub fn ack(&self) -> u32 {
        get32(&self.head, 8)
    }

    /// Octets of the header, options included: 20 to 60.
    #[inline]
    pub fn header_len(&self) -> usize {
        LEN + self.options.len()
    }

    /// The control bits.
    #[inline]
    pub fn flags(&self) -> Flags {
        Flags(self.head[13])
    }

    /// The window, unscaled.
    #[inline]
    pub fn window(&self) -> u16 {
        get16(&self.head, 14)
    }

    /// The checksum, as it stands.
    #[inline]
    pub fn checksum(&self) -> u16 {
        get16(&self.head, 16)
    }

    /// The urgent pointer; counts only with [`Flags::URG`].
    #[inline]
    pub fn urgent(&self) -> u16 {
        get16(&self.head, 18)
    }

    /// The options, up to the end of the list or the first one that is no option.
    #[inline]
    pub fn options(&self) -> Options<'_> {
        Options {
            list: &self.options,
            at: 0,
        }
    }

    /// The octets of the options.
    #[inline]
    pub fn options_bytes(&self) -> &[u8] {
        &self.options
    }

    /// The data.
    #[inline]
    pub fn payload(&self) -> &[u8] {
        &self.payload
    }

    /// The maximum segment size offered, where there is one (RFC 9293 section 3.7.1).
    pub fn mss(&self) -> Option<u16> {
        self.mss_option().map(|(_, mss)| mss)
    }

    /// Where in the options the two octets of the MSS are, and their value.
    fn mss_option(&self) -> Option<(usize, u16)> {
        self.options()
            .find_map(|option| match (option.kind, option.data) {
                (OptionKind::MSS, &[high, low]) => {
                    Some((option.offset + 2, u16::from_be_bytes([high, low])))
                }
                _ => None,
            })
    }

    /// The blocks of a SACK option as (left edge, right edge) (RFC 2018 section 3).
    pub fn sack_blocks(&self) -> impl Iterator<Item = (u32, u32)> + '_ {
        self.options()
            .filter(|option| option.kind == OptionKind::SACK)
            .flat_map(|option| option.data.as_chunks::<8>().0)
            .map(|block| (get32(block, 0), get32(block, 4)))
    }
}

impl Packet<&mut [u8]> {
    /// Replaces the source port.
    #[inline]
    pub fn set_src_port(&mut self, port: u16) -> Delta {
        self.put_word(0, port)
    }

    /// Replaces the destination port.
    #[inline]
    pub fn set_dst_port(&mut self, port: u16) -> Delta {
        self.put_word(2, port)
    }

    /// Replaces the sequence number.
    #[inline]
    pub fn set_seq(&mut self, seq: u32) -> Delta {
        let delta = Delta::u32(self.seq(), seq);
        put32(self.head, 4, seq);
        delta
    }

    /// Replaces the acknowledgement number.
    #[inline]
    pub fn set_ack(&mut self, ack: u32) -> Delta {
        let delta = Delta::u32(self.ack(), ack);
        put32(self.head, 8, ack);
        delta
    }

    /// Replaces the control bits.
    #[inline]
    pub fn set_flags(&mut self, flags: Flags) -> Delta {
        self.put_word(12, u16::from_be_bytes([self.head[12], flags.0]))
    }

    /// Replaces the window.
    #[inline]
    pub fn set_window(&mut self, window: u16) -> Delta {
        self.put_word(14, window)
    }

    /// Lowers the MSS option to `mss` where it offers more; nothing where there is none.
    pub fn clamp_mss(&mut self, mss: u16) -> Delta {
        match self.mss_option() {
            Some((at, old)) if old > mss => {
                if let Some(value) = self.options.get_mut(at..at + 2) {
                    value.copy_from_slice(&mss.to_be_bytes());
                }
                Delta::u16(old, mss).at(at)
            }
            _ => Delta::NONE,
        }
    }

    /// Shifts every SACK edge by `by` (modulo 2^32): what a director owes to the receiver whose
    /// sequence numbers it moved.
    pub fn shift_sack(&mut self, by: u32) -> Delta {
        self.map_sack(|edge| edge.wrapping_add(by))
    }

    /// Puts each SACK edge where `map` says; a block that becomes empty is taken away, and a
    /// half one at the end left alone.
    pub fn map_sack(&mut self, map: impl Fn(u32) -> u32) -> Delta {
        let mut owed = Delta::NONE;
        let mut at = 0;
        while let Some(option) = next_option(self.options, at) {
            let (start, end) = (option.offset, option.end());
            if option.kind == OptionKind::SACK {
                owed = owed.and(map_blocks(&mut self.options[start..end], &map).at(start));
            }
            at = end;
        }
        owed
    }

    /// Overwrites the options of these kinds with NOPs.
    pub fn blank(&mut self, kinds: &[OptionKind]) -> Delta {
        let mut owed = Delta::NONE;
        let mut at = 0;
        while let Some(option) = next_option(self.options, at) {
            let (start, end) = (option.offset, option.end());
            if kinds.contains(&option.kind) {
                let mut before = [0; 40];
                let whole = &mut self.options[start..end];
                before[..whole.len()].copy_from_slice(whole);
                whole.fill(OptionKind::NOP.0);
                owed = owed.and(Delta::bytes(&before[..end - start], whole).at(start));
            }
            at = end;
        }
        owed
    }

    /// Replaces the urgent pointer.
    #[inline]
    pub fn set_urgent(&mut self, urgent: u16) -> Delta {
        self.put_word(18, urgent)
    }

    /// Pays what rewrites owe to the checksum.
    #[inline]
    pub fn settle(&mut self, owed: Delta) {
        let checksum = owed.apply(self.checksum());
        self.set_checksum(checksum);
    }

    /// Stores a checksum computed elsewhere.
    #[inline]
    pub fn set_checksum(&mut self, checksum: u16) {
        put16(self.head, 16, checksum);
    }

    /// The data, to rewrite.
    #[inline]
    pub fn payload_mut(&mut self) -> &mut [u8] {
        self.payload
    }

    #[inline]
    fn put_word(&mut self, at: usize, value: u16) -> Delta {
        let delta = Delta::u16(get16(self.head, at), value);
        put16(self.head, at, value);
        delta
    }
}

/// A header without options, to put before nothing: what a reset of ours is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Source port.
    pub src_port: u16,
    /// Destination port.
    pub dst_port: u16,
    /// Sequence number.
    pub seq: u32,
    /// Acknowledgement number.
    pub ack: u32,
    /// The control bits.
    pub flags: Flags,
    /// The window, unscaled.
    pub window: u16,
}

impl Header {
    /// The reset that answers `segment` (RFC 9293 section 3.10.7.1); `None` for a reset, which
    /// gets no answer.
    pub fn reset<B: Bytes>(segment: &Packet<B>) -> Option<Self> {
        let flags = segment.flags();
        if flags.rst() {
            return None;
        }
        let taken = u32::try_from(segment.payload().len()).ok()?
            + u32::from(flags.syn())
            + u32::from(flags.fin());
        let (seq, ack, flags) = if flags.ack() {
            (segment.ack(), 0, Flags::RST)
        } else {
            (
                0,
                segment.seq().wrapping_add(taken),
                Flags::RST.and(Flags::ACK),
            )
        };
        Some(Self {
            src_port: segment.dst_port(),
            dst_port: segment.src_port(),
            seq,
            ack,
            flags,
            window: 0,
        })
    }

    /// Writes the header with its checksum, as all of a packet from `src` to `dst`.
    pub fn emit(&self, out: &mut [u8; LEN], src: IpAddr, dst: IpAddr) {
        put16(out, 0, self.src_port);
        put16(out, 2, self.dst_port);
        put32(out, 4, self.seq);
        put32(out, 8, self.ack);
        put(out, 12, [0x50, self.flags.0]);
        put16(out, 14, self.window);
        put32(out, 16, 0);
        let checksum = checksum::transport(src, dst, Protocol::TCP, out);
        put16(out, 16, checksum);
    }
}

/// Puts the edges of the SACK option `option` where `map` says. Blocks that are empty then make
/// room for those after them; what is left over becomes NOPs.
fn map_blocks(option: &mut [u8], map: impl Fn(u32) -> u32) -> Delta {
    let mut before = [0; 40];
    before[..option.len()].copy_from_slice(option);
    let blocks = before[..option.len()].get(2..).unwrap_or_default();
    let mut end = 2;
    for block in blocks.as_chunks::<8>().0 {
        let [left, right] = [get32(block, 0), get32(block, 4)].map(&map);
        if left != right {
            option[end..end + 4].copy_from_slice(&left.to_be_bytes());
            option[end + 4..end + 8].copy_from_slice(&right.to_be_bytes());
            end += 8;
        }
    }
    let whole = 2 + blocks.len() / 8 * 8;
    if end < whole {
        let len = u8::try_from(end).expect("at most 40 octets of options");
        option[end..].fill(OptionKind::NOP.0);
        match end {
            2 => option.fill(OptionKind::NOP.0),
            _ => option[1] = len,
        }
    }
    Delta::bytes(&before[..option.len()], option)
}

/// An option's kind (IANA "TCP Option Kind Numbers").
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct OptionKind(pub u8);

impl OptionKind {
    /// End of the list.
    pub const END: Self = Self(0);
    /// No operation: padding.
    pub const NOP: Self = Self(1);
    /// Maximum segment size.
    pub const MSS: Self = Self(2);
    /// Window scale.
    pub const WINDOW_SCALE: Self = Self(3);
    /// SACK permitted.
    pub const SACK_PERMITTED: Self = Self(4);
    /// SACK.
    pub const SACK: Self = Self(5);
    /// Timestamps.
    pub const TIMESTAMPS: Self = Self(8);
    /// Multipath TCP.
    pub const MULTIPATH: Self = Self(30);
    /// TCP fast open.
    pub const FAST_OPEN: Self = Self(34);
    /// The client's address as FULLNAT sends it (experimental, RFC 4727).
    pub const TOA: Self = Self(254);
}

/// One option of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TcpOption<'a> {
    /// What it is.
    pub kind: OptionKind,
    /// What follows kind and length.
    pub data: &'a [u8],
    /// Where it begins, in octets from the first option.
    pub offset: usize,
}

impl TcpOption<'_> {
    pub(crate) fn end(&self) -> usize {
        self.offset + 2 + self.data.len()
    }
}

/// The options of a segment, without NOPs.
#[derive(Clone, Debug)]
pub struct Options<'a> {
    list: &'a [u8],
    at: usize,
}

impl<'a> Options<'a> {
    /// The options in `list`.
    pub(crate) fn new(list: &'a [u8]) -> Self {
        Self { list, at: 0 }
    }
}

impl<'a> Iterator for Options<'a> {
    type Item = TcpOption<'a>;

    fn next(&mut self) -> Option<TcpOption<'a>> {
        let option = next_option(self.list, self.at);
        self.at = option.map_or(self.list.len(), |option| option.end());
        option
    }
}

/// The option at `at` or after the NOPs there; `None` at the end of the list and at an option
/// whose length is below 2 or runs past the list.
fn next_option(list: &[u8], mut at: usize) -> Option<TcpOption<'_>> {
    while list.get(at) == Some(&OptionKind::NOP.0) {
        at += 1;
    }
    let kind = OptionKind(*list.get(at)?);
    if kind == OptionKind::END {
        return None;
    }
    let len = usize::from(*list.get(at + 1)?);
    let data = list.get(at + 2..at + len)?;
    Some(TcpOption {
        kind,
        data,
        offset: at,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::build;
    use proptest::prelude::*;

    #[rustfmt::skip]
    const SYN: [u8; 32] = [
        0x7a, 0x69, 0x00, 0x50, 0, 0, 0, 1, 0, 0, 0, 2, 0x70, 0x02, 0xfa, 0xf0, 0x12, 0x34, 0, 7,
        1, 2, 4, 0x05, 0xb4, 4, 2, 0, // NOP, then the MSS at an odd offset, SACK permitted, end
        b'd', b'a', b't', b'a',
    ];

    #[test]
    fn reads() {
        let tcp = Packet::parse(&SYN[..]).unwrap();
        assert_eq!(
            (tcp.src_port(), tcp.dst_port(), tcp.seq(), tcp.ack()),
            (31337, 80, 1, 2)
        );
        assert_eq!(
            (tcp.header_len(), tcp.window(), tcp.checksum(), tcp.urgent()),
            (28, 64240, 0x1234, 7)
        );
        assert!(tcp.flags().syn() && !tcp.flags().ack());
        assert_eq!((tcp.mss(), tcp.payload()), (Some(1460), &b"data"[..]));
        let kinds: Vec<_> = tcp
            .options()
            .map(|option| (option.kind.0, option.offset))
            .collect();
        assert_eq!(kinds, [(2, 1), (4, 5)]);
    }

    #[test]
    fn malformed() {
        let cases = [
            (19, 0x50, Error::Truncated),
            (32, 0x40, Error::DataOffset),
            (32, 0x90, Error::DataOffset),
        ];
        for (len, offset, want) in cases {
            let mut bytes = SYN;
            bytes[12] = offset;
            assert_eq!(Packet::parse(&bytes[..len]).unwrap_err(), want);
        }
    }

    #[test]
    fn garbage_among_the_options_ends_them() {
        let cases: [(&[u8], usize); 6] = [
            (&[2, 0, 0, 0], 0),
            (&[2, 1, 0, 0], 0),
            (&[2, 5, 0, 0], 0),
            (&[1, 1, 1, 2], 0),
            (&[4, 2, 2, 9], 1),
            (&[1, 1, 1, 1], 0),
        ];
        for (list, want) in cases {
            assert_eq!(Options { list, at: 0 }.count(), want, "{list:?}");
        }
    }

    #[test]
    fn the_mss_only_goes_down() {
        for (mss, want) in [(1400, 1400), (1460, 1460), (9000, 1460)] {
            let mut bytes = SYN;
            let before = checksum::of(&bytes);
            let mut tcp = Packet::parse(&mut bytes[..]).unwrap();
            let delta = tcp.clamp_mss(mss);
            assert_eq!(tcp.mss(), Some(want));
            assert_eq!(
                delta.apply(before),
                checksum::of(&bytes),
                "at an odd offset too"
            );
        }
    }

    #[test]
    fn sack_edges_move_together() {
        let mut bytes = SYN;
        bytes[12] = 0x80;
        bytes[20..32].copy_from_slice(&[1, 5, 10, 0, 0, 0, 9, 0xff, 0xff, 0xff, 0xff, 0]);
        let before = checksum::of(&bytes);
        let mut tcp = Packet::parse(&mut bytes[..]).unwrap();
        let delta = tcp.shift_sack(2);
        assert_eq!(tcp.sack_blocks().collect::<Vec<_>>(), [(11, 1)]);
        assert_eq!(delta.apply(before), checksum::of(&bytes));
    }

    #[test]
    fn resets() {
        let (client, vip) = (IpAddr::from([192, 0, 2, 7]), IpAddr::from([10, 0, 0, 1]));
        #[rustfmt::skip]
        let cases = [
            (build::tcp(1, 2).seq(9).syn(),                    Some(build::tcp(2, 1).acks(10).rst())),
            (build::tcp(1, 2).seq(9).fin().payload("four"),    Some(build::tcp(2, 1).acks(14).rst())),
            (build::tcp(1, 2).seq(9).acks(7).payload("four"),  Some(build::tcp(2, 1).seq(7).rst())),
            (build::tcp(1, 2).seq(u32::MAX).syn(),             Some(build::tcp(2, 1).acks(0).rst())),
            (build::tcp(1, 2).rst(),                           None),
        ];
        for (given, want) in cases {
            let bytes = given.bytes(client, vip);
            let reset = Header::reset(&Packet::parse(&bytes[..]).unwrap());
            let emitted = reset.map(|reset| {
                let mut out = [0xaa; LEN];
                reset.emit(&mut out, vip, client);
                out.to_vec()
            });
            assert_eq!(emitted, want.map(|want| want.window(0).bytes(vip, client)));
        }
    }

    #[test]
    fn flags_read_as_in_tcpdump() {
        let cases = [
            (0, "none"),
            (2, "S"),
            (0x12, "S."),
            (0x11, "F."),
            (4, "R"),
            (0x18, "P."),
            (0xc2, "SEW"),
        ];
        for (bits, want) in cases {
            assert_eq!(Flags(bits).to_string(), want);
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]

        #[test]
        fn patched_is_recomputed(mut bytes in any::<[u8; 32]>(), word in any::<u16>(), long in any::<u32>(), which in 0..6) {
            bytes[12] = 0x50;
            bytes[0] |= 1; // the sum of nothing but zeros has two names
            put16(&mut bytes, 16, 0);
            let full = checksum::of(&bytes);
            put16(&mut bytes, 16, full);
            let mut tcp = Packet::parse(&mut bytes[..]).unwrap();
            let owed = match which {
                0 => tcp.set_src_port(word | 1),
                1 => tcp.set_dst_port(word),
                2 => tcp.set_seq(long),
                3 => tcp.set_ack(long),
                4 => tcp.set_window(word),
                _ => tcp.set_flags(Flags(word.to_be_bytes()[0])),
            };
            tcp.settle(owed);
            let patched = tcp.checksum();
            put16(&mut bytes, 16, 0);
            prop_assert_eq!(patched, checksum::of(&bytes));
        }

        /// Whatever is done to options, the checksum is that of what is there then.
        #[test]
        fn options_change_with_the_checksum(
            mut bytes in proptest::collection::vec(any::<u8>(), 60..61), kinds in proptest::collection::vec(0..12u8, 1..6),
            shift in any::<u32>(), clamp in any::<bool>(),
        ) {
            bytes[12] = 0xf0;
            let mut at = 20;
            for kind in kinds {
                let len = match kind {
                    0 | 1 => 1,
                    5 => 18,
                    8 => 10,
                    _ => 4,
                };
                if at + len > 60 {
                    break;
                }
                bytes[at] = kind.max(1);
                if len > 1 {
                    bytes[at + 1] = u8::try_from(len).unwrap();
                }
                at += len;
            }
            bytes[at..].fill(0);
            let before = checksum::of(&bytes);
            let mut tcp = Packet::parse(&mut bytes[..]).unwrap();
            let owed = if clamp {
                tcp.map_sack(|edge| edge.wrapping_add(shift).max(1 << 31))
            } else {
                tcp.blank(&[OptionKind::TIMESTAMPS, OptionKind::SACK])
            };
            prop_assert!(clamp || tcp.options().all(|option| !matches!(option.kind.0, 5 | 8)));
            prop_assert!(tcp.sack_blocks().all(|(left, right)| left != right || !clamp));
            prop_assert_eq!(owed.apply(before), checksum::of(&bytes));
        }

        #[test]
        fn any_bytes(mut bytes in proptest::collection::vec(any::<u8>(), 0..80), mss in any::<u16>()) {
            if let Ok(tcp) = Packet::parse(&bytes[..]) {
                prop_assert!(tcp.options().count() <= 40);
                let _ = (tcp.mss(), tcp.sack_blocks().count());
            }
            if let Ok(mut tcp) = Packet::parse(&mut bytes[..]) {
                let owed = tcp.clamp_mss(mss).and(tcp.shift_sack(u32::from(mss)));
                let kinds = [OptionKind(mss.to_be_bytes()[0]), OptionKind::SACK];
                let owed = owed.and(tcp.map_sack(|edge| edge | 1 << 31)).and(tcp.blank(&kinds));
                tcp.settle(owed);
            }
        }
    }
}
