//! sendwarden: from mail logs to exact figures per hosting account.
//!
//! **Log lines become events, events become facts, facts become orders, orders become steps.**
//! Only the first and the last arrow touch the machine.
#![forbid(unsafe_code)]

pub mod app;
pub mod config;
pub mod engine;
pub mod host;
pub mod mail;
pub mod metrics;
pub mod mta;
pub mod store;
pub mod web;
