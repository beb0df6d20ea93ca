//! Which bucket of a hash scheduler leads to a real server, for people: off the packet path.

use super::hash8::hash8;
use super::{Ask, Pool, Rule, dh, fold};
use crate::conn::Address;
use crate::services::{Blocks, RealId, Service};

/// A bucket (`sh`, `dh`) or slot (`mh`) that a packet was led to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bucket {
    /// Its number, from 0.
    pub number: u32,
    /// How many there are.
    pub of: u32,
    /// Whose it is.
    pub real: RealId,
    /// Whether it stands in for the packet's own, whose real server is not available
    /// (`sh-fallback`, `mh-fallback`).
    pub stands_in: bool,
}

/// Buckets of `sh` and `dh`.
const BUCKETS: u32 = 256;

/// The packet's bucket in the service's scheduler, and the one that stands in for it, if one has
/// to, as the worker of `blocks` sees it; none where buckets don't matter, or nobody has one.
pub fn buckets<A: Address>(service: &Service, blocks: &Blocks, ask: &Ask<A>) -> Vec<Bucket> {
    let pool = Pool {
        candidates: &service.candidates,
        blocks,
    };
    let flags = service.scheduler.flags;
    let word = ask.client(flags);
    let own = match &service.scheduler.rule {
        Rule::Sh(sh) => sh
            .holder(hash8(word))
            .map(|at| (hash8(word).into(), BUCKETS, at)),
        Rule::Dh => {
            let bucket = hash8(fold(ask.destination));
            dh::holder(&pool, bucket).map(|at| (bucket.into(), BUCKETS, at))
        }
        Rule::Mh(mh) => mh
            .slot(word)
            .zip(mh.count())
            .map(|(slot, of)| (slot, of, mh.holder(slot))),
        _ => None,
    };
    let Some((number, of, at)) = own else {
        return Vec::new();
    };
    let other = match &service.scheduler.rule {
        _ if pool.is_available(at) || !flags.fallback => None,
        Rule::Sh(sh) => {
            let other = sh.other(&pool, hash8(word));
            other.and_then(|bucket| Some((bucket.into(), sh.holder(bucket)?)))
        }
        Rule::Mh(mh) => mh
            .other(&pool, word, number)
            .map(|slot| (slot, mh.holder(slot))),
        _ => None,
    };
    let bucket = |(number, at): (u32, usize), stands_in| Bucket {
        number,
        of,
        real: pool.candidates[at].real,
        stands_in,
    };
    let other = other.map(|other| bucket(other, true));
    std::iter::once(bucket((number, at), false))
        .chain(other)
        .collect()
}

#[cfg(test)]
mod tests {
    use crate::sched::Kind::{Dh, Mh, Rr, Sh};
    use crate::sched::testing::{CLIENTS, FALLBACK, Letters, PORT};

    /// Reference B.16: the buckets of the eight clients.
    const HASHES: [u32; 8] = [50, 148, 246, 88, 171, 64, 235, 63];

    #[test]
    fn the_last_bucket_is_the_chosen_ones() {
        for (kind, flags) in [
            (Sh, FALLBACK),
            (Sh, PORT),
            (Dh, FALLBACK),
            (Mh, FALLBACK),
            (Mh, PORT),
        ] {
            for overloaded in [None, Some(b'a'), Some(b'b'), Some(b'c')] {
                let mut letters = Letters::with(kind, flags, &[1, 2, 1]);
                if let Some(letter) = overloaded {
                    letters.overload(letter, true);
                }
                for client in CLIENTS {
                    let all = letters.buckets(client, 40_000, client);
                    let last = all.last().expect("there are real servers");
                    let chosen = letters.ask(client, 40_000, client);
                    if chosen == '-' {
                        assert!(!all.iter().any(|it| it.stands_in), "{kind:?}");
                        continue;
                    }
                    let letter = char::from(b'a' + u8::try_from(last.real.0).expect("a letter"));
                    assert_eq!(letter, chosen, "{kind:?} {client}");
                }
            }
        }
    }

    #[test]
    fn numbers() {
        let sh = Letters::new(Sh, &[1, 2, 1]);
        let numbers = CLIENTS.map(|client| sh.buckets(client, 1, CLIENTS[0])[0].number);
        assert_eq!(numbers, HASHES);
        let dh = Letters::new(Dh, &[1, 2, 1]);
        let numbers = CLIENTS.map(|client| dh.buckets(CLIENTS[0], 1, client)[0].number);
        assert_eq!(numbers, HASHES);
        let mh = Letters::new(Mh, &[1]).buckets(CLIENTS[0], 1, CLIENTS[0])[0];
        assert_eq!((mh.of, mh.number < 4093), (4093, true));
        assert!(
            Letters::new(Rr, &[1])
                .buckets(CLIENTS[0], 1, CLIENTS[0])
                .is_empty()
        );
        assert!(
            Letters::new(Sh, &[])
                .buckets(CLIENTS[0], 1, CLIENTS[0])
                .is_empty()
        );
    }
}
