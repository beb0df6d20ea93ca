//! The Toeplitz hash of receive-side scaling (Microsoft, "RSS hashing functions"), in software.
//!
//! Each set bit of the input, from the left, adds (XOR) the 32 bits of the key that begin at
//! its place. So the hash is linear: `hash(a ^ b) = hash(a) ^ hash(b)`, octets can be looked up
//! one by one, and what one field adds does not depend on the others.

use crate::conn::Address;

/// Octets of a key: the 36 of an IPv6 tuple, and the window of the last one.
pub const KEY_LEN: usize = 40;

/// Octets of the longest input: two IPv6 addresses and two ports.
const INPUT: usize = 36;

/// The hash under one key: 1 KiB of sums for each octet of input.
pub struct Toeplitz {
    sums: Box<[[u32; 256]; INPUT]>,
}

impl std::fmt::Debug for Toeplitz {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Toeplitz(secret)")
    }
}

impl Toeplitz {
    /// The hash under `key`.
    pub fn new(key: &[u8; KEY_LEN]) -> Self {
        let mut sums = Box::new([[0; 256]; INPUT]);
        for (at, table) in sums.iter_mut().enumerate() {
            for octet in 1..256usize {
                let bit = octet.trailing_zeros() as usize;
                let rest = octet & (octet - 1);
                table[octet] = table[rest] ^ window(key, 8 * at + 7 - bit);
            }
        }
        Self { sums }
    }

    /// What `octets` add where they stand `at` octets into the input; 0 past its end.
    #[inline]
    pub fn octets(&self, at: usize, octets: &[u8]) -> u32 {
        let sums = self.sums.iter().skip(at).zip(octets);
        sums.fold(0, |hash, (sums, &octet)| hash ^ sums[usize::from(octet)])
    }

    /// What an address adds.
    #[inline]
    pub fn address<A: Address>(&self, at: usize, address: A) -> u32 {
        self.words::<A>(at, address.words())
    }

    /// What an address adds that is given as [`Address::words`].
    #[inline]
    pub(super) fn words<A: Address>(&self, at: usize, [low, high]: [u64; 2]) -> u32 {
        if size_of::<A>() == size_of::<u32>() {
            return self.octets(at, &low.to_be_bytes()[4..]);
        }
        self.octets(at, &high.to_be_bytes()) ^ self.octets(at + 8, &low.to_be_bytes())
    }

    /// What a port adds.
    #[inline]
    pub fn port(&self, at: usize, port: u16) -> u32 {
        self.octets(at, &port.to_be_bytes())
    }
}

/// The 32 bits of the key that begin at bit `at` from the left.
fn window(key: &[u8; KEY_LEN], at: usize) -> u32 {
    (at..at + 32).fold(0, |bits, bit| {
        bits << 1 | u32::from(key[bit / 8] >> (7 - bit % 8) & 1)
    })
}

#[cfg(test)]
pub(crate) mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use super::*;

    /// The key of Microsoft's verification suite.
    #[rustfmt::skip]
    pub(crate) const SUITE: [u8; KEY_LEN] = [
        0x6d, 0x5a, 0x56, 0xda, 0x25, 0x5b, 0x0e, 0xc2, 0x41, 0x67, 0x25, 0x3d, 0x43, 0xa3, 0x8f, 0xb0,
        0xd0, 0xca, 0x2b, 0xcb, 0xae, 0x7b, 0x30, 0xb4, 0x77, 0xcb, 0x2d, 0xa3, 0x80, 0x30, 0xf2, 0x0c,
        0x6a, 0x42, 0xb7, 0x3b, 0xbe, 0xac, 0x01, 0xfa,
    ];

    fn hashes<A: Address>(source: (A, u16), destination: (A, u16)) -> (u32, u32) {
        let toeplitz = Toeplitz::new(&SUITE);
        let len = size_of::<A>();
        let addresses = toeplitz.address(0, source.0) ^ toeplitz.address(len, destination.0);
        let ports = toeplitz.port(2 * len, source.1) ^ toeplitz.port(2 * len + 2, destination.1);
        (addresses, addresses ^ ports)
    }

    #[test]
    #[rustfmt::skip]
    fn verification_suite_ipv4() {
        let cases = [
            ("66.9.149.187",   2794,  "161.142.100.80", 1766,  0x323e_8fc2, 0x51cc_c178),
            ("199.92.111.2",   14230, "65.69.140.83",   4739,  0xd718_262a, 0xc626_b0ea),
            ("24.19.198.95",   12898, "12.22.207.184",  38024, 0xd2d0_a5de, 0x5c2b_394a),
            ("38.27.205.30",   48228, "209.142.163.6",  2217,  0x8298_9176, 0xafc7_327f),
            ("153.39.163.191", 44251, "202.188.127.2",  1303,  0x5d18_09c5, 0x10e8_28a2),
        ];
        for (source, source_port, destination, port, addresses, tuple) in cases {
            let bits = |text: &str| text.parse::<Ipv4Addr>().expect("an address").to_bits();
            let got = hashes((bits(source), source_port), (bits(destination), port));
            assert_eq!(got, (addresses, tuple), "{source}");
        }
    }

    #[test]
    #[rustfmt::skip]
    fn verification_suite_ipv6() {
        let cases = [
            ("3ffe:2501:200:1fff::7",                2794,  "3ffe:2501:200:3::1",         1766,  0x2cc1_8cd5, 0x4020_7d3d),
            ("3ffe:501:8::260:97ff:fe40:efab",       14230, "ff02::1",                    4739,  0x0f0c_461c, 0xdde5_1bbf),
            ("3ffe:1900:4545:3:200:f8ff:fe21:67cf",  44251, "fe80::200:f8ff:fe21:67cf",   38024, 0x4b61_e985, 0x02d1_feef),
        ];
        for (source, source_port, destination, port, addresses, tuple) in cases {
            let bits = |text: &str| text.parse::<Ipv6Addr>().expect("an address").to_bits();
            let got = hashes((bits(source), source_port), (bits(destination), port));
            assert_eq!(got, (addresses, tuple), "{source}");
        }
    }
}
