//! Who a message belongs to, and on what evidence.

use std::fmt;

/// Where a message came from. A closed set: it is a metric label.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Origin {
    /// sendmail(1), PHP mail().
    Script,
    /// Authenticated submission.
    SmtpAuth,
    /// Unauthenticated SMTP from loopback or a configured network.
    LocalSmtp,
    /// From outside, for a mailbox here.
    Incoming,
    /// Made by the server itself: bounce messages and other notifications.
    Internal,
}

impl Origin {
    pub const ALL: [Origin; 5] =
        [Origin::Script, Origin::SmtpAuth, Origin::LocalSmtp, Origin::Incoming, Origin::Internal];

    pub const fn name(self) -> &'static str {
        match self {
            Origin::Script => "script",
            Origin::SmtpAuth => "smtp_auth",
            Origin::LocalSmtp => "local_smtp",
            Origin::Incoming => "incoming",
            Origin::Internal => "internal",
        }
    }

    pub const fn code(self) -> u8 {
        match self {
            Origin::Script => 0,
            Origin::SmtpAuth => 1,
            Origin::LocalSmtp => 2,
            Origin::Incoming => 3,
            Origin::Internal => 4,
        }
    }

    pub fn from_code(code: u8) -> Option<Origin> {
        Origin::ALL.get(code as usize).copied()
    }
}

/// Why a message belongs to no account. A closed set: it is a metric label.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Unattributed {
    /// The message was in the queue before the log began, and neither store nor evidence know it.
    OpenedBeforeLog,
    /// A bounce or other notification made by the server.
    Bounce,
    /// Mail from outside.
    Incoming,
    /// Neither login, uid, network nor sender domain point to an account.
    NoEvidence,
    /// The uid is below the minimum: root, the mail system, daemons.
    SystemUid,
    /// The uid is a shared web server's.
    WebServerUid,
    /// Only the log tells of it, and `max_known_accounts` is reached.
    AccountLimit,
}

impl Unattributed {
    pub const ALL: [Unattributed; 7] = [
        Unattributed::OpenedBeforeLog,
        Unattributed::Bounce,
        Unattributed::Incoming,
        Unattributed::NoEvidence,
        Unattributed::SystemUid,
        Unattributed::WebServerUid,
        Unattributed::AccountLimit,
    ];

    pub const fn name(self) -> &'static str {
        match self {
            Unattributed::OpenedBeforeLog => "opened_before_log",
            Unattributed::Bounce => "bounce",
            Unattributed::Incoming => "incoming",
            Unattributed::NoEvidence => "no_evidence",
            Unattributed::SystemUid => "system_uid",
            Unattributed::WebServerUid => "web_server_uid",
            Unattributed::AccountLimit => "account_limit",
        }
    }

    const fn index(self) -> u32 {
        match self {
            Unattributed::OpenedBeforeLog => 0,
            Unattributed::Bounce => 1,
            Unattributed::Incoming => 2,
            Unattributed::NoEvidence => 3,
            Unattributed::SystemUid => 4,
            Unattributed::WebServerUid => 5,
            Unattributed::AccountLimit => 6,
        }
    }
}

/// The owner of a message: an account, or the reason why there is none. A dense index:
/// 0..16 are the unattributed reasons, accounts count up from 16. Stable in the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Owner(pub u32);

impl Owner {
    pub const FIRST_ACCOUNT: u32 = 16;

    pub const fn nobody(why: Unattributed) -> Owner {
        Owner(why.index())
    }

    pub const fn is_account(self) -> bool {
        self.0 >= Owner::FIRST_ACCOUNT
    }

    /// The reason, when there is no account.
    pub fn unattributed(self) -> Option<Unattributed> {
        Unattributed::ALL.get(self.0 as usize).copied()
    }
}

/// What ties a message to an account.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Basis {
    None,
    Login,
    Uid,
    Network,
    /// The header of a trusted web node.
    Node,
    SenderDomain,
    /// Joined to another message of the account (filter hop, requeue, forward).
    Parent,
}

impl Basis {
    pub const ALL: [Basis; 7] =
        [Basis::None, Basis::Login, Basis::Uid, Basis::Network, Basis::Node, Basis::SenderDomain, Basis::Parent];

    pub const fn name(self) -> &'static str {
        match self {
            Basis::None => "none",
            Basis::Login => "login",
            Basis::Uid => "uid",
            Basis::Network => "network",
            Basis::Node => "node",
            Basis::SenderDomain => "sender_domain",
            Basis::Parent => "parent",
        }
    }

    pub const fn code(self) -> u8 {
        match self {
            Basis::None => 0,
            Basis::Login => 1,
            Basis::Uid => 2,
            Basis::Network => 3,
            Basis::Node => 4,
            Basis::SenderDomain => 5,
            Basis::Parent => 6,
        }
    }

    pub fn from_code(code: u8) -> Option<Basis> {
        Basis::ALL.get(code as usize).copied()
    }
}

/// How strong a basis is. Automatic blocks act on proven evidence only.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Evidence {
    /// Login, kernel uid, trusted network or node: cannot be made up by the sender.
    Proven,
    /// Sender domain, headers: anybody can write them.
    Claimed,
}

impl Basis {
    pub const fn evidence(self) -> Evidence {
        match self {
            Basis::Login | Basis::Uid | Basis::Network | Basis::Node | Basis::Parent => Evidence::Proven,
            Basis::SenderDomain | Basis::None => Evidence::Claimed,
        }
    }
}

impl fmt::Display for Unattributed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_and_owners_map_both_ways() {
        for why in Unattributed::ALL {
            assert_eq!(Owner::nobody(why).unattributed(), Some(why));
            assert!(!Owner::nobody(why).is_account());
        }
        assert_eq!(Owner(Owner::FIRST_ACCOUNT).unattributed(), None);
    }
}
