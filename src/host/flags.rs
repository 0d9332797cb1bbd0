//! Flags: a directory of empty files, looked up by a mail server that asks nobody. What is there is held, also while no
//! agent runs.
//!
//! The directory is ours alone: it is made equal to what it is told, both ways, and whatever else lies in its
//! subdirectories goes. A flag comes and goes in one step. See [`Flags`].

use super::clock;
use rustix::fs::OFlags;
use std::collections::BTreeSet;
use std::fs;
use std::io::{self, ErrorKind};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// One directory, open to the mail server's group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Flags {
    dir: PathBuf,
    group: u32,
}

/// Flags that are not as they should be, and the first thing that could not be done, for the operator.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Wrong {
    pub count: u64,
    pub first: String,
}

impl Flags {
    /// `group` is the one that the mail server looks it up with. Makes nothing yet.
    pub fn new(dir: PathBuf, group: u32) -> Flags {
        Flags { dir, group }
    }

    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Makes subdirectories and files equal to `wanted`: names of files for each subdirectory. New flags come before old
    /// ones go. Does what it can; the number of files that came and went.
    ///
    /// # Errors
    /// What could not be done.
    pub fn make_equal(&self, wanted: &[(&str, BTreeSet<String>)]) -> Result<(usize, usize), Wrong> {
        let (mut made, mut removed, mut wrong) = (0, 0, Wrong::default());
        let mut note = |result: io::Result<usize>, what: &str, path: &Path, count: &mut usize| match result {
            Ok(n) => *count += n,
            Err(why) => {
                if wrong.count == 0 {
                    wrong.first = format!("cannot {what} {}: {why}", path.display());
                }
                wrong.count += 1;
            }
        };
        note(self.directory(&self.dir).map(|()| 0), "make", &self.dir, &mut made);
        for (kind, names) in wanted {
            let dir = self.dir.join(kind);
            note(self.directory(&dir).map(|()| 0), "make", &dir, &mut made);
            for name in names {
                let path = dir.join(name);
                note(raise(&path).map(usize::from), "make the flag", &path, &mut made);
            }
        }
        for (kind, names) in wanted {
            let dir = self.dir.join(kind);
            let entries = match fs::read_dir(&dir) {
                Ok(entries) => entries,
                Err(why) => {
                    note(Err(why), "read", &dir, &mut removed);
                    continue;
                }
            };
            for entry in entries.flatten() {
                if !entry.file_name().to_str().is_some_and(|name| names.contains(name)) {
                    note(fs::remove_file(entry.path()).map(|()| 1), "remove the flag", &entry.path(), &mut removed);
                }
            }
        }
        if wrong.count == 0 { Ok((made, removed)) } else { Err(wrong) }
    }

    /// Makes these files of a subdirectory, or removes them; all others stay as they are.
    ///
    /// # Errors
    /// The first thing that could not be done, for the operator.
    pub fn set<'n>(&self, kind: &str, names: impl Iterator<Item = &'n str>, there: bool) -> Result<(), String> {
        let dir = self.dir.join(kind);
        let mut names = names.peekable();
        if names.peek().is_none() || (!there && !dir.exists()) {
            return Ok(());
        }
        if there {
            self.directory(&dir).map_err(|why| format!("cannot make {}: {why}", dir.display()))?;
        }
        for name in names {
            let path = dir.join(name);
            let (what, done) = match there {
                true => ("make", raise(&path).map(drop)),
                false => ("remove", fs::remove_file(&path)),
            };
            match done {
                Err(why) if there || why.kind() != ErrorKind::NotFound => {
                    return Err(format!("cannot {what} the flag {}: {why}", path.display()));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Makes this file beside the subdirectories say this, or removes it when there is nothing to say. Whoever reads it
    /// meanwhile reads what was there, or what is.
    ///
    /// # Errors
    /// What could not be done, for the operator.
    pub fn say(&self, name: &str, text: &str) -> Result<(), String> {
        let (path, new) = (self.dir.join(name), self.dir.join(format!("{name}.new")));
        let fail = |what: &str, why: io::Error| Err(format!("cannot {what} {}: {why}", path.display()));
        if text.is_empty() {
            return match fs::remove_file(&path) {
                Err(why) if why.kind() != ErrorKind::NotFound => fail("remove", why),
                _ => Ok(()),
            };
        }
        if fs::read_to_string(&path).is_ok_and(|there| there == text) {
            return Ok(());
        }
        let mut file = match raise(&new).and_then(|_| fs::File::options().write(true).truncate(true).open(&new)) {
            Ok(file) => file,
            Err(why) => return fail("write", why),
        };
        io::Write::write_all(&mut file, text.as_bytes())
            .and_then(|()| fs::rename(&new, &path))
            .or_else(|why| fail("write", why))
    }

    /// Removes those of a subdirectory that are older.
    pub fn forget(&self, kind: &str, age: Duration) {
        // What cannot be read or removed now is looked at again; it harms nobody meanwhile.
        let Ok(entries) = fs::read_dir(self.dir.join(kind)) else { return };
        for entry in entries.flatten() {
            let old = entry.metadata().and_then(|meta| meta.modified()).is_ok_and(|made| is_older(made, age));
            if old {
                drop(fs::remove_file(entry.path()));
            }
        }
    }

    /// The mail server's group may look into it, nobody else.
    fn directory(&self, dir: &Path) -> io::Result<()> {
        if let Err(why) = fs::DirBuilder::new().mode(0o750).create(dir)
            && (why.kind() != ErrorKind::AlreadyExists || !dir.is_dir())
        {
            return Err(why);
        }
        let meta = fs::metadata(dir)?;
        if meta.gid() != self.group {
            chown(dir, None, Some(self.group))?;
        }
        if meta.gid() != self.group || meta.mode() & 0o7777 != MODE {
            fs::set_permissions(dir, fs::Permissions::from_mode(MODE))?;
        }
        Ok(())
    }

    /// The mail server cannot get into a directory above: then it finds no flag, and all mail passes.
    ///
    /// # Errors
    /// The whole text for the operator.
    pub fn can_be_reached(&self) -> Result<(), String> {
        for above in self.dir.ancestors().skip(1).filter(|above| !above.as_os_str().is_empty()) {
            let Ok(meta) = fs::metadata(above) else { continue };
            let mode = meta.mode();
            let may = mode & 0o001 != 0 || (meta.gid() == self.group && mode & 0o010 != 0);
            if !may {
                return Err(format!(
                    "the mail server cannot look for flags in {}: its group ({}) may not enter {}; set gate.exim_flags to \
                     a directory that it can reach",
                    self.dir.display(),
                    self.group,
                    above.display()
                ));
            }
        }
        Ok(())
    }
}

fn is_older(made: SystemTime, age: Duration) -> bool {
    let micros = i64::try_from(age.as_micros()).unwrap_or(i64::MAX);
    clock::now().0.saturating_sub(clock::from_system(made).0) > micros
}

/// New files are of the directory's group.
const MODE: u32 = 0o2750;

/// True when it was not there. Only a regular file is a flag: what else has its name is no flag, and goes.
fn raise(path: &Path) -> io::Result<bool> {
    match fs::symlink_metadata(path) {
        Ok(meta) if meta.is_file() => return Ok(false),
        Ok(_) => fs::remove_file(path)?,
        Err(why) if why.kind() == ErrorKind::NotFound => {}
        Err(why) => return Err(why),
    }
    let flags = i32::try_from(OFlags::NOFOLLOW.bits()).unwrap_or_default();
    fs::File::options().write(true).create_new(true).mode(0o640).custom_flags(flags).open(path)?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    fn names(list: &[&str]) -> BTreeSet<String> {
        list.iter().map(|name| (*name).to_owned()).collect()
    }

    fn found(dir: &Path) -> BTreeSet<String> {
        let entries = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap());
        let files = entries.filter(|entry| entry.file_type().unwrap().is_file());
        files.map(|entry| entry.file_name().into_string().unwrap()).collect()
    }

    #[test]
    fn the_directory_is_made_equal_both_ways() {
        let base = tempfile::tempdir().unwrap();
        let group = fs::metadata(base.path()).unwrap().gid();
        let flags = Flags::new(base.path().join("gate"), group);
        let told =
            |users: &[&str], logins: &[&str]| flags.make_equal(&[("user", names(users)), ("auth", names(logins))]);
        assert_eq!(told(&["web1"], &["a@b.test", "x\u{1}y"]), Ok((3, 0)));
        let (user, auth) = (base.path().join("gate/user"), base.path().join("gate/auth"));
        assert_eq!((found(&user), found(&auth)), (names(&["web1"]), names(&["a@b.test", "x\u{1}y"])));
        assert_eq!(fs::metadata(&user).unwrap().mode() & 0o7777, 0o2750);
        assert_eq!(told(&["web1"], &["a@b.test", "x\u{1}y"]), Ok((0, 0)), "nothing to do");
        // What is missing comes back, what is not ours goes, and a link is no flag.
        fs::remove_file(user.join("web1")).unwrap();
        symlink("/etc/passwd", user.join("web1")).unwrap();
        fs::write(auth.join("stale"), "").unwrap();
        assert_eq!(told(&["web1", "web2"], &[]), Ok((2, 3)));
        assert_eq!((found(&user), found(&auth)), (names(&["web1", "web2"]), names(&[])));
        fs::remove_dir_all(base.path().join("gate")).unwrap();
        assert_eq!(told(&["web2"], &[]), Ok((1, 0)), "also the directories");
        // One thing that cannot be done keeps nothing else from being done.
        fs::create_dir(user.join("web3")).unwrap();
        let why = told(&["web3", "web4"], &["c"]).unwrap_err();
        assert!(why.first.contains("user/web3") && why.count == 1, "{why:?}");
        assert_eq!((found(&user), found(&auth)), (names(&["web4"]), names(&["c"])));
    }

    #[test]
    fn single_flags_come_and_go_and_old_ones_are_forgotten() {
        let base = tempfile::tempdir().unwrap();
        let flags = Flags::new(base.path().to_owned(), fs::metadata(base.path()).unwrap().gid());
        let free = base.path().join("free");
        flags.set("free", ["a"].into_iter(), false).unwrap();
        assert!(!free.exists());
        flags.set("free", ["a", "b", "c"].into_iter(), true).unwrap();
        flags.set("free", ["b", "d"].into_iter(), false).unwrap();
        assert_eq!(found(&free), names(&["a", "c"]));
        let file = fs::File::options().write(true).open(free.join("a")).unwrap();
        file.set_modified(std::time::UNIX_EPOCH).unwrap();
        flags.forget("free", Duration::from_secs(3_600));
        assert_eq!(found(&free), names(&["c"]));
        fs::write(base.path().join("none"), "").unwrap();
        assert!(flags.set("none", ["a"].into_iter(), true).unwrap_err().contains("none"));
    }

    #[test]
    fn a_text_beside_them_is_whole_or_not_there() {
        let base = tempfile::tempdir().unwrap();
        let flags = Flags::new(base.path().to_owned(), fs::metadata(base.path()).unwrap().gid());
        for text in ["", "10.0.0.0/8\n", "10.0.0.0/8\n", "::1/128\n"] {
            flags.say("networks", text).unwrap();
            assert_eq!(fs::read_to_string(base.path().join("networks")).unwrap_or_default(), text);
        }
        assert_eq!(found(base.path()), names(&["networks"]));
        flags.say("networks", "").unwrap();
        assert_eq!(found(base.path()), names(&[]));
        fs::create_dir(base.path().join("networks")).unwrap();
        assert!(flags.say("networks", "x").unwrap_err().contains("networks"));
    }

    #[test]
    fn a_directory_that_the_mail_server_cannot_reach_is_told() {
        let base = tempfile::tempdir().unwrap();
        let state = base.path().join("state");
        fs::DirBuilder::new().mode(0o750).create(&state).unwrap();
        fs::set_permissions(base.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let group = fs::metadata(&state).unwrap().gid();
        assert_eq!(Flags::new(state.join("gate"), group).can_be_reached(), Ok(()));
        let why = Flags::new(state.join("gate"), group + 1).can_be_reached().unwrap_err();
        assert!(why.contains(&format!("may not enter {};", state.display())), "{why}");
        assert_eq!(Flags::new(base.path().join("gate"), group + 1).can_be_reached(), Ok(()));
    }
}
