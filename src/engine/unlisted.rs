//! Accounts that are held, and that the accounts file lists no longer: a line that disappears from a file lets no mail go.
//!
//! What led to them goes on leading to them, also what the file gives to another account by now: their mail is held until
//! somebody says otherwise, and that is an order, not a gap in a file. For that their entries are kept while they are held.

use super::codec::{Reader, Writer};
use super::directory::{AccountSpec, Directory, DirectoryError};
use std::collections::BTreeSet;

/// An entry of the accounts file, to be kept.
pub fn write(spec: &AccountSpec) -> Vec<u8> {
    let mut out = Writer::default();
    out.bytes(spec.id.as_bytes());
    out.u64(spec.uids.len() as u64);
    for uid in &spec.uids {
        out.u32(*uid);
    }
    for texts in [&spec.unix_users, &spec.logins, &spec.domains] {
        out.u64(texts.len() as u64);
        for text in texts {
            out.bytes(text.as_bytes());
        }
    }
    out.u64(spec.networks.len() as u64);
    for network in &spec.networks {
        out.bytes(network.to_string().as_bytes());
    }
    out.bytes(spec.zone.as_deref().unwrap_or_default().as_bytes());
    out.bytes
}

/// What [`write`] wrote.
pub fn read(bytes: &[u8]) -> Option<AccountSpec> {
    let mut saved = Reader::new(bytes);
    let mut spec = AccountSpec { id: text(&mut saved)?, ..AccountSpec::default() };
    for _ in 0..saved.u64()? {
        spec.uids.push(saved.u32()?);
    }
    for texts in [&mut spec.unix_users, &mut spec.logins, &mut spec.domains] {
        for _ in 0..saved.u64()? {
            texts.push(text(&mut saved)?);
        }
    }
    for _ in 0..saved.u64()? {
        spec.networks.push(text(&mut saved)?.parse().ok()?);
    }
    spec.zone = Some(text(&mut saved)?).filter(|zone| !zone.is_empty());
    Some(spec)
}

fn text(saved: &mut Reader<'_>) -> Option<String> {
    String::from_utf8(saved.bytes()?.to_vec()).ok()
}

/// The directory with these accounts as well, of which it lists none: what is theirs is nobody else's.
///
/// # Errors
/// Where two of `kept` share an identity.
pub fn with(directory: Directory, kept: &[AccountSpec]) -> Result<Directory, Vec<DirectoryError>> {
    let policy = directory.policy().clone();
    let lower = |text: &String| text.to_ascii_lowercase();
    let uids: BTreeSet<u32> = kept.iter().flat_map(|spec| spec.uids.iter().copied()).collect();
    let users: BTreeSet<&String> = kept.iter().flat_map(|spec| &spec.unix_users).collect();
    let logins: BTreeSet<String> = kept.iter().flat_map(|spec| spec.logins.iter().map(lower)).collect();
    let domains: BTreeSet<String> = kept.iter().flat_map(|spec| spec.domains.iter().map(lower)).collect();
    let networks: BTreeSet<_> = kept.iter().flat_map(|spec| spec.networks.iter().map(|net| net.trunc())).collect();
    let mut accounts = directory.into_accounts();
    for spec in &mut accounts {
        spec.uids.retain(|uid| !uids.contains(uid));
        spec.unix_users.retain(|user| !users.contains(user));
        spec.logins.retain(|login| !logins.contains(&lower(login)));
        spec.domains.retain(|domain| !domains.contains(&lower(domain)));
        spec.networks.retain(|network| !networks.contains(&network.trunc()));
    }
    accounts.extend(kept.iter().cloned());
    Directory::build(accounts, policy)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::directory::Policy;

    fn shop() -> AccountSpec {
        AccountSpec {
            id: "shop".into(),
            uids: vec![2_001, 2_002],
            unix_users: vec!["web1".into()],
            logins: vec!["Box@shop.test".into()],
            domains: vec!["Shop.test".into()],
            networks: vec!["10.1.0.0/16".parse().unwrap(), "2001:db8::/32".parse().unwrap()],
            plan: None,
            zone: Some("Europe/Paris".into()),
        }
    }

    #[test]
    fn an_entry_is_read_as_it_was_written_and_half_of_it_is_none() {
        let bytes = write(&shop());
        assert_eq!(read(&bytes), Some(shop()));
        assert!((0..bytes.len()).all(|end| read(&bytes[..end]).is_none()));
        let bare = AccountSpec { id: "bare".into(), ..AccountSpec::default() };
        assert_eq!(read(&write(&bare)), Some(bare));
    }

    #[test]
    fn what_was_theirs_stays_theirs_also_where_the_file_gives_it_away() {
        let market = AccountSpec {
            id: "market".into(),
            uids: vec![2_002, 2_003],
            unix_users: vec!["web1".into(), "web2".into()],
            logins: vec!["box@shop.test".into(), "box@market.test".into()],
            domains: vec!["shop.test".into(), "market.test".into()],
            networks: vec!["10.1.2.3/16".parse().unwrap(), "10.2.0.0/16".parse().unwrap()],
            plan: None,
            zone: None,
        };
        let policy = Policy { min_uid: 7, ..Policy::default() };
        let directory = with(Directory::build(vec![market], policy).unwrap(), &[shop()]).unwrap();
        assert_eq!(directory.policy().min_uid, 7);
        let uids = [2_001, 2_002, 2_003].map(|uid| directory.by_uid(uid));
        assert_eq!(uids, [Some("shop"), Some("shop"), Some("market")]);
        let users = [&b"web1"[..], b"web2"].map(|user| directory.by_unix_user(user));
        assert_eq!(users, [Some("shop"), Some("market")]);
        let logins = [&b"box@shop.test"[..], b"box@market.test"].map(|login| directory.by_login(login));
        assert_eq!(logins, [Some("shop"), Some("market")]);
        let domains = [&b"shop.test"[..], b"market.test"].map(|domain| directory.by_domain(domain));
        assert_eq!(domains, [Some("shop"), Some("market")]);
        let networks = ["10.1.2.3", "10.2.2.3"].map(|address| directory.by_network(address.parse().unwrap()));
        assert_eq!(networks, [Some("shop"), Some("market")]);
        assert!(with(Directory::default(), &[shop(), AccountSpec { id: "other".into(), ..shop() }]).is_err());
    }
}
