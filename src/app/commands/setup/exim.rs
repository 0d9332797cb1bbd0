//! The gate in Exim's configuration.

use super::{Action, Change, Scratch, complain, is_root, say, tool};
use crate::app::Exit;
use crate::app::cli::{EXIM_FLAGS, SetupEximArgs};
use crate::host::replace;
use crate::host::servers::Tools;
use crate::mta::exim::install::{self, Acls};
use crate::mta::exim::layout;
use crate::mta::postfix::setup::{bytes, characters};
use std::path::{Path, PathBuf};

pub fn run(args: &SetupEximArgs) -> Exit {
    match setup(args) {
        Ok(text) => say(&text),
        Err(why) => {
            complain(&why);
            Exit::Failed
        }
    }
}

/// An Exim, and the file that it reads.
struct Exim {
    program: String,
    file: PathBuf,
}

fn setup(args: &SetupEximArgs) -> Result<String, String> {
    let action = Action::of(args.action);
    let exim = Exim::found(args.program.as_deref())?;
    let flags = args.flags.to_str().filter(|flags| flags.starts_with('/') && flags.bytes().all(is_plain));
    let flags = flags.ok_or("--flags: an absolute path of letters, digits and . _ - / is needed: Exim reads it")?;
    let layout = layout::recognised(&exim.file.display().to_string(), &|path| Path::new(path).exists(), is_split());
    let head = format!("Exim {} with {}\n", exim.program, exim.file.display());
    if let Some(by_hand) = layout.by_hand(flags) {
        return match action {
            Action::Print => Ok(format!("{head}{by_hand}")),
            Action::Apply => Err(format!("{head}this is not done by itself, for it would not last. {by_hand}")),
            Action::Undo => Err(format!(
                "{head}this is not done by itself: take what `sendwarden setup exim` shows out of the places that it \
                 names"
            )),
        };
    }
    if !is_root() {
        return Err(format!("Exim shows its whole configuration to root only: {}", again(args, action)));
    }
    let found = replace::read(&exim.file).map_err(|why| format!("cannot read {}: {why}", exim.file.display()))?;
    let text = characters(&found.bytes);
    let bare = install::undo(&text, flags);
    let left = match bare.left.is_empty() {
        true => String::new(),
        false => format!("\nSomething of it is left at line {:?}; take it out by hand.", bare.left),
    };
    if action == Action::Undo {
        let change = Change::new(vec![(found, bytes(&bare.text))]);
        if change.is_empty() {
            return Ok(format!("{head}There is nothing to take out.{left}"));
        }
        exim.check(&bytes(&bare.text))?;
        let reloaded = exim.install(&change)?;
        change.forget_copies();
        return Ok(format!(
            "{head}The gate was taken out; {reloaded}. New mail of blocked accounts goes out from now on.{left}"
        ));
    }
    let [not_smtp, data] = exim.acls(&bytes(&bare.text))?;
    let new = install::plan(&text, Acls { not_smtp: &not_smtp, data: &data }, flags).map_err(|all| {
        let told = all.iter().map(|one| format!("\n  {}\n    by hand: {}", one.what, one.by_hand));
        format!("{} is not understood, and stays as it is:{}", exim.file.display(), told.collect::<String>())
    })?;
    let change = Change::new(vec![(found, bytes(&new))]);
    if change.is_empty() {
        return Ok(format!("{head}The gate is set up; nothing is to be changed, nothing was changed."));
    }
    if action == Action::Print {
        let shown = change.shown();
        return Ok(format!("{head}\n{shown}\nNothing was changed. To do it: {}", again(args, Action::Apply)));
    }
    exim.check(&bytes(&new))?;
    let copies: Vec<String> = change.back_up()?.iter().map(|path| path.display().to_string()).collect();
    let reloaded = exim.install(&change)?;
    Ok(format!("{head}The gate is set up; {reloaded}. What was there before is in {}.", copies.join(" and ")))
}

fn is_plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"._-/".contains(&byte)
}

fn again(args: &SetupEximArgs, action: Action) -> String {
    let mut text = "sudo sendwarden setup exim".to_owned();
    text.push_str(match action {
        Action::Print => "",
        Action::Apply => " --apply",
        Action::Undo => " --undo",
    });
    if let Some(program) = &args.program {
        text.push_str(&format!(" --program {}", program.display()));
    }
    if args.flags != Path::new(EXIM_FLAGS) {
        text.push_str(&format!(" --flags {}", args.flags.display()));
    }
    text
}

/// What Debian's own settings say (update-exim4.conf(8)).
fn is_split() -> bool {
    let text = std::fs::read_to_string("/etc/exim4/update-exim4.conf.conf").unwrap_or_default();
    let last = text.lines().rev().find_map(|line| line.trim().strip_prefix("dc_use_split_config="));
    last.is_some_and(|value| value.trim_matches(['\'', '"']) == "true")
}

impl Exim {
    fn found(program: Option<&Path>) -> Result<Exim, String> {
        let known = Tools::default().exim.into_iter().filter_map(|tool| tool.into_iter().next());
        let program = match program {
            Some(program) => Some(program.display().to_string()),
            None => known.into_iter().find(|program| Path::new(program).is_file()),
        };
        let program = program.ok_or("no Exim was found on this host; name its program with --program")?;
        let file = tool(&[program.clone(), "-bP".to_owned(), "configure_file".to_owned()])?;
        let file = file.lines().map(str::trim).find(|line| line.starts_with('/'));
        let file = file.ok_or_else(|| format!("`{program} -bP configure_file` names no file"))?;
        Ok(Exim { file: PathBuf::from(file), program })
    }

    /// Runs Exim with this configuration in place of its own.
    fn with(&self, text: &[u8], arguments: &[&str]) -> Result<String, String> {
        let scratch = Scratch::new()?;
        scratch.write("exim.conf", text)?;
        let file = scratch.path().join("exim.conf").display().to_string();
        let argv = [self.program.as_str(), "-C", file.as_str()].into_iter().chain(arguments.iter().copied());
        tool(&argv.map(str::to_owned).collect::<Vec<_>>())
    }

    /// The ACLs that this configuration names.
    fn acls(&self, text: &[u8]) -> Result<[String; 2], String> {
        let said = self.with(text, &["-bP", "acl_not_smtp", "acl_smtp_data"])?;
        let value = |name: &str| {
            let named = said.lines().find_map(|line| line.trim().strip_prefix(name)?.trim_start().strip_prefix('='));
            named.unwrap_or_default().trim().to_owned()
        };
        Ok([value("acl_not_smtp"), value("acl_smtp_data")])
    }

    /// What Exim itself says of a configuration, before anybody uses it.
    fn check(&self, text: &[u8]) -> Result<(), String> {
        self.with(text, &["-bV"]).map(drop).map_err(|why| format!("{why}; nothing was changed"))
    }

    /// Writes, checks again in place, and has the daemon read it. What sendmail(1) starts reads it by itself.
    fn install(&self, change: &Change) -> Result<&'static str, String> {
        let ask = |what: &str| tool(&[self.program.clone(), "-bP".to_owned(), what.to_owned()]);
        change.install(|| tool(&[self.program.clone(), "-bV".to_owned()]).map(drop))?;
        let value = |text: String| text.split_once('=').map(|(_, value)| value.trim().to_owned()).unwrap_or_default();
        let mut file = value(ask("pid_file_path")?);
        if file.is_empty() {
            file = format!("{}/exim-daemon.pid", value(ask("spool_directory")?));
        }
        let pid = std::fs::read_to_string(&file).ok().and_then(|text| text.trim().parse().ok());
        match pid.is_some_and(|pid| crate::host::process::hang_up(pid, Path::new(&self.program))) {
            true => Ok("its daemon reads it again"),
            false => Ok("no daemon was found: if one runs, reload it"),
        }
    }
}
