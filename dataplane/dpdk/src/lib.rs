//! DPDK: environment, memory pools, devices, and queue pairs as ports.
