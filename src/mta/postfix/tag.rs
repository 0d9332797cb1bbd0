//! Tags: `syslog_name/daemon`. The last component is the daemon, the first is the instance.
//!
//! `syslog_name` is free (`postfix`, `postfix-out`, `mta`, `postfix/submission`), so a tag is known by its daemon. It
//! never looks at the text of the line. See [`Tag`].

use crate::mta::near;

/// What writes the line: daemons are told apart as far as their lines are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::mta) enum Daemon {
    Pickup,
    Cleanup,
    Qmgr,
    /// smtpd(8) and qmqpd(8).
    Smtpd,
    /// smtp(8), also under its service name `relay`.
    Smtp,
    Lmtp,
    Local,
    Virtual,
    Pipe,
    Discard,
    /// error(8), also under its service name `retry`.
    Error,
    /// bounce(8), also under its service names `defer` and `trace`.
    Bounce,
    Postsuper,
    /// Never says anything about a message.
    Quiet,
    /// A daemon of this server that nobody knows.
    Unknown,
    /// Another program.
    Foreign,
}

impl Daemon {
    /// These three belong to the instance that has the queue; SMTP services may have a `syslog_name` of their own.
    pub(super) fn owns_queue(self) -> bool {
        matches!(self, Daemon::Pickup | Daemon::Cleanup | Daemon::Qmgr)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::mta) struct Tag<'a> {
    pub instance: &'a [u8],
    /// The last component.
    pub name: &'a [u8],
    pub daemon: Daemon,
}

/// Other servers whose program names look like ours (`cyrus/lmtp`, `cyrus/master`).
const OTHER_SERVERS: [&[u8]; 3] = [b"cyrus", b"dovecot", b"exim"];

#[inline]
pub(super) fn read(tag: &[u8]) -> Tag<'_> {
    // As nearly all are.
    if let Some((instance, [b'/', name @ ..])) = tag.split_at_checked(USUAL.len())
        && instance == USUAL
    {
        let daemon = daemon(name);
        if daemon != Daemon::Unknown {
            return Tag { instance, name, daemon };
        }
    }
    any(tag)
}

const USUAL: &[u8] = b"postfix";

#[inline(never)]
fn any(tag: &[u8]) -> Tag<'_> {
    let Some(first) = near::find(b'/', tag) else {
        let daemon = if tag == b"postfix" { Daemon::Quiet } else { Daemon::Foreign };
        return Tag { instance: tag, name: tag, daemon };
    };
    let (instance, rest) = tag.split_at_checked(first).unwrap_or((tag, &[]));
    let name = rest.rsplit(|byte| *byte == b'/').next().unwrap_or(&[]);
    let daemon = match daemon(name) {
        _ if OTHER_SERVERS.contains(&instance) => Daemon::Foreign,
        Daemon::Unknown if memchr::memmem::find(instance, b"postfix").is_none() => Daemon::Foreign,
        daemon => daemon,
    };
    Tag { instance, name, daemon }
}

#[inline]
fn daemon(name: &[u8]) -> Daemon {
    match name {
        b"qmgr" | b"oqmgr" | b"nqmgr" => Daemon::Qmgr,
        b"cleanup" => Daemon::Cleanup,
        b"pickup" => Daemon::Pickup,
        b"smtp" | b"relay" => Daemon::Smtp,
        b"smtpd" | b"qmqpd" => Daemon::Smtpd,
        b"lmtp" => Daemon::Lmtp,
        b"local" => Daemon::Local,
        b"virtual" => Daemon::Virtual,
        b"pipe" => Daemon::Pipe,
        b"discard" => Daemon::Discard,
        b"error" | b"retry" => Daemon::Error,
        b"bounce" | b"defer" | b"trace" => Daemon::Bounce,
        b"postsuper" => Daemon::Postsuper,
        // Third parties that log under our name.
        b"policy-spf" | b"policyd-spf" | b"policyd-weight" | b"postfwd" | b"postgrey" | b"sqlgrey" => Daemon::Foreign,
        _ if QUIET.contains(&name) => Daemon::Quiet,
        _ => Daemon::Unknown,
    }
}

/// Daemons and commands that move or count no mail.
const QUIET: [&[u8]; 38] = [
    b"master",
    b"anvil",
    b"scache",
    b"tlsmgr",
    b"tlsproxy",
    b"trivial-rewrite",
    b"verify",
    b"flush",
    b"showq",
    b"proxymap",
    b"proxywrite",
    b"postscreen",
    b"dnsblog",
    b"postlogd",
    b"spawn",
    b"nbdb_reindexd",
    b"postfix-script",
    b"postfix",
    b"postqueue",
    b"postdrop",
    b"sendmail",
    b"mailq",
    b"newaliases",
    b"postmap",
    b"postalias",
    b"postlog",
    b"postkick",
    b"postlock",
    b"postcat",
    b"postmulti",
    b"postmulti-script",
    b"postconf",
    b"post-install",
    b"posttls-finger",
    b"postfix-tls-script",
    b"postfix-wrapper",
    b"set-permissions",
    b"script",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instance_is_first_and_daemon_is_last() {
        let table: &[(&str, &str, &str, Daemon)] = &[
            ("postfix/smtp", "postfix", "smtp", Daemon::Smtp),
            ("postfix/submission/smtpd", "postfix", "smtpd", Daemon::Smtpd),
            ("postfix-out/qmgr", "postfix-out", "qmgr", Daemon::Qmgr),
            ("mta/qmgr", "mta", "qmgr", Daemon::Qmgr),
            ("postfix/a/b/c/cleanup", "postfix", "cleanup", Daemon::Cleanup),
            ("submission/smtpd", "submission", "smtpd", Daemon::Smtpd),
            ("postfix", "postfix", "postfix", Daemon::Quiet),
            ("postfix/postfix-script", "postfix", "postfix-script", Daemon::Quiet),
            ("postfix/frobnicate", "postfix", "frobnicate", Daemon::Unknown),
            ("mta/frobnicate", "mta", "frobnicate", Daemon::Foreign),
            ("postfix/policy-spf", "postfix", "policy-spf", Daemon::Foreign),
            ("cyrus/lmtp", "cyrus", "lmtp", Daemon::Foreign),
            ("CRON", "CRON", "CRON", Daemon::Foreign),
            ("smtp", "smtp", "smtp", Daemon::Foreign),
        ];
        for (tag, instance, name, daemon) in table {
            let want = Tag { instance: instance.as_bytes(), name: name.as_bytes(), daemon: *daemon };
            assert_eq!(read(tag.as_bytes()), want, "{tag}");
        }
    }
}
