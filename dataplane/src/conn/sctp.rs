//! IPVS's view of an SCTP association: states, what a packet makes of them, and how long each
//! lasts (reference B.8).
//!
//! A packet counts by its first chunk. In DR and TUN the replies pass us by, so one table goes by
//! what the client sends alone. Only the tuple is known: another address of a multihomed peer
//! is another client, as in IPVS.

use wire::sctp::{ChunkType, Packet};
use wire::tcp;

use super::tcp::Direction;

/// The states, in IPVS's order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum State {
    /// Just made.
    None,
    /// One side sent INIT.
    Init1,
    /// INIT again.
    Init,
    /// The real server answered INIT with a cookie.
    CookieSent,
    /// The client returned the cookie.
    CookieReplied,
    /// The real server opened; the client is to answer.
    CookieWait,
    /// The real server opened; the client's cookie is there.
    Cookie,
    /// The real server returned the client's cookie.
    CookieEchoed,
    /// Both sides agreed.
    Established,
    /// The real server closes.
    ShutdownSent,
    /// The client closes.
    ShutdownReceived,
    /// The real server agreed to close.
    ShutdownAckSent,
    /// Aborted before it was established.
    Rejected,
    /// Over.
    Closed,
}

use State::{
    Closed as CL, Cookie as CO, CookieEchoed as CE, CookieReplied as CR, CookieSent as CS,
    CookieWait as CW, Established as ES, Init as IN, Init1 as I1, None as NO, Rejected as RJ,
    ShutdownAckSent as SA, ShutdownReceived as SR, ShutdownSent as SS,
};

impl State {
    /// Every state, in the order of the columns below.
    pub const ALL: [Self; 14] = [NO, I1, IN, CS, CR, CW, CO, CE, ES, SS, SR, SA, RJ, CL];

    /// The state with this number, as an entry has it.
    #[inline]
    pub fn of(number: u8) -> Self {
        Self::ALL.get(usize::from(number)).copied().unwrap_or(NO)
    }

    /// The name in listings.
    pub fn name(self) -> &'static str {
        match self {
            NO => "NONE",
            I1 => "INIT1",
            IN => "INIT",
            CS => "C-SENT",
            CR => "C-REPLIED",
            CW => "C-WAIT",
            CO => "COOKIE",
            CE => "C-ECHOED",
            ES => "ESTABLISHED",
            SS => "S-SENT",
            SR => "S-RECEIVED",
            SA => "S-ACK-SENT",
            RJ => "REJECTED",
            CL => "CLOSED",
        }
    }

    /// IPVS's timeout, in milliseconds.
    pub fn default_timeout_ms(self) -> u32 {
        match self {
            NO => 2_000,
            I1 | RJ => 4_000,
            ES => 900_000,
            IN | CS | CR | CW | CO | CE | SS | SR | SA | CL => 61_000,
        }
    }

    /// Whether a connection in this state is listed under ActiveConn.
    #[inline]
    pub fn is_active(self) -> bool {
        self == ES
    }
}

/// What in a packet moves the state: its first chunk, but ABORT where that follows a cookie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Event {
    /// DATA, SACK, heartbeats, and what IPVS doesn't know.
    Data,
    /// INIT.
    Init,
    /// INIT ACK.
    InitAck,
    /// COOKIE ECHO.
    CookieEcho,
    /// COOKIE ACK.
    CookieAck,
    /// SHUTDOWN.
    Shutdown,
    /// SHUTDOWN ACK.
    ShutdownAck,
    /// SHUTDOWN COMPLETE.
    ShutdownComplete,
    /// ERROR.
    Error,
    /// ABORT.
    Abort,
}

/// Where the event's number stands among the bits of [`signals`].
const SHIFT: u32 = 3;

impl Event {
    /// Every event, in the order of the rows below.
    pub const ALL: [Self; 10] = [
        Self::Data,
        Self::Init,
        Self::InitAck,
        Self::CookieEcho,
        Self::CookieAck,
        Self::Shutdown,
        Self::ShutdownAck,
        Self::ShutdownComplete,
        Self::Error,
        Self::Abort,
    ];

    /// The event in [`signals`], if there is one.
    #[inline]
    pub fn in_signals(signals: tcp::Flags) -> Option<Self> {
        let number = usize::from(signals.0 >> SHIFT).checked_sub(1)?;
        Self::ALL.get(number).copied()
    }

    fn of(kind: ChunkType) -> Self {
        match kind {
            ChunkType::INIT => Self::Init,
            ChunkType::INIT_ACK => Self::InitAck,
            ChunkType::COOKIE_ECHO => Self::CookieEcho,
            ChunkType::COOKIE_ACK => Self::CookieAck,
            ChunkType::SHUTDOWN => Self::Shutdown,
            ChunkType::SHUTDOWN_ACK => Self::ShutdownAck,
            ChunkType::SHUTDOWN_COMPLETE => Self::ShutdownComplete,
            ChunkType::ERROR => Self::Error,
            ChunkType::ABORT => Self::Abort,
            _ => Self::Data,
        }
    }
}

/// What a packet says of its connection, in the bits where a TCP segment's stand: SYN if it
/// opens one (INIT), RST if it begins with ABORT, and above them the event.
///
/// No bit is set in a packet without a chunk, and in an INIT that no receiver takes: one with
/// a verification tag (RFC 9260 section 8.5.1) or with another chunk behind it (section 3).
#[inline]
pub fn signals(packet: &Packet<&[u8]>) -> tcp::Flags {
    let [Some(first), second] = packet.leading() else {
        return tcp::Flags::default();
    };
    let (event, bits) = match (Event::of(first), second) {
        (Event::Init, Some(_)) => return tcp::Flags::default(),
        (Event::Init, None) if packet.tag() != 0 => return tcp::Flags::default(),
        (Event::Init, None) => (Event::Init, tcp::Flags::SYN),
        (Event::Abort, _) => (Event::Abort, tcp::Flags::RST),
        (Event::CookieEcho | Event::CookieAck, Some(ChunkType::ABORT)) => {
            (Event::Abort, tcp::Flags::default())
        }
        (event, _) => (event, tcp::Flags::default()),
    };
    bits.and(tcp::Flags((event as u8 + 1) << SHIFT))
}

/// The state after a packet.
#[inline]
pub fn next(state: State, direction: Direction, event: Event) -> State {
    TABLE[direction as usize][event as usize][state as usize]
}

#[rustfmt::skip]
const TABLE: [[[State; 14]; 10]; 3] = [
    [ // Input:   NO  I1  IN  CS  CR  CW  CO  CE  ES  SS  SR  SA  RJ  CL
        /* d  */ [ES, I1, IN, CS, CR, CW, CO, CE, ES, SS, SR, SA, RJ, CL],
        /* i  */ [I1, IN, IN, CS, CR, CW, CO, CE, ES, SS, SR, SA, IN, IN],
        /* ia */ [CW, CW, CW, CS, CR, CO, CO, CE, ES, SS, SR, SA, RJ, CL],
        /* ce */ [CR, IN, IN, CR, CR, CW, CO, CE, ES, SS, SR, SA, RJ, CL],
        /* ca */ [ES, I1, IN, CS, CR, CW, CO, ES, ES, SS, SR, SA, RJ, CL],
        /* s  */ [SR, I1, IN, CS, CR, CW, CO, CE, SR, SS, SR, SA, RJ, CL],
        /* sa */ [CL, IN, IN, CS, CR, CW, CO, CE, ES, CL, SR, CL, RJ, CL],
        /* sc */ [CL, CL, CL, CS, CR, CW, CO, CE, ES, SS, SR, CL, RJ, CL],
        /* er */ [CL, I1, IN, CS, CR, CW, CO, CL, ES, SS, SR, SA, RJ, CL],
        /* ab */ [CL, CL, CL, CL, CL, RJ, CL, CL, CL, CL, CL, CL, CL, CL],
    ],
    [ // Output
        /* d  */ [ES, I1, IN, CS, CR, CW, CO, CE, ES, SS, SR, SA, RJ, CL],
        /* i  */ [CW, CW, CW, CW, CW, CW, CW, CW, ES, CW, CW, CW, CW, CW],
        /* ia */ [CS, CS, CS, CS, CR, CW, CO, CE, ES, SS, SR, SA, RJ, CL],
        /* ce */ [CE, CE, CE, CE, CE, CE, CE, CE, ES, SS, SR, SA, RJ, CL],
        /* ca */ [ES, ES, ES, ES, ES, ES, ES, ES, ES, SS, SR, SA, RJ, CL],
        /* s  */ [SS, SS, SS, SS, SS, SS, SS, SS, SS, SS, SR, SA, RJ, CL],
        /* sa */ [SA, SA, SA, SA, SA, CW, CO, CE, ES, SA, SA, SA, RJ, CL],
        /* sc */ [CL, I1, IN, CS, CR, CW, CO, CE, ES, SS, SR, SA, RJ, CL],
        /* er */ [CL, CL, CL, CL, CL, CW, CO, CE, ES, SS, SR, SA, RJ, CL],
        /* ab */ [CL, RJ, CL, CL, CL, CL, CL, CL, CL, CL, CL, CL, CL, CL],
    ],
    [ // InputOnly
        /* d  */ [ES, I1, IN, CS, CR, ES, CO, CE, ES, SS, SR, SA, RJ, CL],
        /* i  */ [I1, IN, IN, IN, IN, IN, CO, CE, ES, SS, SR, SA, IN, IN],
        /* ia */ [CE, CE, CE, CE, CE, CE, CO, CE, ES, SS, SR, SA, RJ, CL],
        /* ce */ [ES, ES, ES, ES, ES, ES, CO, CE, ES, SS, SR, SA, RJ, CL],
        /* ca */ [ES, I1, IN, ES, ES, CW, ES, ES, ES, SS, SR, SA, RJ, CL],
        /* s  */ [SR, I1, IN, CS, CR, CW, CO, CE, SR, SS, SR, SA, RJ, CL],
        /* sa */ [CL, IN, IN, CS, CR, CW, CO, CE, CL, CL, SR, CL, RJ, CL],
        /* sc */ [CL, CL, CL, CL, CL, CW, CO, CE, ES, SS, CL, CL, RJ, CL],
        /* er */ [CL, I1, IN, CS, CR, CW, CO, CE, ES, SS, SR, SA, RJ, CL],
        /* ab */ [CL, CL, CL, CL, CL, RJ, CL, CL, CL, CL, CL, CL, CL, CL],
    ],
];

#[cfg(test)]
mod tests;
