//! Which mail server speaks: two may run on one host, and share a log.
//!
//! It says nothing about versions, instances or installations: those are the dialects' and the household's business.

use serde::{Deserialize, Serialize};

/// A mail server program whose log is read. A closed set: its name is a metric label.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Server {
    #[default]
    Postfix,
    Exim,
}

impl Server {
    pub const ALL: [Server; 2] = [Server::Postfix, Server::Exim];

    pub const fn name(self) -> &'static str {
        match self {
            Server::Postfix => "postfix",
            Server::Exim => "exim",
        }
    }

    /// A small number, stable for good: rows of the store keep it.
    pub const fn code(self) -> u8 {
        match self {
            Server::Postfix => 0,
            Server::Exim => 1,
        }
    }

    pub fn from_code(code: u8) -> Option<Server> {
        Server::ALL.get(code as usize).copied()
    }

    pub fn from_name(name: &str) -> Option<Server> {
        Server::ALL.into_iter().find(|server| server.name() == name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_and_names_lead_back() {
        for server in Server::ALL {
            assert_eq!(Server::from_code(server.code()), Some(server));
            assert_eq!(Server::from_name(server.name()), Some(server));
        }
        assert_eq!(Server::from_code(2), None);
        assert_eq!(Server::from_name("sendmail"), None);
    }
}
