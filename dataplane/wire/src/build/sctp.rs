//! SCTP packets (RFC 9260 section 3).

use super::len16;

/// An SCTP packet to be.
#[derive(Clone, Debug)]
pub struct Sctp {
    ports: (u16, u16),
    tag: u32,
    chunks: Vec<u8>,
    spoil: u32,
}

/// A packet without chunks and with verification tag 0.
pub fn sctp(src_port: u16, dst_port: u16) -> Sctp {
    Sctp {
        ports: (src_port, dst_port),
        tag: 0,
        chunks: Vec::new(),
        spoil: 0,
    }
}

impl Sctp {
    /// With this verification tag.
    pub fn tag(mut self, tag: u32) -> Self {
        self.tag = tag;
        self
    }

    /// With one more chunk, padded to four octets.
    pub fn chunk(mut self, kind: u8, data: &[u8]) -> Self {
        self.chunks.extend([kind, 0]);
        self.chunks.extend(len16(4 + data.len()).to_be_bytes());
        self.chunks.extend(data);
        self.chunks.resize(self.chunks.len().next_multiple_of(4), 0);
        self
    }

    /// With a checksum that is wrong.
    pub fn bad_checksum(mut self) -> Self {
        self.spoil = 0x0101_0101;
        self
    }

    /// The packet. No pseudo-header is covered (RFC 9260 section 6.8).
    pub fn bytes(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(12 + self.chunks.len());
        out.extend(self.ports.0.to_be_bytes());
        out.extend(self.ports.1.to_be_bytes());
        out.extend(self.tag.to_be_bytes());
        out.extend([0; 4]);
        out.extend(&self.chunks);
        let crc = crc32c(&out) ^ self.spoil;
        out[8..12].copy_from_slice(&crc.to_le_bytes());
        out
    }
}

/// CRC32c bit by bit (RFC 9260 appendix A).
fn crc32c(bytes: &[u8]) -> u32 {
    let mut crc = u32::MAX;
    for &byte in bytes {
        crc ^= u32::from(byte);
        for _ in 0..8 {
            crc = crc >> 1 ^ if crc & 1 == 1 { 0x82f6_3b78 } else { 0 };
        }
    }
    !crc
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_check_value_of_the_polynomial() {
        assert_eq!(super::crc32c(b"123456789"), 0xe306_9283);
    }
}
