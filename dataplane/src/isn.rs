//! The initial sequence numbers that real servers see where they are told who a client is
//! (RFC 6528): a clock, and what a secret makes of the connection.
//!
//! From one local port to one real server they grow from connection to connection, so that a real
//! server which still has the one before in TIME_WAIT takes the next, whoever the clients are.

use crate::conn::Address;
use crate::sched::siphash;
use crate::time::Millis;

/// Steps of the clock in a millisecond: one is 64 ns (reference C.3). It comes round in 275 s.
const STEPS_PER_MS: u32 = 15_625;

/// Makes initial sequence numbers: the same ones wherever the seed, the connection and the time are
/// the same.
#[derive(Clone, Copy)]
pub struct Isn([u64; 2]);

impl std::fmt::Debug for Isn {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Isn(secret)")
    }
}

impl Isn {
    /// With a seed that should be random and secret.
    pub fn new(seed: u64) -> Self {
        Self([seed, !seed.rotate_left(32)])
    }

    /// The number of a connection that begins now.
    pub fn number<A: Address>(&self, local: (A, u16), real: (A, u16), now: Millis) -> u32 {
        let ([a, b], [c, d]) = (local.0.words(), real.0.words());
        let ports = u64::from(local.1) << 16 | u64::from(real.1);
        let secret = siphash::keyed(self.0, &[a, b, c, d, ports]);
        #[expect(
            clippy::cast_possible_truncation,
            reason = "one half is as good as the other"
        )]
        let place = secret as u32;
        place.wrapping_add(now.0.wrapping_mul(STEPS_PER_MS))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn portable_and_growing() {
        let isn = Isn::new(1);
        let number =
            |port, now| isn.number((0x0a01_00fau32, port), (0x0a01_000b, 8080), Millis(now));
        assert_eq!(number(1025, 0), number(1025, 0));
        assert_eq!(number(1025, 2).wrapping_sub(number(1025, 0)), 31_250);
        assert_ne!(number(1025, 0), number(1026, 0));
        assert_ne!(
            number(1025, 0),
            Isn::new(2).number((0x0a01_00fau32, 1025), (0x0a01_000b, 8080), Millis(0))
        );
        assert_eq!(number(1025, 0), 856_022_363, "the same bytes for ever");
    }
}
