//! Who owns which identity: the accounts file as sorted tables, and the policy for everybody it does not list.
//!
//! Pure and immutable: built once from the accounts file, replaced whole on reload. It never asks the name service,
//! never decides which evidence wins (attribution does) and never invents an account: it only answers "whose is this?".
//! Tables are sorted arrays, not hash maps: customers choose mailbox names, and sorted arrays cannot be flooded.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::cmp::Ordering;
use std::fmt;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

/// The identities of all listed accounts, ready for lookup.
#[derive(Debug, Clone, Default)]
pub struct Directory {
    accounts: Box<[AccountSpec]>,
    ids: Table<Box<str>>,
    uids: Table<u32>,
    unix_users: Table<Box<str>>,
    logins: Table<Box<str>>,
    domains: Table<Box<str>>,
    networks: Table<IpNet>,
    /// Prefix lengths in use, longest first, so that a lookup probes only these.
    lengths_v4: Box<[u8]>,
    lengths_v6: Box<[u8]>,
    policy: Policy,
}

/// One account of the accounts file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AccountSpec {
    /// Stable name, 1–64 characters; the loader has checked its shape.
    pub id: String,
    pub uids: Vec<u32>,
    /// Compared exactly: unix user names are case-sensitive.
    pub unix_users: Vec<String>,
    /// Authenticated logins, compared in ASCII lower case.
    pub logins: Vec<String>,
    /// Domains without `@`, compared in ASCII lower case.
    pub domains: Vec<String>,
    pub networks: Vec<IpNet>,
    /// What the customer has bought, for rules that are for it.
    pub plan: Option<String>,
    /// IANA time zone in which the account's day begins; `None`: the host's zone.
    pub zone: Option<String>,
}

/// What holds for identities no account lists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// Users with a smaller uid are system services, not accounts.
    pub min_uid: u32,
    /// Users under which many customers' scripts run: their uid names nobody.
    pub web_server_users: Vec<String>,
    pub web_server_uids: Vec<u32>,
    /// Relays and containers of this host, besides loopback, which always counts.
    pub local_networks: Vec<IpNet>,
    /// Accounts remembered at most of those that the file does not list; mail of further ones is counted as unattributed.
    pub max_known_accounts: u32,
    /// Whether a listed sender domain attributes mail for which there is no login, uid or network (claimed evidence).
    pub claimed_domains: bool,
}

impl Default for Policy {
    fn default() -> Policy {
        Policy {
            min_uid: 1000,
            web_server_users: ["www-data", "apache", "nginx", "nobody"].map(String::from).to_vec(),
            web_server_uids: vec![65534],
            local_networks: Vec::new(),
            max_known_accounts: 200_000,
            claimed_domains: true,
        }
    }
}

/// The kinds of identity an account can have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Identity {
    Id,
    Uid,
    UnixUser,
    Login,
    Domain,
    Network,
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Identity::Id => "id",
            Identity::Uid => "uid",
            Identity::UnixUser => "unix user",
            Identity::Login => "login",
            Identity::Domain => "domain",
            Identity::Network => "network",
        })
    }
}

/// One identity claimed by two accounts: mail of it would belong to whichever came first.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", self.text())]
pub struct DirectoryError {
    pub kind: Identity,
    pub value: String,
    pub first: String,
    pub second: String,
    /// Positions of the two accounts in the list given to [`Directory::build`].
    pub first_index: usize,
    pub second_index: usize,
}

impl DirectoryError {
    fn text(&self) -> String {
        let DirectoryError { kind, value, first, second, .. } = self;
        match kind {
            Identity::Id => format!("the id `{value}` is given to two accounts; an id has one owner"),
            _ => format!(
                "the {kind} `{value}` belongs to account `{first}` and to account `{second}`; an identity has one owner"
            ),
        }
    }
}

impl Directory {
    /// Sorts the identities of `accounts`. Errors: every identity (or id) that two accounts share.
    pub fn build(accounts: Vec<AccountSpec>, policy: Policy) -> Result<Directory, Vec<DirectoryError>> {
        let mut errors = Vec::new();
        let lower = |s: &String| s.to_ascii_lowercase().into_boxed_str();
        let exact = |s: &String| s.clone().into_boxed_str();
        let ids = Table::build(Identity::Id, &accounts, |a| std::iter::once(exact(&a.id)), &mut errors);
        let uids = Table::build(Identity::Uid, &accounts, |a| a.uids.iter().copied(), &mut errors);
        let unix_users = Table::build(Identity::UnixUser, &accounts, |a| a.unix_users.iter().map(exact), &mut errors);
        let logins = Table::build(Identity::Login, &accounts, |a| a.logins.iter().map(lower), &mut errors);
        let domains = Table::build(Identity::Domain, &accounts, |a| a.domains.iter().map(lower), &mut errors);
        let networks = Table::build(Identity::Network, &accounts, |a| a.networks.iter().map(canonical), &mut errors);
        if !errors.is_empty() {
            return Err(errors);
        }
        let lengths_v4 = lengths(&networks, |n| matches!(n, IpNet::V4(_)));
        let lengths_v6 = lengths(&networks, |n| matches!(n, IpNet::V6(_)));
        let accounts = accounts.into_boxed_slice();
        Ok(Directory { accounts, ids, uids, unix_users, logins, domains, networks, lengths_v4, lengths_v6, policy })
    }

    /// The account of an authenticated login; a login `box@site.test` nobody lists belongs to the account listing the
    /// domain `site.test`, since the server itself vouched for the login and so for its domain.
    pub fn by_login(&self, login: &[u8]) -> Option<&str> {
        let whole = self.logins.find(|key| compare_lower(key, login));
        let at = login.iter().rposition(|&b| b == b'@');
        let domain = at.and_then(|at| login.get(at.saturating_add(1)..));
        whole.and_then(|i| self.name(i)).or_else(|| domain.and_then(|d| self.by_domain(d)))
    }

    pub fn by_uid(&self, uid: u32) -> Option<&str> {
        self.uids.find(|key| key.cmp(&uid)).and_then(|i| self.name(i))
    }

    pub fn by_unix_user(&self, user: &[u8]) -> Option<&str> {
        self.unix_users.find(|key| key.as_bytes().cmp(user)).and_then(|i| self.name(i))
    }

    /// The account whose most specific network contains `address`; `::ffff:192.0.2.1` is `192.0.2.1`.
    pub fn by_network(&self, address: IpAddr) -> Option<&str> {
        let address = address.to_canonical();
        let lengths = if address.is_ipv4() { &self.lengths_v4 } else { &self.lengths_v6 };
        let hit = lengths.iter().find_map(|&length| {
            let wanted = IpNet::new(address, length).ok()?.trunc();
            self.networks.find(|key| key.cmp(&wanted))
        });
        hit.and_then(|i| self.name(i))
    }

    /// The account listing exactly this domain (no subdomains). Says nothing about [`Policy::claimed_domains`].
    pub fn by_domain(&self, domain: &[u8]) -> Option<&str> {
        self.domains.find(|key| compare_lower(key, domain)).and_then(|i| self.name(i))
    }

    /// Whether an accounts file with at least one account is in force.
    pub fn is_listed(&self) -> bool {
        !self.accounts.is_empty()
    }

    pub fn accounts(&self) -> &[AccountSpec] {
        &self.accounts
    }

    /// The account with this id.
    pub fn account(&self, id: &str) -> Option<&AccountSpec> {
        let at = self.ids.find(|key| (**key).cmp(id))?;
        self.accounts.get(usize::try_from(at).ok()?)
    }

    /// The accounts as they were given.
    pub fn into_accounts(self) -> Vec<AccountSpec> {
        self.accounts.into_vec()
    }

    /// Every network that an account has, or that counts as this host's own.
    pub fn networks(&self) -> impl Iterator<Item = &IpNet> {
        self.accounts.iter().flat_map(|spec| &spec.networks).chain(&self.policy.local_networks)
    }

    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    fn name(&self, index: u32) -> Option<&str> {
        self.accounts.get(usize::try_from(index).ok()?).map(|a| a.id.as_str())
    }
}

impl Policy {
    /// Whether many customers' scripts run under this uid, or under this user name where the name service knows it.
    pub fn is_web_server(&self, uid: u32, user: Option<&[u8]>) -> bool {
        self.web_server_uids.contains(&uid) || user.is_some_and(|user| self.is_web_server_user(user))
    }

    pub fn is_web_server_user(&self, user: &[u8]) -> bool {
        self.web_server_users.iter().any(|listed| listed.as_bytes() == user)
    }

    /// Whether mail from `address` comes from this host or its trusted neighbours.
    pub fn is_local(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        address.is_loopback() || self.local_networks.iter().any(|net| canonical(net).contains(&address))
    }
}

/// Identities in order, each with the position of its account.
#[derive(Debug, Clone)]
struct Table<K>(Box<[(K, u32)]>);

impl<K> Default for Table<K> {
    fn default() -> Table<K> {
        Table(Box::default())
    }
}

impl<K: Ord + fmt::Display> Table<K> {
    fn build<'a, I: Iterator<Item = K>>(
        kind: Identity,
        accounts: &'a [AccountSpec],
        keys: impl Fn(&'a AccountSpec) -> I,
        errors: &mut Vec<DirectoryError>,
    ) -> Table<K> {
        let numbered = (0u32..).zip(accounts);
        let mut rows: Vec<(K, u32)> = numbered.flat_map(|(i, a)| keys(a).map(move |key| (key, i))).collect();
        rows.sort_unstable();
        for (left, right) in rows.iter().zip(rows.iter().skip(1)) {
            // Two accounts of one id are two entries all the same; any other identity may be repeated in one account.
            if left.0 == right.0 && left.1 != right.1 {
                let (first_index, second_index) = (left.1 as usize, right.1 as usize);
                let id = |i: usize| accounts.get(i).map(|a| a.id.clone()).unwrap_or_default();
                let (first, second) = (id(first_index), id(second_index));
                errors.push(DirectoryError {
                    kind,
                    value: left.0.to_string(),
                    first,
                    second,
                    first_index,
                    second_index,
                });
            }
        }
        rows.dedup_by(|b, a| a.0 == b.0);
        Table(rows.into_boxed_slice())
    }
}

impl<K> Table<K> {
    fn find(&self, order: impl Fn(&K) -> Ordering) -> Option<u32> {
        let at = self.0.binary_search_by(|(key, _)| order(key)).ok()?;
        self.0.get(at).map(|(_, account)| *account)
    }
}

fn compare_lower(key: &str, wanted: &[u8]) -> Ordering {
    key.bytes().cmp(wanted.iter().map(u8::to_ascii_lowercase))
}

fn lengths(networks: &Table<IpNet>, family: impl Fn(&IpNet) -> bool) -> Box<[u8]> {
    let mut lengths: Vec<u8> =
        networks.0.iter().filter(|(net, _)| family(net)).map(|(net, _)| net.prefix_len()).collect();
    lengths.sort_unstable_by(|a, b| b.cmp(a));
    lengths.dedup();
    lengths.into_boxed_slice()
}

/// Host bits cleared, and IPv4 written as `::ffff:…` back in IPv4, so that equal networks compare equal.
fn canonical(net: &IpNet) -> IpNet {
    let mapped = |v6: &Ipv6Net| -> Option<IpNet> {
        let v4: Ipv4Addr = Ipv6Addr::to_ipv4_mapped(&v6.addr())?;
        Some(IpNet::V4(Ipv4Net::new(v4, v6.prefix_len().checked_sub(96)?).ok()?))
    };
    match net {
        IpNet::V6(v6) => mapped(v6).unwrap_or(*net).trunc(),
        IpNet::V4(_) => net.trunc(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn account(id: &str) -> AccountSpec {
        AccountSpec { id: id.into(), ..AccountSpec::default() }
    }

    #[test]
    fn every_identity_finds_its_account() {
        let one = AccountSpec {
            uids: vec![1001],
            unix_users: vec!["Web1".into()],
            logins: vec!["Box@Site.test".into()],
            domains: vec!["Site.test".into()],
            networks: vec!["10.0.0.9/8".parse().unwrap(), "2001:db8::/32".parse().unwrap()],
            ..account("one")
        };
        let two = AccountSpec {
            logins: vec!["info@site.test".into()],
            networks: vec!["10.1.0.0/16".parse().unwrap()],
            ..account("two")
        };
        let d = Directory::build(vec![one, two], Policy::default()).unwrap();
        assert!(d.is_listed() && !Directory::default().is_listed());
        assert_eq!((d.by_uid(1001), d.by_uid(1002)), (Some("one"), None));
        assert_eq!((d.by_unix_user(b"Web1"), d.by_unix_user(b"web1")), (Some("one"), None));
        assert_eq!(d.by_login(b"BOX@SITE.TEST"), Some("one"));
        assert_eq!(d.by_login(b"info@site.test"), Some("two"), "the whole login goes before its domain");
        assert_eq!(d.by_login(b"new@site.TEST"), Some("one"), "an unlisted login follows its domain");
        assert_eq!(d.by_login(b"new@sub.site.test"), None);
        assert_eq!(d.by_domain(b"SITE.test"), Some("one"));
        assert_eq!(d.by_network("10.2.3.4".parse().unwrap()), Some("one"));
        assert_eq!(d.by_network("10.1.3.4".parse().unwrap()), Some("two"), "the longest prefix wins");
        assert_eq!(d.by_network("::ffff:10.1.3.4".parse().unwrap()), Some("two"));
        assert_eq!(d.by_network("2001:db8::1".parse().unwrap()), Some("one"));
        assert_eq!(d.by_network("192.0.2.1".parse().unwrap()), None);
        assert_eq!(d.account("two").map(|spec| spec.logins.len()), Some(1));
        assert_eq!(d.account("Two"), None);
    }

    #[test]
    fn an_identity_of_two_accounts_names_both() {
        let one = AccountSpec { logins: vec!["a@b.test".into(), "a@b.test".into()], ..account("one") };
        let two = AccountSpec { logins: vec!["A@B.test".into()], ..account("two") };
        let errors = Directory::build(vec![one.clone(), two, account("one")], Policy::default()).unwrap_err();
        let texts: Vec<String> = errors.iter().map(ToString::to_string).collect();
        assert_eq!(texts.len(), 2, "{texts:?}");
        assert!(texts[0].contains("id `one`"), "{texts:?}");
        assert!(texts[1].contains("login `a@b.test` belongs to account `one` and to account `two`"), "{texts:?}");
        assert!(Directory::build(vec![one], Policy::default()).is_ok(), "repeated within one account is harmless");
    }

    #[test]
    fn the_policy_knows_web_servers_and_neighbours() {
        let policy = Policy { local_networks: vec!["10.9.0.0/16".parse().unwrap()], ..Policy::default() };
        assert!(policy.is_web_server(33, Some(b"www-data")) && policy.is_web_server(65534, None));
        assert!(!policy.is_web_server(1000, Some(b"web1")));
        assert!(policy.is_local("127.0.0.5".parse().unwrap()) && policy.is_local("::1".parse().unwrap()));
        assert!(policy.is_local("::ffff:10.9.1.1".parse().unwrap()) && !policy.is_local("10.8.1.1".parse().unwrap()));
    }
}
