//! What the mail servers say of the messages on hold: their own listings, read by their dialects.
//!
//! A listing names the whole queue, whatever is wanted of it; it is read line by line and nothing of it is kept here.

use super::exec;
use crate::mail::QueueId;
use crate::mta;
use crate::mta::exim::listing::Queued;
use std::time::Duration;

/// A listing of 100,000 messages takes about 5 s.
const LIMIT: Duration = Duration::from_secs(120);

/// A message on hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OnHold {
    pub id: QueueId,
    /// Empty for the null sender.
    pub sender: Box<[u8]>,
    pub recipients: Vec<Box<[u8]>>,
}

/// Is given one after the other.
pub type Take<'t> = dyn FnMut(OnHold) + 't;

/// Those of an instance with these programs and this configuration directory.
///
/// # Errors
/// The whole text for the operator.
pub fn postfix(tools: &str, config: &str, take: &mut Take<'_>) -> Result<(), String> {
    let argv = [&format!("{tools}/postqueue"), "-c", config, "-j"].map(str::to_owned);
    let mut line = |line: &[u8]| {
        if let Some(mta::postfix::listing::OnHold { id, sender, recipients }) = mta::postfix::listing::on_hold(line) {
            take(OnHold { id, sender, recipients });
        }
    };
    exec::each_line(&argv, LIMIT, &mut line).map_err(|why| why.to_string())
}

/// Those of the Exim that this program is.
///
/// # Errors
/// The whole text for the operator.
pub fn exim(program: &str, take: &mut Take<'_>) -> Result<(), String> {
    exim_queue(program, &mut |Queued { id, frozen, sender, recipients }| {
        if frozen {
            take(OnHold { id, sender, recipients });
        }
    })
}

/// All that is queued there.
///
/// # Errors
/// The whole text for the operator.
pub fn exim_queue(program: &str, take: &mut dyn FnMut(Queued)) -> Result<(), String> {
    let mut listing = mta::exim::listing::Listing::default();
    let mut line = |line: &[u8]| {
        if let Some(queued) = listing.take(line) {
            take(queued);
        }
    };
    exec::each_line(&[program.to_owned(), "-bpr".to_owned()], LIMIT, &mut line).map_err(|why| why.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn what_is_on_hold_is_given_and_a_listing_that_fails_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let program = |name: &str, text: &str| {
            let path = dir.path().join(name);
            fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
            path.display().to_string()
        };
        let mut found = Vec::new();
        let line =
            r#"{"queue_name":"hold","queue_id":"AAAAA1","sender":"a@b.test","recipients":[{"address":"c@d.test"}]}"#;
        program("postqueue", &format!("[ $2 = /etc/mx ] && echo '{line}'"));
        postfix(&dir.path().display().to_string(), "/etc/mx", &mut |one| found.push(one)).unwrap();
        let own =
            program("exim", "printf ' 4m 3 1xVROW-0001BH-2c <a@b.test> *** frozen ***\\n          c@d.test\\n\\n'");
        exim(&own, &mut |one| found.push(one)).unwrap();
        let one = |id: &str| OnHold {
            id: QueueId::new(id.as_bytes()).unwrap(),
            sender: b"a@b.test"[..].into(),
            recipients: vec![b"c@d.test"[..].into()],
        };
        assert_eq!(found, [one("AAAAA1"), one("1xVROW-0001BH-2c")]);
        let broken = program("broken", "echo 'exim: permission denied' >&2; exit 1");
        assert!(exim(&broken, &mut |_| {}).unwrap_err().contains("permission denied"));
    }
}
