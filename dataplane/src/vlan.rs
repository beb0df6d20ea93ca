//! VLAN ports: several over one device, each told by the 802.1Q tag of its frames.
//!
//! ```text
//! on the wire         dst  src  8100 tci  type  payload        by the parent's queues
//! in the pipeline     dst  src            type  payload        of the VLAN's port
//! ```
//!
//! A VLAN's port is a port to everything that decides; it only has no queues. Right after a
//! frame came by the parent its tag goes, and it is the VLAN's from there on; right before it
//! goes by the parent it gets one, of priority 0. What says otherwise keeps its tag, and is
//! dropped for it by whoever parses it: a VLAN that has no port, two tags, a provider's tag
//! (802.1ad). A tag without a VLAN (identifier 0, IEEE 802.1Q section 6.9.1) only says a
//! priority: its frame is the parent's.

use std::sync::Arc;

use wire::ethernet::{self, EtherType};
use wire::vlan::{LEN, Tag};

use crate::port::{Frame, PortId};
use crate::verdict::Reason;

/// Octets of the two MACs, which stand before the tag.
const MACS: usize = 12;

/// What tags mean to a port.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub enum Tagging {
    /// Nothing: it takes no tagged frames.
    #[default]
    Plain,
    /// VLANs have ports over it: these.
    Parent(Vlans),
    /// It is a VLAN's.
    Vlan {
        /// The port whose queues it uses.
        parent: PortId,
        /// Its identifier, 1..=4094.
        id: u16,
    },
}

impl Tagging {
    /// The VLANs over the port, if it is a parent.
    #[inline]
    pub fn vlans(&self) -> Option<&Vlans> {
        match self {
            Self::Parent(vlans) => Some(vlans),
            _ => None,
        }
    }
}

/// The VLANs over one port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vlans {
    parent: PortId,
    /// Identifiers, ascending, each with its port.
    sorted: Arc<[(u16, PortId)]>,
}

impl Vlans {
    /// VLANs over `parent`: their identifiers and ports, in any order; of two with one
    /// identifier the first counts.
    pub fn new(parent: PortId, mut all: Vec<(u16, PortId)>) -> Self {
        all.sort_by_key(|&(id, _)| id);
        all.dedup_by_key(|&mut (id, _)| id);
        let sorted = all.into();
        Self { parent, sorted }
    }

    /// The port that carries them.
    #[inline]
    pub fn parent(&self) -> PortId {
        self.parent
    }

    /// The port that a frame belongs to which came by the parent: takes its tag off if that is
    /// for us.
    #[inline]
    pub fn sort<F: Frame>(&self, frame: &mut F) -> PortId {
        let (port, stripped) = match frame.stripped_tag() {
            Some(tci) => (self.port(tci & 0xfff), true),
            None => (id(frame.bytes()).and_then(|id| self.port(id)), false),
        };
        match port {
            Some(_) if stripped => frame.forget_stripped_tag(),
            Some(_) => take_off(frame),
            None => {}
        }
        port.unwrap_or(self.parent)
    }

    /// The port of a tag's identifier.
    #[inline]
    pub fn port(&self, id: u16) -> Option<PortId> {
        if id == 0 {
            return Some(self.parent);
        }
        let at = self.sorted.binary_search_by_key(&id, |&(id, _)| id);
        at.ok().map(|at| self.sorted[at].1)
    }
}

/// The identifier of a frame's 802.1Q tag, of the outer one if there are two.
#[inline]
pub fn id(frame: &[u8]) -> Option<u16> {
    let frame = ethernet::Frame::parse(frame).ok()?;
    if frame.ethertype() != EtherType::VLAN {
        return None;
    }
    Tag::parse(frame.into_payload()).ok().map(|tag| tag.vid())
}

/// Moves the MACs over the tag of a frame that has one.
#[inline]
fn take_off<F: Frame>(frame: &mut F) {
    frame.bytes_mut().copy_within(..MACS, LEN);
    frame.trim_front(LEN);
}

/// Gives a frame the tag of VLAN `id`, of priority 0.
///
/// # Errors
/// There is no room in front of it, or it is no whole frame: it is as it was.
#[inline]
pub fn put_on<F: Frame>(frame: &mut F, id: u16) -> Result<(), Reason> {
    if frame.bytes().len() < ethernet::LEN {
        return Err(Reason::ShortFrame);
    }
    if !frame.prepend(LEN) {
        return Err(Reason::Oversize);
    }
    let bytes = frame.bytes_mut();
    bytes.copy_within(LEN..LEN + MACS, 0);
    let tag = &mut bytes[MACS..MACS + LEN];
    tag[..2].copy_from_slice(&EtherType::VLAN.0.to_be_bytes());
    tag[2..].copy_from_slice(&id.to_be_bytes());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::{HEADROOM, Recycler};
    use crate::port::RxFlags;
    use wire::Mac;
    use wire::build::{Packet, ip, udp};

    const WAN: PortId = PortId(3);
    const TEN: PortId = PortId(7);

    fn packet() -> Packet {
        ip([192, 0, 2, 1], [192, 0, 2, 2]).with(udp(1, 2))
    }

    fn vlans() -> Vlans {
        let all = vec![(4094, PortId(8)), (10, TEN), (10, PortId(9))];
        Vlans::new(WAN, all)
    }

    #[test]
    fn tags_that_are_for_us_go() {
        let frame = || packet().ether(Mac([2, 0, 0, 0, 0, 9]), Mac([2, 0, 0, 0, 0, 1]));
        let short = frame().vlan(10).bytes()[..17].to_vec();
        #[rustfmt::skip]
        let cases = [
            ("no tag",                 frame().bytes(),                     WAN,       frame().bytes()),
            ("ours",                   frame().vlan(10).bytes(),            TEN,       frame().bytes()),
            ("ours, with a priority",  frame().vlan(0xf00a).bytes(),        TEN,       frame().bytes()),
            ("the last one",           frame().vlan(4094).bytes(),          PortId(8), frame().bytes()),
            ("a priority alone",       frame().vlan(0xe000).bytes(),        WAN,       frame().bytes()),
            ("somebody else's",        frame().vlan(11).bytes(),            WAN,       frame().vlan(11).bytes()),
            ("reserved",               frame().vlan(0xfff).bytes(),         WAN,       frame().vlan(0xfff).bytes()),
            ("two: the outer one",     frame().vlan(10).vlan(10).bytes(),   TEN,       frame().vlan(10).bytes()),
            ("a provider's",           frame().tag(EtherType::QINQ, 10).bytes(), WAN,  frame().tag(EtherType::QINQ, 10).bytes()),
            ("cut inside the tag",     short.clone(),                       WAN,       short),
        ];
        for (name, given, port, want) in cases {
            let mut frame = Recycler::default().fill(&given);
            assert_eq!(vlans().sort(&mut frame), port, "{name}");
            assert_eq!(frame.bytes(), want, "{name}");
        }
    }

    #[test]
    fn a_tag_that_the_device_took_counts_as_well() {
        let bytes = packet().bytes();
        let cases = [
            (0xe00a, TEN, RxFlags::SEGMENTED),
            (0, WAN, RxFlags::SEGMENTED),
            (11, WAN, RxFlags::SEGMENTED | RxFlags::VLAN_STRIPPED),
        ];
        for (tci, port, flags) in cases {
            let mut frame = Recycler::default().fill(&bytes);
            frame.flags = RxFlags(RxFlags::SEGMENTED | RxFlags::VLAN_STRIPPED);
            frame.tci = tci;
            assert_eq!(vlans().sort(&mut frame), port, "{tci}");
            assert_eq!(frame.rx_flags(), RxFlags(flags), "{tci}");
            assert_eq!(frame.bytes(), bytes, "{tci}");
        }
    }

    #[test]
    fn what_is_put_on_is_taken_off() {
        let frame = packet().ether(Mac([2, 0, 0, 0, 0, 9]), Mac([2, 0, 0, 0, 0, 1]));
        let mut buffer = Recycler::default().fill(&frame.bytes());
        assert_eq!(put_on(&mut buffer, 10), Ok(()));
        assert_eq!(buffer.bytes(), frame.clone().vlan(10).bytes());
        assert_eq!(vlans().sort(&mut buffer), TEN);
        assert_eq!(buffer.bytes(), frame.bytes());
    }

    #[test]
    fn no_room_is_no_change() {
        let frame = packet().bytes();
        let mut buffer = Recycler::default().fill(&frame);
        assert!(buffer.prepend(HEADROOM - 3));
        let before = buffer.bytes().to_vec();
        assert_eq!(put_on(&mut buffer, 10), Err(Reason::Oversize));
        assert_eq!(buffer.bytes(), before);
        let mut stub = Recycler::default().fill(&frame[..13]);
        assert_eq!(put_on(&mut stub, 10), Err(Reason::ShortFrame));
        assert_eq!(stub.bytes(), &frame[..13]);
    }
}
