//! The window: HTTP on loopback and on a unix socket. Reads views, never acts.
