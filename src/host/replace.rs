//! Files of others, replaced whole or not at all: same owner, same mode, a copy of what was there beside it.
//!
//! A file behind a symbolic link is changed where it is, and the link stays. Nothing is written over a file that
//! changed since it was read.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};

/// A file as it was read.
#[derive(Debug, Clone)]
pub struct Found {
    /// Where it is, links followed.
    pub path: PathBuf,
    pub bytes: Vec<u8>,
    mode: u32,
    owner: (u32, u32),
}

/// More is no configuration file.
const MOST: u64 = 16 * 1024 * 1024;

/// Reads a file that is to be replaced.
///
/// # Errors
/// When it is no plain file, cannot be read, or is larger than any configuration.
pub fn read(path: &Path) -> io::Result<Found> {
    let path = fs::canonicalize(path)?;
    let file = File::open(&path)?;
    let meta = file.metadata()?;
    if !meta.is_file() {
        return Err(io::Error::other("it is no plain file"));
    }
    let mut bytes = Vec::new();
    if file.take(MOST + 1).read_to_end(&mut bytes)? as u64 > MOST {
        return Err(io::Error::other("it is larger than 16 MiB"));
    }
    Ok(Found { path, bytes, mode: meta.permissions().mode() & 0o7777, owner: (meta.uid(), meta.gid()) })
}

/// The name of the copy that is kept beside a file.
pub fn backup_name(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".before-sendwarden");
    PathBuf::from(name)
}

impl Found {
    /// Keeps what was read in a file beside it.
    ///
    /// # Errors
    /// What the file system says.
    pub fn back_up(&self) -> io::Result<PathBuf> {
        let backup = backup_name(&self.path);
        self.write(&backup, &self.bytes)?;
        Ok(backup)
    }

    /// Puts `bytes` in the place of what was read: a reader sees the one or the other, also after a power cut.
    ///
    /// # Errors
    /// When the file is not as it was read any more, and what the file system says.
    pub fn replace(&self, bytes: &[u8]) -> io::Result<()> {
        if read(&self.path)?.bytes != self.bytes {
            return Err(io::Error::other("it was changed by somebody else in the meantime; run this again"));
        }
        self.write(&self.path, bytes)
    }

    /// Puts back what was read, whatever is there now.
    ///
    /// # Errors
    /// What the file system says.
    pub fn put_back(&self) -> io::Result<()> {
        self.write(&self.path, &self.bytes)
    }

    fn write(&self, to: &Path, bytes: &[u8]) -> io::Result<()> {
        let directory = to.parent().unwrap_or(Path::new("/"));
        let name = to.file_name().unwrap_or_default().to_string_lossy();
        let new = directory.join(format!(".{name}.sendwarden-{}", std::process::id()));
        let written = self.written(&new, bytes).and_then(|()| fs::rename(&new, to));
        if written.is_err() {
            let _ = fs::remove_file(&new);
            return written;
        }
        File::open(directory)?.sync_all()
    }

    fn written(&self, new: &Path, bytes: &[u8]) -> io::Result<()> {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(new)?;
        let meta = file.metadata()?;
        if (meta.uid(), meta.gid()) != self.owner {
            fchown(&file, Some(self.owner.0), Some(self.owner.1))?;
        }
        // After the owner: a change of owner clears bits.
        file.set_permissions(fs::Permissions::from_mode(self.mode))?;
        file.write_all(bytes)?;
        file.sync_all()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mode_and_link_stay_and_nobodys_change_is_lost() {
        let dir = tempfile::tempdir().unwrap();
        let (real, link) = (dir.path().join("real.cf"), dir.path().join("main.cf"));
        fs::write(&real, "a\n").unwrap();
        fs::set_permissions(&real, fs::Permissions::from_mode(0o640)).unwrap();
        std::os::unix::fs::symlink("real.cf", &link).unwrap();
        let found = read(&link).unwrap();
        assert_eq!(found.back_up().unwrap(), fs::canonicalize(dir.path()).unwrap().join("real.cf.before-sendwarden"));
        found.replace(b"b\n").unwrap();
        assert_eq!(fs::read(&link).unwrap(), b"b\n");
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        for file in [&real, &backup_name(&real)] {
            assert_eq!(fs::metadata(file).unwrap().permissions().mode() & 0o7777, 0o640);
        }
        let why = found.replace(b"c\n").unwrap_err();
        assert!(why.to_string().contains("somebody else"), "{why}");
        assert_eq!(fs::read(&real).unwrap(), b"b\n");
        found.put_back().unwrap();
        assert_eq!(fs::read(&real).unwrap(), b"a\n");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 3);
    }
}
