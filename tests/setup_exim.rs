//! `setup exim` on a real Exim of both forms of message ids, configured by one file: after --apply mail of a flagged
//! user or login is held by every way in and stays held at a forced queue run, nobody else's is; after an administrator's
//! own edits --undo leaves the file as it would be without us.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "a test")]
#![allow(clippy::disallowed_methods, reason = "a test of real servers starts processes")]
mod support;

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;

use support::exim::{Call, Exim, Options, Script, Version, selector};
use support::server::MailServer;
use support::smtp::{self, Mail};
use support::wait_until;

struct Site {
    exim: Exim,
    dir: PathBuf,
}

impl Site {
    fn setup(&self, arguments: &[&str]) -> (Option<i32>, String) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_sendwarden"));
        command.args(["setup", "exim"]).args(arguments);
        command.arg("--program").arg(self.dir.join("exim")).arg("--flags").arg(self.dir.join("flags"));
        let output = command.output().unwrap();
        (output.status.code(), [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap()).concat())
    }

    fn state(&self) -> (Vec<u8>, u32, u32, u32) {
        let path = self.dir.join("exim.conf");
        let meta = fs::metadata(&path).unwrap();
        (fs::read(path).unwrap(), meta.permissions().mode(), meta.uid(), meta.gid())
    }

    fn edit(&self, edit: impl Fn(String) -> String) {
        let path = self.dir.join("exim.conf");
        fs::write(&path, edit(fs::read_to_string(&path).unwrap())).unwrap();
    }

    /// Applies or undoes, and waits until the daemon has read the file again.
    fn change(&self, argument: &str) -> String {
        let starts = || self.exim.log().lines().filter(|line| line.contains("daemon started")).count();
        let before = starts();
        let (code, said) = self.setup(&[argument]);
        assert_eq!(code, Some(0), "{said}");
        assert!(said.contains("its daemon reads it again"), "{said}");
        wait_until("the daemon to start again", || starts() > before);
        said
    }

    fn script(&self, user: &str, call: Call, name: &str) {
        let message = format!("Subject: {name}\nX-Test-Id: {name}\n\nbody\n");
        let (sender, to) = (format!("{user}@hosting.test"), format!("{name}@accept.test"));
        let script = Script { user, cwd: Path::new("/"), call, sender: &sender, recipients: &[&to], message: &message };
        self.exim.sendmail(&script);
    }

    fn login(&self, login: &str, name: &str) {
        let (to, data) = (format!("{name}@accept.test"), format!("Subject: {name}\nX-Test-Id: {name}\n\nbody\n"));
        let mail = Mail { sender: login, recipients: &[&to], data: &data, auth: Some((login, "secret")) };
        smtp::send(self.exim.port(), &mail).unwrap();
    }

    fn everybody(&self, round: &str) {
        for (user, login, who) in [("web1", "Box1@hosting.test", "guilty"), ("web2", "box2@hosting.test", "innocent")] {
            for (call, name) in [(Call::Arguments, "a"), (Call::Headers, "t"), (Call::Conversation, "bs")] {
                self.script(user, call, &format!("{who}-{round}-{name}"));
            }
            self.login(login, &format!("{who}-{round}-login"));
        }
    }

    fn arrived(&self, prefix: &str) -> usize {
        let messages = self.exim.accept.messages();
        messages.iter().filter_map(|message| message.unique()).filter(|name| name.starts_with(prefix)).count()
    }

    fn on_hold(&self, prefix: &str) -> usize {
        let held = self.exim.queue().into_iter().filter(|one| one.queue == "hold");
        held.flat_map(|one| one.recipients).filter(|to| to.starts_with(prefix)).count()
    }
}

fn with_a_file_of_ones_own(version: Version) {
    let exim = Exim::start(&Options::new(version, selector::CPANEL));
    let dir = exim.spool_dir().parent().unwrap().to_owned();
    let site = Site { exim, dir };
    let flags = site.dir.join("flags");
    for kind in ["user", "auth", "domain"] {
        fs::create_dir_all(flags.join(kind)).unwrap();
        fs::set_permissions(flags.join(kind), fs::Permissions::from_mode(0o755)).unwrap();
    }
    for flag in ["user/web1", "auth/box1@hosting.test"] {
        fs::write(flags.join(flag), "").unwrap();
    }
    let before = site.state();
    let (code, said) = site.setup(&[]);
    assert!(code == Some(0) && said.contains("+hold_by_sendwarden:") && said.contains("Nothing was changed"), "{said}");
    assert_eq!(site.state(), before);

    let said = site.change("--apply");
    let after = site.state();
    assert_eq!((after.1, after.2, after.3), (before.1, before.2, before.3));
    assert_eq!(fs::read(site.dir.join("exim.conf.before-sendwarden")).unwrap(), before.0, "{said}");
    let (code, said) = site.setup(&["--apply"]);
    assert!(code == Some(0) && said.contains("nothing was changed"), "{said}");
    assert_eq!(site.state(), after);

    site.everybody("first");
    wait_until("the innocent ones' mail", || site.arrived("innocent-first") == 4);
    site.exim.settle();
    assert_eq!((site.arrived("guilty"), site.on_hold("guilty")), (0, 4));
    // Not even an administrator's forced run lets it out.
    site.exim.run(&["-qff"]);
    site.exim.settle();
    assert_eq!((site.arrived("guilty"), site.exim.queue().len()), (0, 4));

    // The administrator goes on, also between our lines.
    let edits = |text: String| {
        text.replace("begin transports\n", "# mine\nbegin transports\n").replace("split_spool_directory\n", "")
    };
    site.edit(edits);
    site.edit(|text| text.replace("held_by_sendwarden:\n", "held_by_sendwarden:\n# a word of mine\n"));
    let said = site.change("--undo");
    assert!(said.contains("The gate was taken out"), "{said}");
    let plain = edits(String::from_utf8(before.0.clone()).unwrap());
    let expected = plain.replacen("begin acl\n", "begin acl\n# a word of mine\n", 1);
    assert_eq!(String::from_utf8(site.state().0).unwrap(), expected);
    assert_eq!((site.state().1, site.state().2, site.state().3), (before.1, before.2, before.3));
    let (code, said) = site.setup(&["--undo"]);
    assert!(code == Some(0) && said.contains("nothing to take out"), "{said}");
    site.exim.run(&["-qff"]);
    wait_until("what was held", || site.arrived("guilty") == 4);

    // What Exim cannot read is not written.
    site.edit(|text| format!("no_such_setting = 1\n{text}"));
    let broken = site.state();
    let (code, said) = site.setup(&["--apply"]);
    assert!(code == Some(1) && said.contains("no_such_setting"), "{said}");
    assert_eq!(site.state(), broken);
    fs::write(site.dir.join("exim.conf"), &before.0).unwrap();
}

#[test]
fn a_file_of_ones_own_4_96() {
    with_a_file_of_ones_own(Version::V4_96);
}

#[test]
fn a_file_of_ones_own_4_98() {
    with_a_file_of_ones_own(Version::V4_98);
}

#[test]
fn where_there_is_no_acl_it_gets_ours_and_what_is_elsewhere_is_refused() {
    let exim = Exim::start(&Options::new(Version::V4_98, selector::NONE));
    let dir = exim.spool_dir().parent().unwrap().to_owned();
    let site = Site { exim, dir };
    fs::create_dir_all(site.dir.join("flags/user")).unwrap();
    fs::write(site.dir.join("flags/user/web1"), "").unwrap();
    let without =
        |text: String| text.replace("acl_not_smtp = acl_not_smtp\n", "").replace("acl_smtp_data = acl_data\n", "");
    site.edit(without);
    let before = site.state();
    site.change("--apply");
    for call in [Call::Arguments, Call::Conversation] {
        site.script("web1", call, "guilty");
        site.script("web2", call, "innocent");
    }
    wait_until("the innocent ones' mail", || site.arrived("innocent") == 2);
    site.exim.settle();
    assert_eq!((site.arrived("guilty"), site.on_hold("guilty")), (0, 2));
    site.change("--undo");
    assert_eq!(site.state(), before);

    site.edit(|text| format!("acl_not_smtp = acl_in_another_file\n{text}"));
    let before = site.state();
    let (code, said) = site.setup(&["--apply"]);
    assert!(code == Some(1) && said.contains("acl_in_another_file") && said.contains("by hand: "), "{said}");
    assert_eq!(site.state(), before);
}
