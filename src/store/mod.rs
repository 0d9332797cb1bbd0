//! The memory: SQLite, and the only SQL.
