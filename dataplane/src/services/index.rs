//! From a packet's destination, or its mark, to the service that takes it.
//!
//! Open addressing with linear probing over copy-on-write pages, at most half full: a change
//! copies one page. Only the operator puts keys in, so a packet can't lengthen a probe.

use std::net::IpAddr;

use super::ServiceId;
use crate::conn::key::halves;
use crate::pages::Pages;

/// FTP's port: a service on it takes its data connections too.
pub const FTP: u16 = 21;
/// From where active FTP's data comes.
const FTP_DATA: u16 = 20;
/// The lowest port that anybody may listen on: passive FTP's data goes to one of these.
const UNPRIVILEGED: u16 = 1024;

/// By what a service takes a packet (reference B.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    /// The packet's firewall mark.
    Mark(u32),
    /// Address and port.
    Port,
    /// The address, as FTP's data: the port is not the service's.
    Ftp,
    /// The address: the service takes all ports.
    AllPorts,
}

/// What a service is found by: protocol, address and port, or a mark and a family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Key {
    address: u128,
    /// Kind (16 bits), then protocol and port, or the mark.
    rest: u64,
}

impl Key {
    /// The key of a service on an address; port 0 takes all ports.
    #[inline]
    pub fn address(protocol: u8, address: IpAddr, port: u16) -> Self {
        let (kind, address) = match address {
            IpAddr::V4(v4) => (4u64, u128::from(v4.to_bits())),
            IpAddr::V6(v6) => (6, v6.to_bits()),
        };
        Self {
            address,
            rest: kind << 48 | u64::from(protocol) << 16 | u64::from(port),
        }
    }

    /// The key of a firewall mark, for packets of one family.
    #[inline]
    pub fn mark(mark: u32, v6: bool) -> Self {
        let kind: u64 = if v6 { 0x106 } else { 0x104 };
        Self {
            address: 0,
            rest: kind << 48 | u64::from(mark),
        }
    }

    /// Whether it is a mark's.
    fn is_mark(&self) -> bool {
        self.rest >> 56 != 0
    }

    /// Whether it is FTP's.
    fn is_ftp(&self) -> bool {
        let ftp = u64::from(wire::Protocol::TCP.0) << 16 | u64::from(FTP);
        !self.is_mark() && self.rest & 0xff_ffff == ftp
    }

    /// Whether it is an address with port 0.
    fn takes_all_ports(&self) -> bool {
        !self.is_mark() && self.rest & 0xffff == 0
    }

    /// A number whose upper bits differ for different keys.
    #[inline]
    fn hash(&self) -> u64 {
        let [low, high] = halves(self.address);
        let mixed = (low ^ self.rest.rotate_left(32)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let mixed = (mixed ^ mixed >> 32 ^ high).wrapping_mul(0xd6e8_feb8_6659_fd93);
        mixed ^ mixed >> 32
    }
}

/// Values by [`Key`]. Cloning shares the pages.
#[derive(Clone, Debug)]
pub(super) struct Table<V> {
    slots: Pages<(Key, V)>,
    /// A power of two.
    capacity: u32,
    len: u32,
}

impl<V> Default for Table<V> {
    fn default() -> Self {
        Self {
            slots: Pages::default(),
            capacity: 64,
            len: 0,
        }
    }
}

impl<V> Table<V> {
    /// The value of exactly this key.
    #[inline]
    pub(super) fn get(&self, key: &Key) -> Option<&V> {
        let mut at = self.home(key);
        loop {
            match self.slots.get(at) {
                Some((found, value)) if found == key => return Some(value),
                Some(_) => at = self.after(at),
                None => return None,
            }
        }
    }

    #[inline]
    #[expect(clippy::cast_possible_truncation, reason = "the mask cuts further")]
    fn home(&self, key: &Key) -> u32 {
        (key.hash() as u32) & (self.capacity - 1)
    }

    #[inline]
    fn after(&self, at: u32) -> u32 {
        (at + 1) & (self.capacity - 1)
    }
}

impl<V: Clone> Table<V> {
    /// Adds a key, or gives it another value; `false` if it was there already.
    pub(super) fn insert(&mut self, key: Key, value: V) -> bool {
        if (self.len + 1) * 2 > self.capacity {
            self.grow();
        }
        let new = self.place(key, value);
        self.len += u32::from(new);
        new
    }

    /// Removes a key and closes the gap it leaves; `false` if it was not there.
    pub(super) fn remove(&mut self, key: &Key) -> bool {
        let mut gap = self.home(key);
        loop {
            match self.slots.get(gap) {
                Some((found, _)) if found == key => break,
                Some(_) => gap = self.after(gap),
                None => return false,
            }
        }
        self.len -= 1;
        let mut at = self.after(gap);
        while let Some((moved, value)) = self.slots.get(at).cloned() {
            let from_home = |slot: u32| slot.wrapping_sub(self.home(&moved)) & (self.capacity - 1);
            if from_home(gap) < from_home(at) {
                self.slots.set(gap, (moved, value));
                gap = at;
            }
            at = self.after(at);
        }
        self.slots.clear(gap);
        true
    }

    /// Puts the key into its first free place; `false` if it was there already.
    fn place(&mut self, key: Key, value: V) -> bool {
        let mut at = self.home(&key);
        while let Some((found, _)) = self.slots.get(at) {
            if *found == key {
                self.slots.set(at, (key, value));
                return false;
            }
            at = self.after(at);
        }
        self.slots.set(at, (key, value));
        true
    }

    fn grow(&mut self) {
        let old = std::mem::take(&mut self.slots);
        self.capacity *= 2;
        for (_, (key, value)) in old.iter() {
            self.place(*key, value.clone());
        }
    }
}

/// The index. Cloning shares the pages.
#[derive(Clone, Debug, Default)]
pub struct ServiceIndex {
    table: Table<ServiceId>,
    marks: u32,
    ftp: u32,
    all_ports: u32,
}

impl ServiceIndex {
    /// The service with exactly this key.
    #[inline]
    pub fn get(&self, key: &Key) -> Option<ServiceId> {
        self.table.get(key).copied()
    }

    /// The service that takes a packet (reference B.1): its mark's, then that of the exact
    /// port, then FTP's if it may be its data, then that of all ports.
    #[inline]
    pub fn find(
        &self,
        mark: u32,
        protocol: u8,
        address: IpAddr,
        port: u16,
    ) -> Option<(ServiceId, By)> {
        self.find_telling(mark, protocol, address, port, |_, _| {})
    }

    /// As [`find`](Self::find); tells each thing that a service is looked for by, and what is
    /// found.
    #[inline]
    pub fn find_telling(
        &self,
        mark: u32,
        protocol: u8,
        address: IpAddr,
        port: u16,
        mut tell: impl FnMut(By, Option<ServiceId>),
    ) -> Option<(ServiceId, By)> {
        let mut by = |by, key: Key| {
            let found = self.get(&key);
            tell(by, found);
            found.map(|id| (id, by))
        };
        if mark != 0
            && self.marks != 0
            && let Some(found) = by(By::Mark(mark), Key::mark(mark, address.is_ipv6()))
        {
            return Some(found);
        }
        if let Some(found) = by(By::Port, Key::address(protocol, address, port)) {
            return Some(found);
        }
        let is_data = port == FTP_DATA || port >= UNPRIVILEGED;
        if self.ftp != 0
            && protocol == wire::Protocol::TCP.0
            && is_data
            && let Some(found) = by(By::Ftp, Key::address(protocol, address, FTP))
        {
            return Some(found);
        }
        if self.all_ports == 0 {
            return None;
        }
        by(By::AllPorts, Key::address(protocol, address, 0))
    }

    /// Services in it.
    pub fn len(&self) -> u32 {
        self.table.len
    }

    /// Whether it is empty.
    pub fn is_empty(&self) -> bool {
        self.table.len == 0
    }

    /// Adds a key, or points it to another service.
    pub fn insert(&mut self, key: Key, id: ServiceId) {
        if self.table.insert(key, id) {
            self.count(&key, 1);
        }
    }

    /// Removes a key.
    pub fn remove(&mut self, key: &Key) {
        if self.table.remove(key) {
            self.count(key, u32::MAX);
        }
    }

    /// Adds `n` (1 or, wrapping, -1) to the counts that `key` belongs to.
    fn count(&mut self, key: &Key, n: u32) {
        if key.is_mark() {
            self.marks = self.marks.wrapping_add(n);
        }
        if key.is_ftp() {
            self.ftp = self.ftp.wrapping_add(n);
        }
        if key.takes_all_ports() {
            self.all_ports = self.all_ports.wrapping_add(n);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashMap;
    use std::net::Ipv4Addr;

    const VIP: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1));

    #[test]
    fn a_mark_beats_the_port_and_the_port_beats_all_ports() {
        let mut index = ServiceIndex::default();
        index.insert(Key::mark(5, false), ServiceId(1));
        index.insert(Key::address(6, VIP, 80), ServiceId(2));
        index.insert(Key::address(6, VIP, 0), ServiceId(3));
        index.insert(Key::address(6, VIP, FTP), ServiceId(4));
        let cases = [
            ("mark", 5, 6, 80, Some((1, By::Mark(5)))),
            ("unknown mark", 7, 6, 80, Some((2, By::Port))),
            ("port", 0, 6, 80, Some((2, By::Port))),
            ("all ports", 0, 6, 81, Some((3, By::AllPorts))),
            ("other protocol", 0, 17, 80, None),
            ("FTP", 0, 6, 21, Some((4, By::Port))),
            ("FTP's active data", 0, 6, 20, Some((4, By::Ftp))),
            ("FTP's passive data", 0, 6, 1024, Some((4, By::Ftp))),
            ("no data of FTP's", 0, 6, 1023, Some((3, By::AllPorts))),
        ];
        for (name, mark, protocol, port, want) in cases {
            let want = want.map(|(id, by)| (ServiceId(id), by));
            assert_eq!(index.find(mark, protocol, VIP, port), want, "{name}");
        }
        index.remove(&Key::address(6, VIP, FTP));
        let found = index.find(0, 6, VIP, 1024);
        assert_eq!(found, Some((ServiceId(3), By::AllPorts)));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn agrees_with_a_hash_map(steps in prop::collection::vec((any::<bool>(), 0u16..300), 0..600)) {
            let (mut index, mut model) = (ServiceIndex::default(), HashMap::new());
            for (at, (add, port)) in (0u32..).zip(steps) {
                let key = Key::address(6, VIP, port);
                if add {
                    index.insert(key, ServiceId(at));
                    model.insert(key, ServiceId(at));
                } else {
                    index.remove(&key);
                    model.remove(&key);
                }
            }
            prop_assert_eq!(index.len() as usize, model.len());
            for port in 0..300 {
                let key = Key::address(6, VIP, port);
                prop_assert_eq!(index.get(&key), model.get(&key).copied());
            }
        }
    }
}
