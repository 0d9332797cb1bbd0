//! Marks: what held mail is known by, for a mail server that looks it up itself and asks nobody.
//!
//! Names only, and only those that lead to the held account and to no other: what a mark says is believed without a
//! further question, also while nobody is there to answer one. Pure.

use super::directory::Directory;
use super::keys;
use super::turnstile::Barred;
use crate::mail::Scope;
use std::collections::BTreeSet;

/// Everything that is held, by name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Marks {
    /// Unix users whose programs' mail is held.
    pub users: BTreeSet<String>,
    /// Authenticated logins, in lower case.
    pub logins: BTreeSet<String>,
    /// Domains of logins: every login there.
    pub domains: BTreeSet<String>,
}

impl Marks {
    /// Adds those of one held account; `users` are its unix users.
    pub fn add(&mut self, directory: &Directory, barred: &Barred, users: impl IntoIterator<Item = String>) {
        let of = |login: &str| keys::of_login(directory, login.as_bytes()).text() == Some(barred.key.as_str());
        match &barred.scope {
            Scope::Script => self.users.extend(users),
            Scope::Login(login) => self.logins.extend(of(login).then(|| login.to_lowercase())),
            Scope::All => {
                self.users.extend(users);
                let spec = directory.accounts().iter().find(|spec| spec.id == barred.key);
                let listed = spec.map_or(&[][..], |spec| &spec.logins);
                let logins = listed.iter().chain([&barred.key]).filter(|login| of(login));
                self.logins.extend(logins.map(|login| login.to_lowercase()));
                let domains = spec.map_or(&[][..], |spec| &spec.domains).iter().map(|domain| domain.to_lowercase());
                // A login that another account lists is that one's, whatever its domain: then only known ones are held.
                self.domains.extend(domains.filter(|domain| !has_others(directory, &barred.key, domain)));
            }
        }
    }
}

/// Another account lists a login of this domain.
fn has_others(directory: &Directory, key: &str, domain: &str) -> bool {
    let others = directory.accounts().iter().filter(|spec| spec.id != key);
    let mut logins = others.flat_map(|spec| &spec.logins);
    logins.any(|login| login.rsplit_once('@').is_some_and(|(_, of)| of.eq_ignore_ascii_case(domain)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::directory::{AccountSpec, Policy};
    use crate::engine::turnstile::Room;
    use crate::mail::{OrderId, Owner};

    fn marks(key: &str, scope: Scope) -> [Vec<String>; 3] {
        let own = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let shop = AccountSpec {
            id: "shop".into(),
            logins: own(&["Sales@Shop.test", "old-name"]),
            domains: own(&["Shop.test", "shared.test"]),
            ..AccountSpec::default()
        };
        let blog = AccountSpec { id: "blog".into(), logins: own(&["me@Shared.test"]), ..AccountSpec::default() };
        let directory = Directory::build(vec![shop, blog], Policy::default()).unwrap();
        let room = Room::default();
        let barred = Barred {
            owner: Owner(20),
            key: key.into(),
            uids: vec![2_001],
            scope,
            order: OrderId::default(),
            room,
            slow: false,
        };
        let mut marks = Marks::default();
        marks.add(&directory, &barred, own(&["web1"]));
        [marks.users, marks.logins, marks.domains].map(|names| names.into_iter().collect())
    }

    #[test]
    fn only_names_that_lead_to_the_account_are_marked() {
        let login = |name: &str| Scope::Login(name.into());
        let none = || Vec::<&str>::new();
        for (key, scope, want) in [
            ("shop", Scope::Script, [vec!["web1"], none(), none()]),
            ("shop", Scope::All, [vec!["web1"], vec!["old-name", "sales@shop.test", "shop"], vec!["shop.test"]]),
            ("shop", login("INFO@shop.test"), [none(), vec!["info@shop.test"], none()]),
            ("shop", login("me@shared.test"), [none(), none(), none()]),
            ("shop", login("other@else.test"), [none(), none(), none()]),
            ("box@else.test", Scope::All, [vec!["web1"], vec!["box@else.test"], none()]),
            ("box@else.test", login("Box@else.test"), [none(), vec!["box@else.test"], none()]),
        ] {
            assert_eq!(
                marks(key, scope.clone()),
                want.map(|names| names.iter().map(|n| n.to_string()).collect::<Vec<_>>()),
                "{key} {scope}"
            );
        }
    }
}
