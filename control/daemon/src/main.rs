//! The load balancer daemon.
fn main() {}
