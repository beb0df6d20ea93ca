//! Prefetch, the cycle counter and huge-page memory behind safe signatures.
