//! Settings of Postfix under which the gate is asked less than it seems: more processes than it talks to at a time, and
//! clients of this host that may say who they are.

use super::{Chain, Gap, shown};
use crate::host::addresses;
use crate::host::gate::listen::MAX_CONNECTIONS;
use crate::host::servers::{self, Tools};
use ipnet::IpNet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;

/// Who may say by XCLIENT who the client is.
const XCLIENT: &str = "smtpd_authorized_xclient_hosts";
const LIMIT: &str = "default_process_limit";

pub(super) fn look(directories: &[PathBuf], chain: &mut Chain) {
    let tools = Tools::default();
    let mut processes = Some(0_u64);
    for directory in directories {
        let asked = servers::postfix_values(&tools, directory, true, &[LIMIT, XCLIENT]).and_then(|values| {
            let maxima = servers::postfix_maxima(&tools, directory, "smtpd")?;
            Ok((values, maxima, servers::postfix_services(&tools, directory, XCLIENT)?))
        });
        let (values, maxima, own) = match asked {
            Ok(asked) => asked,
            Err(why) => {
                chain.hints.push(Gap::new(format!("cannot ask Postfix: {why}"), "run postconf(1) by hand"));
                continue;
            }
        };
        let value = |n: usize| values.get(n).map_or("", String::as_str);
        processes = processes.zip(sum(&maxima, value(0))).map(|(sum, more)| sum.saturating_add(more));
        let main = (format!("{}/main.cf", shown(directory)), value(1).to_owned());
        let master =
            own.into_iter().map(|(service, list)| (format!("{service} in {}/master.cf", shown(directory)), list));
        chain.hints.extend([main].into_iter().chain(master).filter_map(|(place, list)| xclient(&place, &list)));
    }
    chain.hints.extend(too_many(processes));
}

/// How many processes receive mail at most; `None`: any number.
fn sum(maxima: &[String], default: &str) -> Option<u64> {
    let most = |text: &String| {
        let most = if text == "-" { default } else { text };
        // 0 is no limit (master(5)).
        most.parse::<u64>().ok().filter(|most| *most > 0)
    };
    maxima.iter().map(most).try_fold(0_u64, |sum, most| Some(sum.saturating_add(most?)))
}

/// Each process has a connection of its own to the gate, and keeps it as long as its client's.
fn too_many(processes: Option<u64>) -> Option<Gap> {
    let most = MAX_CONNECTIONS as u64;
    let number = match processes {
        Some(sum) if sum <= most => return None,
        Some(sum) => sum.to_string(),
        None => "any number of".to_owned(),
    };
    Some(Gap::new(
        format!(
            "Postfix may start {number} processes that receive mail, and the gate talks to {most} at a time: what comes \
             in by those beyond is not asked about"
        ),
        format!("set {LIMIT}, or maxproc of the smtpd services in master.cf, so that their sum is {most} or less"),
    ))
}

fn xclient(place: &str, list: &str) -> Option<Gap> {
    let here: Vec<IpAddr> =
        [Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()].into_iter().chain(addresses::of_host()).collect();
    let pattern = trusted(list, &here)?;
    Some(Gap::new(
        format!(
            "{XCLIENT} = {list} ({place}) may trust this host ({pattern}): every user here can then say by XCLIENT who \
             he is, and mail of a blocked account passes as somebody else's"
        ),
        "take it out, or give it to the one service that needs it, and let only that one's client reach its port (a \
         firewall rule by uid)",
    ))
}

/// The first pattern that one of these addresses matches, or may match; the first one that does decides (postconf(5)).
fn trusted<'a>(list: &'a str, here: &[IpAddr]) -> Option<&'a str> {
    let mut left: Vec<IpAddr> = here.to_vec();
    for word in list.split([',', ' ', '\t']).filter(|word| !word.is_empty()) {
        let (not, pattern) = word.strip_prefix('!').map_or((false, word), |pattern| (true, pattern));
        let plain: String = pattern.chars().filter(|c| !matches!(c, '[' | ']')).collect();
        let net = plain.parse::<IpNet>().ok().or_else(|| plain.parse::<IpAddr>().ok().map(IpNet::from));
        let matches = |address: &IpAddr| match net {
            Some(net) => net.contains(address),
            None => plain == "localhost" && address.is_loopback(),
        };
        // What a file or a table says is not looked up.
        let table = net.is_none() && (pattern.starts_with('/') || pattern.contains(':'));
        match not {
            false if table || left.iter().any(matches) => return Some(word),
            false => {}
            true => left.retain(|address| !matches(address)),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sum_of_what_may_receive_is_held_against_the_gates_own() {
        let sum =
            |maxima: &[&str], default| sum(&maxima.iter().map(|one| (*one).to_owned()).collect::<Vec<_>>(), default);
        assert_eq!(sum(&["-", "20", "-"], "100"), Some(220));
        assert_eq!((sum(&["-", "0"], "100"), sum(&["-"], "0"), sum(&[], "100")), (None, None, Some(0)));
        let most = MAX_CONNECTIONS as u64;
        assert_eq!(too_many(Some(most)), None);
        for (processes, said) in [(Some(most + 1), "may start 2001 processes"), (None, "any number of processes")] {
            let gap = too_many(processes).unwrap();
            assert!(gap.text.contains(said) && gap.next.contains("2000 or less"), "{gap:?}");
        }
    }

    #[test]
    fn a_list_that_may_trust_this_host_is_told_by_what_does() {
        let here: [IpAddr; 3] = ["127.0.0.1", "::1", "192.0.2.25"].map(|address| address.parse().unwrap());
        for (list, found) in [
            ("", None),
            ("192.0.2.7, 10.0.0.0/8", None),
            ("10.0.0.1 127.0.0.1", Some("127.0.0.1")),
            ("127.0.0.0/8", Some("127.0.0.0/8")),
            ("[::1]/128", Some("[::1]/128")),
            ("[2001:db8::]/32,localhost", Some("localhost")),
            ("192.0.2.0/24", Some("192.0.2.0/24")),
            ("!127.0.0.0/8, ![::1], 127.0.0.1", None),
            ("127.0.0.1, !127.0.0.0/8", Some("127.0.0.1")),
            ("lmdb:/etc/postfix/trusted", Some("lmdb:/etc/postfix/trusted")),
            ("!/etc/postfix/not", None),
        ] {
            assert_eq!(trusted(list, &here), found, "{list}");
        }
    }
}
