//! sendwarden: from mail logs to exact figures per hosting account.
//!
//! **Log lines become events, events become facts, facts become orders, orders become steps.**
//! Only the first and the last arrow touch the machine.
#![forbid(unsafe_code)]

pub mod mail;
pub mod mta;
