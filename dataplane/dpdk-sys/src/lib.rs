//! A small C shim over DPDK with an ABI of its own, and its declarations.
//!
//! `shim.h` says what each function does; this file repeats it for Rust. Numbers that both
//! sides rely on are asserted twice: in `shim.c` against DPDK's headers, here against these
//! declarations. Nothing here is safe; crate `dpdk` is.

use std::ffi::{c_char, c_int};
use std::mem::{offset_of, size_of};

/// An mbuf as far as Rust reads it: its first cache line.
///
/// Never made by Rust: one lies behind each pointer that the shim hands out, and has more
/// fields behind these.
#[repr(C, align(64))]
pub struct RteMbuf {
    /// Where the buffer begins.
    pub buf_addr: *mut u8,
    iova_or_next: u64,
    /// Octets from `buf_addr` to the frame.
    pub data_off: u16,
    /// Owners of the buffer; DPDK changes it.
    pub refcnt: u16,
    /// Buffers in the chain, this one included.
    pub nb_segs: u16,
    /// DPDK's number of the port it came by.
    pub port: u16,
    /// `RX_*` for a received frame.
    pub ol_flags: u64,
    packet_type: u32,
    /// Octets of the frame in all buffers.
    pub pkt_len: u32,
    /// Octets of the frame in this buffer.
    pub data_len: u16,
    /// The stripped tag, when `RX_VLAN_STRIPPED` is set.
    pub vlan_tci: u16,
    /// The RSS hash, when `RX_RSS_HASH` is set.
    pub rss: u32,
    hash_high: u32,
    vlan_tci_outer: u16,
    /// Octets of the buffer.
    pub buf_len: u16,
    /// The pool that it goes back to.
    pub pool: *mut RteMempool,
}

// The same numbers as in shim.h, where shim.c holds them against DPDK's headers.
const _: () = {
    assert!(offset_of!(RteMbuf, buf_addr) == 0);
    assert!(offset_of!(RteMbuf, data_off) == 16);
    assert!(offset_of!(RteMbuf, refcnt) == 18);
    assert!(offset_of!(RteMbuf, nb_segs) == 20);
    assert!(offset_of!(RteMbuf, port) == 22);
    assert!(offset_of!(RteMbuf, ol_flags) == 24);
    assert!(offset_of!(RteMbuf, pkt_len) == 36);
    assert!(offset_of!(RteMbuf, data_len) == 40);
    assert!(offset_of!(RteMbuf, vlan_tci) == 42);
    assert!(offset_of!(RteMbuf, rss) == 44);
    assert!(offset_of!(RteMbuf, buf_len) == 54);
    assert!(offset_of!(RteMbuf, pool) == 56);
    assert!(size_of::<RteMbuf>() == 64);
    assert!(size_of::<PortInfo>() == 124);
    assert!(size_of::<PortSetup>() == 88);
    assert!(size_of::<PortStats>() == 64);
    assert!(size_of::<PortLink>() == 8);
};

/// A pool of mbufs; only its address matters here.
#[repr(C)]
pub struct RteMempool {
    _opaque: [u8; 0],
}

/// A ring of pointers; only its address matters here.
#[repr(C)]
pub struct RteRing {
    _opaque: [u8; 0],
}

/// `ol_flags`: [`RteMbuf::rss`] holds the hash.
pub const RX_RSS_HASH: u64 = 1 << 1;
/// `ol_flags` masked by [`RX_L4_MASK`]: the transport checksum is wrong.
pub const RX_L4_BAD: u64 = 1 << 3;
/// What `ol_flags` says of the transport checksum.
pub const RX_L4_MASK: u64 = (1 << 3) | (1 << 8);
/// `ol_flags` masked by [`RX_IP_MASK`]: the IPv4 header checksum is wrong.
pub const RX_IP_BAD: u64 = 1 << 4;
/// What `ol_flags` says of the IPv4 header checksum.
pub const RX_IP_MASK: u64 = (1 << 4) | (1 << 7);
/// `ol_flags`: the device took a VLAN tag off.
pub const RX_VLAN_STRIPPED: u64 = 1 << 6;

/// Octets in front of a received frame.
pub const HEADROOM: u16 = 128;
/// Octets of the longest RSS key.
pub const RSS_KEY_MAX: usize = 64;
/// Entries of the largest redirection table.
pub const RETA_MAX: usize = 2048;
/// What [`shim_lcore_id`] says of a thread that DPDK does not know.
pub const NO_LCORE: u32 = u32::MAX;
/// Any NUMA node.
pub const ANY_SOCKET: i32 = -1;

/// RSS hashes the addresses of IPv4 frames, fragments included.
pub const RSS_IPV4: u32 = 1;
/// RSS hashes addresses and ports of TCP over IPv4.
pub const RSS_IPV4_TCP: u32 = 2;
/// RSS hashes addresses and ports of UDP over IPv4.
pub const RSS_IPV4_UDP: u32 = 4;
/// RSS hashes the addresses of IPv6 frames, fragments included.
pub const RSS_IPV6: u32 = 8;
/// RSS hashes addresses and ports of TCP over IPv6.
pub const RSS_IPV6_TCP: u32 = 16;
/// RSS hashes addresses and ports of UDP over IPv6.
pub const RSS_IPV6_UDP: u32 = 32;
/// RSS hashes addresses and ports of SCTP over IPv4.
pub const RSS_IPV4_SCTP: u32 = 64;
/// RSS hashes addresses and ports of SCTP over IPv6.
pub const RSS_IPV6_SCTP: u32 = 128;

/// `struct shim_port_info`.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct PortInfo {
    /// Driver's name, ended by a zero.
    pub driver: [u8; 32],
    /// Device's name, ended by a zero.
    pub device: [u8; 64],
    /// NUMA node, or [`ANY_SOCKET`].
    pub socket: i32,
    /// Interface of the kernel behind it, 0 for none.
    pub if_index: u32,
    /// Octets of the largest frame.
    pub max_frame: u32,
    /// Smallest MTU.
    pub min_mtu: u16,
    /// Largest MTU.
    pub max_mtu: u16,
    /// RX queues it can have.
    pub max_rx_queues: u16,
    /// TX queues it can have.
    pub max_tx_queues: u16,
    /// Entries of its redirection table, 0 for none.
    pub reta_size: u16,
    /// Octets of its RSS key, 0 where it does not say.
    pub hash_key_size: u8,
    /// 1 when it can write the RSS hash into the mbuf.
    pub reports_hash: u8,
    /// `RSS_*` that it says it has.
    pub rss_types: u32,
}

/// `struct shim_port_setup`.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct PortSetup {
    /// Where received frames take their buffers.
    pub pool: *mut RteMempool,
    /// In: `RSS_*` wanted; out: those programmed.
    pub rss_types: u32,
    /// Queue pairs.
    pub queues: u16,
    /// In: wanted, 0 for the driver's choice; out: what there is.
    pub rx_descriptors: u16,
    /// The same for sending.
    pub tx_descriptors: u16,
    /// Largest packet without link header, octets.
    pub mtu: u16,
    /// Octets used of `rss_key`; 0 for the driver's own key.
    pub rss_key_len: u8,
    /// The Toeplitz key.
    pub rss_key: [u8; RSS_KEY_MAX],
    /// Out: 1 when frames will carry their hash.
    pub reports_hash: u8,
    /// Out: which step failed, `STEP_*`.
    pub step: u8,
}

/// [`PortSetup::step`]: asking the device what it can do.
pub const STEP_INFO: u8 = 0;
/// [`PortSetup::step`]: general configuration.
pub const STEP_CONFIGURE: u8 = 1;
/// [`PortSetup::step`]: number of descriptors.
pub const STEP_DESCRIPTORS: u8 = 2;
/// [`PortSetup::step`]: a receive queue.
pub const STEP_RX_QUEUE: u8 = 3;
/// [`PortSetup::step`]: a transmit queue.
pub const STEP_TX_QUEUE: u8 = 4;

/// `struct shim_port_stats`: since the device started.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct PortStats {
    /// Frames received.
    pub rx_packets: u64,
    /// Frames sent.
    pub tx_packets: u64,
    /// Octets received.
    pub rx_bytes: u64,
    /// Octets sent.
    pub tx_bytes: u64,
    /// Frames lost because a queue was full.
    pub rx_missed: u64,
    /// Frames received broken.
    pub rx_errors: u64,
    /// Frames that could not be sent.
    pub tx_errors: u64,
    /// Times that no buffer was left for a frame.
    pub rx_no_mbuf: u64,
}

/// `struct shim_port_link`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct PortLink {
    /// Mb/s; 0 none, `u32::MAX` unknown.
    pub speed_mbps: u32,
    /// 1 when up.
    pub up: u8,
    /// 1 when full duplex.
    pub full_duplex: u8,
}

// The library that build.rs makes; those of DPDK are named there.
unsafe extern "C" {
    /// Sends DPDK's messages to a bounded buffer from now on.
    pub fn shim_log_capture() -> c_int;
    /// Copies the newest kept messages to `to` (at most `room` octets), forgets them all, and
    /// says how many octets it copied.
    pub fn shim_log_take(to: *mut u8, room: usize) -> usize;

    /// `rte_eal_init`; the strings must stay for the life of the process.
    pub fn shim_eal_init(argc: c_int, argv: *mut *mut c_char) -> c_int;
    /// `rte_eal_cleanup`; afterwards no pointer that DPDK gave is valid.
    pub fn shim_eal_cleanup() -> c_int;
    /// EAL's runtime folder, for the life of the process.
    pub fn shim_eal_runtime_dir() -> *const c_char;
    /// DPDK's version, static.
    pub fn shim_version() -> *const c_char;

    /// Gives the calling thread an lcore id, and with it a cache in each pool.
    pub fn shim_thread_register() -> c_int;
    /// Takes it back.
    pub fn shim_thread_unregister();
    /// The calling thread's lcore id, or [`NO_LCORE`].
    pub fn shim_lcore_id() -> u32;

    /// Octets that a pool of `count` buffers takes, about.
    pub fn shim_pool_bytes(count: u32, data_room: u16) -> u64;
    /// A new pool, or null and a negative errno in `error`.
    pub fn shim_pool_create(
        name: *const c_char,
        count: u32,
        cache: u32,
        data_room: u16,
        socket: i32,
        error: *mut c_int,
    ) -> *mut RteMempool;
    /// Frees a pool; none of its buffers may be out.
    pub fn shim_pool_free(pool: *mut RteMempool);
    /// Buffers in the pool, those in caches included.
    pub fn shim_pool_available(pool: *const RteMempool) -> u32;
    /// Buffers that belong to the pool.
    pub fn shim_pool_size(pool: *const RteMempool) -> u32;
    /// One empty buffer, or null.
    pub fn shim_mbuf_alloc(pool: *mut RteMempool) -> *mut RteMbuf;
    /// `n` empty buffers, or none and a negative errno.
    pub fn shim_mbuf_alloc_bulk(pool: *mut RteMempool, mbufs: *mut *mut RteMbuf, n: u32) -> c_int;
    /// Gives a frame's buffers back.
    pub fn shim_mbuf_free(mbuf: *mut RteMbuf);
    /// Gives `n` frames' buffers back.
    pub fn shim_mbuf_free_bulk(mbufs: *mut *mut RteMbuf, n: u32);
    /// Gives all buffers of a frame but its first back.
    pub fn shim_mbuf_drop_tail(mbuf: *mut RteMbuf);

    /// Fills up to `n` slots with frames that are the caller's from then on.
    pub fn shim_rx_burst(port: u16, queue: u16, mbufs: *mut *mut RteMbuf, n: u16) -> u16;
    /// Takes frames from the front; those that it took are the driver's.
    pub fn shim_tx_burst(port: u16, queue: u16, mbufs: *mut *mut RteMbuf, n: u16) -> u16;

    /// Whether some driver takes a device of that string; plugs nothing.
    pub fn shim_dev_known(devargs: *const c_char) -> c_int;
    /// Plugs a device by its string: PCI address or `driverN,key=value`.
    pub fn shim_dev_probe(devargs: *const c_char) -> c_int;
    /// The port of a device, by the device's name.
    pub fn shim_port_find(device: *const c_char, port: *mut u16) -> c_int;
    /// Closes a stopped port, and unplugs its device when `unplug` is 1.
    pub fn shim_port_remove(port: u16, unplug: u8) -> c_int;
    /// What the device can do.
    pub fn shim_port_info(port: u16, info: *mut PortInfo) -> c_int;
    /// Configures a stopped port and its queues.
    pub fn shim_port_setup(port: u16, setup: *mut PortSetup) -> c_int;
    /// Starts a configured port.
    pub fn shim_port_start(port: u16) -> c_int;
    /// Stops it; no thread may be in a burst call of it.
    pub fn shim_port_stop(port: u16) -> c_int;
    /// Sets the MTU, octets.
    pub fn shim_port_mtu_set(port: u16, mtu: u16) -> c_int;
    /// Reads the MTU, octets.
    pub fn shim_port_mtu_get(port: u16, mtu: *mut u16) -> c_int;
    /// Reads the port's first MAC, 6 octets.
    pub fn shim_port_mac_get(port: u16, mac: *mut u8) -> c_int;
    /// Sets it.
    pub fn shim_port_mac_set(port: u16, mac: *const u8) -> c_int;
    /// Receive frames for any MAC (1) or not (0).
    pub fn shim_port_promiscuous(port: u16, on: u8) -> c_int;
    /// Receive all multicast (1) or only what was asked for (0).
    pub fn shim_port_allmulticast(port: u16, on: u8) -> c_int;
    /// The link's state, without waiting for it.
    pub fn shim_port_link(port: u16, link: *mut PortLink) -> c_int;
    /// The device's counters.
    pub fn shim_port_stats(port: u16, stats: *mut PortStats) -> c_int;
    /// The RSS key (`key_len` octets of room) and `RSS_*` in force.
    pub fn shim_port_rss_get(port: u16, key: *mut u8, key_len: u8, types: *mut u32) -> c_int;
    /// Writes a redirection table of `n` entries.
    pub fn shim_port_reta_set(port: u16, queues: *const u16, n: u16) -> c_int;
    /// Reads it.
    pub fn shim_port_reta_get(port: u16, queues: *mut u16, n: u16) -> c_int;

    /// A ring for one producer and one consumer, or null and a negative errno in `error`.
    pub fn shim_ring_create(
        name: *const c_char,
        slots: u32,
        socket: i32,
        error: *mut c_int,
    ) -> *mut RteRing;
    /// Frees an empty ring that nobody uses any more.
    pub fn shim_ring_free(ring: *mut RteRing);
    /// Takes up to `n` frames out.
    pub fn shim_ring_take(ring: *mut RteRing, mbufs: *mut *mut RteMbuf, n: u32) -> u32;
    /// Makes a port whose queues are rings; the arrays have `queues` entries.
    pub fn shim_ring_port(
        name: *const c_char,
        rx: *mut *mut RteRing,
        tx: *mut *mut RteRing,
        queues: u16,
        port: *mut u16,
    ) -> c_int;
}
