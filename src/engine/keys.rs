//! Which account an identity leads to, by name: the one rule that attribution and the gate share.
//!
//! Pure and without memory: it neither makes accounts nor asks the name service; it is told what that says.

use super::accounts::name_from;
use super::attribution::User;
use super::directory::Directory;
use crate::mail::Unattributed;

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
