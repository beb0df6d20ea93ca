//! TOA, the client's address in a TCP option (reference: DPVS, experimental kind of RFC 4727).
//!
//! ```text
//!   IPv4   254 | 8  | port (2) | address (4)
//!   IPv6   254 | 20 | port (2) | address (16)
//! ```
//!
//! It stands before all other options: receivers take the first one, so what a client may have
//! put there itself is never believed.

use std::net::IpAddr;

use crate::tcp::{OptionKind, Options};

/// The most octets of options in a TCP header.
pub const MAX_OPTIONS: usize = 40;

/// Octets of the option for a client of IPv4.
pub const LEN: usize = 8;
/// Octets of the option for a client of IPv6.
pub const LEN_V6: usize = 20;

/// Octets of the option for this client.
#[inline]
pub fn len(client: IpAddr) -> usize {
    match client {
        IpAddr::V4(_) => LEN,
        IpAddr::V6(_) => LEN_V6,
    }
}

/// A segment's options, whole words of four octets.
#[derive(Clone, Copy, Debug)]
pub struct List {
    bytes: [u8; MAX_OPTIONS],
    len: usize,
}

impl List {
    const EMPTY: Self = Self {
        bytes: [0; MAX_OPTIONS],
        len: 0,
    };

    /// The options `old` with the client's address before them, in at most `room` octets; `None`
    /// where they don't fit. If need be what only pads goes, and other addresses; then all but the
    /// timestamps.
    pub fn with_client(client: (IpAddr, u16), old: &[u8], room: usize) -> Option<Self> {
        let room = room.min(MAX_OPTIONS);
        let mut list = Self::EMPTY;
        list.client(client);
        if list.len > room {
            return None;
        }
        let mut whole = list;
        if whole.len + old.len() <= room && whole.put(old) {
            return Some(whole.padded());
        }
        let no_padding = |kind| kind != OptionKind::TOA;
        let timestamps = |kind| kind == OptionKind::TIMESTAMPS;
        let fits = |list: Option<Self>| list.map(Self::padded).filter(|list| list.len <= room);
        fits(list.and_those(old, no_padding)).or_else(|| fits(list.and_those(old, timestamps)))
    }

    /// The octets.
    #[inline]
    pub fn bytes(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }

    fn client(&mut self, (address, port): (IpAddr, u16)) {
        let octets = u8::try_from(len(address)).expect("8 or 20");
        self.put(&[OptionKind::TOA.0, octets]);
        self.put(&port.to_be_bytes());
        match address {
            IpAddr::V4(address) => self.put(&address.octets()),
            IpAddr::V6(address) => self.put(&address.octets()),
        };
    }

    /// With those of the options `old` that are wanted; `None` if there is no room for them.
    fn and_those(mut self, old: &[u8], wanted: impl Fn(OptionKind) -> bool) -> Option<Self> {
        let mut wanted = Options::new(old).filter(|option| wanted(option.kind));
        let fit = wanted.all(|option| {
            let whole = old.get(option.offset..option.end());
            whole.is_some_and(|whole| self.put(whole))
        });
        fit.then_some(self)
    }

    /// Filled with the end of the list.
    fn padded(mut self) -> Self {
        let len = self.len.next_multiple_of(4);
        self.bytes[self.len..len].fill(OptionKind::END.0);
        self.len = len;
        self
    }

    fn put(&mut self, bytes: &[u8]) -> bool {
        let end = self.len + bytes.len();
        let room = self.bytes.get_mut(self.len..end);
        let Some(room) = room else { return false };
        room.copy_from_slice(bytes);
        self.len = end;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn layouts() {
        let list = |client: &str| {
            let client = (client.parse().unwrap(), 40000);
            List::with_client(client, &[], 40).expect("room")
        };
        assert_eq!(
            list("192.0.2.7").bytes(),
            [0xfe, 8, 0x9c, 0x40, 0xc0, 0, 2, 7]
        );
        let v6 = [
            &[0xfe, 20, 0x9c, 0x40, 0x20, 1, 0xd, 0xb8][..],
            &[0; 11],
            &[7],
        ]
        .concat();
        assert_eq!(list("2001:db8::7").bytes(), v6);
    }

    #[test]
    #[rustfmt::skip]
    fn room_is_made() {
        const TOA: [u8; 8] = [0xfe, 8, 0x9c, 0x40, 0xc0, 0, 2, 7];
        let stamps = [8, 10, 1, 2, 3, 4, 5, 6, 7, 8];
        let sack = |blocks: usize| [vec![5, u8::try_from(2 + 8 * blocks).unwrap()], vec![9; 8 * blocks]].concat();
        let nops = vec![1, 1];
        let cases = [
            ("as they are",                     [nops.clone(), stamps.to_vec()].concat(), 40, Some([nops.clone(), stamps.to_vec()].concat())),
            ("padding goes",                    [nops.clone(), sack(3), vec![1; 6]].concat(), 36, Some([sack(3), vec![0, 0]].concat())),
            ("another address goes",            [vec![254, 8, 1, 1, 1, 1, 1, 1], sack(3), nops.clone()].concat(), 40, Some([sack(3), vec![0, 0]].concat())),
            ("SACK goes",                       [sack(4), nops.clone()].concat(), 40, Some(vec![])),
            ("SACK goes, the timestamps stay",  [nops.clone(), stamps.to_vec(), sack(3)].concat()[..36].to_vec(), 40, Some([stamps.to_vec(), vec![0, 0]].concat())),
            ("room for it alone",               [nops.clone(), sack(1), nops.clone()].concat(), 8, Some(vec![])),
            ("no room",                         vec![], 7, None),
        ];
        for (name, old, room, want) in cases {
            let client = ("192.0.2.7".parse().unwrap(), 40000);
            let list = List::with_client(client, &old, room);
            let want = want.map(|rest| [&TOA, &rest[..]].concat());
            assert_eq!(list.map(|list| list.bytes().to_vec()), want, "{name}");
        }
    }

    proptest! {
        #[test]
        fn always_fits_or_is_none(old in proptest::collection::vec(0..12u8, 0..=10), room in 0..60usize) {
            let old = [old, vec![0; 40]].concat()[..40].to_vec();
            for client in ["192.0.2.7", "2001:db8::7"] {
                let client = (client.parse().unwrap(), 1);
                match List::with_client(client, &old, room) {
                    Some(list) => {
                        prop_assert!(list.bytes().len() <= room.min(40));
                        prop_assert!(list.bytes().len().is_multiple_of(4));
                        prop_assert!(list.bytes().starts_with(&[254]));
                    }
                    None => {
                        let stamps = Options::new(&old).filter(|option| option.kind == OptionKind::TIMESTAMPS);
                        let stamps: usize = stamps.map(|option| option.data.len() + 2).sum();
                        prop_assert!(room.min(40) < (len(client.0) + stamps).next_multiple_of(4));
                    }
                }
            }
        }
    }
}
