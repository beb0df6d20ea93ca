//! Packet headers as checked views over borrowed bytes.
//!
//! If you hold a view, it is valid: each has one kind of constructor, which checks every length
//! against the buffer, and no setter can change a length. Values are in host order; nothing
//! outside this crate ever sees big-endian. Rewriting an address or a port returns a
//! [`Delta`], the debt owed to the checksum that covered the old value.
//!
//! ```
//! use wire::{ethernet, ipv4, segment::Segment};
//!
//! fn to_real(frame: &mut [u8]) -> Result<(), Box<dyn std::error::Error>> {
//!     let mut frame = ethernet::Frame::parse(frame)?;
//!     let mut ip = ipv4::Packet::parse(frame.payload_mut())?;
//!     let protocol = ip.protocol();
//!     let addr = ip.set_dst([10, 1, 0, 11].into());
//!     let mut segment = Segment::parse(protocol, ip.payload_mut())?;
//!     let port = segment.set_dst_port(8080);
//!     segment.settle(addr.and(port));
//!     Ok(())
//! }
//! ```

#![forbid(unsafe_code)]

/// An error enum: one octet, `Copy`, each variant with its sentence.
macro_rules! errors {
    ($(#[$outer:meta])* $vis:vis enum $name:ident {
        $($(#[$inner:meta])* $variant:ident => $text:literal,)+
    }) => {
        $(#[$outer])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        $vis enum $name { $($(#[$inner])* $variant,)+ }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(match self { $(Self::$variant => $text,)+ })
            }
        }

        impl std::error::Error for $name {}
    };
}

pub mod arp;
pub mod build;
pub mod bytes;
pub mod checksum;
pub mod cut;
pub mod display;
pub mod ethernet;
pub mod gre;
pub mod gue;
pub mod icmpv4;
pub mod icmpv6;
pub mod ip;
pub mod ipv4;
pub mod ipv6;
pub mod ndp;
pub mod plain;
pub mod proxy;
pub mod resize;
pub mod sctp;
pub mod segment;
pub mod tcp;
pub mod toa;
pub mod udp;
pub mod vlan;

pub use bytes::Bytes;
pub use checksum::Delta;
pub use ethernet::{EtherType, Mac};
pub use ip::Protocol;
