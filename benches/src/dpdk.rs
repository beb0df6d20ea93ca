//! `dpdk/`: the daemon itself on `net_pcap`, whose frames come from memory, beside `dpdk-testpmd` on
//! the same trace.
//!
//! Both run on the same core, one of them stopped at any time, in turns of a fraction of a second: what
//! slows the machine down slows both. Counted is the time that the forwarding thread had on the
//! processor, by the kernel's account of it, and the packets by each one's own counters.

use std::time::Duration;

use benches::clock::Figures;
use benches::flows::expected_forward;
use benches::source::{normal, read_learned};
use benches::{Case, Mode, trace};
use serde_json::Value;

use crate::Options;
use crate::daemon::{self, Daemon, counter, drops};
use crate::process::{Folder, cores};
use crate::report::{Report, Row};
use crate::testpmd::{self, Testpmd};

/// Octets of a buffer: frames of 64 are short, and there are a million of them.
const MBUF_SIZE: u16 = 384;
/// Buffers beside those that hold the trace.
const UNDER_WAY: u32 = 8192;
/// Frames that are looked at, one by one.
const CHECKED: u32 = 2048;
/// A trace of so many frames, of so many flows.
#[derive(Clone, Copy, Debug)]
struct Trace {
    name: &'static str,
    flows: u32,
    frames: u32,
}

impl Trace {
    /// A frame of each flow.
    const fn of(flows: u32) -> Self {
        Self {
            name: "dpdk/net-pcap",
            flows,
            frames: flows,
        }
    }
}

const TRACES: [Trace; 3] = [Trace::of(1_000), Trace::of(60_000), Trace::of(1_000_000)];
/// What the driver's reading of a long trace costs, where the tables are small.
const LONG: Trace = Trace {
    name: "dpdk/net-pcap-few-flows",
    flows: 1_000,
    frames: 60_000,
};
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
    for mode in Mode::ALL {
        check(mode, cores)?;
    }
    let more = (!options.quick).then_some(LONG);
    for trace in TRACES.into_iter().chain(more) {
        let folder = Folder::new("dpdk")?;
        let file = folder.file("in.pcap");
        let mut order = trace::order(trace.frames);
        order.iter_mut().for_each(|flow| *flow %= trace.flows);
        trace::write(&file, &order).map_err(|error| error.to_string())?;
        let device = format!("net_pcap0,rx_pcap={},infinite_rx=1", file.display());
        let mbufs = trace.frames + UNDER_WAY;
        let hugepages = mbufs / 2800 + 64;
        let mut other = Testpmd::start(
            &testpmd::Setup {
                forward: "macswap",
                device: device.clone(),
                mbufs,
                mbuf_size: MBUF_SIZE,
                cores,
                hugepages,
                more: Vec::new(),
            },
            &folder,
        )?;
        other.process.pause(true)?;
        for mode in Mode::ALL {
            let setup = setup(mode, &device, trace, cores[1]);
            let daemon = Daemon::start(&setup, &folder)?;
            one(mode, trace, windows, &daemon, &mut other, report)?;
        }
    }
    Ok(())
}

fn setup(mode: Mode, device: &str, trace: Trace, core: u16) -> daemon::Setup {
    let (flows, mbufs) = (trace.flows, trace.frames + UNDER_WAY);
    daemon::Setup {
        mode,
        device: device.to_owned(),
        connections: flows + flows / 4 + 1024,
        mbufs,
        mbuf_size: MBUF_SIZE,
        core,
        hugepages: mbufs / 2800 + flows / 10_000 + 64,
    }
}

/// What comes out, frame by frame, of what went in.
fn check(mode: Mode, cores: [u16; 2]) -> Result<(), String> {
    let folder = Folder::new("dpdk-check")?;
    let (from, to) = (folder.file("in.pcap"), folder.file("out.pcap"));
    let order = trace::order(CHECKED);
    trace::write(&from, &order).map_err(|error| error.to_string())?;
    let (from, out) = (from.display(), to.display());
    let device = format!("net_pcap0,rx_pcap={from},tx_pcap={out}");
    let mut daemon = Daemon::start(&setup(mode, &device, Trace::of(CHECKED), cores[1]), &folder)?;
    for _ in 0..200 {
        if counter(&daemon.status()?, "rx") >= u64::from(CHECKED) {
            break;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    daemon.process.end()?;
    let frames = trace::read(&to).map_err(|error| format!("what came out: {error}"))?;
    // Control announces its addresses; those frames are no packets of anybody's.
    let frames: Vec<_> = frames
        .iter()
        .filter(|frame| frame[12..14] == [8, 0])
        .collect();
    let case = Case {
        mode,
        ..Case::PLAIN
    };
    let (sent, due) = (frames.len(), order.len());
    assert_eq!(sent, due, "{case}: every packet comes out");
    let mut shares = [0; 256];
    for (frame, &flow) in frames.into_iter().zip(&order) {
        let learned = read_learned(case.family, frame);
        shares[usize::from(learned.real)] += 1;
        let expected = expected_forward(case, flow, learned);
        assert_eq!(normal(frame), normal(&expected), "{case}, flow {flow}");
    }
    let each = CHECKED / u32::from(benches::flows::REALS);
    let reals = &shares[..usize::from(benches::flows::REALS)];
    assert!(reals.iter().all(|&share| share == each), "rr: {reals:?}");
    Ok(())
}

fn one(
    mode: Mode,
    Trace { name, flows, .. }: Trace,
    windows: usize,
    daemon: &Daemon,
    other: &mut Testpmd,
    report: &mut Report,
) -> Result<(), String> {
    let mut ours = Vec::new();
    let mut theirs = Vec::new();
    // The first round opens the connections.
    until_open(daemon, flows)?;
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
        if round > 0 {
            ours.push(our_figure);
            theirs.push(their_figure);
        }
    }
    let (ours, theirs) = (Figures::of(ours), Figures::of(theirs));
    let case = Case {
        mode,
        ..Case::PLAIN
    };
    let row = Row::of(name, case, flows).timed(ours, Some(theirs));
    report.add(row);
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
fn each(nanos: u64, packets: u64) -> f64 {
    nanos as f64 / packets.max(1) as f64
}
