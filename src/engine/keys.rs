//! Which account an identity leads to, by name: the one rule that attribution and the gate share.
//!
//! Pure and without memory: it neither makes accounts nor asks the name service; it is told what that says.

use super::accounts::name_from;
use super::attribution::User;
use super::directory::Directory;
use crate::mail::{HandedBy, Unattributed};

/// The account behind an identity.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Key<'a> {
    /// The id of an account of the accounts file.
    Listed(&'a str),
    /// An account that nobody listed, called by its login or unix user.
    Named(String),
    Nobody(Unattributed),
}

impl Key<'_> {
    /// The account's key; `None` for nobody.
    pub fn text(&self) -> Option<&str> {
        match self {
            Key::Listed(id) => Some(id),
            Key::Named(name) => Some(name),
            Key::Nobody(_) => None,
        }
    }
}

/// Of an authenticated login, as the server spells it.
pub fn of_login<'a>(directory: &'a Directory, login: &[u8]) -> Key<'a> {
    match directory.by_login(login) {
        Some(id) => Key::Listed(id),
        None => Key::Named(name_from(login)),
    }
}

/// Of a uid; `user` is what the name service says of it.
pub fn of_uid<'a>(directory: &'a Directory, uid: u32, user: Option<&User>) -> Key<'a> {
    if let Some(id) = directory.by_uid(uid) {
        return Key::Listed(id);
    }
    let login = user.map(|user| user.login.as_bytes());
    if let Some(id) = login.and_then(|login| directory.by_unix_user(login)) {
        return Key::Listed(id);
    }
    if directory.policy().is_web_server(uid, login) {
        return Key::Nobody(Unattributed::WebServerUid);
    }
    if uid < directory.policy().min_uid {
        return Key::Nobody(Unattributed::SystemUid);
    }
    Key::Named(login.map_or_else(|| format!("uid{uid}"), name_from))
}

/// Whether what was handed in so is mail of the account with this key and these uids.
pub fn is_of(directory: &Directory, key: &str, uids: &[u32], by: &HandedBy) -> bool {
    match by {
        HandedBy::Login(login) => of_login(directory, login.as_bytes()).text() == Some(key),
        HandedBy::Uid(uid) => uids.contains(uid),
        HandedBy::Client { address: Some(address), domain } => match directory.by_network(*address) {
            Some(id) => id == key,
            None => {
                let policy = directory.policy();
                let claims = policy.claimed_domains && policy.is_local(*address);
                claims && directory.by_domain(domain.as_bytes()) == Some(key)
            }
        },
        HandedBy::Client { address: None, .. } | HandedBy::Requeued => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::directory::{AccountSpec, Policy};

    #[test]
    fn what_a_queue_file_says_leads_to_one_account() {
        let shop = AccountSpec {
            id: "shop".into(),
            logins: vec!["box@shop.test".into()],
            domains: vec!["shop.test".into()],
            networks: vec!["10.9.0.0/24".parse().unwrap()],
            ..AccountSpec::default()
        };
        let directory = Directory::build(vec![shop], Policy::default()).unwrap();
        let client =
            |address: &str, domain: &str| HandedBy::client(address.parse().ok(), format!("a@{domain}").as_bytes());
        for (by, shops) in [
            (HandedBy::login(b"Box@shop.test"), true),
            (HandedBy::login(b"box@blog.test"), false),
            (HandedBy::Uid(2_001), true),
            (HandedBy::Uid(2_002), false),
            (client("10.9.0.7", "blog.test"), true),
            (client("127.0.0.1", "Shop.test"), true),
            (client("127.0.0.1", "blog.test"), false),
            (client("203.0.113.7", "shop.test"), false),
            (client("", "shop.test"), false),
            (HandedBy::Requeued, false),
        ] {
            assert_eq!(is_of(&directory, "shop", &[2_001], &by), shops, "{by:?}");
        }
    }
}
