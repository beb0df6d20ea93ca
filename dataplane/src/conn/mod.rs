//! Connections: the one table in which a worker keeps what it has promised.
//!
//! A [`table::Table`] belongs to one worker and one family, has its memory from the start and
//! never grows. A packet costs two lines of it: a bucket of the [`index`], and the entry. A
//! connection whose replies pass us is found from both sides.
//!
//! A full table gives the places of unanswered connections away, oldest first ([`fifo`]), and
//! never that of an established one.
//!
//! Expiry is lazy. A packet only stores when it came; the [`wheel`] looks again when the
//! deadline that was set last has passed, and a look-up never returns an entry that is past
//! its own.

pub mod defence;
pub mod entry;
pub mod excerpt;
pub mod export;
pub mod fifo;
pub mod index;
pub mod key;
pub mod sctp;
pub mod sender;
pub mod stream;
pub mod table;
pub mod tcp;
pub mod template;
pub mod timeout;
pub mod wheel;

pub use entry::{Entry, Flags};
pub use index::Guess;
pub use key::{Address, Hash, Hasher, Key};
pub use table::{Control, Found, Full, Side, Slot, Table};
