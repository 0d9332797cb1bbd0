//! Whose home a script lies in: the home directories of the users whose mail was seen.
//!
//! A home that says nothing of its user does not count: one that several share, and one at the top (`/`, `/srv`).

use std::collections::BTreeMap;

/// Homes by path; `None`: several users share it.
#[derive(Debug, Default)]
pub struct Homes {
    users: BTreeMap<Box<[u8]>, Option<u32>>,
}

impl Homes {
    pub fn learn(&mut self, uid: u32, home: &str) {
        let home = home.trim_end_matches('/');
        if home.starts_with('/') && home.matches('/').count() >= 2 {
            let user = self.users.entry(home.as_bytes().into()).or_insert(Some(uid));
            if *user != Some(uid) {
                *user = None;
            }
        }
    }

    pub fn clear(&mut self) {
        self.users.clear();
    }

    /// The user in whose home this file lies: the innermost home decides.
    pub fn user_of(&self, path: &[u8]) -> Option<u32> {
        // A path is as the script's interpreter told it: it does not lead out of where it seems to lie.
        if self.users.is_empty() || path.split(|&b| b == b'/').any(|name| name == b"..") {
            return None;
        }
        let ends = memchr::memrchr_iter(b'/', path);
        ends.filter_map(|end| self.users.get(path.get(..end)?)).next().copied().flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_innermost_home_decides() {
        let mut homes = Homes::default();
        for (uid, home) in [
            (1001, "/home/web1"),
            (1001, "/home/web1/"),
            (1002, "/home/web1/sub"),
            (1003, "/srv"),
            (1004, "/"),
            (1005, "/var/www"),
            (1006, "/var/www"),
            (1007, ""),
            (1008, "relative/home"),
        ] {
            homes.learn(uid, home);
        }
        for (path, user) in [
            ("/home/web1/public_html/a.php", Some(1001)),
            ("/home/web1/a.php", Some(1001)),
            ("/home/web1/sub/a.php", Some(1002)),
            ("/home/web1/subs/a.php", Some(1001)),
            ("/home/web10/a.php", None),
            ("/home/web1", None),
            ("/home/web1/../web2/a.php", None),
            ("/srv/a.php", None),
            ("/var/www/a.php", None),
            ("a.php", None),
            ("", None),
        ] {
            assert_eq!(homes.user_of(path.as_bytes()), user, "{path}");
        }
        homes.clear();
        assert_eq!(homes.user_of(b"/home/web1/a.php"), None);
    }
}
