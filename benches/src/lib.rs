//! Benchmarks: workloads that check their own answers.
