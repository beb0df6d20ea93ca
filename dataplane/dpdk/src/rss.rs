//! Receive-side scaling: which queue the device gives a frame.
//!
//! Nothing rests on it but speed: the owner of a connection is computed, never observed. So a
//! device without RSS, or one that only says it has it, is fine; [`RssState`] tells the truth,
//! read back from the device.

use std::fmt;

use crate::messages::check;

/// Octets of a Toeplitz key: enough for the addresses and ports of IPv6 (36, and 4 more).
pub const KEY_LEN: usize = 40;

/// What to program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RssConfig {
    /// The Toeplitz key; a device with a longer one gets zeros behind it, which no hash sees.
    pub key: [u8; KEY_LEN],
    /// The queue of each hash value modulo the table's length, a power of two. A device whose own
    /// table is longer gets it repeated.
    pub table: Vec<u16>,
}

/// Kinds of frame that the device hashes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct RssTypes(pub u32);

impl RssTypes {
    /// Addresses of IPv4, for fragments and other protocols.
    pub const IPV4: u32 = dpdk_sys::RSS_IPV4;
    /// Addresses and ports of TCP over IPv4.
    pub const IPV4_TCP: u32 = dpdk_sys::RSS_IPV4_TCP;
    /// Addresses and ports of UDP over IPv4.
    pub const IPV4_UDP: u32 = dpdk_sys::RSS_IPV4_UDP;
    /// Addresses of IPv6, for fragments and other protocols.
    pub const IPV6: u32 = dpdk_sys::RSS_IPV6;
    /// Addresses and ports of TCP over IPv6.
    pub const IPV6_TCP: u32 = dpdk_sys::RSS_IPV6_TCP;
    /// Addresses and ports of UDP over IPv6.
    pub const IPV6_UDP: u32 = dpdk_sys::RSS_IPV6_UDP;
    /// What we ask for, as far as the device has it.
    pub const WANTED: RssTypes = RssTypes(
        Self::IPV4
            | Self::IPV4_TCP
            | Self::IPV4_UDP
            | Self::IPV6
            | Self::IPV6_TCP
            | Self::IPV6_UDP
            | dpdk_sys::RSS_IPV4_SCTP
            | dpdk_sys::RSS_IPV6_SCTP,
    );

    /// Whether all of `mask` are there.
    pub fn all(self, mask: u32) -> bool {
        self.0 & mask == mask
    }
}

impl fmt::Display for RssTypes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const NAMES: [&str; 8] = [
            "ipv4", "tcp4", "udp4", "ipv6", "tcp6", "udp6", "sctp4", "sctp6",
        ];
        let set = NAMES
            .iter()
            .enumerate()
            .filter(|(bit, _)| self.0 >> bit & 1 == 1);
        let names: Vec<&str> = set.map(|(_, name)| *name).collect();
        f.write_str(if names.is_empty() { "none" } else { "" })?;
        f.write_str(&names.join(" "))
    }
}

/// What the device really does.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct RssState {
    /// Kinds that it hashes.
    pub types: RssTypes,
    /// Its key's first octets, where it can be read.
    pub key: Option<[u8; KEY_LEN]>,
    /// Its table, empty where it can't be read.
    pub table: Vec<u16>,
    /// Frames carry their hash.
    pub reports_hash: bool,
    /// Key and table were read back and are ours. That the hashes are right is seen only in
    /// frames.
    pub verified: bool,
}

/// Programs the table and reads everything back; `types` and `reports_hash` are what the set-up
/// of the port got.
pub(crate) fn apply(
    port: u16,
    info: &dpdk_sys::PortInfo,
    config: Option<&RssConfig>,
    types: RssTypes,
    reports_hash: bool,
) -> RssState {
    if types.0 == 0 {
        return RssState::default();
    }
    let table_len = usize::from(info.reta_size).min(dpdk_sys::RETA_MAX);
    let want = config.and_then(|config| spread(&config.table, table_len));
    if let Some(table) = &want {
        write_table(port, table);
    }
    let table = read_table(port, table_len);
    let (key, types) = read_key(port, info.hash_key_size).unzip();
    let ours = config.is_some_and(|config| key == Some(config.key));
    let verified = ours && want.is_some_and(|want| want == table);
    RssState {
        types: types.unwrap_or_default(),
        key,
        table,
        reports_hash,
        verified,
    }
}

/// Our table repeated over the device's `len` entries; `None` where that is not the same function.
fn spread(table: &[u16], len: usize) -> Option<Vec<u16>> {
    let fits = table.len().is_power_of_two() && len > 0 && len.is_multiple_of(table.len());
    fits.then(|| table.iter().copied().cycle().take(len).collect())
}

fn write_table(port: u16, table: &[u16]) {
    let len = u16::try_from(table.len()).expect("at most RETA_MAX");
    // SAFETY: the port exists (its device is alive), and the table has `len` entries that the
    // shim only reads. Whether it worked shows when it is read back.
    unsafe { dpdk_sys::shim_port_reta_set(port, table.as_ptr(), len) };
}

fn read_table(port: u16, len: usize) -> Vec<u16> {
    let mut table = vec![0; len];
    let n = u16::try_from(len).expect("at most RETA_MAX");
    // SAFETY: the port exists, and the table has room for the `n` entries that the shim writes.
    let answer = unsafe { dpdk_sys::shim_port_reta_get(port, table.as_mut_ptr(), n) };
    if len > 0 && check(answer).is_ok() {
        table
    } else {
        Vec::new()
    }
}

fn read_key(port: u16, device_len: u8) -> Option<([u8; KEY_LEN], RssTypes)> {
    let mut key = [0u8; dpdk_sys::RSS_KEY_MAX];
    let len = if device_len == 0 { 40 } else { device_len };
    if usize::from(len) > key.len() {
        return None;
    }
    let mut types = 0;
    // SAFETY: the port exists; `key` has room for `len` octets, `types` is ours to write.
    let answer = unsafe { dpdk_sys::shim_port_rss_get(port, key.as_mut_ptr(), len, &mut types) };
    check(answer).ok()?;
    let key = key.first_chunk().copied().expect("64 octets");
    Some((key, RssTypes(types)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_table_in_the_devices() {
        assert_eq!(spread(&[0, 1], 4), Some(vec![0, 1, 0, 1]));
        assert_eq!(spread(&[0, 1, 2, 0], 4), Some(vec![0, 1, 2, 0]));
        assert_eq!(spread(&[0, 1, 2], 6), None, "not a power of two");
        assert_eq!(spread(&[0, 1, 0, 1], 2), None, "the device's is shorter");
        assert_eq!(spread(&[0], 0), None, "the device has none");
    }

    #[test]
    fn names() {
        assert_eq!(RssTypes(0).to_string(), "none");
        assert_eq!(
            RssTypes(RssTypes::IPV4 | RssTypes::IPV6_TCP).to_string(),
            "ipv4 tcp6"
        );
    }
}
