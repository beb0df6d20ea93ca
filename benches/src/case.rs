//! What is measured: a mode, a family, a direction.

use std::fmt::{self, Display};

/// How packets reach their real servers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Mode {
    /// Direct routing.
    Dr,
    /// IPIP in the same family.
    Tun,
    /// Destination NAT.
    Nat,
    /// NAT of both ends.
    FullNat,
}

/// The family of the client's packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

/// Whose packets come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Direction {
    /// The clients'.
    Forward,
    /// The real servers'.
    Reverse,
    /// Each as often as the other.
    Both,
}

/// One thing to measure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Case {
    /// How packets reach their real servers.
    pub mode: Mode,
    /// The family of the client's packets.
    pub family: Family,
    /// Whose packets come.
    pub direction: Direction,
}

impl Mode {
    /// Every mode.
    pub const ALL: [Self; 4] = [Self::Dr, Self::Tun, Self::Nat, Self::FullNat];

    /// Its name in results.
    pub fn name(self) -> &'static str {
        match self {
            Self::Dr => "dr",
            Self::Tun => "tun",
            Self::Nat => "nat",
            Self::FullNat => "fullnat",
        }
    }

    /// Whether the real servers' packets come back through us.
    pub fn is_two_way(self) -> bool {
        matches!(self, Self::Nat | Self::FullNat)
    }

    /// The directions that there are.
    pub fn directions(self) -> &'static [Direction] {
        match self.is_two_way() {
            false => &[Direction::Forward],
            true => &[Direction::Forward, Direction::Reverse, Direction::Both],
        }
    }
}

impl Family {
    /// Both.
    pub const ALL: [Self; 2] = [Self::V4, Self::V6];

    /// 4 or 6.
    pub fn number(self) -> u8 {
        match self {
            Self::V4 => 4,
            Self::V6 => 6,
        }
    }
}

impl Direction {
    /// Its name in results.
    pub fn name(self) -> &'static str {
        match self {
            Self::Forward => "forward",
            Self::Reverse => "reverse",
            Self::Both => "both",
        }
    }
}

impl Case {
    /// Direct routing of IPv4, what goes without saying.
    pub const PLAIN: Self = Self {
        mode: Mode::Dr,
        family: Family::V4,
        direction: Direction::Forward,
    };

    /// Every case of these families.
    pub fn all(families: &[Family]) -> Vec<Self> {
        let of = |family: &Family| {
            let family = *family;
            Mode::ALL.into_iter().flat_map(move |mode| {
                let directions = mode.directions().iter();
                directions.map(move |&direction| Self {
                    mode,
                    family,
                    direction,
                })
            })
        };
        families.iter().flat_map(of).collect()
    }

    /// The case that prints as `name`.
    pub fn named(name: &str) -> Option<Self> {
        let mut all = Self::all(&Family::ALL).into_iter();
        all.find(|case| case.to_string() == name)
    }
}

impl Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let family = self.family.number();
        f.pad(&format!(
            "{}{family}-{}",
            self.mode.name(),
            self.direction.name()
        ))
    }
}
