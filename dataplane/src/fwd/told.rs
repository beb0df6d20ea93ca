//! The client's address for a real server that does not see it: what is put into a packet, and the
//! numbers that change because of it.
//!
//! TOA, on what follows the handshake until the client has data of the real server's
//! in   [ .. | TCP, seq n    | options              | data ]
//! out  [ .. | TCP, seq n+d  | 254 client, options  | data ]   lengths and checksums computed
//!
//! PROXY protocol, in the segment that begins the stream
//! in   [ .. | TCP, seq n    | options |            data ]
//! out  [ .. | TCP, seq n+d  | options | header     data ]     the same
//!
//! back
//! in   [ .. | TCP, ack n+d  | SACK edges + d | data ]
//! out  [ .. | TCP, ack n    | SACK edges     | data ]         checksum patched
//!
//! Numbers are patched in any packet; only where octets come in or go the checksum is computed, and
//! only if the old one was right, so that no damage is made good on the way. All this is done to a
//! packet as the client, or the real server, sent it: before the addresses are rewritten.

use std::net::IpAddr;

use wire::ethernet;
use wire::proxy::Header;
use wire::resize::{Layout, settle};
use wire::tcp::{self, OptionKind};
use wire::toa;
use wire::{Protocol, ipv4, ipv6, udp};

use crate::conn::stream::Stream;
use crate::port::Frame;

/// Options of a SYN that a real server is not to agree to: timestamps, since those of different
/// clients behind one local address have nothing to do with each other (reference C.3); data in a
/// SYN, which would come before the client's address; a numbering of data beside TCP's own; and an
/// address that the client says it has.
const KEPT_BACK: [OptionKind; 4] = [
    OptionKind::TOA,
    OptionKind::TIMESTAMPS,
    OptionKind::FAST_OPEN,
    OptionKind::MULTIPATH,
];

/// What is seen of a TCP or UDP packet, or of a first fragment.
#[derive(Clone, Copy, Debug)]
pub struct Seen {
    layout: Layout,
    /// Sequence number; as all that follows 0 in UDP.
    pub seq: u32,
    /// Acknowledgement number.
    pub ack: u32,
    /// The control bits.
    pub flags: tcp::Flags,
}

impl Seen {
    /// The packet in `frame`; `None` where there is no whole transport header.
    pub fn of(frame: &[u8]) -> Option<Self> {
        let packet = frame.get(ethernet::LEN..)?;
        let layout = Layout::of(packet)?;
        let none = Self {
            layout,
            seq: 0,
            ack: 0,
            flags: tcp::Flags::default(),
        };
        if layout.protocol != Protocol::TCP {
            return Some(none);
        }
        let tcp = tcp::Packet::parse(packet.get(layout.transport..layout.end)?).ok()?;
        Some(Self {
            seq: tcp.seq(),
            ack: tcp.ack(),
            flags: tcp.flags(),
            ..none
        })
    }

    /// Whether it is no fragment.
    pub fn is_whole(&self) -> bool {
        self.layout.whole
    }

    /// Whether it is a whole packet whose checksum is right: only such a one is believed.
    pub fn is_intact(&self, frame: &[u8]) -> bool {
        let packet = frame.get(ethernet::LEN..);
        self.layout.whole && packet.is_some_and(|packet| self.layout.is_intact(packet))
    }

    /// Octets of data in it.
    pub fn data_len(&self) -> usize {
        self.layout.end - self.layout.data
    }

    /// Its data.
    pub fn data<'a>(&self, frame: &'a [u8]) -> &'a [u8] {
        let range = ethernet::LEN + self.layout.data..ethernet::LEN + self.layout.end;
        frame.get(range).unwrap_or_default()
    }

    /// Octets of the packet.
    pub fn total_len(&self) -> usize {
        self.layout.end
    }

    fn segment<'a>(&self, frame: &'a mut [u8]) -> Option<tcp::Packet<&'a mut [u8]>> {
        let range = ethernet::LEN + self.layout.transport..ethernet::LEN + self.layout.end;
        tcp::Packet::parse(frame.get_mut(range)?).ok()
    }
}

/// Gives a segment another sequence number.
pub fn renumber<F: Frame>(frame: &mut F, seen: &Seen, seq: u32) {
    if let Some(mut tcp) = seen.segment(frame.bytes_mut()) {
        let owed = tcp.set_seq(seq);
        tcp.settle(owed);
    }
}

/// Takes away the address that a client says it has, from a segment that ours does not precede.
pub fn forget_option<F: Frame>(frame: &mut F, seen: &Seen) {
    if let Some(mut tcp) = seen.segment(frame.bytes_mut()) {
        let owed = tcp.blank(&[OptionKind::TOA]);
        tcp.settle(owed);
    }
}

/// Gives an intact SYN of the client's another sequence number, and takes from it what the real
/// server is not to agree to, data too: they are sent again.
pub fn syn<F: Frame>(frame: &mut F, seen: &Seen, seq: u32) {
    let Some(mut tcp) = seen.segment(frame.bytes_mut()) else {
        return;
    };
    let owed = tcp.set_seq(seq).and(tcp.blank(&KEPT_BACK));
    tcp.settle(owed);
    if seen.data_len() > 0 {
        exchange(frame, seen, Part::Data(seen.data_len()), &[]);
    }
}

/// Puts the client's address among the options of an intact segment and gives that another
/// sequence number. `false`, and no change, where it finds no room in the header, the frame, or a
/// packet of `most` octets.
pub fn option<F: Frame>(
    frame: &mut F,
    seen: &Seen,
    seq: u32,
    client: (IpAddr, u16),
    most: usize,
) -> bool {
    let Some(tcp) = seen.segment(frame.bytes_mut()) else {
        return false;
    };
    let old = tcp.options_bytes();
    let rest = seen.total_len() - old.len();
    let Some(room) = most.checked_sub(rest) else {
        return false;
    };
    let Some(options) = toa::List::with_client(client, old, room) else {
        return false;
    };
    let part = Part::Options(old.len());
    renumbered(frame, seen, seq, |frame| {
        exchange(frame, seen, part, options.bytes())
    })
}

/// Puts a header in the place of the first `cut` octets of data of an intact packet, and gives a
/// segment another sequence number. `false`, and no change, where the frame has no room.
pub fn header<F: Frame>(frame: &mut F, seen: &Seen, seq: u32, cut: usize, header: &[u8]) -> bool {
    renumbered(frame, seen, seq, |frame| {
        exchange(frame, seen, Part::Data(cut), header)
    })
}

/// Takes the first `cut` octets of data from a packet whose header goes in another; `false` where
/// they can't be: in a fragment.
pub fn header_gone<F: Frame>(frame: &mut F, seen: &Seen, cut: usize) -> bool {
    cut == 0 || seen.is_whole() && exchange(frame, seen, Part::Data(cut), &[])
}

/// A change that computes the checksum, after another sequence number was written.
fn renumbered<F: Frame>(
    frame: &mut F,
    seen: &Seen,
    seq: u32,
    change: impl FnOnce(&mut F) -> bool,
) -> bool {
    if seen.layout.protocol != Protocol::TCP {
        return change(frame);
    }
    renumber(frame, seen, seq);
    let done = change(frame);
    if !done {
        renumber(frame, seen, seen.seq);
    }
    done
}

/// So many octets of a packet.
#[derive(Clone, Copy)]
enum Part {
    /// TCP's options, all of them.
    Options(usize),
    /// Of data, from the first on.
    Data(usize),
}

/// Puts `new` in the place of `part` and has the headers say so. The front of the frame moves.
/// `false`, and no change, without room for it.
fn exchange<F: Frame>(frame: &mut F, seen: &Seen, part: Part, new: &[u8]) -> bool {
    let Layout { data, end, .. } = seen.layout;
    let (at, old) = match part {
        Part::Options(old) => (seen.layout.transport + tcp::LEN, old),
        Part::Data(old) => (data, old),
    };
    if at + old > end || end - old + new.len() > usize::from(u16::MAX) {
        return false;
    }
    frame.truncate(ethernet::LEN + end);
    let front = ethernet::LEN + at;
    if let Some(more) = new.len().checked_sub(old) {
        if !frame.prepend(more) {
            return false;
        }
        frame.bytes_mut().copy_within(more..more + front, 0);
    } else {
        let less = old - new.len();
        frame.bytes_mut().copy_within(..front, less);
        frame.trim_front(less);
    }
    let Some(packet) = frame.bytes_mut().get_mut(ethernet::LEN..) else {
        return false;
    };
    if let Some(room) = packet.get_mut(at..at + new.len()) {
        room.copy_from_slice(new);
    }
    let grown = |place: usize| place - old + new.len();
    let layout = Layout {
        data: match part {
            Part::Options(_) => grown(data),
            Part::Data(_) => data,
        },
        end: grown(end),
        ..seen.layout
    };
    settle(packet, &layout).is_some()
}

/// Moves the urgent pointer with the data that it points into: it counts from the sequence number
/// on, in front of which a header came and `cut` octets went.
pub fn point<F: Frame>(frame: &mut F, header: usize, cut: usize) {
    let Some(seen) = Seen::of(frame.bytes()) else {
        return;
    };
    if !seen.flags.contains(tcp::Flags::URG) {
        return;
    }
    if let Some(mut tcp) = seen.segment(frame.bytes_mut()) {
        let moved = (usize::from(tcp.urgent()) + header).saturating_sub(cut);
        let owed = tcp.set_urgent(u16::try_from(moved).unwrap_or(u16::MAX));
        tcp.settle(owed);
    }
}

/// Puts the numbers of a real server's segment back to the client's own; offers the client an MSS
/// that is smaller by `less`, if the segment offers one.
pub fn to_client<F: Frame>(frame: &mut F, seen: &Seen, stream: &Stream, less: u16) {
    let Some(mut tcp) = seen.segment(frame.bytes_mut()) else {
        return;
    };
    let mut owed = tcp.map_sack(|edge| stream.to_client(edge));
    if seen.flags.ack() {
        owed = owed.and(tcp.set_ack(stream.to_client(seen.ack)));
    }
    if seen.flags.syn()
        && less > 0
        && let Some(mss) = tcp.mss()
    {
        owed = owed.and(tcp.clamp_mss(mss.saturating_sub(less).max(LEAST_MSS.min(mss))));
    }
    tcp.settle(owed);
}

/// What an MSS is not lowered below: what every host takes is a header less than 576 octets, and
/// nobody means less (Linux believes no less either).
const LEAST_MSS: u16 = 48;

/// Writes a packet of `header` alone, which goes before the rewritten one in `frame`, into the empty
/// frame `made`. `false`, if that has no room.
pub fn ahead<F: Frame>(frame: &F, header: &Header, made: &mut F) -> bool {
    write_ahead(frame.bytes(), header.bytes(), made).is_some()
}

fn write_ahead<F: Frame>(frame: &[u8], header: &[u8], made: &mut F) -> Option<()> {
    let (envelope, packet) = frame.split_first_chunk::<{ ethernet::LEN }>()?;
    let layout = Layout::of(packet)?;
    let transport = match layout.protocol {
        Protocol::TCP => tcp::LEN,
        _ => udp::LEN,
    };
    let ip = match layout.src {
        IpAddr::V4(_) => ipv4::LEN,
        IpAddr::V6(_) => ipv6::LEN,
    };
    let data = ip + transport;
    let end = data + header.len();
    made.append(ethernet::LEN + end).then_some(())?;
    let (to, made) = made.bytes_mut().split_first_chunk_mut()?;
    *to = *envelope;
    made.get_mut(..ip)?.copy_from_slice(packet.get(..ip)?);
    match layout.src {
        IpAddr::V4(_) => {
            // Version and length, no fragment and not to be one: no identification is needed
            // (RFC 6864 section 4.1).
            let head = made.first_chunk_mut::<{ ipv4::LEN }>()?;
            head[0] = 0x45;
            head[4..8].copy_from_slice(&[0, 0, 0x40, 0]);
            // What is computed later patches this.
            head[2..4].copy_from_slice(&u16::try_from(end).ok()?.to_be_bytes());
            ipv4::Packet::parse(&mut made[..end]).ok()?.fill_checksum();
        }
        IpAddr::V6(_) => made.get_mut(6..7)?.copy_from_slice(&[layout.protocol.0]),
    }
    let head = packet.get(layout.transport..layout.transport + transport)?;
    made.get_mut(ip..data)?.copy_from_slice(head);
    made.get_mut(data..end)?.copy_from_slice(header);
    if layout.protocol == Protocol::TCP {
        // In the order of the stream; the data's own bits stay with them.
        let seq = u32::from_be_bytes(*head.get(4..8)?.first_chunk()?);
        let seq = seq.wrapping_sub(u32::try_from(header.len()).ok()?);
        made.get_mut(ip + 4..ip + 8)?
            .copy_from_slice(&seq.to_be_bytes());
        made.get_mut(ip + 13..ip + 14)?
            .copy_from_slice(&[tcp::Flags::ACK.0]);
        made.get_mut(ip + 18..ip + 20)?.copy_from_slice(&[0, 0]);
    }
    let layout = Layout {
        transport: ip,
        data,
        end,
        whole: true,
        ..layout
    };
    settle(made, &layout)
}
