//! The bytes under a view: shared or exclusive, cut once.
//!
//! A view is generic over `&[u8]` and `&mut [u8]`. Its constructor cuts the fixed part of the
//! header off as an array, so every getter after that indexes an array with a constant and the
//! compiler has no bounds check to emit.

use std::fmt::Debug;
use std::ops::Deref;

mod sealed {
    pub trait Sealed {}
    impl Sealed for &[u8] {}
    impl Sealed for &mut [u8] {}
}

/// Borrowed bytes a view can be made over: `&[u8]` to read, `&mut [u8]` to rewrite.
pub trait Bytes: sealed::Sealed + Deref<Target = [u8]> + Debug + Sized {
    /// A fixed part of the same borrow.
    type Array<const N: usize>: Deref<Target = [u8; N]> + Debug;

    /// The first `N` octets as an array and the rest; `None` where there are fewer.
    fn split_array<const N: usize>(self) -> Option<(Self::Array<N>, Self)>;

    /// The first `at` octets and the rest; `None` where there are fewer.
    fn split(self, at: usize) -> Option<(Self, Self)>;
}

impl<'a> Bytes for &'a [u8] {
    type Array<const N: usize> = &'a [u8; N];

    #[inline]
    fn split_array<const N: usize>(self) -> Option<(&'a [u8; N], Self)> {
        self.split_first_chunk()
    }

    #[inline]
    fn split(self, at: usize) -> Option<(Self, Self)> {
        self.split_at_checked(at)
    }
}

impl<'a> Bytes for &'a mut [u8] {
    type Array<const N: usize> = &'a mut [u8; N];

    #[inline]
    fn split_array<const N: usize>(self) -> Option<(&'a mut [u8; N], Self)> {
        self.split_first_chunk_mut()
    }

    #[inline]
    fn split(self, at: usize) -> Option<(Self, Self)> {
        self.split_at_mut_checked(at)
    }
}

/// `N` octets at `at`. Always called with constants that lie inside `bytes`.
#[inline(always)]
pub(crate) fn get<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    let mut out = [0; N];
    out.copy_from_slice(&bytes[at..at + N]);
    out
}

#[inline(always)]
pub(crate) fn get16<const N: usize>(bytes: &[u8; N], at: usize) -> u16 {
    u16::from_be_bytes(get(bytes, at))
}

#[inline(always)]
pub(crate) fn get32<const N: usize>(bytes: &[u8; N], at: usize) -> u32 {
    u32::from_be_bytes(get(bytes, at))
}

/// Writes `value` at `at`. Always called with constants that lie inside `bytes`.
#[inline(always)]
pub(crate) fn put<const N: usize>(bytes: &mut [u8], at: usize, value: [u8; N]) {
    bytes[at..at + N].copy_from_slice(&value);
}

#[inline(always)]
pub(crate) fn put16<const N: usize>(bytes: &mut [u8; N], at: usize, value: u16) {
    put(bytes, at, value.to_be_bytes());
}

#[inline(always)]
pub(crate) fn put32<const N: usize>(bytes: &mut [u8; N], at: usize, value: u32) {
    put(bytes, at, value.to_be_bytes());
}
