//! Eyes, hands and clock: files, processes, names. The only rooms that touch the machine.

pub mod addresses;
pub mod clock;
pub mod exec;
pub mod files;
pub mod flags;
pub mod follow;
pub mod gate;
pub mod group;
pub mod hands;
pub mod helper;
pub mod input;
pub mod journal;
pub mod killpoint;
pub mod listing;
pub mod names;
pub mod probe;
pub mod process;
pub mod replace;
pub mod servers;
pub mod socket;
pub mod spool;
pub mod tape;
pub mod unpack;
