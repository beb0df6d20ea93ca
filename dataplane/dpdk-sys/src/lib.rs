//! A small C shim over DPDK with an ABI of its own.
