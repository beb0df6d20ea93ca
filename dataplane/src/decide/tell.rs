//! A packet of a connection whose real server is told who the client is ([`crate::fwd::told`]).
//!
//! Only those come here: they are marked ([`Flags::TOLD`]), and the common way leaves them.

use std::net::IpAddr;

use wire::proxy::{Ends, Found, Header, Version};
use wire::{Protocol, toa};

use super::{Aside, Context, Refusal, Way};
use crate::conn::stream::{Stream, Telling};
use crate::conn::{Entry, Flags, Side, Slot};
use crate::fwd::told::{self, Seen};
use crate::fwd::{Family, icmp};
use crate::parse::Packet;
use crate::port::Frame;
use crate::state::Stored;
use crate::verdict::Reason;

/// What a packet tells its real server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tell {
    /// Nothing.
    Nothing,
    /// What the stream of the connection in this slot has to.
    Stream(Slot),
    /// Who its client is, as a datagram that is its only connection.
    Datagram(Telling),
}

impl Context<'_> {
    /// Has the real server be told of a new connection, if its service asks for that, whatever
    /// packet opens it: a client can't get around it by one that is no SYN.
    pub(super) fn begin_telling<A: Stored>(&mut self, slot: Slot, protocol: u8, telling: Telling) {
        if telling.applies(protocol) {
            let table = A::table(self.state);
            table.streams.put(slot, &Stream::new(telling));
            table.entry_mut(slot).flags.put(Flags::TOLD, true);
        }
    }

    /// Refuses a client's segment of which nobody knows where it goes, before it moves the
    /// connection: the real server will not have it.
    #[cold]
    #[inline(never)]
    pub(super) fn told_where<A: Stored>(
        &mut self,
        frame: &[u8],
        packet: &Packet<A>,
        slot: Slot,
    ) -> Result<(), Refusal> {
        if packet.later || packet.key.protocol != Protocol::TCP.0 {
            return Ok(());
        }
        let seen = Seen::of(frame).ok_or(Reason::ShortTransport)?;
        let stream = A::table(self.state).streams.get(slot);
        // A SYN begins the numbers, by its checksum, which one in fragments hides.
        let begins = seen.flags.syn() && !seen.flags.ack();
        let nowhere = match begins {
            true => !seen.is_whole(),
            false => stream.overtakes_first(seen.seq, taken_len(&seen), seen.flags.fin()),
        };
        match nowhere {
            true => Err(Reason::Unplaced.into()),
            false => Ok(()),
        }
    }

    /// Tells the real server by a client's packet what is to be told, before that is readdressed
    /// and goes `way`.
    #[cold]
    #[inline(never)]
    pub(super) fn told_to_real<A: Stored, F: Frame>(
        &mut self,
        frame: &mut F,
        packet: &Packet<A>,
        slot: Slot,
        way: &mut Way,
    ) -> Result<(), Refusal> {
        if packet.later {
            return Ok(());
        }
        let table = A::table(self.state);
        let (entry, before) = (*table.entry(slot), table.streams.get(slot));
        if packet.key.protocol != Protocol::TCP.0 {
            if self.tell_datagram(frame, packet, &entry, before.telling, way) {
                let entry = A::table(self.state).entry_mut(slot);
                entry.flags.put(Flags::TOLD, false);
            }
            return Ok(());
        }
        let mut stream = before;
        let placed = self.tell_segment(frame, &entry, &mut stream, way);
        if stream != before {
            A::table(self.state).streams.put(slot, &stream);
        }
        placed.map_err(Refusal::from)
    }

    /// Puts a real server's segment into the numbers that the client knows, and hears what it says
    /// of the connection's begin.
    #[cold]
    #[inline(never)]
    pub(super) fn told_to_client<A: Stored, F: Frame>(
        &mut self,
        frame: &mut F,
        packet: &Packet<A>,
        slot: Slot,
    ) {
        if packet.later || packet.key.protocol != Protocol::TCP.0 {
            return;
        }
        let Some(seen) = Seen::of(frame.bytes()) else {
            return;
        };
        let table = A::table(self.state);
        let before = table.streams.get(slot);
        let (mut stream, mut next) = (before, before);
        let answers = seen.flags.syn() && seen.flags.ack();
        let has_header = seen.flags.ack() && stream.has_header(seen.ack);
        if (answers || has_header) && seen.is_intact(frame.bytes()) {
            if answers {
                stream.answered(seen.seq, seen.ack);
                next = stream;
            }
            if has_header {
                next.pass();
            }
        }
        if next != before {
            table.streams.put(slot, &next);
        }
        let client = table.entry(slot).client.to_ip();
        let less = option_len(stream.telling, client);
        told::to_client(frame, &seen, &stream, less);
    }

    /// Puts an ICMP error about a packet of the connection, from `side`, into the numbers of who
    /// sent that packet. It grew by what tells the real server, so there is so much less room. The
    /// error is of the family `W`.
    #[cold]
    pub(super) fn told_error<A: Stored, W: Family, F: Frame>(
        &mut self,
        frame: &mut F,
        slot: Slot,
        side: Side,
    ) -> Result<(), Reason> {
        let table = A::table(self.state);
        let stream = table.streams.get(slot);
        let same = |number| number;
        match side {
            Side::Client => {
                let ack = |number| stream.to_real(number);
                icmp::renumber::<W>(frame.bytes_mut(), same, ack, 0)
            }
            Side::Real => {
                let client = table.entry(slot).client.to_ip();
                let less = stream.overhead() + option_len(stream.telling, client);
                let seq = |number| stream.to_client(number);
                icmp::renumber::<W>(frame.bytes_mut(), seq, same, less)
            }
        }
    }

    fn tell_segment<A: Stored, F: Frame>(
        &mut self,
        frame: &mut F,
        entry: &Entry<A>,
        stream: &mut Stream,
        way: &Way,
    ) -> Result<(), Reason> {
        let seen = Seen::of(frame.bytes()).ok_or(Reason::ShortTransport)?;
        if seen.flags.syn() && !seen.flags.ack() {
            self.tell_syn(frame, entry, &seen, stream);
            return Ok(());
        }
        match stream.telling {
            Telling::None => Ok(()),
            Telling::Toa => {
                self.tell_by_option(frame, entry, &seen, stream, way);
                Ok(())
            }
            Telling::Proxy { .. } => self.tell_by_header(frame, entry, &seen, stream, way),
        }
    }

    /// A SYN begins the stream. A damaged one does not, nor does the real server take it.
    fn tell_syn<A: Stored, F: Frame>(
        &mut self,
        frame: &mut F,
        entry: &Entry<A>,
        seen: &Seen,
        stream: &mut Stream,
    ) {
        if seen.is_intact(frame.bytes()) {
            let local = (entry.local, entry.local_port);
            let real = (entry.real, entry.real_port);
            let fresh = || self.me.isn.number(local, real, self.now);
            let seq = stream.syn(seen.seq, fresh);
            told::syn(frame, seen, seq);
        }
    }

    /// By TOA, until the client has data of the real server's (reference C.4). Never in a SYN.
    fn tell_by_option<A: Stored, F: Frame>(
        &mut self,
        frame: &mut F,
        entry: &Entry<A>,
        seen: &Seen,
        stream: &Stream,
        way: &Way,
    ) {
        let seq = stream.to_real(seen.seq);
        let flags = seen.flags;
        let tells = flags.ack() && !flags.rst() && !flags.syn();
        if tells && stream.is_before_data(seen.ack) {
            let client = (entry.client.to_ip(), entry.client_port);
            let most = match way.cut {
                true => usize::from(u16::MAX),
                false => usize::from(way.mtu),
            };
            let intact = seen.is_intact(frame.bytes());
            if intact && told::option(frame, seen, seq, client, most) {
                return;
            }
            self.counters.untold.add(1);
        }
        told::renumber(frame, seen, seq);
        told::forget_option(frame, seen);
    }

    /// By a PROXY protocol header in front of the first data (reference C.6), and again with each
    /// repetition of them until the real server has it.
    fn tell_by_header<A: Stored, F: Frame>(
        &mut self,
        frame: &mut F,
        entry: &Entry<A>,
        seen: &Seen,
        stream: &mut Stream,
        way: &Way,
    ) -> Result<(), Reason> {
        let len = taken_len(seen);
        let intact = seen.is_intact(frame.bytes());
        let damaged = seen.is_whole() && !intact;
        if let Some(at) = stream.begins_in(seen.seq, len)
            && !damaged
        {
            let data = seen.data(frame.bytes()).get(at..).unwrap_or_default();
            let found = intact.then(|| Found::at_start_of(data)).flatten();
            let told = choose(stream.telling, Protocol::TCP, ends(entry), found);
            stream.tell(told.ends, told.inserted, told.removed);
        }
        let place = stream.place(seen.seq, len);
        if damaged || !place.header && place.cut == 0 {
            told::renumber(frame, seen, place.seq);
            return Ok(());
        }
        let header = match place.header {
            true => stream.header(),
            false => Header::EMPTY,
        };
        if !intact {
            // A first fragment keeps its length.
            if place.cut > 0 || way.cut {
                return Err(Reason::Unplaced);
            }
            told::renumber(frame, seen, after(place.seq, &header));
            self.go_ahead(header);
            return Ok(());
        }
        let grown = seen.total_len() - place.cut + header.bytes().len();
        let fits = way.cut || grown <= usize::from(way.mtu);
        if fits && told::header(frame, seen, place.seq, place.cut, header.bytes()) {
            told::point(frame, header.bytes().len(), place.cut);
            return Ok(());
        }
        if way.cut || !told::header(frame, seen, after(place.seq, &header), place.cut, &[]) {
            return Err(Reason::Unplaced);
        }
        told::point(frame, 0, place.cut);
        self.go_ahead(header);
        Ok(())
    }

    /// By a PROXY protocol header in front of a datagram; whether that was done, or there is
    /// nothing to do.
    pub(super) fn tell_datagram<A: Stored, F: Frame>(
        &mut self,
        frame: &mut F,
        packet: &Packet<A>,
        entry: &Entry<A>,
        telling: Telling,
        way: &mut Way,
    ) -> bool {
        let Some(seen) = Seen::of(frame.bytes()) else {
            self.counters.untold.add(1);
            return false;
        };
        let intact = seen.is_intact(frame.bytes());
        if seen.is_whole() && !intact {
            return false;
        }
        let found = intact.then(|| Found::at_start_of(seen.data(frame.bytes())));
        let found = found.flatten().filter(|found| found.version == Version::V2);
        let told = choose(telling, Protocol::UDP, ends(entry), found);
        let header = match (telling, told.inserted) {
            (Telling::Proxy { version, .. }, 1..) => Header::new(version, Protocol::UDP, told.ends),
            _ => return true,
        };
        let grown = seen.total_len() - told.removed + header.bytes().len();
        let larger = grown > usize::from(way.mtu);
        if intact
            && (way.cut || !larger || !packet.shape.dont_fragment)
            && told::header(frame, &seen, 0, told.removed, header.bytes())
        {
            way.cut |= larger;
            return true;
        }
        if way.cut || !told::header_gone(frame, &seen, told.removed) {
            self.counters.untold.add(1);
            return false;
        }
        self.go_ahead(header);
        true
    }

    /// Has a packet of the header alone go before the frame.
    fn go_ahead(&mut self, header: Header) {
        self.state.ahead = header;
        self.aside = Some(Aside::Ahead);
    }
}

/// What a real server is told, and how much that takes.
struct Told {
    /// `None`: that nobody knows.
    ends: Option<Ends>,
    /// Octets of the header; 0 where the client's own stays.
    inserted: usize,
    /// Octets of the client's own.
    removed: usize,
}

/// What to tell of a connection between `own` ends whose client perhaps sent a header itself.
fn choose(telling: Telling, protocol: Protocol, own: Ends, found: Option<Found>) -> Told {
    let Telling::Proxy { version, insecure } = telling else {
        return Told {
            ends: None,
            inserted: 0,
            removed: 0,
        };
    };
    let believed = found.filter(|_| insecure);
    if believed.is_some_and(|found| found.version == version) {
        return Told {
            ends: None,
            inserted: 0,
            removed: 0,
        };
    }
    let ends = match believed {
        Some(found) => found.ends,
        None => Some(own),
    };
    Told {
        ends,
        inserted: Header::new(version, protocol, ends).bytes().len(),
        removed: found.map_or(0, |found| found.len),
    }
}

/// Octets of data that a server takes of a segment: none of a RST's, nor of a SYN's, which would
/// begin one later than it says.
fn taken_len(seen: &Seen) -> usize {
    match seen.flags.rst() || seen.flags.syn() {
        true => 0,
        false => seen.data_len(),
    }
}

/// Octets of the option that tells of this client, if one does.
fn option_len(telling: Telling, client: IpAddr) -> u16 {
    match telling {
        Telling::Toa => u16::try_from(toa::len(client)).unwrap_or(0),
        Telling::None | Telling::Proxy { .. } => 0,
    }
}

/// Who a connection is between, as its client sees it.
fn ends<A: Stored>(entry: &Entry<A>) -> Ends {
    Ends {
        source: (entry.client.to_ip(), entry.client_port),
        destination: (entry.vip.to_ip(), entry.vip_port),
    }
}

/// The sequence number behind a header.
fn after(seq: u32, header: &Header) -> u32 {
    let len = u32::try_from(header.bytes().len()).unwrap_or(0);
    seq.wrapping_add(len)
}
