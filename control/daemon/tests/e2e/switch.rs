//! A switch with VLANs, for which the kernel may have no device: a trunk, whose frames are
//! tagged, and access ports, whose frames are not. It reads and writes the bytes of tags itself,
//! so that nothing here can be wrong in the way that the director is.
//!
//! ```text
//!   br0 ---- trunk | switch | v10 ---- br10
//!                           | v20 ---- br20
//!                           | v0  ---- br00: frames without a VLAN
//! ```

use std::io;
use std::sync::Arc;

use tun_rs::{DeviceBuilder, Layer, SyncDevice};

/// EtherType of an 802.1Q tag (IEEE 802.1Q section 9.5).
const TAG: [u8; 2] = [0x81, 0x00];
/// What the switch says of the priority of all that it tags: 5, drop eligible.
const PRIORITY: u16 = 0xb000;
/// A frame with its Ethernet header and its tag.
const FRAME_MAX: usize = 1_518;

/// A port of the switch: its VLAN, or 0 for frames without one.
type Access = (u16, Arc<SyncDevice>);

/// Carries frames until killed. `ids` are the VLANs, with commas between.
///
/// # Errors
///
/// The devices can't be made.
pub(crate) fn run(trunk: &str, ids: &str, ready: fn() -> io::Result<()>) -> io::Result<()> {
    let trunk = tap(trunk)?;
    let mut ports: Vec<Access> = Vec::new();
    for id in ids.split(',') {
        let id = id.parse().map_err(io::Error::other)?;
        ports.push((id, tap(&format!("v{id}"))?));
    }
    for (id, port) in ports.clone() {
        let trunk = trunk.clone();
        std::thread::spawn(move || {
            each_frame(&port, |frame| {
                deliver(&tagged(frame, PRIORITY | id), &trunk)
            });
        });
    }
    std::thread::spawn(move || each_frame(&trunk, |frame| sort(frame, &ports)));
    ready()?;
    loop {
        std::thread::park();
    }
}

fn tap(name: &str) -> io::Result<Arc<SyncDevice>> {
    let device = DeviceBuilder::new().name(name).layer(Layer::L2);
    Ok(Arc::new(device.build_sync()?))
}

fn each_frame(from: &SyncDevice, mut act: impl FnMut(&[u8])) {
    let mut buffer = [0; FRAME_MAX];
    loop {
        match from.recv(&mut buffer) {
            Ok(length) => act(&buffer[..length]),
            // A device that is not up yet has nothing to give.
            Err(_) => std::thread::sleep(std::time::Duration::from_millis(1)),
        }
    }
}

fn deliver(frame: &[u8], to: &SyncDevice) {
    // The device is up or not; what it doesn't take is lost, as on any cable.
    let _ = to.send(frame);
}

/// A frame of the trunk goes to the port of its VLAN, without its tag.
fn sort(frame: &[u8], ports: &[Access]) {
    let Some((id, bare)) = untagged(frame) else {
        return;
    };
    let port = ports.iter().find(|(known, _)| *known == id);
    if let Some((_, port)) = port {
        deliver(&bare, port);
    }
}

fn tagged(frame: &[u8], tci: u16) -> Vec<u8> {
    let (macs, rest) = frame.split_at(frame.len().min(12));
    [macs, &TAG, &tci.to_be_bytes(), rest].concat()
}

/// Without its tag, which must have no priority: the director gives it none.
fn untagged(frame: &[u8]) -> Option<(u16, Vec<u8>)> {
    let (macs, rest) = frame.split_at_checked(12)?;
    match rest {
        [0x81, 0x00, high @ 0..16, low, rest @ ..] => {
            let id = u16::from_be_bytes([*high, *low]);
            Some((id, [macs, rest].concat()))
        }
        [0x81, 0x00, ..] => None,
        _ => Some((0, frame.to_vec())),
    }
}
