//! One fragment's place in its packet, and the places that are taken.

use arrayvec::ArrayVec;
use wire::Protocol;

use crate::verdict::Reason;

/// Fragments that a packet may come in: one of 65535 octets over links of 1280 comes in 54.
pub const MAX_PIECES: usize = 64;

/// What the headers of a fragment say. Every number is in octets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Extent {
    /// What the length of the whole packet counts beside the fragments' data. IPv4: the header.
    /// IPv6: the extension headers up to and with the fragment header, less its 8.
    pub headers: usize,
    /// Where the fragment's data stand in those of the packet.
    pub offset: usize,
    /// How long they are.
    pub length: usize,
    /// Of these, in a first fragment: what precedes the transport header (IPv6 extension
    /// headers). 0 elsewhere.
    pub extensions: usize,
    /// Whether more fragments follow.
    pub more: bool,
}

/// The place of a fragment that is sound by itself.
///
/// A packet that is whole (offset 0, nothing follows) has none: an IPv6 one with a fragment
/// header all the same is never set against others (RFC 6946 §4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece {
    start: u16,
    end: u16,
    more: bool,
}

impl Piece {
    /// Takes what the headers say, for a packet that carries `protocol` (IPv6: the fragment
    /// header's next header in a later fragment, what the chain ends with in a first).
    ///
    /// # Errors
    /// [`Reason::FragmentLength`] and [`Reason::FragmentTiny`].
    pub fn new(protocol: Protocol, extent: &Extent) -> Result<Self, Reason> {
        let end = extent.offset + extent.length;
        if extent.length == 0
            || !extent.offset.is_multiple_of(8)
            || extent.more && !extent.length.is_multiple_of(8)
            || extent.headers + end > usize::from(u16::MAX)
        {
            return Err(Reason::FragmentLength);
        }
        // RFC 1858 §3, RFC 3128: the whole header in the first fragment, nothing of it in others.
        let reach = match extent.offset {
            0 => extent.length.saturating_sub(extent.extensions),
            later => later,
        };
        if reach < header(protocol) {
            return Err(Reason::FragmentTiny);
        }
        let octets = |n| u16::try_from(n).map_err(|_| Reason::FragmentLength);
        Ok(Self {
            start: octets(extent.offset)?,
            end: octets(end)?,
            more: extent.more,
        })
    }

    /// Whether it is the first one, which carries the ports.
    pub fn is_first(self) -> bool {
        self.start == 0
    }
}

/// Octets of the shortest header of `protocol`.
fn header(protocol: Protocol) -> usize {
    match protocol {
        Protocol::TCP => 20,
        Protocol::SCTP => 12,
        Protocol::UDP | Protocol::ICMP | Protocol::ICMPV6 => 8,
        _ => 0,
    }
}

/// How a piece stands to those that came before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fit {
    /// Its place was empty; now it is taken.
    New,
    /// The very same place was taken.
    Duplicate,
    /// It overlaps another, or they disagree about where the packet ends.
    Contradiction,
    /// More than [`MAX_PIECES`].
    TooMany,
}

/// The places of one packet that are taken, in ascending order.
#[derive(Clone, Debug, Default)]
pub(super) struct Pieces {
    taken: ArrayVec<(u16, u16), MAX_PIECES>,
    /// The packet's end, once the last piece came.
    end: Option<u16>,
    octets: u16,
}

impl Pieces {
    /// Forgets all.
    pub(super) fn clear(&mut self) {
        self.taken.clear();
        self.end = None;
        self.octets = 0;
    }

    /// Adds `piece`.
    pub(super) fn add(&mut self, piece: Piece) -> Fit {
        let at = self
            .taken
            .partition_point(|&(start, _)| start < piece.start);
        if self.taken.get(at) == Some(&(piece.start, piece.end)) {
            let is_last = self.end == Some(piece.end);
            return if is_last == piece.more {
                Fit::Contradiction
            } else {
                Fit::Duplicate
            };
        }
        if self.contradicts(at, piece) {
            return Fit::Contradiction;
        }
        if self.taken.try_insert(at, (piece.start, piece.end)).is_err() {
            return Fit::TooMany;
        }
        if !piece.more {
            self.end = Some(piece.end);
        }
        self.octets += piece.end - piece.start;
        Fit::New
    }

    /// Whether `piece`, which belongs before place `at`, overlaps its neighbours or the end.
    fn contradicts(&self, at: usize, piece: Piece) -> bool {
        let before = at.checked_sub(1).map(|before| self.taken[before]);
        let after = self.taken.get(at);
        before.is_some_and(|(_, end)| end > piece.start)
            || after.is_some_and(|&(start, _)| start < piece.end)
            || !piece.more && (after.is_some() || self.end.is_some())
            || piece.more && self.end.is_some_and(|end| piece.end >= end)
    }

    /// Whether nothing is missing.
    pub(super) fn is_complete(&self) -> bool {
        self.end == Some(self.octets)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn extent(offset: usize, length: usize, more: bool) -> Extent {
        Extent {
            headers: 20,
            offset,
            length,
            more,
            ..Extent::default()
        }
    }

    #[test]
    #[rustfmt::skip]
    fn sound_by_itself() {
        use Protocol as P;
        let extended = |length| Extent { extensions: 16, ..extent(0, length, true) };
        let cases = [
            ("a first one",                       P::UDP, extent(0, 1480, true),         Ok(())),
            ("a last one of odd length",          P::UDP, extent(1480, 1, false),        Ok(())),
            ("empty",                             P::UDP, extent(1480, 0, false),        Err(Reason::FragmentLength)),
            ("odd, and not the last",             P::UDP, extent(0, 1481, true),         Err(Reason::FragmentLength)),
            ("an odd place",                      P::UDP, extent(4, 8, true),            Err(Reason::FragmentLength)),
            ("up to 65535",                       P::UDP, extent(65_512, 3, false),      Ok(())),
            ("past 65535",                        P::UDP, extent(65_512, 4, false),      Err(Reason::FragmentLength)),
            ("the ping of death",                 P::ICMP, extent(65_528, 1472, false),  Err(Reason::FragmentLength)),
            ("TCP: 16 octets of 20",              P::TCP, extent(0, 16, true),           Err(Reason::FragmentTiny)),
            ("TCP: 24 octets of 20",              P::TCP, extent(0, 24, true),           Ok(())),
            ("TCP: flags in the second",          P::TCP, extent(8, 16, true),           Err(Reason::FragmentTiny)),
            ("TCP: the urgent pointer, too",      P::TCP, extent(16, 16, true),          Err(Reason::FragmentTiny)),
            ("TCP: options may be",               P::TCP, extent(24, 16, true),          Ok(())),
            ("UDP: a header and no more",         P::UDP, extent(0, 8, true),            Ok(())),
            ("SCTP: 8 octets of 12",              P::SCTP, extent(0, 8, true),           Err(Reason::FragmentTiny)),
            ("IPv6: extensions are no header",    P::UDP, extended(16),                  Err(Reason::FragmentTiny)),
            ("IPv6: extensions and a header",     P::UDP, extended(24),                  Ok(())),
        ];
        for (name, protocol, extent, want) in cases {
            assert_eq!(Piece::new(protocol, &extent).map(|_| ()), want, "{name}");
        }
    }

    fn piece(start: u16, end: u16, more: bool) -> Piece {
        Piece { start, end, more }
    }

    #[test]
    #[rustfmt::skip]
    fn against_the_others() {
        let middle = (piece(16, 32, true), "a middle one is there");
        let last = (piece(64, 70, false), "the last is there");
        let cases = [
            (middle, piece(32, 48, true),  Fit::New),
            (middle, piece(0, 16, true),   Fit::New),
            (middle, piece(40, 44, false), Fit::New),
            (middle, piece(16, 32, true),  Fit::Duplicate),
            (middle, piece(16, 32, false), Fit::Contradiction),
            (middle, piece(16, 24, true),  Fit::Contradiction),
            (middle, piece(24, 32, true),  Fit::Contradiction),
            (middle, piece(8, 24, true),   Fit::Contradiction),
            (middle, piece(24, 40, true),  Fit::Contradiction),
            (middle, piece(8, 40, true),   Fit::Contradiction),
            (middle, piece(0, 8, false),   Fit::Contradiction),
            (last,   piece(64, 70, false), Fit::Duplicate),
            (last,   piece(56, 64, true),  Fit::New),
            (last,   piece(72, 80, true),  Fit::Contradiction),
            (last,   piece(72, 80, false), Fit::Contradiction),
            (last,   piece(0, 64, false),  Fit::Contradiction),
        ];
        for ((first, name), second, want) in cases {
            let mut pieces = Pieces::default();
            assert_eq!(pieces.add(first), Fit::New);
            assert_eq!(pieces.add(second), want, "{name}, then {second:?}");
        }
    }

    #[test]
    fn so_many_and_no_more() {
        let mut pieces = Pieces::default();
        for n in 0..64u16 {
            assert_eq!(pieces.add(piece(16 * n, 16 * n + 8, true)), Fit::New);
        }
        assert_eq!(pieces.add(piece(2000, 2008, true)), Fit::TooMany);
        assert_eq!(pieces.add(piece(0, 8, true)), Fit::Duplicate);
    }

    proptest! {
        /// Against one bit for every octet.
        #[test]
        fn agrees_with_a_map_of_octets(
            steps in prop::collection::vec((0u16..20, 1u16..6, prop::bool::weighted(0.8)), 1..30)
        ) {
            let (mut pieces, mut map, mut end) = (Pieces::default(), [false; 256], None);
            let mut seen = Vec::new();
            for (start, length, more) in steps {
                let step = piece(8 * start, 8 * (start + length), more);
                let range = usize::from(step.start)..usize::from(step.end);
                let free = map[range.clone()].iter().all(|taken| !taken);
                let beyond = map[range.end..].iter().any(|&taken| taken);
                let within = match end {
                    None => more || !beyond,
                    Some(end) => more && range.end < end,
                };
                let want = if seen.contains(&step) {
                    Fit::Duplicate
                } else if free && within {
                    Fit::New
                } else {
                    Fit::Contradiction
                };
                prop_assert_eq!(pieces.add(step), want);
                if want == Fit::New {
                    seen.push(step);
                    map[range.clone()].fill(true);
                    if !more {
                        end = Some(range.end);
                    }
                }
                let complete = end.is_some_and(|end| map[..end].iter().all(|&taken| taken));
                prop_assert_eq!(pieces.is_complete(), complete);
            }
        }
    }
}
