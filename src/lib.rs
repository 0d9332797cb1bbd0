//! sendwarden: from mail logs to exact figures per hosting account.
//!
//! **Log lines become events, events become facts, facts become orders, orders become steps.**
//! Only the first and the last arrow touch the machine.
//!
//! # The laws
//!
//! Each is held by `tests/law.rs`, which reads this source; what only types can show, by `clippy.toml`.
//!
//! 1. **`mail`, `mta` and `engine` are pure**: no files, network, processes, environment, threads, async, clock,
//!    randomness or logging, and no room that has them. `now` is a parameter. A map keyed by text from a log hashes
//!    with a seed that is passed in, and the order of a map never reaches what comes out. Code under `#[cfg(test)]` is
//!    free.
//! 2. **`engine` and `mta` never import each other**, and `mail` imports neither. The names of mail servers do not
//!    occur in `engine`, `store`, `notify` and `metrics`: not in code, not in strings, not in comments.
//! 3. **Nothing imports `app` or `config`** but `main` and `app`. A room owns its settings struct; `config` fills it,
//!    and only `config` knows YAML.
//! 4. **One place each**: SQL in `store`, process start in `host::exec`, the current time in `host::clock`, SMTP in
//!    `notify::send`, metric names in `metrics`. `web` reads views and drops orders into an inbox; it never reaches
//!    `store`, and never acts.
//! 5. **`store`, `metrics` and letters are projections of facts**: they add nothing that a fact does not say.
//! 6. **A file has 80 to 400 lines**; more than 600 fails the test. It starts with what it is for, what it never does,
//!    and its public type.
//!
//! # What is logged
//!
//! `error`: something is not done that should be, and a person must act. `warn`: something is wrong that the agent
//! copes with. `info`: starts, stops, rotations, reloads. `debug`: for one question. Never addresses, never secrets.
#![forbid(unsafe_code)]

pub mod app;
pub mod config;
pub mod engine;
pub mod host;
pub mod mail;
pub mod metrics;
pub mod mta;
pub mod notify;
pub mod store;
pub mod web;
