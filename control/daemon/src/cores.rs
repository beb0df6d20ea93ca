//! The machine's cores: which this process may use, and which the kernel leaves alone.

use std::fs;
use std::thread;

use config::model::Idle as Wanted;
use dataplane::worker::Idle;

/// Cores that the kernel's set of them has room for.
const MOST: u16 = 1024;

/// Whether a thread of ours may be pinned to `core`. Tried, not looked up: isolated cores
/// (`isolcpus`), the best ones for workers, are in nobody's set until he asks for them.
pub(crate) fn usable(core: u16) -> bool {
    let tried = thread::Builder::new().spawn(move || pin(core));
    tried.is_ok_and(|thread| thread.join().unwrap_or(false))
}

/// The cores that this process was given: the isolated ones are not among them.
pub(crate) fn given() -> Vec<u16> {
    let ids = core_affinity::get_core_ids().unwrap_or_default();
    let cores = ids.iter().filter_map(|core| u16::try_from(core.id).ok());
    cores.collect()
}

/// Pins the calling thread; `false` if the system refuses.
pub(crate) fn pin(core: u16) -> bool {
    let id = usize::from(core);
    core < MOST && core_affinity::set_for_current(core_affinity::CoreId { id })
}

/// What a worker on `core` does when it has nothing to do.
pub(crate) fn idle(wanted: Wanted, core: u16) -> Idle {
    match wanted {
        Wanted::Spin => Idle::Spin,
        Wanted::Pause => Idle::Pause,
        Wanted::Sleep => Idle::Sleep,
        Wanted::Auto => {
            let list = fs::read_to_string("/sys/devices/system/cpu/isolated");
            if contains(&list.unwrap_or_default(), core) {
                Idle::Spin
            } else {
                Idle::Sleep
            }
        }
    }
}

/// Whether a list of the form `2-3,5` contains `core`.
fn contains(list: &str, core: u16) -> bool {
    list.trim().split(',').any(|range| {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        match (first.parse::<u16>(), last.parse::<u16>()) {
            (Ok(first), Ok(last)) => (first..=last).contains(&core),
            _ => false,
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cores_that_are_not_there() {
        let here = given();
        assert!(here.iter().all(|&core| usable(core)));
        for core in [MOST - 1, MOST, u16::MAX] {
            assert!(!usable(core), "{core}");
        }
        assert_eq!(given(), here, "the caller stays where it was");
    }

    #[test]
    fn lists_of_cores() {
        let cases: [(&str, &[u16]); 3] = [("\n", &[]), ("1,4-6\n", &[1, 4, 5, 6]), ("7-2,x", &[])];
        for (list, want) in cases {
            let isolated: Vec<u16> = (0..8).filter(|&core| contains(list, core)).collect();
            assert_eq!(isolated, want, "{list:?}");
        }
    }
}
