//! Whole conversations over a real socket, and what a bad one costs the others.

use super::*;
use crate::mta::postfix::milter::wire::Options;
use std::io::{Read, Write};
use std::sync::Mutex;

#[derive(Default)]
struct Told {
    candidates: Mutex<Vec<(Candidate, Option<Identity>)>>,
    answered: AtomicUsize,
    broken: Mutex<Vec<String>>,
}

impl Judge for Told {
    fn connected(&self, way: Way) -> Option<Identity> {
        matches!(way, Way::Smtp { .. }).then_some(Identity::Uid(2_001))
    }

    fn wants_recipients(&self, way: Way) -> bool {
        way == Way::Handed
    }

    fn judge(&self, candidate: &Candidate, connected: Option<Identity>) -> Judgement {
        self.candidates.lock().unwrap().push((candidate.clone(), connected));
        match candidate.way {
            Way::Handed => Judgement::Pass,
            _ => Judgement::Hold { reason: "held".into() },
        }
    }

    fn answered(&self, _: Duration) {
        self.answered.fetch_add(1, Ordering::Relaxed);
    }

    fn broken(&self, why: &str) {
        self.broken.lock().unwrap().push(why.to_owned());
    }
}

/// A gate on a thread of its own, until it is dropped.
struct Gate {
    folder: tempfile::TempDir,
    told: Arc<Told>,
    stop: watch::Sender<bool>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Gate {
    fn open() -> Gate {
        Gate::of(|listener, judge, stopped| async { serve(listener, judge, stopped, Arc::default()).await })
    }

    /// For a server that asks with one line.
    fn asked() -> Gate {
        Gate::of(|listener, judge, stopped| async { serve_questions(listener, judge, stopped).await })
    }

    fn of<F: Future<Output = ()>>(
        serve: impl FnOnce(UnixListener, Arc<dyn Judge>, watch::Receiver<bool>) -> F + Send + 'static,
    ) -> Gate {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("gate.sock");
        let listener = bind(&socket).unwrap();
        let told = Arc::new(Told::default());
        let (stop, stopped) = watch::channel(false);
        let judge: Arc<dyn Judge> = told.clone();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async { serve(UnixListener::from_std(listener).unwrap(), judge, stopped).await });
        });
        Gate { folder, told, stop, thread: Some(thread) }
    }

    fn socket(&self) -> PathBuf {
        self.folder.path().join("gate.sock")
    }

    fn connect(&self) -> UnixStream {
        UnixStream::connect(self.socket()).unwrap()
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        self.stop.send(true).unwrap();
        self.thread.take().unwrap().join().unwrap();
    }
}

fn framed(command: u8, data: &[u8]) -> Vec<u8> {
    let mut bytes = (data.len() as u32 + 1).to_be_bytes().to_vec();
    bytes.push(command);
    bytes.extend(data);
    bytes
}

fn offer() -> Vec<u8> {
    let offer = Options { version: 6, actions: 0x1ff, steps: 0x1f_ffff };
    framed(b'O', &[offer.version, offer.actions, offer.steps].map(u32::to_be_bytes).concat())
}

/// What is answered to it.
fn agreed() -> Vec<u8> {
    let options = [6, 0x120, 0xD372].map(u32::to_be_bytes).concat();
    framed(b'O', &[&options[..], b"\0\0\0\0{daemon_addr} {daemon_port}\0"].concat())
}

fn expect(stream: &mut UnixStream, bytes: &[u8]) {
    let mut got = vec![0; bytes.len()];
    stream.read_exact(&mut got).unwrap();
    assert_eq!(got, bytes);
}

#[test]
fn two_messages_of_one_client_in_any_pieces() {
    let gate = Gate::open();
    let mut stream = gate.connect();
    let mail = [framed(b'M', b"<a@b.test>\0"), framed(b'R', b"<c@d.test>\0"), framed(b'E', b"")].concat();
    let client = framed(b'C', &[b"localhost\x004\x12\x34", b"127.0.0.1\0".as_slice()].concat());
    for byte in [offer(), client, mail.clone()].concat() {
        stream.write_all(&[byte]).unwrap();
    }
    let held = [framed(b'q', b"held\0"), framed(b'a', b"")].concat();
    expect(&mut stream, &agreed());
    expect(&mut stream, &held);
    stream.write_all(&mail).unwrap();
    expect(&mut stream, &held);
    let told = gate.told.candidates.lock().unwrap();
    assert_eq!(told.len(), 2);
    assert!(told.iter().all(|(candidate, uid)| candidate.recipients == 1
        && candidate.to.is_empty()
        && *uid == Some(Identity::Uid(2_001))));
}

#[test]
fn a_bad_conversation_ends_alone() {
    let gate = Gate::open();
    let mut good = gate.connect();
    good.write_all(&offer()).unwrap();
    expect(&mut good, &agreed());
    for bad in [b"\xff\xff\xff\xffx".to_vec(), framed(b'E', b""), [offer(), framed(b'z', b"")].concat()] {
        let mut stream = gate.connect();
        stream.write_all(&bad).unwrap();
        let mut rest = Vec::new();
        stream.read_to_end(&mut rest).unwrap();
    }
    let handed = framed(b'C', &[b"localhost\x004\0\0", b"127.0.0.1\0".as_slice()].concat());
    let to = [framed(b'R', b"c@d.test\0"), framed(b'R', b"<e@f.test>\0")].concat();
    good.write_all(&[handed, framed(b'M', b"a\0"), to, framed(b'E', b"")].concat()).unwrap();
    expect(&mut good, &framed(b'a', b""));
    let (candidate, connected) = gate.told.candidates.lock().unwrap()[0].clone();
    assert_eq!((connected, candidate.to.as_slice()), (None, &b"c@d.test\0e@f.test\0"[..]));
    assert_eq!(gate.told.broken.lock().unwrap().len(), 3);
}

#[tokio::test]
async fn a_server_that_has_given_up_on_us_gets_no_decision() {
    let client = framed(b'C', &[b"localhost\x004\x12\x34", b"127.0.0.1\0".as_slice()].concat());
    let mail = [framed(b'M', b"<a@b.test>\0"), framed(b'R', b"<c@d.test>\0"), framed(b'E', b"")].concat();
    // It waits; it has hung up; it has said good-bye; it is about to.
    for (more, hangs_up, heard) in [("", false, 1), ("", true, 0), ("Q", true, 0), ("Q", false, 0)] {
        let told = Told::default();
        let (mut server, ours) = tokio::io::duplex(64 * 1024);
        let more = more.bytes().flat_map(|command| framed(command, b"")).collect();
        server.write_all(&[offer(), client.clone(), mail.clone(), more].concat()).await.unwrap();
        let stays = (!hangs_up).then_some(server);
        // It goes on until the server hangs up.
        let ended = timeout(Duration::from_millis(200), converse(ours, &told)).await;
        assert_eq!(told.candidates.lock().unwrap().len(), heard);
        assert_eq!(heard == 0, ended.is_ok_and(|ended| ended.unwrap_err().contains("has not waited")));
        drop(stays);
    }
}

#[test]
fn the_largest_frames_back_to_back_are_read_and_the_connection_goes_on() {
    let gate = Gate::open();
    let mut stream = gate.connect();
    stream.write_all(&offer()).unwrap();
    expect(&mut stream, &agreed());
    // The body was declined: whoever sends it all the same is answered each time.
    let body = framed(b'B', &vec![b'x'; wire::MAX_FRAME - 1]);
    for _ in 0..4 {
        stream.write_all(&body).unwrap();
        expect(&mut stream, &framed(b'c', b""));
    }
    let two = [body.clone(), body].concat();
    stream.write_all(&two).unwrap();
    expect(&mut stream, &framed(b'c', b"").repeat(2));
    assert!(gate.told.broken.lock().unwrap().is_empty());
}

const QUESTION_LINE: &[u8] = b"smtp 1xWsik-00057A-0v 1 127.0.0.1 40000 127.0.0.1 25\n";

#[test]
fn a_question_is_one_line_and_what_is_none_is_not_answered() {
    let gate = Gate::asked();
    let ask = |pieces: &[&[u8]], close: bool| {
        let mut stream = gate.connect();
        // It may have hung up on us already.
        let sent = pieces.iter().try_for_each(|piece| stream.write_all(piece));
        if close && sent.is_ok() {
            stream.shutdown(std::net::Shutdown::Write).unwrap();
        }
        let mut answer = String::new();
        // What is not read is lost with a reset.
        drop(stream.read_to_string(&mut answer));
        answer
    };
    let long = vec![b'x'; ask::MOST + 1];
    for bad in [&b"what\n"[..], b"\n", b"\xff\xff", &QUESTION_LINE[..20], &long] {
        assert_eq!(ask(&[bad], true), "");
    }
    // Who says nothing more is not waited for.
    assert_eq!(ask(&[&QUESTION_LINE[..20]], false), "");
    let (begin, end) = QUESTION_LINE.split_at(9);
    for close in [true, false] {
        assert_eq!(ask(&[begin, end], close), "hold held");
    }
    assert_eq!(gate.told.broken.lock().unwrap().len(), 6);
    assert_eq!(gate.told.candidates.lock().unwrap().len(), 2);
    assert_eq!(gate.told.answered.load(Ordering::Relaxed), 2);
}

#[test]
fn who_has_gone_away_is_not_judged_and_a_crowd_does_not_keep_others_out_for_good() {
    let gate = Gate::asked();
    let silent: Vec<UnixStream> = (0..MAX_QUESTIONS).map(|_| gate.connect()).collect();
    let mut gone = gate.connect();
    drop(gone.write_all(QUESTION_LINE));
    drop(gone);
    drop(silent);
    let mut answer = String::new();
    while answer.is_empty() {
        let mut stream = gate.connect();
        // Turned away while the crowd is there.
        drop(stream.write_all(QUESTION_LINE));
        drop(stream.read_to_string(&mut answer));
    }
    assert_eq!(answer, "hold held");
    assert_eq!(gate.told.candidates.lock().unwrap().len(), 1);
}

#[test]
fn a_socket_left_behind_is_replaced_and_one_in_use_is_not() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("gate.sock");
    drop(bind(&socket).unwrap());
    let listener = bind(&socket).unwrap();
    assert_eq!(fs::metadata(&socket).unwrap().permissions().mode() & 0o777, 0o660);
    assert!(bind(&socket).unwrap_err().to_string().contains("another agent"));
    drop(listener);
    fs::remove_file(&socket).unwrap();
    fs::write(&socket, "x").unwrap();
    assert!(bind(&socket).unwrap_err().to_string().contains("no socket"));
    assert!(bind(&folder.path().join("none/gate.sock")).unwrap_err().to_string().contains("2750"));
}
