//! Every entry of IPVS's tables, what a packet says, and whole lives.

use wire::build;

use super::*;

const COLUMNS: &str = "NO I1 IN CS CR CW CO CE ES SS SR SA RJ CL";
const ROWS: &str = "d i ia ce ca s sa sc er ab";

/// IPVS's tables as the reference prints them.
const TABLES: [(Direction, &str); 3] = [
    (
        Direction::Input,
        "d   ES I1 IN CS CR CW CO CE ES SS SR SA RJ CL
         i   I1 IN IN CS CR CW CO CE ES SS SR SA IN IN
         ia  CW CW CW CS CR CO CO CE ES SS SR SA RJ CL
         ce  CR IN IN CR CR CW CO CE ES SS SR SA RJ CL
         ca  ES I1 IN CS CR CW CO ES ES SS SR SA RJ CL
         s   SR I1 IN CS CR CW CO CE SR SS SR SA RJ CL
         sa  CL IN IN CS CR CW CO CE ES CL SR CL RJ CL
         sc  CL CL CL CS CR CW CO CE ES SS SR CL RJ CL
         er  CL I1 IN CS CR CW CO CL ES SS SR SA RJ CL
         ab  CL CL CL CL CL RJ CL CL CL CL CL CL CL CL",
    ),
    (
        Direction::Output,
        "d   ES I1 IN CS CR CW CO CE ES SS SR SA RJ CL
         i   CW CW CW CW CW CW CW CW ES CW CW CW CW CW
         ia  CS CS CS CS CR CW CO CE ES SS SR SA RJ CL
         ce  CE CE CE CE CE CE CE CE ES SS SR SA RJ CL
         ca  ES ES ES ES ES ES ES ES ES SS SR SA RJ CL
         s   SS SS SS SS SS SS SS SS SS SS SR SA RJ CL
         sa  SA SA SA SA SA CW CO CE ES SA SA SA RJ CL
         sc  CL I1 IN CS CR CW CO CE ES SS SR SA RJ CL
         er  CL CL CL CL CL CW CO CE ES SS SR SA RJ CL
         ab  CL RJ CL CL CL CL CL CL CL CL CL CL CL CL",
    ),
    (
        Direction::InputOnly,
        "d   ES I1 IN CS CR ES CO CE ES SS SR SA RJ CL
         i   I1 IN IN IN IN IN CO CE ES SS SR SA IN IN
         ia  CE CE CE CE CE CE CO CE ES SS SR SA RJ CL
         ce  ES ES ES ES ES ES CO CE ES SS SR SA RJ CL
         ca  ES I1 IN ES ES CW ES ES ES SS SR SA RJ CL
         s   SR I1 IN CS CR CW CO CE SR SS SR SA RJ CL
         sa  CL IN IN CS CR CW CO CE CL CL SR CL RJ CL
         sc  CL CL CL CL CL CW CO CE ES SS CL CL RJ CL
         er  CL I1 IN CS CR CW CO CE ES SS SR SA RJ CL
         ab  CL CL CL CL CL RJ CL CL CL CL CL CL CL CL",
    ),
];

fn state(letters: &str) -> State {
    let at = COLUMNS.split(' ').position(|column| column == letters);
    State::ALL[at.expect("a column")]
}

fn event(letters: &str) -> Event {
    let at = ROWS.split(' ').position(|row| row == letters);
    Event::ALL[at.expect("a row")]
}

#[test]
fn every_state_and_event() {
    let mut entries = 0;
    for (direction, table) in TABLES {
        for row in table.lines() {
            let mut words = row.split_whitespace();
            let name = words.next().expect("a row has a name");
            for (before, after) in COLUMNS.split(' ').zip(words) {
                assert_eq!(
                    next(state(before), direction, event(name)),
                    state(after),
                    "{direction:?}: {name} in {before}"
                );
                entries += 1;
            }
        }
    }
    assert_eq!(entries, 3 * 10 * 14);
}

#[test]
fn names_timeouts_and_counts() {
    #[rustfmt::skip]
    let want = [
        ("NONE", 2), ("INIT1", 4), ("INIT", 61), ("C-SENT", 61), ("C-REPLIED", 61), ("C-WAIT", 61),
        ("COOKIE", 61), ("C-ECHOED", 61), ("ESTABLISHED", 900), ("S-SENT", 61),
        ("S-RECEIVED", 61), ("S-ACK-SENT", 61), ("REJECTED", 4), ("CLOSED", 61),
    ];
    for (number, (state, (name, seconds))) in State::ALL.into_iter().zip(want).enumerate() {
        assert_eq!(
            (state.name(), state.default_timeout_ms()),
            (name, seconds * 1000)
        );
        assert_eq!(state.is_active(), name == "ESTABLISHED", "{name}");
        assert_eq!(State::of(u8::try_from(number).expect("few")), state);
    }
    assert_eq!(State::of(14), State::None);
}

/// What a packet with these chunks and this verification tag says.
fn said(tag: u32, chunks: &[u8]) -> (Option<Event>, bool, bool) {
    let packet = build::sctp(1, 2).tag(tag);
    let packet = chunks
        .iter()
        .fold(packet, |packet, &kind| packet.chunk(kind, b"five!"));
    let bytes = packet.bytes();
    let signals = signals(&Packet::parse(&bytes[..]).expect("whole"));
    (Event::in_signals(signals), signals.syn(), signals.rst())
}

#[test]
#[rustfmt::skip]
fn what_a_packet_says() {
    use Event::*;
    let plain = |event| (Some(event), false, false);
    let cases = [
        ("nothing",                           7, &[][..],       (None, false, false)),
        ("DATA",                              7, &[0],          plain(Data)),
        ("INIT opens",                        0, &[1],          (Some(Init), true, false)),
        ("INIT with a tag (RFC 9260 8.5.1)",  7, &[1],          (None, false, false)),
        ("INIT and more (RFC 9260 3)",        0, &[1, 0],       (None, false, false)),
        ("INIT ACK",                          7, &[2],          plain(InitAck)),
        ("SACK",                              7, &[3, 0],       plain(Data)),
        ("HEARTBEAT",                         7, &[4],          plain(Data)),
        ("HEARTBEAT ACK",                     7, &[5],          plain(Data)),
        ("ABORT",                             7, &[6],          (Some(Abort), false, true)),
        ("SHUTDOWN",                          7, &[7],          plain(Shutdown)),
        ("SHUTDOWN ACK",                      7, &[8],          plain(ShutdownAck)),
        ("ERROR",                             7, &[9],          plain(Error)),
        ("COOKIE ECHO with DATA",             7, &[10, 0],      plain(CookieEcho)),
        ("COOKIE ECHO, then ABORT",           7, &[10, 6],      plain(Abort)),
        ("COOKIE ACK",                        7, &[11],         plain(CookieAck)),
        ("COOKIE ACK, then ABORT",            7, &[11, 6],      plain(Abort)),
        ("ABORT in the third place",          7, &[10, 0, 6],   plain(CookieEcho)),
        ("DATA, then ABORT",                  7, &[0, 6],       plain(Data)),
        ("ECN echo",                          7, &[12],         plain(Data)),
        ("CWR",                               7, &[13],         plain(Data)),
        ("SHUTDOWN COMPLETE",                 7, &[14],         plain(ShutdownComplete)),
        ("AUTH, ahead of INIT",               0, &[15, 1],      plain(Data)),
        ("FORWARD TSN",                       7, &[192],        plain(Data)),
        ("an unknown chunk",                  7, &[255],        plain(Data)),
    ];
    for (name, tag, chunks, want) in cases {
        assert_eq!(said(tag, chunks), want, "{name}");
    }
}

#[test]
fn every_event_survives_as_signals() {
    for event in Event::ALL {
        let signals = tcp::Flags((event as u8 + 1) << SHIFT);
        assert_eq!(Event::in_signals(signals), Some(event));
        assert!(!signals.syn() && !signals.rst());
    }
    assert_eq!(Event::in_signals(tcp::Flags(0xff)), None);
}

/// The states after a word of packets: `>` the client's, `<` the real server's.
fn life(way_in: Direction, packets: &str) -> String {
    let mut state = State::None;
    let steps = packets.split(' ').map(|packet| {
        let (side, name) = packet.split_at(1);
        let direction = match side {
            ">" => way_in,
            _ => Direction::Output,
        };
        state = next(state, direction, event(name));
        state.name()
    });
    steps.collect::<Vec<_>>().join(" ")
}

#[test]
fn lives() {
    let nat = Direction::Input;
    assert_eq!(
        life(nat, ">i <ia >ce <ca >d <d >s <sa >sc"),
        "INIT1 C-SENT C-REPLIED ESTABLISHED ESTABLISHED ESTABLISHED S-RECEIVED S-ACK-SENT CLOSED"
    );
    assert_eq!(
        life(nat, ">i <ia >ce <ca <s >sa <sc"),
        "INIT1 C-SENT C-REPLIED ESTABLISHED S-SENT CLOSED CLOSED"
    );
    assert_eq!(life(nat, ">i <ab"), "INIT1 REJECTED");
    let dr = Direction::InputOnly;
    assert_eq!(
        life(dr, ">i >ce >d >s >sc"),
        "INIT1 ESTABLISHED ESTABLISHED S-RECEIVED CLOSED"
    );
    assert_eq!(life(dr, ">i >ce >ab >i"), "INIT1 ESTABLISHED CLOSED INIT");
}
