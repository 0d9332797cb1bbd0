//! The gate in Postfix's configuration, instance by instance.

use super::{Action, Change, Scratch, complain, is_root, say, tool};
use crate::app::cli::{SetupPostfixArgs, WhenAway};
use crate::app::{Exit, instances};
use crate::host::gate;
use crate::host::replace::{self, Found};
use crate::host::servers::{self, PostfixPlace, Tools};
use crate::mta::postfix::setup::{self, Away, File, Plan, Refusal, characters};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// One instance, read and planned.
struct Instance {
    place: PostfixPlace,
    directory: PathBuf,
    change: Change,
    /// What it comes to, for people.
    told: String,
    /// Places where something of ours is left by an undo.
    left: Vec<String>,
}

pub fn run(args: &SetupPostfixArgs) -> Exit {
    let action = Action::of(args.action);
    if action != Action::Print && !is_root() {
        complain(&format!(
            "only root may change Postfix's configuration: sudo sendwarden setup postfix{}",
            again(args, action)
        ));
        return Exit::Failed;
    }
    let directories = instances::directories(&args.config_directory);
    if directories.is_empty() {
        complain("no Postfix was found on this host; name its configuration directory with --config-directory");
        return Exit::Failed;
    }
    let mut instances = Vec::new();
    let mut refused = false;
    for directory in directories {
        match look(&directory, args, action) {
            Ok(instance) => instances.push(instance),
            Err(why) => {
                complain(&why);
                refused = true;
            }
        }
    }
    if refused && action != Action::Print {
        complain("nothing was changed");
        return Exit::Failed;
    }
    let mut exit = if refused { Exit::Failed } else { Exit::Done };
    for instance in &instances {
        let outcome = match action {
            Action::Print => Ok(instance.print(args)),
            Action::Apply => instance.apply(args.ahead),
            Action::Undo => instance.undo(),
        };
        match outcome {
            Ok(text) => {
                if say(&text) != Exit::Done {
                    return Exit::Failed;
                }
                if !instance.left.is_empty() {
                    exit = Exit::Failed;
                }
            }
            Err(why) => {
                complain(&format!("{}: {why}", instance.directory.display()));
                // The next one would fail as well, or the two would differ.
                return Exit::Failed;
            }
        }
    }
    exit
}

/// The same command line once more.
fn again(args: &SetupPostfixArgs, action: Action) -> String {
    let mut text = match action {
        Action::Print => String::new(),
        Action::Apply => " --apply".to_owned(),
        Action::Undo => " --undo".to_owned(),
    };
    for directory in &args.config_directory {
        text.push_str(&format!(" --config-directory {}", directory.display()));
    }
    if args.submission == WhenAway::Tempfail {
        text.push_str(" --submission tempfail");
    }
    text
}

fn read(directory: &Path, file: File) -> Result<Found, String> {
    let path = directory.join(file.name());
    replace::read(&path).map_err(|why| format!("cannot read {}: {why}", path.display()))
}

fn look(directory: &Path, args: &SetupPostfixArgs, action: Action) -> Result<Instance, String> {
    let tools = Tools::default();
    let place = servers::postfix_place(&tools, directory)?;
    let [main, master] = [read(directory, File::Main)?, read(directory, File::Master)?];
    let [main_text, master_text] = [&main, &master].map(|found| characters(&found.bytes));
    if action == Action::Undo {
        let [undone_main, undone_master] =
            [setup::undo(File::Main, &main_text), setup::undo(File::Master, &master_text)];
        let mut left = Vec::new();
        for (found, lines) in [(&main, &undone_main.left), (&master, &undone_master.left)] {
            left.extend(lines.iter().map(|line| format!("{}:{line}", found.path.display())));
        }
        let new = [undone_main.text, undone_master.text].map(|text| setup::bytes(&text));
        let change = changed(main, master, new);
        return Ok(Instance { place, directory: directory.to_owned(), change, told: String::new(), left });
    }
    let version = servers::postfix_values(&tools, directory, false, &["mail_version"])?.concat();
    if !setup::supports(&version) {
        return Err(format!(
            "Postfix {version} cannot be told what to do without one of its milters: that needs 3.0 or later; nothing \
             was changed"
        ));
    }
    let away = match args.submission {
        WhenAway::Accept => Away::Accept,
        WhenAway::Tempfail => Away::Tempfail,
    };
    let Plan { main: new_main, master: new_master, ways, notes } =
        setup::plan(&main_text, &master_text, away).map_err(|all| refusals(directory, &all))?;
    let mut told = String::new();
    for way in &ways {
        told.push_str(&format!("  {}: {}\n", way.name, way.how));
    }
    for note in &notes {
        told.push_str(&format!("  note: {note}\n"));
    }
    let change = changed(main, master, [new_main, new_master].map(|text| setup::bytes(&text)));
    Ok(Instance { place, directory: directory.to_owned(), change, told, left: Vec::new() })
}

fn changed(main: Found, master: Found, [new_main, new_master]: [Vec<u8>; 2]) -> Change {
    Change::new(vec![(main, new_main), (master, new_master)])
}

fn refusals(directory: &Path, all: &[Refusal]) -> String {
    let mut text = format!("the configuration in {} is not understood, and stays as it is:", directory.display());
    for one in all {
        let file = directory.join(one.file.name());
        text.push_str(&format!("\n  {}:{}: {}\n    by hand: {}", file.display(), one.line, one.what, one.by_hand));
    }
    text
}

impl Instance {
    fn heading(&self) -> String {
        format!("{} in {}\n", self.place.name, self.directory.display())
    }

    fn print(&self, args: &SetupPostfixArgs) -> String {
        let head = format!("{}{}", self.heading(), self.told);
        if self.change.is_empty() {
            return format!("{head}The gate is set up; nothing is to be changed.");
        }
        let agent = match self.agent_answers() {
            true => "",
            false => {
                "No agent answers at the gate yet: start it first, with `gate: {mode: watch}` in its configuration.\n"
            }
        };
        format!(
            "{head}\n{}\n{agent}Nothing was changed. To do it: sudo sendwarden setup postfix{}",
            self.change.shown(),
            again(args, Action::Apply)
        )
    }

    fn apply(&self, ahead: bool) -> Result<String, String> {
        let head = format!("{}{}", self.heading(), self.told);
        if self.change.is_empty() {
            return Ok(format!("{head}The gate is set up already; nothing was changed."));
        }
        if !ahead && !self.agent_answers() {
            return Err(format!(
                "no agent answers at {}, and without one what scripts hand over would wait; start it with `gate: \
                 {{mode: watch}}` in its configuration, then run this again (or with --ahead); nothing was changed",
                gate::socket(Path::new(&self.place.queue)).display()
            ));
        }
        self.check_copy(true)?;
        let copies = self.change.back_up()?;
        let reloaded = self.install()?;
        let copies: Vec<String> = copies.iter().map(|path| path.display().to_string()).collect();
        Ok(format!("{head}The gate is set up; {reloaded}. What was there before is in {}.", copies.join(" and ")))
    }

    fn undo(&self) -> Result<String, String> {
        let head = self.heading();
        let left = match self.left.is_empty() {
            true => String::new(),
            false => format!("\nSomething of it is left in {}; take it out by hand.", self.left.join(", ")),
        };
        if self.change.is_empty() {
            return Ok(format!("{head}There is nothing to take out.{left}"));
        }
        self.check_copy(false)?;
        let reloaded = self.install()?;
        self.change.forget_copies();
        Ok(format!(
            "{head}The gate was taken out; {reloaded}. New mail of blocked accounts goes out from now on.{left}"
        ))
    }

    /// The socket alone says nothing: it may be kept open for an agent that does not run.
    fn agent_answers(&self) -> bool {
        answers(&gate::socket(Path::new(&self.place.queue))).unwrap_or(false)
    }

    fn postfix(&self, directory: &Path, word: &str) -> Result<String, String> {
        let program = format!("{}/postfix", self.place.tools);
        let argv = [program, "-c".to_owned(), directory.display().to_string(), word.to_owned()];
        // It tells its troubles to the mail log, and to a terminal.
        tool(&argv).map_err(|why| format!("{why} (the mail log may say more)"))
    }

    /// What Postfix's own checker says of the new files, before anybody uses them.
    fn check_copy(&self, expected: bool) -> Result<(), String> {
        let scratch = Scratch::new()?;
        for name in ["postfix-files", "dynamicmaps.cf"] {
            // Not every distribution keeps them there.
            if let Ok(found) = replace::read(&self.directory.join(name)) {
                scratch.write(name, &found.bytes)?;
            }
        }
        for file in [File::Main, File::Master] {
            let found = read(&self.directory, file)?;
            let new = self.change.files.iter().find(|(one, _)| one.path == found.path).map(|(_, new)| new);
            let mut bytes = new.unwrap_or(&found.bytes).clone();
            if file == File::Main {
                // Where the copy is; it may say where the original is.
                bytes.extend_from_slice(format!("\nconfig_directory = {}\n", scratch.path().display()).as_bytes());
            }
            scratch.write(file.name(), &bytes)?;
        }
        let names = ["smtpd_milters", "non_smtpd_milters"];
        let said = servers::postfix_values(&Tools::default(), scratch.path(), true, &names)?;
        if expected && (said.len() != 2 || said.iter().any(|list| !list.contains("sendwarden/gate.sock"))) {
            return Err(format!(
                "postconf(1) reads the new lists of milters as {said:?}, which lack the gate; nothing was changed"
            ));
        }
        self.postfix(scratch.path(), "check").map(drop).map_err(|why| format!("{why}; nothing was changed"))
    }

    /// Writes, checks again in place, and reloads what runs.
    fn install(&self) -> Result<&'static str, String> {
        let runs = self.postfix(&self.directory, "status").is_ok();
        let outcome = self.change.install(|| {
            self.postfix(&self.directory, "check")?;
            if runs {
                self.postfix(&self.directory, "reload")?;
            }
            Ok(())
        });
        match outcome {
            Ok(()) if runs => Ok("Postfix was reloaded"),
            Ok(()) => Ok("Postfix does not run"),
            Err(why) => {
                if runs {
                    // Whatever it has read of the new files.
                    let _ = self.postfix(&self.directory, "reload");
                }
                Err(why)
            }
        }
    }
}

/// Somebody speaks the milter protocol there: offers what Postfix offers, and is answered in time.
fn answers(socket: &Path) -> std::io::Result<bool> {
    use std::io::{Read, Write};
    let mut stream = std::os::unix::net::UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(Duration::from_secs(3)))?;
    stream.set_write_timeout(Some(Duration::from_secs(3)))?;
    let offer: [[u8; 4]; 3] = [6_u32, 0x1ff, 0x1f_ffff].map(u32::to_be_bytes);
    let length = 13_u32.to_be_bytes();
    stream.write_all(&[length.as_slice(), b"O", offer.concat().as_slice()].concat())?;
    let mut head = [0; 5];
    stream.read_exact(&mut head)?;
    Ok(head.last() == Some(&b'O'))
}
