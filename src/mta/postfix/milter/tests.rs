//! Conversations as Postfix 3.7 has them, and any bytes at all.

use super::wire::{self, Malformed, Options};
use super::*;
use proptest::prelude::*;

/// What Postfix 3.7 offers (measured).
const OFFER: Options = Options { version: 6, actions: 0x1ff, steps: 0x1f_ffff };

fn framed(command: u8, data: &[u8]) -> Vec<u8> {
    let mut bytes = (data.len() as u32 + 1).to_be_bytes().to_vec();
    bytes.push(command);
    bytes.extend(data);
    bytes
}

fn offer(options: Options) -> Vec<u8> {
    framed(b'O', &[options.version, options.actions, options.steps].map(u32::to_be_bytes).concat())
}

/// Feeds whole bytes; what is written, and what was asked for last.
fn talk(session: &mut Session, mut bytes: &[u8]) -> Result<(Vec<u8>, Next), Broken> {
    let (mut out, mut next) = (Vec::new(), Next::Read);
    while let Some((frame, taken)) = wire::frame(bytes)? {
        next = session.take(frame, &mut out)?;
        bytes = &bytes[taken..];
    }
    Ok((out, next))
}

fn agreed() -> Session {
    let mut session = Session::default();
    let (out, _) = talk(&mut session, &offer(OFFER)).unwrap();
    let macros = b"\0\0\0\0{daemon_addr} {daemon_port}\0";
    let options = [6, 0x120, 0xD372].map(u32::to_be_bytes).concat();
    assert_eq!(out, framed(b'O', &[&options[..], macros].concat()));
    session
}

#[test]
fn mail_by_sendmail() {
    let mut session = agreed();
    let bytes = [
        framed(b'D', b"Cj\0mx.hosting.test\0{daemon_name}\0mx\0v\0Postfix 3.7.11\0"),
        framed(b'C', b"localhost\x004\0\x00127.0.0.1\0"),
        framed(b'D', b"Mi\x004jY2SR5RhSz5bd5\0{mail_addr}\0web1@mx.hosting.test\0"),
        framed(b'M', b"web1@mx.hosting.test\0"),
        framed(b'R', b"a@x.test\0"),
        framed(b'R', b"b@x.test\0"),
        // It is delivered to once.
        framed(b'R', b"A@X.test\0"),
        framed(b'D', b"Ei\x004jY2SR5RhSz5bd5\0"),
        framed(b'E', b""),
    ]
    .concat();
    let (out, next) = talk(&mut session, &bytes).unwrap();
    assert_eq!((out.as_slice(), next), (&[][..], Next::Judge), "nothing is answered before the end");
    let candidate = session.candidate();
    assert_eq!(candidate.id, QueueId::new(b"4jY2SR5RhSz5bd5"));
    assert_eq!((candidate.way, candidate.login.as_deref(), candidate.recipients), (Way::Handed, None, 2));
    assert_eq!(*candidate.sender, *b"web1@mx.hosting.test");
    let mut out = Vec::new();
    session.answer(&Judgement::Hold { reason: "sendwarden: 100% spam\r\n".into() }, &mut out);
    assert_eq!(out, b"\0\0\0\x16qsendwarden: 100 spam\0\0\0\0\x01a");
}

#[test]
fn a_login_holds_for_its_own_message_only() {
    let mut session = agreed();
    let mail = |login: &[u8], id: &[u8]| {
        [
            framed(b'D', &[b"M{auth_type}\0PLAIN\0{auth_authen}\0", login, b"\0"].concat()),
            framed(b'M', b"<>\0SIZE=100\0"),
            framed(b'R', b"<a@x.test>\0"),
            framed(b'D', &[b"Ei\0", id, b"\0"].concat()),
            framed(b'E', b""),
        ]
        .concat()
    };
    let server = framed(b'D', b"C{daemon_addr}\x002001:db8::25\0{daemon_port}\x00587\0");
    let client = framed(b'C', &[b"pc\x006\xd4\x31", b"2001:db8::7\0".as_slice()].concat());
    let client = [server, client].concat();
    talk(&mut session, &[client, mail(b"box1@h.test", b"4jY2SR5RhSz5bd5")].concat()).unwrap();
    let first = session.candidate();
    let server = Some(("2001:db8::25".parse().unwrap(), 587));
    let from = Way::Smtp { address: "2001:db8::7".parse().unwrap(), port: 0xd431, server };
    assert_eq!((first.login.as_deref(), first.way, &*first.sender), (Some(&b"box1@h.test"[..]), from, &b""[..]));
    let mut out = Vec::new();
    session.answer(&Judgement::Refuse { text: "550 5.7.1 blocked".into() }, &mut out);
    assert_eq!(out, b"\0\0\0\x13y550 5.7.1 blocked\0");
    talk(&mut session, &mail(b"", b"4jY2SR5RhSz5bd6")).unwrap();
    let second = session.candidate();
    assert_eq!((second.login, second.way, second.recipients), (None, from, 1));
    // The next connection over the same socket is nobody yet.
    talk(&mut session, &[framed(b'A', b""), framed(b'K', b"")].concat()).unwrap();
    assert_eq!(session.candidate(), Candidate::default());
    assert_eq!(talk(&mut session, &framed(b'Q', b"")).unwrap().1, Next::Close);
}

#[test]
fn who_cannot_leave_steps_out_is_answered_each() {
    let mut session = Session::default();
    talk(&mut session, &offer(Options { version: 2, actions: 0x3f, steps: 0x7f })).unwrap();
    let mapped = framed(b'C', &[b"x\x006\0\x19", b"IPv6:::ffff:192.0.2.7\0".as_slice()].concat());
    let bytes = [mapped, framed(b'H', b"x\0"), framed(b'M', b"<a@b>\0"), framed(b'R', b"<c@d>\0")].concat();
    let (out, _) = talk(&mut session, &bytes).unwrap();
    assert_eq!(out, b"\0\0\0\x01c".repeat(4));
    let from = Way::Smtp { address: "192.0.2.7".parse().unwrap(), port: 25, server: None };
    assert_eq!(session.candidate().way, from);
}

#[test]
fn what_cannot_work_is_said() {
    let said = |bytes: &[u8]| talk(&mut Session::default(), bytes).unwrap_err();
    assert_eq!(said(&offer(Options { version: 1, ..OFFER })), Broken::Version(1));
    assert!(matches!(said(&offer(Options { actions: 0x1f, ..OFFER })), Broken::Actions(_)));
    assert_eq!(said(&framed(b'E', b"")), Broken::Unnegotiated);
    assert_eq!(said(&framed(b'O', b"\0\0")), Broken::Malformed(Malformed::Short(b'O')));
    assert_eq!(said(&framed(b'z', b"")), Broken::Malformed(Malformed::Command(b'z')));
    assert_eq!(said(&[0, 0, 0, 0]), Broken::Malformed(Malformed::Empty));
    assert_eq!(said(&[0xff, 0, 0, 0]), Broken::Malformed(Malformed::TooLong(0xff00_0000)));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(10_000))]

    /// Any bytes, cut anywhere: no panic, and the same conversation as in one piece.
    #[test]
    fn any_bytes(parts in prop::collection::vec((any::<u8>(), prop::collection::vec(any::<u8>(), 0..40)), 0..20)) {
        let commands = b"ODCHMRTLNBEUAKQ";
        let bytes = parts.iter().fold(offer(OFFER), |mut bytes, (pick, data)| {
            let command = commands.get(usize::from(*pick) % 16).copied().unwrap_or(*pick);
            bytes.extend(framed(command, data));
            bytes
        });
        let (mut whole, mut cut) = (Session::default(), Session::default());
        let once = talk(&mut whole, &bytes);
        let (mut out, mut from, mut end) = (Vec::new(), 0, 0);
        let mut twice = Ok(Next::Read);
        while end <= bytes.len() && twice.is_ok() {
            match wire::frame(&bytes[from..end]) {
                Ok(Some((frame, taken))) => {
                    twice = cut.take(frame, &mut out);
                    from += taken;
                }
                Ok(None) => end += 1,
                Err(why) => twice = Err(why.into()),
            }
        }
        match (once, twice) {
            (Ok((said, next)), Ok(then)) => {
                prop_assert_eq!(said, out);
                prop_assert_eq!(next, then);
                prop_assert_eq!(whole.candidate(), cut.candidate());
            }
            (Err(a), Err(b)) => prop_assert_eq!(a, b),
            (a, b) => prop_assert!(false, "{a:?} {b:?}"),
        }
    }
}
