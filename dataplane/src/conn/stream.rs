//! The sequence numbers of a TCP connection whose real server is told who its client is.
//!
//! ```text
//!   the client's   ISN     | its own header, if any (removed) | data ..
//!   the real's     new ISN | our header (inserted)            | data ..
//! ```
//!
//! With TOA both parts in the middle are empty. Until the real server has acknowledged our header,
//! each segment is placed by where it begins; from then on all numbers differ by one amount, so
//! that a stream of any length passes. Only what the real server says ends the first stage, never
//! the client: it can't get around its header.
//!
//! It stands beside the table, on pages that the kernel gives when they are written first: who
//! tells nobody anything takes no memory.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use arch::{HugeSlice, PagesError};
use wire::Protocol;
use wire::proxy::{Ends, Header, Version};

use super::table::Slot;

/// How a real server that does not see its clients is told who they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub enum Telling {
    /// Not at all.
    #[default]
    None,
    /// By a TCP option.
    Toa,
    /// By a PROXY protocol header in front of the data.
    Proxy {
        /// In which format.
        version: Version,
        /// Whether one that the client sent itself is believed.
        insecure: bool,
    },
}

impl Telling {
    /// Whether connections of this IP protocol are told of so.
    pub fn applies(self, protocol: u8) -> bool {
        match (self, Protocol(protocol)) {
            (Self::Toa | Self::Proxy { .. }, Protocol::TCP) => true,
            (Self::Proxy { version, .. }, Protocol::UDP) => version == Version::V2,
            _ => false,
        }
    }

    fn number(self) -> u32 {
        match self {
            Self::None => 0,
            Self::Toa => 1,
            Self::Proxy { version, insecure } => {
                2 + u32::from(version == Version::V2) + 2 * u32::from(insecure)
            }
        }
    }

    fn numbered(number: u32) -> Self {
        let version = match number & 1 {
            0 => Version::V1,
            _ => Version::V2,
        };
        match number {
            0 => Self::None,
            1 => Self::Toa,
            _ => Self::Proxy {
                version,
                insecure: number >= 4,
            },
        }
    }
}

/// How far a stream has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
enum Stage {
    /// No SYN was seen: nothing is changed.
    #[default]
    New,
    /// The first data have not come yet, or there is nothing to put in front of them.
    Open,
    /// Our header is on its way.
    Told,
    /// The real server has it.
    Past,
}

const STAGES: [Stage; 4] = [Stage::New, Stage::Open, Stage::Told, Stage::Past];

/// Where a client's segment goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// The sequence number of what is left, with the header before it where there is one.
    pub seq: u32,
    /// Octets of its data that go: they were the client's own header.
    pub cut: usize,
    /// Whether our header goes in front of what is left.
    pub header: bool,
}

/// One connection's numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Stream {
    /// How the real server is told.
    pub telling: Telling,
    stage: Stage,
    /// The number of the client's first octet of data.
    first: u32,
    /// What the client's numbers are increased by up to there.
    shift: u32,
    /// Octets of our header.
    inserted: u16,
    /// Octets of the client's own, which ours replaces.
    removed: u16,
    /// The number of the real server's first octet of data, once it has answered.
    real_first: Option<u32>,
    /// Number of the first octet and shift of a later SYN, until it is answered.
    pending: Option<(u32, u32)>,
    /// What our header says; `None`: that nobody knows.
    ends: Option<Ends>,
}

impl Stream {
    /// A stream of which nothing was seen yet.
    pub fn new(telling: Telling) -> Self {
        Self {
            telling,
            ..Self::default()
        }
    }

    /// A client's SYN with this sequence number; gives the one that the real server sees.
    /// `fresh` makes a new one. A SYN that is not the first only counts once it is answered:
    /// whoever forges one changes nothing.
    pub fn syn(&mut self, isn: u32, fresh: impl FnOnce() -> u32) -> u32 {
        let first = isn.wrapping_add(1);
        if self.stage == Stage::New {
            self.stage = Stage::Open;
            self.first = first;
            self.shift = fresh().wrapping_sub(isn);
        }
        if first == self.first {
            return isn.wrapping_add(self.shift);
        }
        let seq = self.to_real(isn);
        self.pending = Some((first, seq.wrapping_sub(isn)));
        seq
    }

    /// The real server's SYN with this sequence number and acknowledgement.
    pub fn answered(&mut self, isn: u32, ack: u32) {
        if let Some((first, shift)) = self.pending
            && ack == first.wrapping_add(shift)
        {
            *self = Self {
                stage: Stage::Open,
                first,
                shift,
                ..Self::new(self.telling)
            };
        }
        if self.stage != Stage::New && ack == self.first.wrapping_add(self.shift) {
            self.real_first = Some(isn.wrapping_add(1));
        }
    }

    /// Whether a client's segment with this acknowledgement number says that it has nothing of
    /// the real server's yet but the SYN.
    pub fn is_before_data(&self, ack: u32) -> bool {
        self.real_first == Some(ack)
    }

    /// How many octets into a client's segment of `len` octets of data at `seq` the stream
    /// begins, if it does there and our header is not decided yet.
    pub fn begins_in(&self, seq: u32, len: usize) -> Option<usize> {
        let before = usize::try_from(-i64::from(self.offset(seq))).ok()?;
        let undecided = self.stage == Stage::Open && self.is_proxied();
        (undecided && before < len).then_some(before)
    }

    /// Decides our header: what it says, how long it is, and how many octets of the client's own
    /// it replaces. Nothing of either is a stream that passes as it is.
    pub fn tell(&mut self, ends: Option<Ends>, inserted: usize, removed: usize) {
        let (Ok(inserted), Ok(removed)) = (u16::try_from(inserted), u16::try_from(removed)) else {
            return;
        };
        (self.ends, self.inserted, self.removed) = (ends, inserted, removed);
        self.stage = match (inserted, removed) {
            (0, 0) => Stage::Past,
            _ => Stage::Told,
        };
    }

    /// Our header, once it is decided.
    pub fn header(&self) -> Header {
        match self.telling {
            Telling::Proxy { version, .. } => Header::new(version, Protocol::TCP, self.ends),
            Telling::None | Telling::Toa => Header::EMPTY,
        }
    }

    /// Octets that tell the real server, where they are still on their way.
    pub fn overhead(&self) -> u16 {
        match self.stage {
            Stage::Told => self.inserted,
            _ => 0,
        }
    }

    /// Whether a client's segment of `len` octets of data at `seq` overtook the first data, so that
    /// nobody knows where it goes: how long a header of the client's own is.
    pub fn overtakes_first(&self, seq: u32, len: usize, fin: bool) -> bool {
        let is_early = self.stage == Stage::Open && self.offset(seq) > 0;
        is_early && self.is_proxied() && (len > 0 || fin)
    }

    /// Where a client's segment of `len` octets of data at `seq` goes, unless it
    /// [overtook the first](Self::overtakes_first).
    pub fn place(&self, seq: u32, len: usize) -> Place {
        let plain = Place {
            seq: self.to_real(seq),
            cut: 0,
            header: false,
        };
        let offset = i64::from(self.offset(seq));
        let end = offset.saturating_add(i64::try_from(len).unwrap_or(i64::MAX));
        if self.stage != Stage::Told || len == 0 || end <= 0 {
            return plain;
        }
        let own = i64::from(self.removed);
        let header = offset <= 0;
        Place {
            seq: match header {
                true => self.first.wrapping_add(self.shift),
                false => plain.seq,
            },
            cut: usize::try_from(own - offset).unwrap_or(0).min(len),
            header,
        }
    }

    /// Where a client's number is in the numbers that the real server sees.
    pub fn to_real(&self, seq: u32) -> u32 {
        let moved = seq.wrapping_add(self.shift);
        let Ok(offset) = u32::try_from(self.offset(seq)) else {
            return match self.stage {
                Stage::Past => moved.wrapping_add(self.grown()),
                _ => moved,
            };
        };
        let removed = u32::from(self.removed);
        match self.stage {
            Stage::New | Stage::Open => moved,
            Stage::Told if offset == 0 => moved,
            // What was the client's own header is ours.
            Stage::Told if offset < removed => moved
                .wrapping_sub(offset)
                .wrapping_add(u32::from(self.inserted)),
            Stage::Told | Stage::Past => moved.wrapping_add(self.grown()),
        }
    }

    /// Where one of these is in the client's own numbers. Our header is none of its data: what
    /// lies in there is where they begin.
    pub fn to_client(&self, number: u32) -> u32 {
        let moved = number.wrapping_sub(self.shift);
        let offset = self.offset(moved);
        match self.stage {
            Stage::Past => moved.wrapping_sub(self.grown()),
            Stage::Told if offset > 0 && offset < i32::from(self.inserted) => self.first,
            Stage::Told if offset > 0 => moved.wrapping_sub(self.grown()),
            _ => moved,
        }
    }

    /// Whether this acknowledgement of the real server's is the first that has all of our header.
    pub fn has_header(&self, ack: u32) -> bool {
        let offset = self.offset(ack.wrapping_sub(self.shift));
        self.stage == Stage::Told && offset >= i32::from(self.inserted)
    }

    /// The real server has our header.
    pub fn pass(&mut self) {
        self.stage = Stage::Past;
    }

    /// How much longer our header is than the client's own, modulo 2^32.
    fn grown(&self) -> u32 {
        u32::from(self.inserted).wrapping_sub(self.removed.into())
    }

    fn is_proxied(&self) -> bool {
        matches!(self.telling, Telling::Proxy { .. })
    }

    /// How far a client's number is from its first data.
    fn offset(&self, seq: u32) -> i32 {
        seq.wrapping_sub(self.first).cast_signed()
    }
}

/// One stream as it is kept: a line.
type Record = [u32; 16];

const STAGE: u32 = 8;
const ANSWERED: u32 = 1 << 16;
const PENDING: u32 = 1 << 17;
const ENDS_V4: u32 = 1 << 18;
const ENDS_V6: u32 = 1 << 19;

impl From<&Stream> for Record {
    fn from(stream: &Stream) -> Self {
        let mut bits = stream.telling.number() | (stream.stage as u32) << STAGE;
        let mut record = [0; 16];
        if let Some(first) = stream.real_first {
            bits |= ANSWERED;
            record[3] = first;
        }
        if let Some((first, shift)) = stream.pending {
            bits |= PENDING;
            (record[4], record[5]) = (first, shift);
        }
        if let Some(ends) = stream.ends {
            let (source, destination) = (ends.source, ends.destination);
            bits |= match source.0 {
                IpAddr::V4(_) => ENDS_V4,
                IpAddr::V6(_) => ENDS_V6,
            };
            record[7..11].copy_from_slice(&words(source.0));
            record[11..15].copy_from_slice(&words(destination.0));
            record[15] = u32::from(source.1) << 16 | u32::from(destination.1);
        }
        (record[0], record[1], record[2]) = (bits, stream.first, stream.shift);
        record[6] = u32::from(stream.inserted) << 16 | u32::from(stream.removed);
        record
    }
}

impl From<&Record> for Stream {
    fn from(record: &Record) -> Self {
        let bits = record[0];
        let has = |bit: u32| bits & bit != 0;
        let [inserted, removed] = halves(record[6]);
        let address = |at: usize| address(has(ENDS_V6), &record[at..at + 4]);
        let ends = || {
            let [source, destination] = halves(record[15]);
            Ends {
                source: (address(7), source),
                destination: (address(11), destination),
            }
        };
        Self {
            telling: Telling::numbered(bits & 7),
            stage: STAGES[(bits >> STAGE & 3) as usize],
            first: record[1],
            shift: record[2],
            inserted,
            removed,
            real_first: has(ANSWERED).then_some(record[3]),
            pending: has(PENDING).then_some((record[4], record[5])),
            ends: has(ENDS_V4 | ENDS_V6).then(ends),
        }
    }
}

#[expect(clippy::cast_possible_truncation, reason = "each half is one of them")]
fn halves(word: u32) -> [u16; 2] {
    [(word >> 16) as u16, word as u16]
}

fn words(address: IpAddr) -> [u32; 4] {
    let bits = match address {
        IpAddr::V4(v4) => u128::from(v4.to_bits()),
        IpAddr::V6(v6) => v6.to_bits(),
    };
    #[expect(clippy::cast_possible_truncation, reason = "a word of four")]
    [96, 64, 32, 0].map(|shift| (bits >> shift) as u32)
}

fn address(v6: bool, words: &[u32]) -> IpAddr {
    let bits = words
        .iter()
        .fold(0u128, |bits, &word| bits << 32 | u128::from(word));
    #[expect(clippy::cast_possible_truncation, reason = "the rest is 0")]
    if v6 {
        Ipv6Addr::from_bits(bits).into()
    } else {
        Ipv4Addr::from_bits(bits as u32).into()
    }
}

/// The streams of a table's connections, by their slots.
#[derive(Debug)]
pub struct Streams(HugeSlice<Record>);

impl Streams {
    /// Room for so many.
    ///
    /// # Errors
    /// As for [`HugeSlice::zeroed`].
    pub fn new(capacity: usize) -> Result<Self, PagesError> {
        HugeSlice::zeroed(capacity).map(Self)
    }

    /// The stream of the connection in `slot`: of one that is told of nothing, [`Telling::None`].
    pub fn get(&self, Slot(slot): Slot) -> Stream {
        let record = self.0.get(slot as usize);
        record.map(Stream::from).unwrap_or_default()
    }

    /// Keeps how the stream is now.
    pub fn put(&mut self, Slot(slot): Slot, stream: &Stream) {
        if let Some(record) = self.0.get_mut(slot as usize) {
            *record = stream.into();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const V2: Telling = Telling::Proxy {
        version: Version::V2,
        insecure: false,
    };
    const ISN: u32 = u32::MAX - 9;
    const FIRST: u32 = ISN.wrapping_add(1);
    /// The number of the first octet as the real server sees it.
    const SEEN: u32 = 1001;

    fn open(telling: Telling) -> Stream {
        let mut stream = Stream::new(telling);
        assert_eq!(stream.syn(ISN, || 1000), 1000);
        stream.answered(5000, SEEN);
        stream
    }

    fn told(inserted: usize, removed: usize) -> Stream {
        let mut stream = open(V2);
        stream.tell(None, inserted, removed);
        stream
    }

    #[test]
    fn a_syn_counts_once_it_is_answered() {
        let mut stream = open(V2);
        assert_eq!(stream.syn(ISN, || 7), 1000, "repeated");
        let before = stream;
        let seq = stream.syn(70_000, || 7);
        assert_eq!(stream.to_real(FIRST), before.to_real(FIRST), "forged");
        stream.answered(9000, SEEN);
        assert!(stream.is_before_data(9001), "the first one's answer again");
        stream.answered(9500, seq.wrapping_add(1));
        assert!(stream.is_before_data(9501));
        assert_eq!(stream.to_real(70_001), seq.wrapping_add(1));
        assert_eq!(
            stream.begins_in(70_001, 5),
            Some(0),
            "a header is due again"
        );
    }

    #[test]
    #[rustfmt::skip]
    fn segments_have_their_places() {
        let place = |seq, cut, header| Place { seq, cut, header };
        let cases = [
            // name, inserted, removed; offset, octets; where
            ("a handshake's ACK",           28, 0,  0,   0, place(SEEN, 0, false)),
            ("a probe",                     28, 0,  -1,  1, place(SEEN - 1, 0, false)),
            ("the first data",              28, 0,  0, 100, place(SEEN, 0, true)),
            ("a part of them",              28, 0,  0,   1, place(SEEN, 0, true)),
            ("from before the first data",  28, 0,  -5, 10, place(SEEN, 5, true)),
            ("the second segment",          28, 0, 100, 50, place(SEEN + 128, 0, false)),
            ("an ACK after it",             28, 0, 150,  0, place(SEEN + 178, 0, false)),
            ("one's own header goes",       28, 40, 0, 100, place(SEEN, 40, true)),
            ("nothing is left of it",       28, 40, 0,  40, place(SEEN, 40, true)),
            ("a part of it",                28, 40, 0,  10, place(SEEN, 10, true)),
            ("another part",                28, 40, 10, 40, place(SEEN + 28, 30, false)),
            ("what follows",                28, 40, 50, 10, place(SEEN + 38, 0, false)),
        ];
        for (name, inserted, removed, offset, len, want) in cases {
            let stream = told(inserted, removed);
            let seq = FIRST.wrapping_add_signed(offset);
            assert!(!stream.overtakes_first(seq, len, true), "{name}");
            assert_eq!(stream.place(seq, len), want, "{name}");
        }
    }

    #[test]
    #[rustfmt::skip]
    fn nobody_knows_the_place_of_what_overtakes_the_first_data() {
        let cases = [
            ("data",                V2, 1, 1, false, true),
            ("a FIN",               V2, 1, 0, true,  true),
            ("an ACK",              V2, 1, 0, false, false),
            ("the first data",      V2, 0, 1, false, false),
            ("a FIN without data",  V2, 0, 0, true,  false),
            ("data by TOA", Telling::Toa, 1, 1, false, false),
        ];
        for (name, telling, offset, len, fin, want) in cases {
            let seq = FIRST.wrapping_add(offset);
            assert_eq!(open(telling).overtakes_first(seq, len, fin), want, "{name}");
        }
    }

    #[test]
    fn acknowledgements_never_end_in_a_header() {
        let stream = told(28, 40);
        let cases = [(0, 0), (1, 0), (27, 0), (28, 40), (29, 41), (1028, 1040)];
        for (seen, want) in cases {
            let client = stream.to_client(SEEN + seen).wrapping_sub(FIRST);
            assert_eq!(client, want, "{seen}");
        }
        assert!(!stream.has_header(SEEN + 27) && stream.has_header(SEEN + 28));
    }

    #[test]
    fn a_long_stream_comes_round() {
        let mut stream = told(28, 0);
        stream.pass();
        let again = stream.place(FIRST, 100);
        assert_eq!((again.seq, again.header), (SEEN + 28, false));
        assert_eq!(stream.to_client(SEEN + 28), FIRST);
        assert_eq!(stream.begins_in(FIRST, 100), None);
    }

    fn ends() -> impl Strategy<Value = Option<Ends>> {
        let v4 =
            any::<[u32; 2]>().prop_map(|pair| pair.map(|bits| IpAddr::from(Ipv4Addr::from(bits))));
        let v6 =
            any::<[u128; 2]>().prop_map(|pair| pair.map(|bits| IpAddr::from(Ipv6Addr::from(bits))));
        let ends = (prop_oneof![v4, v6], any::<[u16; 2]>()).prop_map(|(addresses, ports)| Ends {
            source: (addresses[0], ports[0]),
            destination: (addresses[1], ports[1]),
        });
        proptest::option::of(ends)
    }

    proptest! {
        #[test]
        fn what_is_kept_is_what_was(
            number in 0..6u32, stage in 0..4usize, numbers in any::<[u32; 2]>(), sizes in any::<[u16; 2]>(),
            real_first in any::<Option<u32>>(), pending in any::<Option<(u32, u32)>>(), ends in ends(),
        ) {
            let stream = Stream {
                telling: Telling::numbered(number),
                stage: STAGES[stage],
                first: numbers[0],
                shift: numbers[1],
                inserted: sizes[0],
                removed: sizes[1],
                real_first,
                pending,
                ends,
            };
            let mut streams = Streams::new(2).expect("a page");
            streams.put(Slot(1), &stream);
            prop_assert_eq!(streams.get(Slot(1)), stream);
            prop_assert_eq!(streams.get(Slot(0)), Stream::default());
            prop_assert_eq!(streams.get(Slot(2)), Stream::default());
        }

        #[test]
        fn there_and_back(inserted in 1..200usize, removed in 0..200usize, offset in 0..1u32 << 30, past in any::<bool>()) {
            let mut stream = told(inserted, removed);
            if past {
                stream.pass();
            }
            let seq = FIRST.wrapping_add(offset);
            prop_assume!(offset == 0 || offset >= u32::try_from(removed).unwrap());
            prop_assert_eq!(stream.to_client(stream.to_real(seq)), seq);
        }
    }
}
