//! The fields that connections of one service were made under, and the way of a frame that
//! nobody has claimed yet.
//!
//! ```text
//!   received anywhere -> owner by the oldest fields -> ... -> owner by the current fields
//! ```
//!
//! Where another service may have taken the same tuple, its owners are asked before all others
//! ([`Owners::with_rivals`]).
//!
//! Each looks into its own table first. Only the last may create a connection, so there are
//! never two owners; the step travels with the frame and only grows, so it never runs in
//! circles.
//!
//! While workers still read different snapshots their lists may differ in length and in order.
//! A worker that takes a frame over from one with another snapshot starts at the front of its
//! own list ([`Step::again`]), so that whoever creates has had every stop of one list asked by
//! workers that all went by that list: the one who would create by another list was asked after
//! it had turned to this one, or comes to ask here.

use std::sync::Arc;

use arrayvec::ArrayVec;

use super::{Fields, Steering};
use crate::conn::{Address, Key};
use crate::port::WorkerId;

/// Fields that one service can have connections under at a time.
pub const MAX_FIELDS: usize = 4;

/// Workers that there can be.
pub const MAX_WORKERS: usize = 128;

/// Workers that one frame may be handed to: the stops of the longest list that rivals make, and of
/// nearly another such where the snapshot changed on the way.
const MAX_HOPS: u8 = 250;

/// How far a frame has come. The default on reception.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Step {
    /// The stops, from the front of the list, that it need not visit any more.
    pub visited: u8,
    /// How often it was handed over.
    pub hops: u8,
}

impl Step {
    /// The same frame at the front of another list.
    #[must_use]
    pub fn again(self) -> Self {
        Self { visited: 0, ..self }
    }
}

/// Where a frame goes that the worker's own table does not know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// To this worker, with this step.
    Go(WorkerId, Step),
    /// Nowhere: this worker is the current owner, and all others were asked.
    Here,
    /// Nowhere: handed over more often than any change of the list explains. To be
    /// dropped as [`Astray`](crate::verdict::Reason::Astray).
    Astray,
}

/// The next stop of a frame that is at `me`, where `stops` are the listed owners, the current
/// one last.
///
/// Each stop is visited once, `me` never, and the current owner last even if it is listed
/// twice.
#[inline]
pub fn next_stop(stops: &[WorkerId], me: WorkerId, step: Step) -> Next {
    let Some((&current, older)) = stops.split_last() else {
        return Next::Here;
    };
    for (at, &stop) in older.iter().enumerate().skip(usize::from(step.visited)) {
        let known = stop == me || stop == current || older[..at].contains(&stop);
        if !known {
            return go(stop, at + 1, step);
        }
    }
    if current == me {
        return Next::Here;
    }
    go(current, stops.len(), step)
}

fn go(to: WorkerId, visited: usize, from: Step) -> Next {
    match u8::try_from(visited) {
        Ok(visited) if from.hops < MAX_HOPS => Next::Go(
            to,
            Step {
                visited,
                hops: from.hops + 1,
            },
        ),
        _ => Next::Astray,
    }
}

/// Which of a service's listed fields a connection was made under; below [`MAX_FIELDS`]. It
/// stays the same while they are listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FieldsSlot(pub u8);

/// Connections under [`MAX_FIELDS`] different fields are still there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("connections made under {MAX_FIELDS} other kinds of ownership are still there")]
pub struct TooManyFields;

/// Workers that may know a tuple, in the order in which they are asked, each once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stops(ArrayVec<WorkerId, MAX_WORKERS>);

impl Stops {
    /// This one may know it.
    pub fn add(&mut self, worker: WorkerId) {
        if !self.0.contains(&worker) {
            // There are no more workers than places.
            let _ = self.0.try_push(worker);
        }
    }

    /// This one is asked last, whenever else it would have been.
    pub fn end_at(&mut self, worker: WorkerId) {
        self.0.retain(|stop| *stop != worker);
        self.add(worker);
    }

    /// Where a frame goes that is at `me`.
    pub fn next(&self, me: WorkerId, step: Step) -> Next {
        next_stop(&self.0, me, step)
    }
}

/// The fields of one service, oldest first; the last are the current ones.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owners {
    listed: ArrayVec<(FieldsSlot, Fields), MAX_FIELDS>,
    /// What other services that may take the same tuples go by or went by.
    rivals: Arc<[Fields]>,
}

impl Owners {
    /// The list of a service that never had other fields.
    pub fn new(fields: Fields) -> Self {
        let mut listed = ArrayVec::new();
        listed.push((FieldsSlot(0), fields));
        let rivals = Arc::default();
        Self { listed, rivals }
    }

    /// The same list for a service whose tuples other services may have, too, which go by these
    /// fields or went by them.
    #[must_use]
    pub fn with_rivals(&self, rivals: Vec<Fields>) -> Self {
        let listed = self.listed.clone();
        Self {
            listed,
            rivals: rivals.into(),
        }
    }

    /// By what others may own its tuples, too.
    pub fn rivals(&self) -> &[Fields] {
        &self.rivals
    }

    /// What new connections are made under.
    #[inline]
    pub fn current(&self) -> (FieldsSlot, Fields) {
        *self.listed.last().expect("never empty")
    }

    /// What older connections may have been made under, oldest first.
    pub fn older(&self) -> &[(FieldsSlot, Fields)] {
        let (_, older) = self.listed.split_last().expect("never empty");
        older
    }

    /// The list after the service's fields changed to `fields`. Fields that were listed before
    /// keep their slot.
    ///
    /// # Errors
    /// No slot is free: the change has to wait until the connections of one have ended.
    pub fn changed_to(&self, fields: Fields) -> Result<Self, TooManyFields> {
        let mut listed = self.listed.clone();
        let known = listed.iter().position(|&(_, old)| old == fields);
        let slot = match known {
            Some(at) => listed.remove(at).0,
            None => self.free_slot().ok_or(TooManyFields)?,
        };
        listed.push((slot, fields));
        let rivals = self.rivals.clone();
        Ok(Self { listed, rivals })
    }

    /// The list without `slot`, of which no connection is left; the current one always stays.
    ///
    /// A worker that has not yet taken over the snapshot in which `slot` ceased to be current
    /// may still create under it: count only after all have been seen past that one.
    pub fn without(&self, slot: FieldsSlot) -> Self {
        let (current, _) = self.current();
        let mut listed = self.listed.clone();
        listed.retain(|&mut (listed, _)| listed == current || listed != slot);
        let rivals = self.rivals.clone();
        Self { listed, rivals }
    }

    /// Whoever may know the connection of the client's packet `key`: the rivals' owners, then the
    /// service's own, the current one last.
    #[cold]
    pub fn stops<A: Address>(&self, steering: &Steering, key: &Key<A>, stops: &mut Stops) {
        let listed = self.listed.iter().map(|(_, fields)| fields);
        for &fields in self.rivals.iter().chain(listed) {
            stops.add(steering.owner(fields, key));
        }
        stops.end_at(steering.owner(self.current().1, key));
    }

    /// Where a frame goes that is at `me` and of no connection there, if the service has no
    /// rivals. `key` is that of the client's packet: that of a reply has to be reversed.
    #[inline]
    pub fn next<A: Address>(
        &self,
        steering: &Steering,
        key: &Key<A>,
        me: WorkerId,
        step: Step,
    ) -> Next {
        let stops: ArrayVec<WorkerId, MAX_FIELDS> = self
            .listed
            .iter()
            .map(|&(_, fields)| steering.owner(fields, key))
            .collect();
        next_stop(&stops, me, step)
    }

    fn free_slot(&self) -> Option<FieldsSlot> {
        (0u8..)
            .take(MAX_FIELDS)
            .map(FieldsSlot)
            .find(|free| self.listed.iter().all(|(slot, _)| slot != free))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn workers(numbers: &[u16]) -> Vec<WorkerId> {
        numbers.iter().copied().map(WorkerId).collect()
    }

    #[test]
    #[rustfmt::skip]
    fn stops() {
        let to = |worker, visited| Next::Go(WorkerId(worker), Step { visited, hops: 3 });
        let cases: [(&str, &[u16], u16, u8, Next); 11] = [
            ("mine",                                      &[3],          3, 0, Next::Here),
            ("another's",                                 &[3],          1, 0, to(3, 1)),
            ("the older fields first",                    &[2, 3],       1, 0, to(2, 1)),
            ("then the current",                          &[2, 3],       2, 1, to(3, 2)),
            ("the current owner asks the older one",      &[2, 3],       3, 0, to(2, 1)),
            ("and has it back",                           &[2, 3],       3, 2, Next::Here),
            ("I have looked already",                     &[1, 3],       1, 0, to(3, 2)),
            ("one worker under both fields",              &[3, 3],       1, 0, to(3, 2)),
            ("a stop listed twice is visited once",       &[2, 2, 3],    2, 1, to(3, 3)),
            ("all but the current were asked",            &[2, 4, 3],    4, 2, to(3, 3)),
            ("nobody to ask",                             &[],           4, 0, Next::Here),
        ];
        for (name, stops, me, visited, want) in cases {
            let step = Step { visited, hops: 2 };
            assert_eq!(next_stop(&workers(stops), WorkerId(me), step), want, "{name}");
        }
    }

    #[test]
    fn a_frame_that_nobody_wants_is_astray_in_the_end() {
        let (mut step, mut hops) = (Step::default(), 0);
        // Two workers, each sure that it is the other's, and each with another list.
        while let Next::Go(_, next) = next_stop(&workers(&[3]), WorkerId(1), step.again()) {
            (step, hops) = (next, hops + 1);
        }
        assert_eq!(hops, MAX_HOPS);
        assert_eq!(next_stop(&workers(&[3]), WorkerId(1), step), Next::Astray);
        assert_eq!(next_stop(&workers(&[3]), WorkerId(3), step), Next::Here);
    }

    #[test]
    fn every_way_visits_all_and_ends_at_the_current_owner() {
        for code in 0..4u32.pow(5) {
            let digit = |n: u32| u16::try_from(code / 4u32.pow(n) % 4).expect("a digit");
            let stops = workers(&[digit(0), digit(1), digit(2), digit(3)]);
            let mut at = WorkerId(digit(4));
            let mut visited = vec![at];
            let mut step = Step::default();
            while let Next::Go(to, next) = next_stop(&stops, at, step) {
                assert!(next.visited > step.visited, "a step never goes back");
                (at, step) = (to, next);
                visited.push(at);
            }
            assert_eq!(next_stop(&stops, at, step), Next::Here);
            assert_eq!(Some(&at), stops.last());
            assert!(stops.iter().all(|stop| visited.contains(stop)));
            assert!(visited.len() <= stops.len() + 1, "{visited:?}");
        }
    }

    #[test]
    fn a_change_keeps_the_older_fields_until_they_are_removed() {
        let first = Owners::new(Fields::Tuple);
        let second = first.changed_to(Fields::Client).expect("room");
        assert_eq!(second.older(), [(FieldsSlot(0), Fields::Tuple)]);
        assert_eq!(second.current(), (FieldsSlot(1), Fields::Client));
        let back = second.changed_to(Fields::Tuple).expect("known");
        assert_eq!(back.older(), [(FieldsSlot(1), Fields::Client)]);
        assert_eq!(back.current(), (FieldsSlot(0), Fields::Tuple));
        assert_eq!(back.without(FieldsSlot(1)), first);
        assert_eq!(first.without(FieldsSlot(0)), first, "the current one stays");
        assert_eq!(second.changed_to(Fields::Client), Ok(second));
    }

    #[test]
    fn the_list_is_bounded_and_a_freed_slot_is_used_again() {
        let network = |mask| Fields::ClientNetwork(mask);
        let mut owners = Owners::new(network(0));
        for mask in 1..MAX_FIELDS as u128 {
            owners = owners.changed_to(network(mask)).expect("room");
        }
        assert_eq!(owners.changed_to(Fields::Tuple), Err(TooManyFields));
        let owners = owners.without(FieldsSlot(2)).changed_to(Fields::Tuple);
        assert_eq!(
            owners.expect("one slot is free").current(),
            (FieldsSlot(2), Fields::Tuple)
        );
    }
}
