//! What root may believe: files and directories that only root can change.
//!
//! The helper starts what a configuration directory names. Could anybody else change that directory, or one above it, they
//! would have what they like started as root.

use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Whether only root can change what is found under this name.
///
/// # Errors
/// Who else could, and what to do.
pub fn only_root_changes(path: &Path) -> Result<(), String> {
    let shown = path.display();
    let real = std::fs::canonicalize(path).map_err(|why| format!("cannot look at {shown}: {why}"))?;
    for (up, place) in real.ancestors().enumerate() {
        let meta = std::fs::metadata(place).map_err(|why| format!("cannot look at {}: {why}", place.display()))?;
        // In a directory with the sticky bit nobody can rename or remove what is root's (unlink(2)), but a file could
        // still be written to.
        let sticky = up > 0 && meta.mode() & 0o1000 != 0;
        if meta.uid() != 0 || (meta.mode() & 0o022 != 0 && !sticky) {
            let whose = format!("it is uid {}'s, with mode {:o}", meta.uid(), meta.mode() & 0o7777);
            return Err(format!(
                "{shown} is not believed: others than root can change {} ({whose}); chown root, chmod go-w",
                place.display()
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, chown, symlink};

    #[test]
    fn what_others_can_change_is_not_believed() {
        let dir = tempfile::tempdir().unwrap();
        let (inner, file) = (dir.path().join("inner"), dir.path().join("inner/main.cf"));
        let mode = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        fs::create_dir(&inner).unwrap();
        fs::write(&file, "").unwrap();
        mode(&inner, 0o755);
        mode(&file, 0o644);
        only_root_changes(&file).unwrap();
        mode(&file, 0o664);
        assert!(only_root_changes(&file).unwrap_err().contains("with mode 664"));
        mode(&file, 0o644);
        mode(&inner, 0o777);
        assert!(only_root_changes(&file).unwrap_err().contains("inner (it is uid 0's"));
        mode(&inner, 0o1777);
        only_root_changes(&file).unwrap();
        assert!(only_root_changes(&inner).is_err(), "others can add to it");
        mode(&inner, 0o755);
        chown(&inner, Some(2001), None).unwrap();
        assert!(only_root_changes(&file).is_err());
        let link = dir.path().join("link");
        symlink(&file, &link).unwrap();
        assert!(only_root_changes(&link).is_err(), "a link is what it leads to");
        assert!(only_root_changes(&dir.path().join("none")).is_err());
    }
}
