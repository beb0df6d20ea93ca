//! `dpdk/`: the daemon itself on `net_pcap`, whose frames come from memory, beside `dpdk-testpmd` on
//! the same trace.
//!
//! Both run on the same core, one of them stopped at any time, in turns of a fraction of a second: what
//! slows the machine down slows both. Counted is the time that the forwarding thread had on the
//! processor, by the kernel's account of it, and the packets by each one's own counters.

use std::time::Duration;

use benches::clock::Figures;
use benches::flows::{Learned, REALS};
use benches::source::{Drawn, read_learned};
use benches::{Case, Direction, Family, Mode, Source, trace};
use serde_json::Value;

use crate::Options;
use crate::daemon::{self, Daemon, counter, drops};
use crate::process::{Folder, cores};
use crate::report::{Report, Row};
use crate::testpmd::{self, Testpmd};

/// Octets of a buffer in IPv4: frames of 64 are short, and there are millions of them.
const MBUF_SIZE: u16 = 384;
/// In IPv6 it is for the smallest MTU (RFC 8200 section 5): on less the kernel's side of a port does not
/// speak it.
const MBUF_SIZE_V6: u16 = 1280 + 26;
/// What an mbuf takes beside that, at most.
const MBUF_HEAD: u32 = 448;
/// Buffers beside those that hold the trace.
const UNDER_WAY: u32 = 8192;
/// Flows whose frames are looked at, one by one.
const CHECKED: u32 = 2048;

/// A trace of so many frames, of so many flows.
#[derive(Clone, Copy, Debug)]
struct Trace {
    name: &'static str,
    family: Family,
    direction: Direction,
    flows: u32,
    frames: u32,
}

impl Trace {
    /// A frame of each flow's client; of `both`, one of its real server, too.
    const fn of(family: Family, direction: Direction, flows: u32) -> Self {
        let frames = match direction {
            Direction::Both => 2 * flows,
            Direction::Forward | Direction::Reverse => flows,
        };
        Self {
            name: "dpdk/net-pcap",
            family,
            direction,
            flows,
            frames,
        }
    }

    fn case(self, mode: Mode) -> Case {
        Case {
            mode,
            family: self.family,
            direction: self.direction,
        }
    }

    /// The modes whose packets can be in a file before the daemon runs: FULLNAT's replies can't, they
    /// go to a port that it chooses at random.
    fn modes(self) -> &'static [Mode] {
        match self.direction {
            Direction::Forward => &Mode::ALL,
            Direction::Both | Direction::Reverse => &[Mode::Nat],
        }
    }

    fn mbuf_size(self) -> u16 {
        match self.family {
            Family::V4 => MBUF_SIZE,
            Family::V6 => MBUF_SIZE_V6,
        }
    }

    /// All buffers: a trace is read into them once, and stays.
    fn mbufs(self) -> u32 {
        self.frames + UNDER_WAY
    }

    /// 2 MiB pages for them, and for what else DPDK wants.
    fn hugepages(self) -> u32 {
        self.mbufs() / ((2 << 20) / (u32::from(self.mbuf_size()) + MBUF_HEAD)) + 64
    }

    fn packets(self) -> Vec<Drawn> {
        match self.direction {
            Direction::Both => trace::both(self.flows),
            Direction::Forward | Direction::Reverse => trace::forward(self.flows, self.frames),
        }
    }
}

const FLOWS: [u32; 3] = [1_000, 60_000, 1_000_000];
/// Where clients' packets are alone: on the way to where the trace, which both programs read, leaves the
/// last-level cache, there are numbers of flows at which it does so because of the daemon's tables.
const MORE_FLOWS: [u32; 3] = [30_000, 120_000, 180_000];
/// What the driver's reading of a long trace costs, where the tables are small.
const fn long(family: Family) -> Trace {
    Trace {
        name: "dpdk/net-pcap-few-flows",
        frames: 60_000,
        ..Trace::of(family, Direction::Forward, 1_000)
    }
}

/// What there is to read, one after the other.
fn traces(quick: bool) -> Vec<Trace> {
    let all = |family, direction| FLOWS.map(|flows| Trace::of(family, direction, flows));
    let mut traces = all(Family::V4, Direction::Forward).to_vec();
    if !quick {
        let more = |family| MORE_FLOWS.map(|flows| Trace::of(family, Direction::Forward, flows));
        traces.extend(more(Family::V4));
        traces.push(long(Family::V4));
        traces.extend(all(Family::V6, Direction::Forward));
        traces.extend(more(Family::V6));
        traces.push(long(Family::V6));
        traces.extend(all(Family::V4, Direction::Both));
        // Half as many: a million of such buffers are what fits.
        let fewer =
            |trace: Trace| Trace::of(trace.family, trace.direction, trace.flows.min(500_000));
        traces.extend(all(Family::V6, Direction::Both).map(fewer));
    }
    traces
}

/// Packets that a worker may take in or send while its counters are read.
const UNREAD: u64 = 4096;
const WINDOW: Duration = Duration::from_millis(150);

/// Measures every mode; says why, where it can't.
pub(crate) fn measure(options: &Options, report: &mut Report) {
    if let Err(reason) = all(options, report) {
        report.left_out("dpdk", &reason);
    }
}

fn all(options: &Options, report: &mut Report) -> Result<(), String> {
    match cores()[..] {
        [control, .., worker] => on(options, report, [control, worker]),
        _ => Err("it needs two cores".to_owned()),
    }
}

fn on(options: &Options, report: &mut Report, cores: [u16; 2]) -> Result<(), String> {
    let windows = if options.quick { 4 } else { 12 };
    report.title("dpdk: sluiced on net_pcap, ns a packet on its thread; floor: testpmd macswap");
    let traces = traces(options.quick);
    let mut checks = Checks::default();
    for trace in &traces {
        for &mode in trace.modes() {
            checks.of(trace.case(mode), cores)?;
        }
    }
    for trace in traces {
        let folder = Folder::new("dpdk")?;
        let file = folder.file("in.pcap");
        let packets = trace.packets();
        // What is in the file is the same for every mode of the trace.
        let source = checks.source(trace.case(trace.modes()[0]), trace.flows, &packets);
        trace::write(&file, &source, &packets).map_err(|error| error.to_string())?;
        drop((source, packets));
        let device = format!("net_pcap0,rx_pcap={},infinite_rx=1", file.display());
        let mut other = Testpmd::start(
            &testpmd::Setup {
                forward: "macswap",
                device: device.clone(),
                mbufs: trace.mbufs(),
                mbuf_size: trace.mbuf_size(),
                cores,
                hugepages: trace.hugepages(),
                more: Vec::new(),
            },
            &folder,
        )?;
        other.process.pause(true)?;
        for &mode in trace.modes() {
            let setup = setup(mode, &device, trace, cores[1]);
            let daemon = Daemon::start(&setup, &folder)?;
            one(mode, trace, windows, &daemon, &mut other, report)?;
        }
    }
    Ok(())
}

fn setup(mode: Mode, device: &str, trace: Trace, core: u16) -> daemon::Setup {
    let flows = trace.flows;
    daemon::Setup {
        case: trace.case(mode),
        device: device.to_owned(),
        connections: flows + flows / 4 + 1024,
        mbufs: trace.mbufs(),
        mbuf_size: trace.mbuf_size(),
        core,
        hugepages: trace.hugepages() + flows / 5_000,
    }
}

/// Which answers were looked at, and what that told.
#[derive(Debug, Default)]
struct Checks {
    /// With the real servers of the first flows, in the order in which they were opened: `rr` goes on
    /// like that.
    done: Vec<(Case, Vec<u8>)>,
}

impl Checks {
    /// What comes out, frame by frame, of what went in, if it was not looked at before.
    ///
    /// # Panics
    /// If it is not what it should be.
    fn of(&mut self, case: Case, cores: [u16; 2]) -> Result<(), String> {
        if self.done.iter().any(|(done, _)| *done == case) {
            return Ok(());
        }
        let trace = Trace::of(case.family, case.direction, CHECKED);
        let packets = trace.packets();
        let mut source = self.source(case, CHECKED, &packets);
        let frames = through(case.mode, trace, &source, &packets, cores)?;
        let (sent, due) = (frames.len(), packets.len());
        assert_eq!(sent, due, "{case}: every packet comes out");
        if case.direction == Direction::Forward {
            let flows = packets.iter().map(|drawn| drawn.flow);
            source.learn(flows, frames.iter().map(Vec::as_slice));
        }
        for (&drawn, frame) in packets.iter().zip(&frames) {
            source.assert_right(drawn, frame);
        }
        let opened = packets.iter().zip(&frames).filter(|(it, _)| !it.reverse);
        let reals = opened.map(|(_, frame)| read_learned(case.family, frame).real);
        let rotation = rotation(case, &reals.collect::<Vec<_>>());
        self.done.push((case, rotation));
        Ok(())
    }

    /// What `packets` are written from; replies, from the real servers that the flows will have, as the
    /// check without replies has told. A reply from another one would belong to no connection.
    fn source(&self, case: Case, flows: u32, packets: &[Drawn]) -> Source {
        let mut source = Source::new(case, flows);
        if case.direction != Direction::Forward {
            let forward = Case {
                direction: Direction::Forward,
                ..case
            };
            let known = self.done.iter().find(|(done, _)| *done == forward);
            let (_, rotation) = known.expect("traces without replies are checked before");
            let opened = packets.iter().filter(|drawn| !drawn.reverse);
            for (drawn, &real) in opened.zip(rotation.iter().cycle()) {
                let learned = Learned {
                    real,
                    ..Learned::default()
                };
                source.know(drawn.flow, learned);
            }
        }
        source
    }
}

/// A daemon of its own reads `packets` once: what it sent, without its announcements.
fn through(
    mode: Mode,
    trace: Trace,
    source: &Source,
    packets: &[Drawn],
    cores: [u16; 2],
) -> Result<Vec<Vec<u8>>, String> {
    let folder = Folder::new("dpdk-check")?;
    let (from, to) = (folder.file("in.pcap"), folder.file("out.pcap"));
    trace::write(&from, source, packets).map_err(|error| error.to_string())?;
    let (from, out) = (from.display(), to.display());
    let device = format!("net_pcap0,rx_pcap={from},tx_pcap={out}");
    let mut daemon = Daemon::start(&setup(mode, &device, trace, cores[1]), &folder)?;
    for _ in 0..200 {
        if counter(&daemon.status()?, "rx") >= u64::from(trace.frames) {
            break;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    daemon.process.end()?;
    let mut frames = trace::read(&to).map_err(|error| format!("what came out: {error}"))?;
    // ARP, ICMPv6, and what the kernel says to multicast routers behind hop-by-hop options: control
    // announces its addresses, and those frames are no packets of anybody's.
    frames.retain(|frame| match frame[12..14] {
        [0x08, 0x00] => true,
        [0x86, 0xdd] => !matches!(frame[20], 0 | 58),
        _ => false,
    });
    Ok(frames)
}

/// What `reals` go round in.
///
/// # Panics
/// If they don't, or not every real server gets its turn.
fn rotation(case: Case, reals: &[u8]) -> Vec<u8> {
    let rotation = reals[..usize::from(REALS)].to_vec();
    let mut sorted = rotation.clone();
    sorted.sort_unstable();
    assert!(sorted.into_iter().eq(0..REALS), "{case}, rr: {rotation:?}");
    let due = rotation.iter().cycle().take(reals.len());
    assert!(reals.iter().eq(due), "{case}, rr goes round: {reals:?}");
    rotation
}

fn one(
    mode: Mode,
    trace: Trace,
    windows: usize,
    daemon: &Daemon,
    other: &mut Testpmd,
    report: &mut Report,
) -> Result<(), String> {
    let mut ours = Vec::new();
    let mut theirs = Vec::new();
    // The first round of the trace opens the connections.
    until_open(daemon, trace.flows)?;
    for round in 0..=windows {
        let before = (daemon.process.on_cpu("worker-0")?, daemon.status()?);
        std::thread::sleep(WINDOW);
        let after = (daemon.process.on_cpu("worker-0")?, daemon.status()?);
        daemon.process.pause(true)?;
        let packets = counter(&after.1, "rx") - counter(&before.1, "rx");
        let dropped = drops(&after.1);
        assert!(dropped.is_empty(), "{mode:?}: {dropped:?}");
        assert_forwarded(mode, &after.1);
        let our_figure = each(after.0 - before.0, packets);

        other.process.pause(false)?;
        let before = (other.on_cpu()?, other.counter("RX-packets")?);
        std::thread::sleep(WINDOW);
        let after = (other.on_cpu()?, other.counter("RX-packets")?);
        other.process.pause(true)?;
        let their_figure = each(after.0 - before.0, after.1 - before.1);
        daemon.process.pause(false)?;
        // A window in which others had the core all the time says nothing.
        if let (1.., Some(our_figure), Some(their_figure)) = (round, our_figure, their_figure) {
            ours.push(our_figure);
            theirs.push(their_figure);
        }
    }
    if ours.is_empty() {
        let case = trace.case(mode);
        return Err(format!("{case}: others had the core all the time"));
    }
    let (ours, theirs) = (Figures::of(ours), Figures::of(theirs));
    let row = Row::of(trace.name, trace.case(mode), trace.flows);
    report.add(row.timed(ours, Some(theirs)));
    Ok(())
}

/// # Panics
/// If not all that came went on but what was under way while the counters were read.
fn assert_forwarded(mode: Mode, status: &Value) {
    let (came, went) = (counter(status, "rx"), counter(status, "transmit"));
    let apart = came.abs_diff(went);
    assert!(apart <= UNREAD, "{mode:?}: {came} came, {went} went on");
}

fn until_open(daemon: &Daemon, flows: u32) -> Result<(), String> {
    for _ in 0..1000 {
        if counter(&daemon.status()?, "connections-made") >= u64::from(flows) {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    Err(format!(
        "{flows} connections were not opened in ten seconds"
    ))
}

#[expect(clippy::cast_precision_loss, reason = "counts of a second")]
fn each(nanos: u64, packets: u64) -> Option<f64> {
    (nanos > 0 && packets > 0).then(|| nanos as f64 / packets as f64)
}

#[cfg(test)]
mod tests {
    use benches::BenchFrame;
    use dataplane::port::Frame;

    use super::*;

    #[test]
    fn traces_of_replies_come_after_the_checks_they_need() {
        assert!(
            traces(true)
                .iter()
                .all(|trace| trace.name == "dpdk/net-pcap")
        );
        let mut checked = Vec::new();
        for trace in traces(false) {
            for &mode in trace.modes() {
                let forward = Case {
                    direction: Direction::Forward,
                    ..trace.case(mode)
                };
                match trace.direction {
                    Direction::Forward => checked.push(forward),
                    _ => assert!(checked.contains(&forward), "{forward}"),
                }
            }
            assert_eq!(trace.packets().len(), trace.frames as usize, "{trace:?}");
        }
        assert!(checked.len() > 2 * Mode::ALL.len());
    }

    #[test]
    fn replies_are_from_where_the_rotation_says() {
        let trace = Trace::of(Family::V6, Direction::Both, 40);
        let case = trace.case(Mode::Nat);
        let reals: Vec<u8> = (0..REALS).rev().cycle().take(40).collect();
        let forward = Case {
            direction: Direction::Forward,
            ..case
        };
        let checks = Checks {
            done: vec![(forward, rotation(case, &reals))],
        };
        let packets = trace.packets();
        let source = checks.source(case, 40, &packets);
        let opened: Vec<_> = packets.iter().filter(|it| !it.reverse).collect();
        assert_eq!(opened.len(), 40);
        let mut frame = BenchFrame::empty();
        for (drawn, real) in opened.into_iter().zip(reals) {
            let reply = Drawn {
                reverse: true,
                ..*drawn
            };
            source.write(&mut frame, reply);
            assert_eq!(frame.bytes()[37], real, "the source of flow {}", drawn.flow);
        }
    }

    #[test]
    #[should_panic(expected = "rr goes round")]
    fn a_real_out_of_turn_is_found() {
        let mut reals: Vec<u8> = (0..REALS).cycle().take(40).collect();
        reals.swap(30, 31);
        rotation(Case::PLAIN, &reals);
    }
}
