//! The helper over a real socket, with a made-up instance: what is refused is refused whole, what is done is done.

use super::super::client::{Client, Trouble};
use super::*;
use std::fs;

const OWN: &str = "mx";

/// An instance whose postsuper writes down what it is told, and says that it has done it.
struct Site {
    dir: tempfile::TempDir,
    socket: PathBuf,
    house: Arc<House>,
}

impl Site {
    fn new(agent: u32) -> Site {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
        for queue in QUEUES {
            fs::create_dir_all(at("spool").join(queue)).unwrap();
        }
        fs::create_dir(at("etc")).unwrap();
        let script = format!(
            "#!/bin/sh\necho \"$@\" >> {0}/seen\nwhile read -r id; do echo $id >> {0}/seen\n\
             echo \"postsuper: $id: placed on hold\" >&2; done\n",
            dir.path().display()
        );
        for (tool, text) in [("postsuper", script.as_str()), ("postqueue", "")] {
            fs::write(at(tool), text).unwrap();
            fs::set_permissions(at(tool), fs::Permissions::from_mode(0o755)).unwrap();
        }
        let shown = |name: &str| at(name).display().to_string();
        let place = PostfixPlace {
            name: OWN.into(),
            tools: dir.path().display().to_string(),
            config: shown("etc"),
            queue: shown("spool"),
        };
        let house = Arc::new(House::new(Settings { agent, instances: vec![place], exim: None }).unwrap());
        let socket = at("helper.sock");
        let (listener, serves) = (bind(&socket).unwrap(), Arc::clone(&house));
        std::thread::spawn(move || serve(&listener, &serves));
        Site { dir, socket, house }
    }

    fn seen(&self) -> String {
        fs::read_to_string(self.dir.path().join("seen")).unwrap_or_default()
    }

    /// What is answered to these bytes, sent as they are.
    fn raw(&self, bytes: &[u8]) -> String {
        let mut stream = UnixStream::connect(&self.socket).unwrap();
        stream.write_all(bytes).unwrap();
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        let mut text = String::new();
        drop(stream.read_to_string(&mut text));
        text
    }
}

fn ids(names: &[&str]) -> Vec<QueueId> {
    names.iter().map(|name| QueueId::new(name.as_bytes()).unwrap()).collect()
}

#[test]
fn one_bad_id_and_nothing_is_done() {
    let site = Site::new(4_000_000_001);
    let client = Client::new(&site.socket);
    let good = "4jY2SQ3blzz5bcl";
    let long = "A".repeat(10_000);
    for bad in ["ALL", "-", "../x", "", "A B", "AAAAA\nBBBBB", "-dAAAAA", "4jY2SQ3blzz5bcl\u{0}", "é4jY2SQ", &long] {
        for all in [vec![bad.to_owned()], vec![good.to_owned(), bad.to_owned()]] {
            for verb in Verb::ALL {
                let request = Request::work(verb, Server::Postfix, OWN.into(), all.clone());
                let said = site.raw(&[serde_json::to_vec(&request).unwrap(), b"\n".to_vec()].concat());
                assert!(said.starts_with("{\"refused\":"), "{bad:?}: {said}");
            }
        }
    }
    let many: Vec<QueueId> = (0..=MOST_IDS).map(|n| QueueId::new(format!("{n:08X}").as_bytes()).unwrap()).collect();
    assert!(matches!(client.work(Verb::Hold, Server::Postfix, OWN, &many), Err(Trouble::Refused(_))));
    assert!(matches!(client.work(Verb::Hold, Server::Postfix, OWN, &[]), Err(Trouble::Refused(_))));
    for name in ["other", "/etc/postfix", "../mx", ""] {
        assert!(
            matches!(client.work(Verb::Hold, Server::Postfix, name, &ids(&[good])), Err(Trouble::Refused(_))),
            "{name}"
        );
    }
    assert_eq!(site.seen(), "", "nothing was started");
    let done = client.work(Verb::Hold, Server::Postfix, OWN, &ids(&[good, "AAAAA1"])).unwrap();
    assert_eq!(done, (ids(&["AAAAA1", good]), None));
    assert_eq!(site.seen(), format!("-c {}/etc -h -\nAAAAA1\n{good}\n", site.dir.path().display()));
    assert_eq!(client.hello().unwrap().refused_requests, 60 + 6);
}

#[test]
fn what_is_no_request_is_refused_and_the_next_connection_served() {
    let site = Site::new(4_000_000_001);
    for (bytes, why) in [
        (&b"\n"[..], "no request"),
        (b"{\"hello\":{}}", "line feed"),
        (b"{\"hello\":{}}\n{\"hello\":{}}\n", "one request at a time"),
        (b"{\"run\":{}}\n", "unknown variant"),
        (b"\xff\xfe\x00\n", "no request"),
        (&[b'['; MOST_REQUEST + 1], "bytes at most"),
        (&[&[b'['; 10_000][..], b"\n"].concat(), "no request"),
    ] {
        let said = site.raw(bytes);
        assert!(said.contains(why), "{why}: {said}");
    }
    let hello = Client::new(&site.socket).hello().unwrap();
    assert_eq!((hello.instances.len(), hello.refused_requests), (1, 7));
    assert_eq!(hello.instances[0].queue, site.dir.path().join("spool").display().to_string());
}

#[test]
fn half_a_request_does_not_keep_its_place() {
    let site = Site::new(4_000_000_001);
    let mut slow = UnixStream::connect(&site.socket).unwrap();
    slow.write_all(b"{\"hello\"").unwrap();
    let mut said = String::new();
    slow.read_to_string(&mut said).unwrap();
    assert!(said.contains("must not take so long"), "{said}");
}

#[test]
fn only_root_and_one_user_may_speak() {
    let site = Site::new(2_001);
    assert_eq!(
        [0, 2_001, 2_000, 2_002, 33, u32::MAX].map(|uid| site.house.may_speak(uid)),
        [true, true, false, false, false, false]
    );
}

#[test]
fn connections_are_bounded_and_given_back() {
    let site = Site::new(4_000_000_001);
    let clients: Vec<Client> = (0..MOST_CONNECTIONS).map(|_| Client::new(&site.socket)).collect();
    clients.iter().for_each(|client| drop(client.hello().unwrap()));
    let more = Client::new(&site.socket);
    assert_eq!(more.hello(), Err(Trouble::Refused("there are too many connections to the helper".into())));
    drop(clients);
    let began = clock::monotonic();
    while more.hello().is_err() {
        assert!(began.elapsed() < Duration::from_secs(60), "places are given back");
        std::thread::yield_now();
    }
}

#[test]
fn queues_are_counted_and_listed() {
    let site = Site::new(4_000_000_001);
    let hold = site.dir.path().join("spool/hold");
    fs::create_dir(hold.join("A")).unwrap();
    for name in ["A/AAAAA1", "AAAAA2", "no-id.txt"] {
        fs::write(hold.join(name), "").unwrap();
    }
    let counts = Client::new(&site.socket).count(Server::Postfix, OWN).unwrap();
    let found: Vec<(&str, u64)> = counts.iter().map(|one| (one.queue.as_str(), one.files)).collect();
    assert_eq!(found, [("maildrop", 0), ("incoming", 0), ("active", 0), ("deferred", 0), ("hold", 3)]);
    assert_eq!(site.raw(b"{\"list\":{\"instance\":\"mx\",\"queue\":\"hold\"}}\n"), {
        "{\"ids\":{\"ids\":[\"AAAAA1\",\"AAAAA2\"],\"more\":false}}\n"
    });
    for queue in ["..", "etc", "hold/../../etc", ""] {
        let said = site.raw(format!("{{\"list\":{{\"instance\":\"mx\",\"queue\":\"{queue}\"}}}}\n").as_bytes());
        assert!(said.contains("no such queue"), "{queue}: {said}");
    }
}

#[test]
fn a_helper_that_is_away_or_somebody_elses_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let client = Client::new(dir.path().join("none.sock"));
    let told = client.hello().unwrap_err().to_string();
    assert!(told.contains("there is no such socket; start it as root: systemctl start"), "{told}");
    assert_eq!(client.identify(OWN, ids(&["AAAAA1"])[0]), Err(identity::Why::NoHelper));
    let missing = bind(&dir.path().join("none/helper.sock")).unwrap_err();
    assert!(missing.contains("not there") && missing.contains("install -d -o root -g root -m 0755 "), "{missing}");
    // Its directory must be root's alone, or anybody could put a socket in its place.
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o777)).unwrap();
    assert!(bind(&dir.path().join("helper.sock")).unwrap_err().contains("not believed"));
    let silent = dir.path().join("silent.sock");
    let _listener = UnixListener::bind(&silent).unwrap();
    let client = Client::new(&silent);
    let id = ids(&["AAAAA1"])[0];
    assert_eq!(client.identify(OWN, id), Err(identity::Why::NoHelper));
    let began = clock::monotonic();
    assert_eq!(client.identify(OWN, id), Err(identity::Why::NoHelper));
    assert!(began.elapsed() < Duration::from_millis(500), "it is not waited for with every message");
}

#[test]
fn a_helper_that_was_started_anew_is_asked_again() {
    let site = Site::new(4_000_000_001);
    let client = Client::new(&site.socket);
    client.hello().unwrap();
    // The connection ends, as with the helper that served it.
    client.another().hello().unwrap();
    client.hang_up();
    assert_eq!(client.hello().unwrap().instances.len(), 1);
}

#[test]
fn one_that_was_waited_for_in_vain_is_waited_for_when_it_is_back() {
    let site = Site::new(4_000_000_001);
    let later = site.dir.path().join("later.sock");
    let (client, id) = (Client::new(&later), ids(&["AAAAA1"])[0]);
    assert_eq!(client.lost_for(), None);
    assert_eq!(client.identify(OWN, id), Err(identity::Why::NoHelper));
    std::os::unix::fs::symlink(&site.socket, &later).unwrap();
    assert_eq!(client.identify(OWN, id), Err(identity::Why::NoHelper), "not yet");
    let missed = client.lost_for().unwrap();
    assert!(missed <= client.another().lost_for().unwrap(), "since it was missed first, for all of them");
    let _door = client.another().door(OWN).unwrap();
    assert!(client.lost_for().is_some(), "who has just asked in vain knows why");
    assert_eq!(client.identify(OWN, id), Err(identity::Why::NoQueueFile), "it is asked, and answers");
    let back = clock::monotonic();
    while client.lost_for().is_some() {
        assert!(back.elapsed() < Duration::from_secs(60), "it is back");
        std::thread::yield_now();
    }
    // Lost again: from then on.
    fs::remove_file(&later).unwrap();
    let again = clock::monotonic();
    client.another().door(OWN).unwrap_err();
    let missed = client.lost_for().unwrap();
    assert!(missed <= again.elapsed(), "{missed:?}");
}

proptest::proptest! {
    /// Whatever is asked for: either every id is one, or nothing is made of any of them.
    #[test]
    fn ids_are_taken_all_or_none(ids in proptest::collection::vec("[A-Za-z0-9]{0,24}|[ -~]{0,12}|\\PC{0,6}", 0..6)) {
        let is_id = |id: &String| (5..=23).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_alphanumeric());
        let made = places(Server::Postfix, OWN, &ids);
        proptest::prop_assert_eq!(made.is_ok(), !ids.is_empty() && ids.iter().all(is_id));
        let named = made.unwrap_or_default().iter().map(|place| place.id.to_string()).collect::<Vec<_>>();
        proptest::prop_assert!(named.is_empty() || named == ids);
    }

    /// No bytes bring it down, and what is no request is none.
    #[test]
    fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..600)) {
        let (here, mut there) = UnixStream::pair().unwrap();
        there.write_all(&bytes).unwrap();
        drop(there);
        if let Ok(Some(request)) = read(&here) {
            let text = std::str::from_utf8(&bytes).unwrap();
            proptest::prop_assert_eq!(serde_json::from_str::<Request>(text).unwrap(), request);
        }
    }
}

/// An Exim that writes down its arguments, says that it has done each, and lists two frozen messages.
fn with_exim() -> (tempfile::TempDir, Client, Arc<House>) {
    let dir = tempfile::tempdir().unwrap();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let (program, socket) = (dir.path().join("exim"), dir.path().join("helper.sock"));
    let script = format!(
        "#!/bin/sh\n[ $1 = -bP ] && echo spool_directory = {0}/spool && exit\n[ $1 = -bpr ] && printf ' 4m 3 1xWsik-00057D-12 <a@b.test> *** frozen ***\\n          c@d.test\\n\\n 4m 3 \
         1xWsik-00057A-12 <> *** frozen ***\\n\\n' && exit\necho \"$@\" >> {0}/seen\nshift\nfor id; do echo Message $id is \
         now frozen; done\n",
        dir.path().display()
    );
    fs::write(&program, script).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    let exim = Some(program.display().to_string());
    let house = Arc::new(House::new(Settings { agent: 4_000_000_001, instances: vec![], exim: exim.clone() }).unwrap());
    let (listener, serves) = (bind(&socket).unwrap(), Arc::clone(&house));
    std::thread::spawn(move || serve(&listener, &serves));
    fs::set_permissions(&program, fs::Permissions::from_mode(0o775)).unwrap();
    let others = House::new(Settings { agent: 4_000_000_001, instances: vec![], exim });
    assert!(others.unwrap_err().contains("others than root can change"), "what root starts is root's");
    (dir, Client::new(socket), house)
}

#[test]
fn of_exims_ids_too_one_bad_one_and_nothing_is_done() {
    let (dir, client, _house) = with_exim();
    let (old, new) = ("1xWsik-00057A-0v", "1xWsio-0000000059R-39Pc");
    let seen = || fs::read_to_string(dir.path().join("seen")).unwrap_or_default();
    let work = |ids: Vec<String>| client.ask(&Request::work(Verb::Hold, Server::Exim, "exim".into(), ids), PATIENCE);
    let long = "A".repeat(10_000);
    for bad in [
        "ALL",
        "-Mrm",
        "",
        "../x",
        "4jY2SQ3blzz5bcl",
        "1xWsik-00057A-0v ",
        "1xWsik-00057A-0v\n",
        "-xWsik-0005-0v",
        &long,
    ] {
        for all in [vec![bad.to_owned()], vec![old.to_owned(), bad.to_owned(), new.to_owned()]] {
            assert!(matches!(work(all), Err(Trouble::Refused(_))), "{bad:?}");
        }
    }
    let many = |count: usize| (0..count).map(|n| format!("1xWsik-{n:06}-0v")).collect::<Vec<_>>();
    assert!(matches!(work(many(MOST_IDS + 1)), Err(Trouble::Refused(_))));
    assert!(matches!(work(vec![]), Err(Trouble::Refused(_))));
    for (server, name) in [(Server::Exim, "mx"), (Server::Exim, ""), (Server::Postfix, "exim"), (Server::Postfix, OWN)]
    {
        assert!(matches!(client.work(Verb::Hold, server, name, &ids(&[old])), Err(Trouble::Refused(_))), "{name}");
    }
    assert_eq!(seen(), "", "nothing was started");
    // Two forms, two calls.
    let done = client.work(Verb::Hold, Server::Exim, "exim", &ids(&[new, old])).unwrap();
    assert_eq!(done, (ids(&[old, new]), None));
    assert_eq!(seen(), format!("-Mf {old}\n-Mf {new}\n"));
    let Ok(Answer::Done { ids, trouble: None }) = work(many(MOST_IDS)) else { panic!() };
    assert_eq!(ids, many(MOST_IDS));
    assert!(seen().lines().skip(2).all(|line| line.split(' ').count() == 101), "100 at a time");
}

#[test]
fn exims_queue_is_counted_and_sized() {
    let (dir, client, _house) = with_exim();
    fs::create_dir_all(dir.path().join("spool/input/k")).unwrap();
    for (name, length) in [("k/1xWsik-00057A-12-H", 700), ("k/1xWsik-00057A-12-D", 60), ("1xWsik-00057D-12-H", 8)] {
        fs::write(dir.path().join("spool/input").join(name), vec![b'x'; length]).unwrap();
    }
    let counts = client.count(Server::Exim, "exim").unwrap();
    let shown: Vec<_> = counts.iter().map(|one| (&*one.queue, one.files, one.bytes, one.oldest.is_some())).collect();
    assert_eq!(shown, [("waiting", 0, 0, false), ("frozen", 2, 768, true)]);
    let all = ids(&["1xWsik-00057A-12", "1xWsik-00057C-12", "1xWsik-00057D-12"]);
    assert_eq!(client.sizes(Server::Exim, "exim", &all).unwrap(), [(all[0], 760), (all[2], 8)]);
    for (name, ids) in [("mx", &all[..]), ("exim", &[]), ("exim", &ids(&["4jY2SQ3blzz5bcl"]))] {
        assert!(matches!(client.sizes(Server::Exim, name, ids), Err(Trouble::Refused(_))), "{name} {ids:?}");
    }
    assert!(matches!(client.count(Server::Exim, "mx"), Err(Trouble::Refused(_))));
    assert_eq!(fs::read_to_string(dir.path().join("seen")).ok(), None, "nothing was done");
}

#[test]
fn whom_frozen_messages_are_from_and_for_is_told() {
    let (_dir, client, _house) = with_exim();
    let mut found = Vec::new();
    client.envelopes(Server::Exim, "exim", &mut |held| found.push(held)).unwrap();
    let shown: Vec<String> =
        found.iter().map(|one| format!("{} {} {:?}", one.id, one.sender, one.recipients)).collect();
    assert_eq!(shown, ["1xWsik-00057A-12  []", "1xWsik-00057D-12 a@b.test [\"c@d.test\"]"]);
    let held = client.on_hold(Server::Exim, "exim", &ids(&["1xWsik-00057D-12", "1xWsik-00057D-13"])).unwrap();
    assert_eq!(held, ids(&["1xWsik-00057D-12"]));
    for after in ["-Mrm", "4jY2SQ3blzz5bcl"] {
        let request = Request::Envelopes { server: Server::Exim, instance: "exim".into(), after: Some(after.into()) };
        assert!(matches!(client.ask(&request, PATIENCE), Err(Trouble::Refused(_))), "{after}");
    }
    let hello = client.hello().unwrap();
    assert_eq!((hello.instances.len(), hello.instances[0].server), (1, Server::Exim));
}
