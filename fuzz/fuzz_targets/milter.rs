//! Any bytes of a mail server at the gate: no panic, a candidate's texts stay short, and nothing is judged before the
//! protocol was agreed on.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sendwarden::mail::Judgement;
use sendwarden::mta::postfix::milter::{Next, Session, wire};

fuzz_target!(|data: &[u8]| {
    let (mut session, mut out, mut rest) = (Session::default(), Vec::new(), data);
    while let Ok(Some((frame, taken))) = wire::frame(rest) {
        rest = &rest[taken..];
        match session.take(frame, &mut out) {
            Ok(Next::Judge) => {
                assert!(!out.is_empty(), "an answer to the server's offer came first");
                let candidate = session.candidate();
                assert!(candidate.sender.len() <= 512 && candidate.login.is_none_or(|login| login.len() <= 512));
                session.answer(&Judgement::Hold { reason: "held".to_owned() }, &mut out);
            }
            Ok(Next::Read | Next::Connected) => {}
            Ok(Next::Close) | Err(_) => break,
        }
        assert!(out.len() <= 64 + data.len() * 8, "answers are short");
    }
});
