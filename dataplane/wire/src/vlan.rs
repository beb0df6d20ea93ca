//! 802.1Q tag (IEEE 802.1Q section 9.3): what follows the EtherType 0x8100 or 0x88a8.

use crate::bytes::{Bytes, get16, put16};
use crate::ethernet::EtherType;

/// Octets of the tag after its own EtherType: TCI and the inner EtherType.
pub const LEN: usize = 4;

errors! {
    /// Why bytes are not a tag.
    pub enum Error {
        /// Fewer than 4 octets.
        Truncated => "the frame ends inside its VLAN tag",
    }
}

/// A whole tag and what follows it.
#[derive(Debug)]
pub struct Tag<B: Bytes> {
    head: B::Array<LEN>,
    payload: B,
}

impl<B: Bytes> Tag<B> {
    /// Checks that the tag is whole.
    ///
    /// # Errors
    /// [`Error::Truncated`].
    #[inline]
    pub fn parse(bytes: B) -> Result<Self, Error> {
        let (head, payload) = bytes.split_array().ok_or(Error::Truncated)?;
        Ok(Self { head, payload })
    }

    /// Tag control information: PCP, DEI and VID in one.
    #[inline]
    pub fn tci(&self) -> u16 {
        get16(&self.head, 0)
    }

    /// Priority code point: 0 to 7.
    #[inline]
    pub fn pcp(&self) -> u8 {
        self.head[0] >> 5
    }

    /// Drop eligible?
    #[inline]
    pub fn dei(&self) -> bool {
        self.head[0] & 0x10 != 0
    }

    /// VLAN: 0 (priority only) to 4095 (reserved).
    #[inline]
    pub fn vid(&self) -> u16 {
        self.tci() & 0xfff
    }

    /// What the tagged frame carries; another tag's EtherType where there are two.
    #[inline]
    pub fn ethertype(&self) -> EtherType {
        EtherType(get16(&self.head, 2))
    }

    /// What follows the tag.
    #[inline]
    pub fn payload(&self) -> &[u8] {
        &self.payload
    }

    /// The payload for as long as the tag was borrowed.
    #[inline]
    pub fn into_payload(self) -> B {
        self.payload
    }
}

impl Tag<&mut [u8]> {
    /// Moves the frame to another VLAN (the low 12 bits of `vid`), with the same priority.
    #[inline]
    pub fn set_vid(&mut self, vid: u16) {
        let tci = self.tci() & 0xf000 | vid & 0xfff;
        put16(self.head, 0, tci);
    }

    /// What follows the tag, to rewrite.
    #[inline]
    pub fn payload_mut(&mut self) -> &mut [u8] {
        self.payload
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_and_rewrites() {
        let mut bytes = [0xb1, 0x23, 0x08, 0x00, 7];
        let mut tag = Tag::parse(&mut bytes[..]).unwrap();
        assert_eq!(
            (tag.tci(), tag.pcp(), tag.dei(), tag.vid()),
            (0xb123, 5, true, 0x123)
        );
        assert_eq!(
            (tag.ethertype(), tag.payload()),
            (EtherType::IPV4, &[7][..])
        );
        tag.set_vid(0xffff);
        assert_eq!((tag.vid(), tag.pcp(), tag.dei()), (0xfff, 5, true));
        assert_eq!(Tag::parse(&bytes[..3]).unwrap_err(), Error::Truncated);
    }
}
