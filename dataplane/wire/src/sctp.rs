//! SCTP common header and chunks (RFC 9260 section 3).
//!
//! The checksum is a CRC32c without a pseudo-header (section 6.8): an address change owes
//! nothing, and a port change is paid at once. A CRC is linear, so the new one is the old one
//! exclusive-or the CRC of the difference; a packet damaged before us stays recognisably so.
//! What that costs is moving the difference past the octets behind it: [`shift`], or what a
//! machine with an instruction for it has instead.

use std::fmt;

use crate::bytes::{Bytes, get, get16, get32, put};

/// Octets of the common header.
pub const LEN: usize = 12;

errors! {
    /// Why bytes are not an SCTP packet.
    pub enum Error {
        /// Fewer than 12 octets.
        Truncated => "the packet is shorter than an SCTP header",
        /// A fragment: its CRC cannot be patched, as what it covers is not all here.
        Fragment => "the ports of a fragmented SCTP packet cannot be rewritten",
    }
}

/// A chunk's type (RFC 9260 section 3.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ChunkType(pub u8);

impl ChunkType {
    /// Payload data.
    pub const DATA: Self = Self(0);
    /// Opens an association.
    pub const INIT: Self = Self(1);
    /// Answers INIT.
    pub const INIT_ACK: Self = Self(2);
    /// Selective acknowledgement.
    pub const SACK: Self = Self(3);
    /// Heartbeat.
    pub const HEARTBEAT: Self = Self(4);
    /// Answers a heartbeat.
    pub const HEARTBEAT_ACK: Self = Self(5);
    /// Ends the association at once.
    pub const ABORT: Self = Self(6);
    /// Begins an orderly end.
    pub const SHUTDOWN: Self = Self(7);
    /// Answers SHUTDOWN.
    pub const SHUTDOWN_ACK: Self = Self(8);
    /// Operation error.
    pub const ERROR: Self = Self(9);
    /// Returns the state cookie.
    pub const COOKIE_ECHO: Self = Self(10);
    /// Accepts the cookie: established.
    pub const COOKIE_ACK: Self = Self(11);
    /// Completes an orderly end.
    pub const SHUTDOWN_COMPLETE: Self = Self(14);
}

/// The name in capitals; `chunk N` where RFC 9260 has none.
impl fmt::Display for ChunkType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match *self {
            Self::DATA => "DATA",
            Self::INIT => "INIT",
            Self::INIT_ACK => "INIT-ACK",
            Self::SACK => "SACK",
            Self::HEARTBEAT => "HEARTBEAT",
            Self::HEARTBEAT_ACK => "HEARTBEAT-ACK",
            Self::ABORT => "ABORT",
            Self::SHUTDOWN => "SHUTDOWN",
            Self::SHUTDOWN_ACK => "SHUTDOWN-ACK",
            Self::ERROR => "ERROR",
            Self::COOKIE_ECHO => "COOKIE-ECHO",
            Self::COOKIE_ACK => "COOKIE-ACK",
            Self::SHUTDOWN_COMPLETE => "SHUTDOWN-COMPLETE",
            Self(other) => return write!(f, "chunk {other}"),
        })
    }
}

/// A packet with a whole common header.
#[derive(Debug)]
pub struct Packet<B: Bytes> {
    head: B::Array<LEN>,
    chunks: B,
}

impl Clone for Packet<&[u8]> {
    #[inline]
    fn clone(&self) -> Self {
        *self
    }
}

impl Copy for Packet<&[u8]> {}

impl<B: Bytes> Packet<B> {
    /// Checks that the common header is whole. `bytes` is the payload of an unfragmented packet.
    ///
    /// # Errors
    /// [`Error::Truncated`].
    #[inline]
    pub fn parse(bytes: B) -> Result<Self, Error> {
        let (head, chunks) = bytes.split_array().ok_or(Error::Truncated)?;
        Ok(Self { head, chunks })
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

    /// Verification tag.
    #[inline]
    pub fn tag(&self) -> u32 {
        get32(&self.head, 4)
    }

    /// The CRC32c, as it stands. It travels with its low octet first.
    #[inline]
    pub fn checksum(&self) -> u32 {
        u32::from_le_bytes(get(&*self.head, 8))
    }

    /// The chunks, up to the first one that is none.
    #[inline]
    pub fn chunks(&self) -> Chunks<'_> {
        Chunks { rest: &self.chunks }
    }

    /// The type of the first chunk, which says what the packet does to the association.
    #[inline]
    pub fn first_chunk(&self) -> Option<ChunkType> {
        self.chunks().next().map(|chunk| chunk.kind)
    }

    /// The types of the first two chunks, by their headers alone: what follows may be cut off, as
    /// in a first fragment. A chunk whose length is less than its header's is the last.
    #[inline]
    pub fn leading(&self) -> [Option<ChunkType>; 2] {
        let Some(&[kind, _, high, low]) = self.chunks.first_chunk() else {
            return [None, None];
        };
        let len = usize::from(u16::from_be_bytes([high, low]));
        let next = self.chunks.get(len.next_multiple_of(4)..);
        let second = next.filter(|_| len >= 4).and_then(<[u8]>::first_chunk::<4>);
        [Some(ChunkType(kind)), second.map(|head| ChunkType(head[0]))]
    }

    /// Is the packet intact?
    pub fn verify_checksum(&self) -> bool {
        self.compute() == self.checksum()
    }

    fn compute(&self) -> u32 {
        let mut head = *self.head;
        put(&mut head, 8, [0; 4]);
        !register(register(u32::MAX, &head), &self.chunks)
    }
}

impl Packet<&mut [u8]> {
    /// Replaces the source port and patches the checksum.
    pub fn set_src_port(&mut self, port: u16) {
        self.set_ports((port, self.dst_port()), shift);
    }

    /// Replaces the destination port and patches the checksum.
    pub fn set_dst_port(&mut self, port: u16) {
        self.set_ports((self.src_port(), port), shift);
    }

    /// Replaces source and destination port and patches the checksum, by `shift`: [`shift`](shift())
    /// or one that is faster and gives the same. Ports that stay cost nothing.
    #[inline]
    pub fn set_ports(&mut self, (src, dst): (u16, u16), shift: impl FnOnce(u32, usize) -> u32) {
        let before = get32(self.head, 0);
        let after = u32::from(src) << 16 | u32::from(dst);
        if before == after {
            return;
        }
        put(self.head, 0, after.to_be_bytes());
        let difference = register(0, &(before ^ after).to_be_bytes());
        let behind = LEN - 4 + self.chunks.len();
        let crc = self.checksum() ^ shift(difference, behind);
        put(self.head, 8, crc.to_le_bytes());
    }

    /// Computes the checksum anew, whatever it was.
    pub fn fill_checksum(&mut self) {
        let crc = self.compute();
        put(self.head, 8, crc.to_le_bytes());
    }
}

/// One chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Chunk<'a> {
    /// What it is.
    pub kind: ChunkType,
    /// Its flags.
    pub flags: u8,
    /// What follows its four first octets, without padding.
    pub data: &'a [u8],
}

/// The chunks of a packet.
#[derive(Clone, Debug)]
pub struct Chunks<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for Chunks<'a> {
    type Item = Chunk<'a>;

    #[inline]
    fn next(&mut self) -> Option<Chunk<'a>> {
        let &[kind, flags, high, low] = self.rest.first_chunk()?;
        let len = usize::from(u16::from_be_bytes([high, low]));
        let data = self.rest.get(4..len);
        self.rest = data
            .and_then(|_| self.rest.get(len.next_multiple_of(4)..))
            .unwrap_or_default();
        Some(Chunk {
            kind: ChunkType(kind),
            flags,
            data: data?,
        })
    }
}

/// Castagnoli's polynomial, lowest power in the highest bit.
const POLYNOMIAL: u32 = 0x82f6_3b78;

/// What eight steps do to each low octet of the register.
const STEPS: [u32; 256] = {
    let mut table = [0; 256];
    let mut value = 0;
    while value < 256 {
        let mut crc = table_index(value);
        let mut bit = 0;
        while bit < 8 {
            crc = times_x(crc);
            bit += 1;
        }
        table[value] = crc;
        value += 1;
    }
    table
};

/// x^(8 * 2^k) modulo the polynomial: what 2^k octets of zeros multiply the register by.
const ZEROS: [u32; 17] = {
    let mut powers = [1 << (31 - 8); 17];
    let mut k = 1;
    while k < 17 {
        powers[k] = multiply(powers[k - 1], powers[k - 1]);
        k += 1;
    }
    powers
};

#[expect(clippy::cast_possible_truncation, reason = "counts to 256")]
const fn table_index(value: usize) -> u32 {
    value as u32
}

const fn times_x(value: u32) -> u32 {
    if value & 1 == 1 {
        value >> 1 ^ POLYNOMIAL
    } else {
        value >> 1
    }
}

/// The product of two polynomials modulo Castagnoli's.
const fn multiply(a: u32, mut b: u32) -> u32 {
    let mut product = 0;
    let mut bit = 32;
    while bit > 0 {
        bit -= 1;
        if a >> bit & 1 == 1 {
            product ^= b;
        }
        b = times_x(b);
    }
    product
}

/// The register after `bytes`.
fn register(crc: u32, bytes: &[u8]) -> u32 {
    bytes.iter().fold(crc, |crc, byte| {
        crc >> 8 ^ STEPS[usize::from(crc.to_le_bytes()[0] ^ byte)]
    })
}

/// The register of a CRC32c `crc` after `len` more octets of zeros, at most 131,071.
///
/// At most one multiplication for each bit of `len`.
pub fn shift(crc: u32, len: usize) -> u32 {
    let factors = ZEROS.iter().enumerate().filter(|(k, _)| len >> k & 1 == 1);
    factors.fold(crc, |crc, (_, factor)| multiply(*factor, crc))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::build::sctp;
    use proptest::prelude::*;

    #[test]
    fn reads() {
        let bytes = sctp(2905, 2906)
            .tag(7)
            .chunk(1, b"abc")
            .chunk(0, b"data")
            .bytes();
        let packet = Packet::parse(&bytes[..]).unwrap();
        assert_eq!(
            (packet.src_port(), packet.dst_port(), packet.tag()),
            (2905, 2906, 7)
        );
        assert_eq!(packet.first_chunk(), Some(ChunkType::INIT));
        let chunks: Vec<_> = packet
            .chunks()
            .map(|chunk| (chunk.kind.0, chunk.data))
            .collect();
        assert_eq!(chunks, [(1, &b"abc"[..]), (0, b"data")]);
        assert!(
            packet.verify_checksum(),
            "build computes its CRC bit by bit"
        );
        assert_eq!(Packet::parse(&bytes[..11]).unwrap_err(), Error::Truncated);
    }

    /// RFC 3720 appendix B.4, and the check value of the polynomial.
    #[test]
    fn known_values() {
        let ascending: Vec<u8> = (0..32).collect();
        let descending: Vec<u8> = (0..32).rev().collect();
        let mut read = [0; 48];
        (read[0], read[1]) = (0x01, 0xc0);
        read[16..24].copy_from_slice(&[0x14, 0, 0, 0, 0, 0, 4, 0]);
        read[24..32].copy_from_slice(&[0, 0, 0, 0x14, 0, 0, 0, 0x18]);
        read[32] = 0x28;
        read[40] = 0x02;
        #[rustfmt::skip]
        let cases: [(&str, &[u8], u32); 6] = [
            ("32 octets of zeros",  &[0; 32],      0x8a91_36aa),
            ("32 octets of ones",   &[0xff; 32],   0x62a8_ab43),
            ("0, 1, 2, ... 31",     &ascending,    0x46dd_794e),
            ("31, 30, 29, ... 0",   &descending,   0x113f_db5c),
            ("an iSCSI read",       &read,         0xd996_3a56),
            ("the check value",     b"123456789",  0xe306_9283),
        ];
        for (name, bytes, want) in cases {
            assert_eq!(!register(u32::MAX, bytes), want, "{name}");
        }
        assert_eq!(!shift(u32::MAX, 32), 0x8a91_36aa, "by the powers of x");
    }

    /// Name, chunks, and the types of the first two.
    type Row<'a> = (&'a str, &'a [u8], [Option<u8>; 2]);

    #[test]
    fn leading_chunks_by_their_headers() {
        #[rustfmt::skip]
        let cases: [Row<'_>; 8] = [
            ("none",                          &[],                              [None, None]),
            ("not a whole header",            &[1, 0, 0],                       [None, None]),
            ("one",                           &[1, 0, 0, 4],                    [Some(1), None]),
            ("one that is cut off",           &[1, 0, 1, 0, 9],                 [Some(1), None]),
            ("two, the first padded",         &[10, 0, 0, 5, 9, 0, 0, 0, 6, 0, 0, 4], [Some(10), Some(6)]),
            ("the second cut in its header",  &[10, 0, 0, 4, 6, 0, 0],          [Some(10), None]),
            ("a length below the header's",   &[10, 0, 0, 3, 6, 0, 0, 4],       [Some(10), None]),
            ("the largest length",            &[10, 0, 255, 255, 6, 0, 0, 4],   [Some(10), None]),
        ];
        for (name, chunks, want) in cases {
            let bytes = [&[0; LEN], chunks].concat();
            let kinds = Packet::parse(&bytes[..]).unwrap().leading();
            assert_eq!(kinds.map(|kind| kind.map(|kind| kind.0)), want, "{name}");
        }
    }

    #[test]
    fn chunks_that_are_none_end_the_list() {
        let cases: [(&[u8], usize); 5] = [
            (&[], 0),
            (&[1, 0, 0], 0),
            (&[1, 0, 0, 3, 9], 0),
            (&[1, 0, 0, 9, 9], 0),
            (&[1, 0, 0, 5, 9, 1, 0, 0, 4], 1),
        ];
        for (rest, want) in cases {
            assert_eq!(Chunks { rest }.count(), want, "{rest:?}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(100))]

        #[test]
        fn patched_is_recomputed(ports in any::<[u16; 4]>(), data in proptest::collection::vec(any::<u8>(), 0..300)) {
            let mut bytes = sctp(ports[0], ports[1]).chunk(0, &data).bytes();
            let mut packet = Packet::parse(&mut bytes[..]).unwrap();
            packet.set_src_port(ports[2]);
            packet.set_dst_port(ports[3]);
            prop_assert!(packet.verify_checksum());
            prop_assert_eq!(&bytes, &sctp(ports[2], ports[3]).chunk(0, &data).bytes());
        }

        #[test]
        fn damage_stays_recognisable(data in proptest::collection::vec(any::<u8>(), 0..60), port in any::<u16>()) {
            let mut bytes = sctp(1, 2).chunk(0, &data).bad_checksum().bytes();
            let mut packet = Packet::parse(&mut bytes[..]).unwrap();
            packet.set_dst_port(port);
            prop_assert!(!packet.verify_checksum());
            packet.fill_checksum();
            prop_assert!(packet.verify_checksum());
        }

        #[test]
        fn any_bytes(mut bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            if let Ok(mut packet) = Packet::parse(&mut bytes[..]) {
                prop_assert!(packet.chunks().count() <= 20);
                packet.set_src_port(1);
            }
        }
    }
}
