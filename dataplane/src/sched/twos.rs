//! Power of two choices (reference B.2): two draws by weight, and the less loaded of them.

use super::Pool;
use super::random::Random;

pub(super) fn pick(pool: &Pool<'_>, random: &mut Random) -> Option<usize> {
    let available = || (0..pool.len()).filter(|&at| pool.is_available(at));
    let total: u64 = available().map(|at| u64::from(pool.weight(at))).sum();
    if total == 0 {
        return None;
    }
    let mut draws = [random.up_to(total), random.up_to(total)];
    let mut drawn = [None; 2];
    for at in available() {
        for (draw, drawn) in draws.iter_mut().zip(&mut drawn) {
            *draw = draw.saturating_sub(u64::from(pool.weight(at)));
            if *draw == 0 {
                drawn.get_or_insert(at);
            }
        }
        if let [Some(first), Some(second)] = drawn {
            return pool.lightest([first, second], |at| pool.overhead(at));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use crate::sched::Kind::Twos;
    use crate::sched::testing::Letters;

    #[test]
    fn the_lighter_of_two_draws() {
        let mut letters = Letters::new(Twos, &[1, 1]);
        letters.load(b'a', 1_000_000, 0);
        let word = letters.picks(10_000);
        let loaded = word.chars().filter(|&c| c == 'a').count();
        // a is the last: both draws must be the 2 of 0..=2, which is one time in nine.
        assert!((1000..1230).contains(&loaded), "{loaded}");
    }

    #[test]
    fn shares_follow_the_weights() {
        let word = Letters::new(Twos, &[1, 3]).picks(4000);
        let share = word.chars().filter(|&c| c == 'b').count();
        assert!((2960..=3040).contains(&share), "{share}");
    }

    #[test]
    fn the_same_seed_draws_the_same() {
        let word = || Letters::new(Twos, &[1, 2, 3]).picks(100);
        assert_eq!(word(), word());
    }

    #[test]
    fn nobody_left() {
        assert_eq!(Letters::new(Twos, &[0, 0]).picks(2), "--");
        let mut letters = Letters::new(Twos, &[1, 1]);
        letters.overload(b'a', true);
        assert_eq!(letters.picks(4), "bbbb");
    }
}
