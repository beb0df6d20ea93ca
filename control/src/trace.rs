//! What would become of a packet, and why: step by step, as the workers' own code takes it.
//!
//! A frame that is traced gives each [`Event`](dataplane::observe::Event) that it hears to a
//! [`Recorder`]; [`tell`] puts the steps into words when it is through. Who drives the workers is
//! the caller's business: a replay has its own, the daemon makes some for one packet ([`Inquiry`]).

mod fields;
mod frame;
mod inquiry;
mod record;
mod tell;
mod twin;
mod words;

pub use frame::{Made, MakeError, locate, make, taken};
pub use inquiry::{Inquiry, InquiryError, Progress};
pub use record::{Recorder, Step};
pub use tell::{Sent, Trace, tell};
pub use twin::{Crew, by_addresses};
pub use words::{end, mode};
