//! Exim's queue: how much its messages take, and how many are frozen.
//!
//! What there is and what of it is frozen Exim lists itself; it only rounds sizes, so they are those of the files. A
//! message is `input/ID-H` and `input/ID-D`, or with `split_spool_directory` the same in `input/C`, C being the last
//! character of the time in its id (the specification, "Format of spool files"). Nothing is opened, nothing is kept.

use super::files::FileCount;
use super::{listing, servers};
use crate::mail::QueueId;
use crate::mta::exim::listing::{Queued, arrived};
use crate::mta::exim::plan::is_message_id;
use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

/// The queue directory of the Exim that this program is: asked for once.
#[derive(Debug, Default)]
pub struct Spool(Option<PathBuf>);

impl Spool {
    /// # Errors
    /// What keeps Exim from answering.
    pub fn of(&mut self, program: &str) -> Result<&Path, String> {
        if self.0.is_none() {
            self.0 = Some(servers::exim_spool(program)?);
        }
        Ok(self.0.as_deref().unwrap_or(Path::new("")))
    }
}

/// How many bytes the files of these messages have, of those that are there.
///
/// # Errors
/// The whole text for the operator: the queue may not be looked into.
pub fn sizes(spool: &Path, ids: &[QueueId]) -> Result<Vec<(QueueId, u64)>, String> {
    let mut found = Vec::new();
    for id in ids.iter().filter(|id| is_message_id(id)) {
        let size = size(spool, id).map_err(|why| format!("cannot look into {}: {why}", spool.display()))?;
        found.extend(size.map(|size| (*id, size)));
    }
    Ok(found)
}

/// `None` where it is not there.
fn size(spool: &Path, id: &QueueId) -> io::Result<Option<u64>> {
    let input = spool.join("input");
    let split = id.as_bytes().get(5).map(|last| input.join(char::from(*last).to_string()));
    for dir in split.iter().chain([&input]) {
        if let Some(head) = length(&dir.join(format!("{id}-H")))? {
            return Ok(Some(head + length(&dir.join(format!("{id}-D")))?.unwrap_or(0)));
        }
    }
    Ok(None)
}

fn length(path: &Path) -> io::Result<Option<u64>> {
    match fs::symlink_metadata(path) {
        Ok(meta) => Ok(Some(meta.len()).filter(|_| meta.is_file())),
        Err(why) if why.kind() == ErrorKind::NotFound => Ok(None),
        Err(why) => Err(why),
    }
}

/// The messages of the Exim that this program is: those that wait, and those that are frozen.
///
/// # Errors
/// The whole text for the operator.
pub fn count(program: &str, spool: &Path) -> Result<[FileCount; 2], String> {
    let (mut counts, mut trouble) = ([FileCount::default(); 2], None);
    let [waiting, frozen] = &mut counts;
    listing::exim_queue(program, &mut |one: Queued| {
        let count = if one.frozen { &mut *frozen } else { &mut *waiting };
        let size = size(spool, &one.id).map_err(|why| trouble.get_or_insert(why).kind());
        count.files += 1;
        // It may have left since it was listed.
        count.bytes += size.ok().flatten().unwrap_or(0);
        count.oldest = [count.oldest, Some(arrived(&one.id))].into_iter().flatten().min();
    })?;
    match trouble {
        Some(why) => Err(format!("cannot look into {}: {why}", spool.display())),
        None => Ok(counts),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mail::Time;
    use std::os::unix::fs::PermissionsExt;

    const OLD: &str = "1xVROW-0001BH-2c";
    const NEW: &str = "1xVROY-000000001Df-1o0t";

    fn id(text: &str) -> QueueId {
        QueueId::new(text.as_bytes()).unwrap()
    }

    /// One message in a directory of its own, one that is not split.
    fn spool() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("input/W")).unwrap();
        for (name, length) in [("W/1xVROW-0001BH-2c-H", 700), ("W/1xVROW-0001BH-2c-D", 300), (&format!("{NEW}-H"), 50)]
        {
            fs::write(dir.path().join("input").join(name), vec![b'x'; length]).unwrap();
        }
        dir
    }

    #[test]
    fn sizes_of_both_files_split_or_not_and_of_nothing_else() {
        let dir = spool();
        let link = dir.path().join("input/1xVROZ-0001BH-2c-H");
        std::os::unix::fs::symlink("/etc/passwd", link).unwrap();
        let ids = [OLD, NEW, "1xVROZ-0001BH-2c", "1xVROX-0001BH-2c", "4jYswH0Jn6z7xJG"].map(id);
        assert_eq!(sizes(dir.path(), &ids).unwrap(), [(ids[0], 1_000), (ids[1], 50)]);
        fs::rename(dir.path().join("input/W"), dir.path().join("W")).unwrap();
        assert_eq!(sizes(dir.path(), &ids[..1]).unwrap(), []);
        fs::write(dir.path().join("input/W"), "").unwrap();
        assert!(sizes(dir.path(), &ids[..1]).unwrap_err().contains("cannot look into"), "that is no directory");
    }

    #[test]
    fn what_waits_and_what_is_frozen_is_counted_with_its_bytes_and_the_oldest() {
        let dir = spool();
        let program = dir.path().join("exim");
        let listed = format!(
            " 4m 3 {OLD} <a@b.test> *** frozen ***\\n          c@d.test\\n\\n 4m 3 {NEW} <>\\n          c@d.test\\n\\n 1h 3 \
             1xVROA-0001BH-2c <> *** frozen ***\\n          c@d.test\\n\\n"
        );
        let text = format!(
            "#!/bin/sh\ncase $2 in spool_directory) echo 'spool_directory = {}';; '') printf '{listed}';; esac\n",
            dir.path().display()
        );
        fs::write(&program, text).unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        let (program, mut own) = (program.display().to_string(), Spool::default());
        let [waiting, frozen] = count(&program, own.of(&program).unwrap()).unwrap();
        let oldest = Some(Time::from_secs(1_795_430_110));
        assert_eq!(frozen, FileCount { files: 2, bytes: 1_000, oldest });
        assert_eq!(waiting, FileCount { files: 1, bytes: 50, oldest: Some(Time::from_secs(1_795_430_134)) });
        fs::remove_file(&program).unwrap();
        assert_eq!(own.of(&program).unwrap(), dir.path(), "it is asked for once");
        assert!(count(&program, dir.path()).is_err());
    }
}
