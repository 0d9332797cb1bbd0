//! What an Exim asks about a message, by the access rule of [`super::setup`]: one line, and one line as the answer. Pure.
//!
//! `smtp ID RECIPIENTS ADDRESS PORT ADDRESS PORT`, of one that came over SMTP without a login: the client's end of the
//! connection, then the server's own. `user ID RECIPIENTS UID` of one that a process handed over without SMTP, and `auth ID
//! RECIPIENTS LOGIN`. Answers are
//! `pass`, `hold REASON` and `refuse TEXT`, TEXT beginning with a reply code; whatever else is an answer is taken for `pass`.

use super::plan::is_message_id;
use crate::mail::{Candidate, Judgement, QueueId, Way};
use core::net::IpAddr;

/// No question is longer: an id, two addresses, and numbers.
pub const MOST: usize = 256;

/// The message that is asked about; `None` for what is no question.
pub fn read(line: &[u8]) -> Option<Candidate> {
    let line = line.strip_suffix(b"\n")?;
    let mut words = std::str::from_utf8(line).ok()?.split(' ');
    let kind = words.next()?;
    let id = QueueId::new(words.next()?.as_bytes()).filter(is_message_id)?;
    let recipients = words.next()?.parse().ok()?;
    let known = Candidate { id: Some(id), recipients, ..Candidate::default() };
    let found = match kind {
        "user" => Candidate { way: Way::Handed, uid: Some(words.next()?.parse().ok()?), ..known },
        "auth" => {
            let login = words.next().filter(|login| !login.is_empty())?;
            Candidate { login: Some(login.as_bytes().into()), ..known }
        }
        "smtp" => Candidate { way: client(&mut words)?, ..known },
        _ => return None,
    };
    words.next().is_none().then_some(found)
}

fn client<'w>(words: &mut impl Iterator<Item = &'w str>) -> Option<Way> {
    let mut end = || Some((words.next()?.parse::<IpAddr>().ok()?.to_canonical(), words.next()?.parse::<u16>().ok()?));
    let ((address, port), server) = (end()?, end()?);
    Some(Way::Smtp { address, port, server: Some(server) })
}

/// What is answered.
pub fn answer(judgement: &Judgement) -> String {
    match judgement {
        Judgement::Hold { reason } => format!("hold {reason}"),
        Judgement::Refuse { text } | Judgement::Later { text } => format!("refuse {text}"),
        // The rule throws away what is refused and was handed over without SMTP.
        Judgement::Discard => "refuse 552 5.2.2 Too much mail of this account is on hold".to_owned(),
        Judgement::Pass => "pass".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn questions_are_whole_lines_and_nothing_else() {
        let asked = read(b"smtp 1xWsio-0000000059R-39Pc 3 127.0.0.1 40000 127.0.0.1 25\n").unwrap();
        let here: IpAddr = "127.0.0.1".parse().unwrap();
        assert_eq!(asked.way, Way::Smtp { address: here, port: 40_000, server: Some((here, 25)) });
        assert_eq!((asked.id, asked.recipients), (QueueId::new(b"1xWsio-0000000059R-39Pc"), 3));
        let mapped = read(b"smtp 1xWsik-00057A-0v 1 ::ffff:127.0.0.1 1 ::1 25\n").unwrap();
        assert_eq!(mapped.way, Way::Smtp { address: here, port: 1, server: Some(("::1".parse().unwrap(), 25)) });
        let user = read(b"user 1xWsik-00057A-0v 2 2001\n").unwrap();
        assert_eq!((user.way, user.uid, user.recipients), (Way::Handed, Some(2_001), 2));
        let login = read(b"auth 1xWsik-00057A-0v 2 Box@shop.test\n").unwrap();
        assert_eq!((login.way, login.login.as_deref()), (Way::Unknown, Some(&b"Box@shop.test"[..])));
        for none in [
            "user 1xWsik-00057A-0v 1 web1\n",
            "user 1xWsik-00057A-0v 1 2001 2002\n",
            "auth 1xWsik-00057A-0v 1 \n",
            "auth 1xWsik-00057A-0v 1 a b\n",
            "",
            "\n",
            "smtp 1xWsik-00057A-0v 1 127.0.0.1 1 127.0.0.1 25",
            "smtp 1xWsik-00057A-0v 1 127.0.0.1 1 127.0.0.1 25 x\n",
            "smtp 1xWsik-00057A-0v 1 127.0.0.1 1 127.0.0.1\n",
            "smtp 1xWsik-00057A-0v 1 127.0.0.1 65536 127.0.0.1 25\n",
            "smtp 1xWsik-00057A-0v -1 127.0.0.1 1 127.0.0.1 25\n",
            "smtp ../x 1 127.0.0.1 1 127.0.0.1 25\n",
            "smtp  1xWsik-00057A-0v 1 127.0.0.1 1 127.0.0.1 25\n",
            "admit 1xWsik-00057A-0v 1 127.0.0.1 1 127.0.0.1 25\n",
        ] {
            assert_eq!(read(none.as_bytes()), None, "{none:?}");
        }
    }

    #[test]
    fn answers_are_what_the_rule_looks_for() {
        let text = "552 5.2.2 full".to_owned();
        assert_eq!(answer(&Judgement::Hold { reason: "sendwarden 1".into() }), "hold sendwarden 1");
        assert_eq!(answer(&Judgement::Refuse { text }), "refuse 552 5.2.2 full");
        assert_eq!(answer(&Judgement::Pass), "pass");
        assert!(answer(&Judgement::Discard).starts_with("refuse 552 "));
    }
}
