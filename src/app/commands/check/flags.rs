//! Whether the flags that Exim looks for say who is held: compared with what the store says, without an agent.

use super::Finding;
use crate::app::flags::{Told, wanted};
use crate::app::setup::Setup;
use crate::app::{barred, instances};
use crate::engine::marks::Marks;
use crate::host::flags::Flags;
use crate::host::names::Names;
use crate::host::servers;
use crate::mta::exim::setup::KINDS;
use crate::store::Views;
use std::collections::BTreeSet;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

/// An agent that is about to write them is done by then.
const AGAIN: Duration = Duration::from_secs(1);
/// Most that are named.
const MOST: usize = 5;

pub fn judge(setup: &Setup, findings: &mut Vec<Finding>) {
    let Some(settings) = setup.flags.as_ref().filter(|_| setup.gate.is_some()) else { return };
    let Ok(program) = instances::program(setup.mail_servers.exim.as_deref()) else { return };
    let dir = &settings.dir;
    if !dir.is_dir() {
        if settings.hold {
            let text = format!("{} is not there, where Exim looks for who is held: all mail passes", dir.display());
            let next = "start the agent as root, which makes it, or make it: install -d -o sendwarden -g GROUP -m 2750, \
                        GROUP being Exim's";
            findings.push(Finding::warn("flags", text, next));
        }
        return;
    }
    findings.extend(unreadable(dir, &program));
    let once = differences(setup, settings.hold);
    let twice = match &once {
        Ok(found) if !found.is_empty() => {
            std::thread::park_timeout(AGAIN);
            differences(setup, settings.hold).map(|again| again.intersection(found).cloned().collect())
        }
        _ => once,
    };
    findings.push(match twice {
        Ok(found) if found.is_empty() => {
            Finding::ok("flags", format!("those in {} are those of who is held", dir.display()))
        }
        Ok(found) => {
            let mut named: Vec<&str> = found.iter().take(MOST).map(String::as_str).collect();
            let more = format!("and {} more", found.len().saturating_sub(MOST));
            named.extend((found.len() > MOST).then_some(more.as_str()));
            let next = "a running agent makes them right each minute, and says in its log why it cannot; start it";
            Finding::warn("flags", format!("in {}: {}", dir.display(), named.join("; ")), next)
        }
        Err(why) => Finding::warn(
            "flags",
            format!("cannot compare those in {} with who is held: {why}", dir.display()),
            "run this as root or as the agent's user",
        ),
    });
}

/// What keeps Exim from seeing them.
fn unreadable(dir: &Path, program: &str) -> Option<Finding> {
    let spool = servers::exim_spool(program).ok()?;
    let group = std::fs::metadata(&spool).ok()?.gid();
    let next = format!("chgrp {group} and chmod 2750 it: the group of {}", spool.display());
    if let Err(why) = Flags::new(dir.to_owned(), group).can_be_reached() {
        return Some(Finding::warn("flags", why, "all mail passes until then"));
    }
    let kinds = KINDS.iter().map(|kind| dir.join(kind)).filter(|dir| dir.exists());
    let closed = [dir.to_owned()].into_iter().chain(kinds).find(|dir| !may_list(dir, group))?;
    let text = format!("Exim may not look into {}: mail of who is held there passes", closed.display());
    Some(Finding::warn("flags", text, next))
}

fn may_list(dir: &Path, group: u32) -> bool {
    let Ok(meta) = std::fs::metadata(dir) else { return true };
    let mode = meta.mode();
    mode & 0o005 == 0o005 || (meta.gid() == group && mode & 0o050 == 0o050)
}

/// Flags that are missing or too many, in words.
fn differences(setup: &Setup, hold: bool) -> Result<BTreeSet<String>, String> {
    let Some(settings) = &setup.flags else { return Ok(BTreeSet::new()) };
    let mut held = Marks::default();
    // Without a store nobody was ever held.
    if hold && setup.state_dir.join(crate::store::FILE_NAME).exists() {
        let views = Views::open(&setup.state_dir).map_err(|why| why.to_string())?;
        let mut names = Names::of_host(setup.name_timeout);
        for one in barred::in_store(&views, &setup.directory, &mut names)? {
            let users = barred::users(&setup.directory, &mut names, &one);
            held.add(&setup.directory, &one, users);
        }
    }
    let told = Told { held, ..Told::default() };
    let mut found = BTreeSet::new();
    for (kind, names) in wanted(&told, &mut |_, _| {}).into_iter().filter(|(kind, _)| KINDS.contains(kind)) {
        compare(&settings.dir, kind, &names, &mut found)?;
    }
    Ok(found)
}

fn compare(dir: &Path, kind: &str, wanted: &BTreeSet<String>, found: &mut BTreeSet<String>) -> Result<(), String> {
    let path = dir.join(kind);
    let entries = match std::fs::read_dir(&path) {
        Ok(entries) => entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect(),
        Err(why) if why.kind() == std::io::ErrorKind::NotFound => BTreeSet::new(),
        Err(why) => return Err(format!("cannot read {}: {why}", path.display())),
    };
    let shown = |name: &String| format!("{kind}/{}", crate::mail::text::clean(name.as_bytes(), 80));
    let missing = wanted.difference(&entries).map(|name| format!("{} is missing: its mail goes out", shown(name)));
    let extra =
        entries.difference(wanted).map(|name| format!("{} is of nobody who is blocked: its mail waits", shown(name)));
    found.extend(missing.chain(extra));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_and_what_is_too_many_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let names = |list: &[&str]| list.iter().map(|name| (*name).to_owned()).collect::<BTreeSet<_>>();
        let mut found = BTreeSet::new();
        compare(dir.path(), "user", &names(&[]), &mut found).unwrap();
        assert_eq!(found, names(&[]), "no directory, and nobody held");
        std::fs::create_dir(dir.path().join("user")).unwrap();
        std::fs::write(dir.path().join("user/web2"), "").unwrap();
        compare(dir.path(), "user", &names(&["web1"]), &mut found).unwrap();
        let wanted = names(&[
            "user/web1 is missing: its mail goes out",
            "user/web2 is of nobody who is blocked: its mail waits",
        ]);
        assert_eq!(found, wanted);
        std::fs::write(dir.path().join("auth"), "").unwrap();
        assert!(compare(dir.path(), "auth", &names(&[]), &mut found).unwrap_err().contains("auth"));
    }

    #[test]
    fn a_directory_that_the_group_may_not_list_is_closed() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let group = std::fs::metadata(dir.path()).unwrap().gid();
        for (mode, own, other) in
            [(0o750, true, false), (0o710, false, false), (0o755, true, true), (0o700, false, false)]
        {
            std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(mode)).unwrap();
            assert_eq!((may_list(dir.path(), group), may_list(dir.path(), group + 1)), (own, other), "{mode:o}");
        }
    }
}
