//! IPVS's view of a TCP connection: states, what a segment makes of them, and how long each
//! lasts (reference B.8).
//!
//! In DR and TUN the replies pass us by, so one table goes by what the client sends alone.

/// The states, named as `ipvsadm -Lc` prints them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum State {
    /// Just made.
    None,
    /// Both sides agreed.
    Established,
    /// The real server opened.
    SynSent,
    /// The client opened.
    SynRecv,
    /// One side closed.
    FinWait,
    /// Both sides closed.
    TimeWait,
    /// Reset.
    Close,
    /// The client closed first.
    CloseWait,
    /// Waiting for the last acknowledgement.
    LastAck,
    /// Expected: an FTP data connection.
    Listen,
    /// Half open under attack.
    SynAck,
}

use State::{
    Close as CL, CloseWait as CW, Established as ES, FinWait as FW, LastAck as LA, Listen as LI,
    None as NO, SynAck as SA, SynRecv as SR, SynSent as SS, TimeWait as TW,
};

impl State {
    /// Every state, in the order of the columns below.
    pub const ALL: [Self; 11] = [NO, ES, SS, SR, FW, TW, CL, CW, LA, LI, SA];

    /// The name in listings.
    pub fn name(self) -> &'static str {
        match self {
            NO => "NONE",
            ES => "ESTABLISHED",
            SS => "SYN_SENT",
            SR => "SYN_RECV",
            FW => "FIN_WAIT",
            TW => "TIME_WAIT",
            CL => "CLOSE",
            CW => "CLOSE_WAIT",
            LA => "LAST_ACK",
            LI => "LISTEN",
            SA => "SYNACK",
        }
    }

    /// IPVS's timeout, in milliseconds.
    pub fn default_timeout_ms(self) -> u32 {
        match self {
            NO => 2_000,
            ES => 900_000,
            SS | FW | TW | LI | SA => 120_000,
            SR | CW => 60_000,
            CL => 10_000,
            LA => 30_000,
        }
    }

    /// Whether a connection in this state is listed under ActiveConn.
    #[inline]
    pub fn is_active(self) -> bool {
        matches!(self, ES | SS | SR | SA)
    }
}

/// Which way a segment goes, and whether we see both ways.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Direction {
    /// From the client, replies seen (NAT, FULLNAT).
    Input,
    /// From the real server.
    Output,
    /// From the client, replies not seen (DR, TUN).
    InputOnly,
}

/// What in a segment moves the state; the first that applies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Event {
    /// SYN, without RST.
    Syn,
    /// FIN, without RST and SYN.
    Fin,
    /// ACK alone.
    Ack,
    /// RST.
    Rst,
}

/// The state after a segment; `event` is `None` for one with none of the four flags, which
/// closes the connection.
#[inline]
pub fn next(state: State, direction: Direction, event: Option<Event>) -> State {
    match event {
        Some(event) => TABLE[direction as usize][event as usize][state as usize],
        None => CL,
    }
}

#[rustfmt::skip]
const TABLE: [[[State; 11]; 4]; 3] = [
    [ // Input:   NO  ES  SS  SR  FW  TW  CL  CW  LA  LI  SA
        /* syn */ [SR, ES, ES, SR, SR, SR, SR, SR, SR, SR, SR],
        /* fin */ [CL, CW, SS, TW, TW, TW, CL, CW, LA, LI, TW],
        /* ack */ [ES, ES, SS, ES, FW, TW, CL, CW, CL, LI, ES],
        /* rst */ [CL, CL, CL, SR, CL, CL, CL, CL, LA, LI, SR],
    ],
    [ // Output
        /* syn */ [SS, ES, SS, SR, SS, SS, SS, SS, SS, LI, SR],
        /* fin */ [TW, FW, SS, TW, FW, TW, CL, TW, LA, LI, TW],
        /* ack */ [ES, ES, SS, ES, FW, TW, CL, CW, LA, ES, ES],
        /* rst */ [CL, CL, SS, CL, CL, TW, CL, CL, CL, CL, CL],
    ],
    [ // InputOnly
        /* syn */ [SR, ES, ES, SR, SR, SR, SR, SR, SR, SR, SR],
        /* fin */ [CL, FW, SS, TW, FW, TW, CL, CW, LA, LI, TW],
        /* ack */ [ES, ES, SS, ES, FW, TW, CL, CW, CL, LI, ES],
        /* rst */ [CL, CL, CL, SR, CL, CL, CL, CL, LA, LI, CL],
    ],
];

#[cfg(test)]
mod tests {
    use super::*;

    /// The state and its timeout in seconds after each of a word of events.
    fn life(direction: &[(Direction, Event)]) -> Vec<(&'static str, u32, bool)> {
        let mut state = NO;
        let step = |&(direction, event): &(Direction, Event)| {
            state = next(state, direction, Some(event));
            (
                state.name(),
                state.default_timeout_ms() / 1000,
                state.is_active(),
            )
        };
        direction.iter().map(step).collect()
    }

    #[test]
    fn a_life_under_dr() {
        let only = |event| (Direction::InputOnly, event);
        let seen = life(&[
            only(Event::Syn),
            only(Event::Ack),
            only(Event::Fin),
            only(Event::Ack),
        ]);
        let want = [
            ("SYN_RECV", 60, true),
            ("ESTABLISHED", 900, true),
            ("FIN_WAIT", 120, false),
            ("FIN_WAIT", 120, false),
        ];
        assert_eq!(seen, want);
    }

    #[test]
    fn a_life_under_nat() {
        let (input, output) = (Direction::Input, Direction::Output);
        let open = [
            (input, Event::Syn),
            (output, Event::Syn),
            (input, Event::Ack),
        ];
        let client_first = [&open[..], &[(input, Event::Fin), (output, Event::Fin)]].concat();
        assert_eq!(
            life(&client_first)[3..],
            [("CLOSE_WAIT", 60, false), ("TIME_WAIT", 120, false)]
        );
        let server_first = [&open[..], &[(output, Event::Fin), (input, Event::Fin)]].concat();
        assert_eq!(
            life(&server_first)[3..],
            [("FIN_WAIT", 120, false), ("TIME_WAIT", 120, false)]
        );
    }

    #[test]
    fn a_segment_without_flags_closes() {
        for state in State::ALL {
            assert_eq!(next(state, Direction::InputOnly, None), CL);
        }
    }
}
