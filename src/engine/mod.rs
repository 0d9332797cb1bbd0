//! The judgement: events in, facts out. Pure: no clock, no file, no socket; the server's dialect is unknown here.

pub mod directory;
