//! Syslog heads.
