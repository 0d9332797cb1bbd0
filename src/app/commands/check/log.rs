//! The end of a log through the very engine of the agent: what is understood, what is attributed, and what to do.

use super::Finding;
use super::host::OLD_SECS;
use super::scripts::Told;
use super::servers::LISTED;
use crate::app::commands::replay::Lines;
use crate::app::commands::{counted, grouped};
use crate::app::dialect::Dialect;
use crate::app::ingest::{self, Ingest, LineCounts};
use crate::app::logs as known;
use crate::app::numbers::span;
use crate::app::setup::{Format, LogSource, Setup};
use crate::engine::Engine;
use crate::engine::attribution::{User, Wanted};
use crate::engine::directory::Directory;
use crate::engine::replies::Replies;
use crate::engine::tracker::Settings;
use crate::host::clock;
use crate::host::names::Names;
use crate::mail::{Accepted, Event, Kind, Server, Submitter, Time, Unattributed, text};
use crate::mta::{Mta, Read};
use serde_json::{Value, json};
use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::{self, Read as _, Seek, SeekFrom};
use std::path::Path;
use std::time::Duration;

const BLOCK: usize = 1 << 20;
/// Bytes looked at, at most, however long the lines are.
const MOST: u64 = 256 << 20;
/// Identities told apart; they come from the log.
const MAX_IDENTITIES: usize = 20_000;
/// Unmapped identities shown.
const SHOWN: usize = 20;
/// The name service is asked no more after this: it may hang.
const NAMES: Duration = Duration::from_secs(10);

/// What the end of one log says.
pub struct Seen {
    path: String,
    lines: LineCounts,
    unknown: BTreeMap<(String, &'static str), u64>,
    samples: Vec<String>,
    newest: Time,
    attributed: u64,
    accounts: usize,
    /// Messages without an account, by reason.
    nobody: Vec<(Unattributed, u64)>,
    /// Identities that the accounts file does not list, with their messages, most first.
    unmapped: Vec<(String, u64)>,
    short_ids: bool,
    /// Messages of Exim, none of which names its recipients when it is accepted.
    unlisted: u64,
    format: Format,
    /// It is read as far as it goes: what is newer is in another log.
    left: bool,
    pub scripts: Told,
}

impl Seen {
    pub fn json(&self) -> Value {
        let nobody: serde_json::Map<String, Value> =
            self.nobody.iter().map(|(why, n)| (why.name().to_owned(), json!(n))).collect();
        let unknown: Vec<Value> =
            self.unknown.iter().map(|((daemon, why), n)| json!({"daemon": daemon, "why": why, "lines": n})).collect();
        let unmapped: Vec<Value> =
            self.unmapped.iter().map(|(identity, n)| json!({"identity": identity, "messages": n})).collect();
        json!({
            "path": self.path,
            "lines": {"total": self.lines.total, "events": self.lines.events, "noise": self.lines.noise,
                      "unknown": self.lines.unknown},
            "unknown": unknown,
            "samples": self.samples,
            "messages": {"attributed": self.attributed, "accounts": self.accounts, "unattributed": nobody},
            "unmapped": unmapped,
            "scripts": self.scripts.json(),
        })
    }
}

/// The dialect, with an ear for identities.
struct Listening {
    inner: Dialect,
    heard: Heard,
}

/// The identities that lines named.
#[derive(Default)]
struct Heard {
    logins: HashMap<Vec<u8>, u64>,
    uids: HashMap<u32, u64>,
    short_ids: bool,
    scripts: Told,
    /// Messages accepted with everything in one line, and those of them whose recipients that line names.
    accepted: u64,
    listed: u64,
}

impl Mta for Listening {
    fn read<'a>(&'a mut self, line: &'a [u8]) -> Read<'a> {
        let Listening { inner, heard } = self;
        let read = inner.read(line);
        if let Read::Event(event) = &read {
            heard.hear(event);
        }
        read
    }

    fn save(&self) -> Vec<u8> {
        self.inner.save()
    }

    fn restore(&mut self, saved: &[u8]) {
        self.inner.restore(saved);
    }

    fn take_lost(&mut self) -> u64 {
        self.inner.take_lost()
    }

    fn finish(&mut self) {
        self.inner.finish();
    }
}

impl Heard {
    fn hear(&mut self, event: &Event<'_>) {
        self.scripts.hear(&event.kind);
        if let Kind::Accepted(accepted) = &event.kind {
            self.accepted += 1;
            self.listed += u64::from(accepted.recipients.is_some());
        }
        match event.kind {
            Kind::Submitted { uid, requeued_from: None, .. }
                if self.uids.len() < MAX_IDENTITIES || self.uids.contains_key(&uid) =>
            {
                *self.uids.entry(uid).or_default() += 1;
            }
            Kind::Received { login: Some(login), .. }
            | Kind::Accepted(Accepted { by: Submitter::Login { login, .. }, .. }) => {
                if let Some(n) = self.logins.get_mut(login) {
                    *n += 1;
                } else if self.logins.len() < MAX_IDENTITIES {
                    self.logins.insert(login.to_ascii_lowercase(), 1);
                }
            }
            // Short ids are hexadecimal; a long one has a z before its inode, and letters of both cases.
            Kind::Activated { id, .. } => {
                self.short_ids |= id.as_bytes().iter().all(|byte| matches!(byte, b'0'..=b'9' | b'A'..=b'F'));
            }
            _ => {}
        }
    }
}

/// Reads the last `lines` lines.
pub fn examine(path: &Path, source: &LogSource, setup: &Setup, lines: usize) -> Result<Seen, String> {
    let shown = path.display().to_string();
    let failed = |why: io::Error| format!("cannot read {shown}: {why}");
    let mut file = File::open(path).map_err(failed)?;
    let meta = file.metadata().map_err(failed)?;
    let start = tail(&mut file, meta.len(), lines).map_err(failed)?;
    file.seek(SeekFrom::Start(start)).map_err(failed)?;

    let reference = meta.modified().map_or_else(|_| clock::now(), clock::from_system);
    let inner = Dialect::of(source, reference);
    let mut ingest = Ingest::new(Listening { inner, heard: Heard::default() });
    let settings = Settings { max_open: setup.max_open, ..Settings::default() };
    let mut engine = Engine::new(settings, setup.directory.clone(), Replies::default(), clock::seed());
    let mut users = Users { names: Names::of_host(setup.name_timeout), since: clock::monotonic() };
    let mut names = |wanted: Wanted<'_>| users.user(wanted);
    let mut reader = file.take(meta.len().saturating_sub(start));
    let mut splitter = Lines::default();
    let mut buffer = vec![0; BLOCK];
    loop {
        let n = reader.read(&mut buffer).map_err(failed)?;
        if n == 0 {
            break;
        }
        let chunk = buffer.get(..n).unwrap_or(&[]);
        splitter.push(chunk, &mut |lines| ingest.lines(lines, &mut engine, &mut names, &mut ()));
    }
    ingest.finish();
    engine.finish(&mut ());

    let mut seen = Seen {
        path: shown,
        lines: ingest.counts,
        unknown: ingest.unknown.take(),
        samples: ingest.unknown.samples,
        newest: ingest.newest,
        attributed: 0,
        accounts: 0,
        nobody: Vec::new(),
        unmapped: unmapped(&setup.directory, &ingest.mta.heard, &mut names),
        short_ids: ingest.mta.heard.short_ids,
        unlisted: if ingest.mta.heard.listed == 0 { ingest.mta.heard.accepted } else { 0 },
        format: source.format,
        left: source.until.is_some(),
        scripts: ingest.mta.heard.scripts,
    };
    for (owner, account) in engine.ledger.owners() {
        match owner.unattributed() {
            Some(why) if account.counts.messages > 0 => seen.nobody.push((why, account.counts.messages)),
            Some(_) => {}
            None => {
                seen.accounts += usize::from(account.counts.messages > 0);
                seen.attributed += account.counts.messages;
            }
        }
    }
    seen.nobody.sort_by_key(|(_, messages)| std::cmp::Reverse(*messages));
    Ok(seen)
}

struct Users {
    names: Names,
    since: std::time::Instant,
}

impl Users {
    fn user(&mut self, wanted: Wanted<'_>) -> Option<User> {
        if clock::left(self.since, NAMES).is_zero() {
            return None;
        }
        ingest::user(&mut self.names, wanted)
    }
}

/// Where the last `lines` lines begin; never more than `MOST` bytes before the end.
fn tail(file: &mut File, size: u64, lines: usize) -> io::Result<u64> {
    let floor = size.saturating_sub(MOST);
    let mut at = size;
    let mut newlines = 0;
    let mut buffer = vec![0; BLOCK];
    while at > floor {
        let from = at.saturating_sub(BLOCK as u64).max(floor);
        let length = usize::try_from(at - from).unwrap_or(BLOCK);
        file.seek(SeekFrom::Start(from))?;
        let block = buffer.get_mut(..length).unwrap_or_default();
        file.read_exact(block)?;
        for place in memchr::memrchr_iter(b'\n', block) {
            let after = from + place as u64 + 1;
            // The newline at the very end closes the last line; it does not begin another.
            if after == size {
                continue;
            }
            newlines += 1;
            if newlines >= lines {
                return Ok(after);
            }
        }
        at = from;
    }
    Ok(floor)
}

fn unmapped(
    directory: &Directory,
    heard: &Heard,
    names: &mut impl FnMut(Wanted<'_>) -> Option<User>,
) -> Vec<(String, u64)> {
    if !directory.is_listed() {
        return Vec::new();
    }
    let policy = directory.policy();
    let logins = heard.logins.iter().filter(|(login, _)| directory.by_login(login).is_none());
    let mut found: Vec<(String, u64)> =
        logins.map(|(login, n)| (format!("login {}", text::clean(login, 128)), *n)).collect();
    for (&uid, &n) in heard.uids.iter().filter(|(uid, _)| **uid >= policy.min_uid) {
        let user = if directory.by_uid(uid).is_none() { names(Wanted::Uid(uid)) } else { continue };
        let login = user.as_ref().map(|user| user.login.as_bytes());
        let listed = login.is_some_and(|login| directory.by_unix_user(login).is_some());
        if !listed && !policy.is_web_server(uid, login) {
            let name = user.map(|user| format!(" ({})", text::clean(user.login.as_bytes(), 64))).unwrap_or_default();
            found.push((format!("uid {uid}{name}"), n));
        }
    }
    found.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
    found
}

/// Turns what was seen into findings.
pub fn judge(seen: &Seen, setup: &Setup, findings: &mut Vec<Finding>) {
    let path = &seen.path;
    let lines = seen.lines;
    if seen.left {
        return;
    }
    if lines.total == 0 {
        let next = in_journal(Time::ZERO, "send a message through the server, and look again");
        findings.push(Finding::warn("log", format!("{path} is empty"), next));
        return;
    }
    if seen.format == Format::Php {
        let (calls, total) = (counted(lines.events, "call", "calls"), counted(lines.total, "line", "lines"));
        findings.push(Finding::ok("log", format!("{path}: {calls} of mail() in the last {total}")));
        judge_unknown(seen, findings);
        return;
    }
    if lines.events == 0 {
        let text = format!("{path}: nothing about mail in the last {}", counted(lines.total, "line", "lines"));
        let next = in_journal(Time::ZERO, "is this the mail server's log? Name the right one under logs");
        findings.push(Finding::warn("log", text, next));
    } else {
        let (about, total) = (counted(lines.events, "line", "lines"), grouped(lines.total));
        let age = clock::now().secs_since(seen.newest);
        let text = format!("{path}: {about} about mail, of the last {total}; the newest is {} old", span(age));
        findings.push(match age > OLD_SECS {
            true => Finding::warn("log", text, in_journal(seen.newest, "is this the log that the server writes now?")),
            false => Finding::ok("log", text),
        });
    }
    judge_unknown(seen, findings);
    if seen.unlisted > 0 && !known::servers().iter().any(|one| one.server == Server::Exim && one.trouble.is_none()) {
        let text =
            format!("{path}: none of {} names its recipients: {LISTED}", counted(seen.unlisted, "message", "messages"));
        findings.push(Finding::warn("log", text, "add +received_recipients to log_selector in Exim's configuration"));
    }
    if seen.short_ids {
        let text = "the server uses short queue ids, which come again within seconds; figures stay exact, but a trace \
                    by queue id may show several messages";
        findings.push(Finding::warn("queue ids", text, "postconf -e enable_long_queue_ids=yes && postfix reload"));
    }
    judge_attribution(seen, setup, findings);
}

/// What to do, and that the journal has newer mail where it has.
fn in_journal(than: Time, next: &str) -> String {
    known::newer_in_journal(than).map_or_else(
        || next.to_owned(),
        |old| format!("{next} The newest mail in the journal is {old} old: `- journal: true` under logs follows it"),
    )
}

fn judge_unknown(seen: &Seen, findings: &mut Vec<Finding>) {
    let (path, lines) = (&seen.path, seen.lines);
    if lines.unknown == 0 {
        findings.push(Finding::ok("understood", format!("{path}: every line")));
        return;
    }
    let share = lines.unknown as f64 * 100.0 / lines.total as f64;
    let by: Vec<String> = seen.unknown.iter().map(|((daemon, why), n)| format!("{daemon} {n} ({why})")).collect();
    let sample = seen.samples.first().map_or("", String::as_str);
    let text = format!(
        "{path}: all but {} ({share:.2} %): {}; for example: {sample}",
        counted(lines.unknown, "line", "lines"),
        by.join(", ")
    );
    findings.push(Finding::warn("understood", text, "report such a line (names taken out), so that it can be read"));
}

/// Incoming mail and bounce messages belong to nobody, rightly; of the rest it is told who they were.
fn judge_attribution(seen: &Seen, setup: &Setup, findings: &mut Vec<Finding>) {
    let rightly = [Unattributed::Incoming, Unattributed::Bounce, Unattributed::OpenedBeforeLog];
    let missing: u64 = seen.nobody.iter().filter(|(why, _)| !rightly.contains(why)).map(|(_, n)| n).sum();
    let own = seen.attributed + missing;
    if own > 0 {
        let share = seen.attributed as f64 * 100.0 / own as f64;
        let text = format!(
            "{} of {} sent from here ({share:.1} %), to {}",
            grouped(seen.attributed),
            counted(own, "message", "messages"),
            counted(seen.accounts as u64, "account", "accounts")
        );
        findings.push(Finding::ok("attributed", text));
    }
    let policy = setup.directory.policy();
    for &(why, n) in &seen.nobody {
        let text = |what: &str| format!("{what}: {}", counted(n, "message", "messages"));
        findings.push(match why {
            Unattributed::Incoming => Finding::ok(
                "attributed",
                text(
                    "incoming mail, which belongs to no account (containers or web nodes that relay here? list their \
                     addresses under attribution.local_networks)",
                ),
            ),
            Unattributed::Bounce => Finding::ok("attributed", text("bounce messages, which belong to no account")),
            Unattributed::OpenedBeforeLog => continue,
            Unattributed::NoEvidence => Finding::warn(
                "attributed",
                text("by SMTP from this host without a login (no_evidence)"),
                "list the sender domains, or the networks of containers, in the accounts file; or let programs log in",
            ),
            Unattributed::SystemUid => Finding::warn(
                "attributed",
                text(&format!("by system users, uid below {} (system_uid)", policy.min_uid)),
                "cron and daemons belong to nobody; if customers have such uids, list them in the accounts file or \
                 lower attribution.min_uid",
            ),
            Unattributed::WebServerUid => Finding::warn(
                "attributed",
                text("under a shared web server's user (web_server_uid)"),
                "run each customer's scripts under a user of their own (PHP-FPM pools), then they can be told apart",
            ),
            Unattributed::AccountLimit => Finding::warn(
                "attributed",
                text("after the last account that could be remembered (account_limit)"),
                "raise attribution.max_known_accounts, or map the identities in the accounts file",
            ),
        });
    }
    if !seen.unmapped.is_empty() {
        let top: Vec<String> = seen.unmapped.iter().take(SHOWN).map(|(who, n)| format!("{who}: {n}")).collect();
        let more = match seen.unmapped.len().saturating_sub(SHOWN) {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        let many = counted(seen.unmapped.len() as u64, "identity", "identities");
        let text = format!("{many} missing in the accounts file: {}{more}", top.join(", "));
        let next = "add them to accounts there; until then each is an account by its own name";
        findings.push(Finding::warn("accounts", text, next));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn the_tail_begins_at_a_line() {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"one\ntwo\nthree\n").unwrap();
        let size = 14;
        assert_eq!(tail(&mut file, size, 1).unwrap(), 8);
        assert_eq!(tail(&mut file, size, 2).unwrap(), 4);
        assert_eq!(tail(&mut file, size, 3).unwrap(), 0);
        assert_eq!(tail(&mut file, size, 100).unwrap(), 0);
        file.write_all(b"half").unwrap();
        assert_eq!(tail(&mut file, 18, 1).unwrap(), 14);
        assert_eq!(tail(&mut file, 18, 2).unwrap(), 8);
    }

    #[test]
    fn a_tail_longer_than_a_block_is_found() {
        let mut file = tempfile::tempfile().unwrap();
        let line = [&[b'x'; 999][..], b"\n"].concat();
        let text = line.repeat(3_000);
        file.write_all(&text).unwrap();
        let size = text.len() as u64;
        assert_eq!(tail(&mut file, size, 2_500).unwrap(), 500_000);
    }
}
