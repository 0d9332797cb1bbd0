//! The gate: what the mail server asks at the end of a message is answered here, before the message is queued.
//!
//! [`identity`] says who handed a message in, as the kernel and the server's own files prove it.

pub mod identity;
pub mod listen;
