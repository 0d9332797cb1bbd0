//! The household: wiring, the one loop (pump), commands.
