//! A packet that is too large for its link and may be cut: the frame becomes its first piece, the
//! others are of our making.

use arrayvec::ArrayVec;
use wire::cut::Cut;
use wire::ethernet;

use super::Turn;
use crate::decide::Origin;
use crate::port::{Frame, Port, PortId};
use crate::verdict::{Reason, Verdict};

/// Pieces that one packet is cut into at most: one of 9,218 octets on a path of 552.
const MAX_PIECES: usize = 18;

impl<P: Port> Turn<'_, P> {
    /// Cuts a packet for a link of `mtu` octets. The frame becomes the first piece; the
    /// others are of our making.
    #[cold]
    #[inline(never)]
    pub(super) fn send_in_pieces(
        &mut self,
        mut frame: P::Frame,
        origin: Origin,
        port: PortId,
        mtu: u16,
    ) {
        *self.fragment_id = self.fragment_id.wrapping_add(1);
        let Some(plan) = plan(frame.bytes(), mtu, *self.fragment_id) else {
            return self.finish(frame, origin, Verdict::Drop(Reason::CannotFragment));
        };
        let mut rest = ArrayVec::<P::Frame, MAX_PIECES>::new();
        for n in 1..plan.pieces().min(MAX_PIECES) {
            self.counters.made.add(1);
            match self.alloc(port).and_then(|to| piece(&frame, &plan, n, to)) {
                Some(piece) => rest.push(piece),
                None => self.counters.made_dropped.add(1),
            }
        }
        let verdict = match become_first(&mut frame, &plan) {
            true => Verdict::Transmit(port),
            false => Verdict::Drop(Reason::CannotFragment),
        };
        self.finish(frame, origin, verdict);
        rest.drain(..).for_each(|piece| self.send_made(piece, port));
    }
}

/// How the packet in `frame` is cut for a link of `mtu` octets; `None` if it can't be.
fn plan(frame: &[u8], mtu: u16, id: u32) -> Option<Cut> {
    let packet = ethernet::Frame::parse(frame).ok()?.into_payload();
    Cut::of(packet, usize::from(mtu), id).filter(|cut| cut.pieces() <= MAX_PIECES)
}

/// Piece `n` of the packet in `frame`, in the empty frame `made`.
fn piece<F: Frame>(frame: &F, plan: &Cut, n: usize, mut made: F) -> Option<F> {
    let range = plan.range(n);
    let (envelope, packet) = frame.bytes().split_at_checked(ethernet::LEN)?;
    let data = packet.get(plan.data_at()..)?.get(range)?;
    made.append(ethernet::LEN + plan.len(n)).then_some(())?;
    let (head, rest) = made.bytes_mut().split_at_mut_checked(ethernet::LEN)?;
    head.copy_from_slice(envelope);
    let (header, body) = rest.split_at_mut_checked(plan.header_len())?;
    header.copy_from_slice(&plan.header(n)[..plan.header_len()]);
    body.copy_from_slice(data);
    Some(made)
}

/// Makes a frame the first piece of its packet; `false`, and no change, if it has no room for
/// that one's header.
fn become_first<F: Frame>(frame: &mut F, plan: &Cut) -> bool {
    let Some(envelope) = frame.bytes().first_chunk::<{ ethernet::LEN }>().copied() else {
        return false;
    };
    if !frame.prepend(plan.header_len() - plan.data_at()) {
        return false;
    }
    let (head, rest) = frame.bytes_mut().split_at_mut(ethernet::LEN);
    head.copy_from_slice(&envelope);
    rest[..plan.header_len()].copy_from_slice(&plan.header(0)[..plan.header_len()]);
    frame.truncate(ethernet::LEN + plan.len(0));
    true
}
