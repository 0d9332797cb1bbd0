//! `sendwarden check`: would the agent do its work here, and how much of the log does it understand?
//!
//! It looks, and tells what to do next. It opens nothing for writing, changes nothing, and needs no agent.

mod flags;
mod hooks;
mod host;
mod incidents;
mod log;
mod scripts;
mod servers;

use super::{counted, pretty, say};
use crate::app::chain::{self, Chain, Gap};
use crate::app::cli::{CheckArgs, Format};
use crate::app::gate::Mode;
use crate::app::setup::Setup;
use crate::app::{Exit, setup, unlisted};
use crate::mail::Measure;
use serde_json::{Value, json};

/// How well something stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    Ok,
    /// The agent works, but something will be missing.
    Warn,
    /// The agent cannot do its work.
    Fail,
}

impl Level {
    const fn name(self) -> &'static str {
        match self {
            Level::Ok => "ok",
            Level::Warn => "warn",
            Level::Fail => "fail",
        }
    }
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    pub level: Level,
    /// What it is about, in a word or two.
    pub about: &'static str,
    pub text: String,
    /// What to do next; empty when there is nothing to do.
    pub next: String,
}

impl Finding {
    pub fn ok(about: &'static str, text: impl Into<String>) -> Finding {
        Finding { level: Level::Ok, about, text: text.into(), next: String::new() }
    }

    pub fn warn(about: &'static str, text: impl Into<String>, next: impl Into<String>) -> Finding {
        Finding { level: Level::Warn, about, text: text.into(), next: next.into() }
    }

    pub fn fail(about: &'static str, text: impl Into<String>, next: impl Into<String>) -> Finding {
        Finding { level: Level::Fail, about, text: text.into(), next: next.into() }
    }
}

pub fn run(args: &CheckArgs) -> Exit {
    let mut setup = match setup::load(args.config.as_deref()) {
        Ok(setup) => setup,
        Err(why) => {
            let mistake = |line: &str| Finding::fail("configuration", line, "");
            let mut findings: Vec<Finding> = why.lines().map(mistake).collect();
            let next = "correct these mistakes, then run this again; config.example.yaml shows every setting";
            if let Some(last) = findings.last_mut() {
                last.next = next.to_owned();
            }
            return match print(&findings, &[], args.format) {
                Exit::Failed => Exit::Failed,
                _ => Exit::Usage,
            };
        }
    };
    let mut findings = vec![host::configuration(args.config.as_deref(), &setup)];
    accounts(&mut setup, &mut findings);
    servers::judge(crate::app::logs::servers(), &mut findings);
    let (agent, running) = host::agent_and_port(&setup);
    let chosen = host::logs(&setup, running, &mut findings);
    findings.push(host::state_dir(&setup.state_dir));
    findings.extend(host::store(&setup.state_dir));
    findings.extend(agent);
    findings.extend(host::queues(&setup));
    findings.extend(host::helper(&setup));
    findings.push(rules(&setup));
    incidents::judge(&setup.state_dir, &mut findings);
    gate(&chain::look(&chain::Wanted::of(&setup)), &setup, &mut findings);
    flags::judge(&setup, &mut findings);
    hooks::judge(&setup, &mut findings);
    let (mut figures, mut told) = (Vec::new(), scripts::Told::default());
    for source in &chosen {
        let Some(path) = source.path() else { continue };
        match log::examine(path, source, &setup, args.lines) {
            Ok(seen) => {
                log::judge(&seen, &setup, &mut findings);
                told.add(seen.scripts);
                figures.push(seen.json());
            }
            Err(why) => findings.push(Finding::fail("log", why, "check the disk and the file, then run this again")),
        }
    }
    if !figures.is_empty() {
        scripts::judge(told, &setup, &mut findings);
    }
    let worst = worst(&findings);
    match print(&findings, &figures, args.format) {
        Exit::Done if worst == Level::Fail => Exit::Failed,
        exit => exit,
    }
}

/// What of the accounts file would not be in force, and is not believed below either.
fn accounts(setup: &mut Setup, findings: &mut Vec<Finding>) {
    let kept = unlisted::of_setup(setup);
    if kept.is_empty() {
        return;
    }
    setup.directory = unlisted::with(&setup.directory, &kept);
    let names: Vec<String> = kept.into_iter().map(|one| one.name).collect();
    let text = format!("{}, and is held by what the file said before", unlisted::text(&names));
    findings.push(Finding::warn("accounts", text, unlisted::NEXT));
}

/// What the rules may do.
fn rules(setup: &Setup) -> Finding {
    let named = |is: fn(Measure) -> bool| -> Vec<&str> {
        setup.rules.iter().filter(|rule| is(rule.measure)).map(|rule| &*rule.name).collect()
    };
    let armed = named(Measure::holds);
    let slow = named(|measure| measure == Measure::Slow);
    let all = counted(setup.rules.len() as u64, "rule", "rules");
    match (armed.len(), setup.enforcement.dry_run) {
        (0, _) => Finding::ok("rules", format!("{all}, none of which holds anybody's mail")),
        (n, true) => Finding::warn(
            "rules",
            format!(
                "{} muted ({}): enforcement.dry_run is on",
                counted(n as u64, "armed rule is", "armed rules are"),
                armed.join(", ")
            ),
            "when what they say is what you want, set enforcement.dry_run: false",
        ),
        (_, false) if !slow.is_empty() && setup.gate.as_ref().is_none_or(|gate| gate.mode != Mode::Enforce) => {
            Finding::warn(
                "rules",
                format!("slowing accounts down ({}) needs a gate that holds mail", slow.join(", ")),
                "set gate.mode: enforce, and see sendwarden setup; until then it is only told",
            )
        }
        (_, false) => Finding::ok("rules", format!("{all}; these hold mail: {}", armed.join(", "))),
    }
}

/// What of a block would be in force.
fn gate(chain: &Chain, setup: &Setup, findings: &mut Vec<Finding>) {
    let warn = |gap: &Gap| Finding::warn("gate", gap.text.clone(), gap.next.clone());
    // In the words of `status`.
    let open = |gap: &Gap| Finding::warn("gate", format!("not in force: {}", gap.text), gap.next.clone());
    match &chain.off {
        // Somebody's choice: the agent counts.
        Some(off) => findings.push(Finding { level: Level::Ok, ..open(off) }),
        None if chain.open.is_empty() && setup.gate.is_some() => {
            findings.push(Finding::ok("gate", "every way in that is known asks it"));
        }
        None => {}
    }
    findings.extend(chain.open.iter().map(open).chain(chain.hints.iter().map(warn)));
}

fn worst(findings: &[Finding]) -> Level {
    findings.iter().map(|finding| finding.level).max().unwrap_or(Level::Ok)
}

fn print(findings: &[Finding], logs: &[Value], format: Format) -> Exit {
    match format {
        Format::Json => {
            let rows: Vec<Value> = findings
                .iter()
                .map(|f| json!({"level": f.level.name(), "about": f.about, "text": f.text, "next": f.next}))
                .collect();
            say(&pretty(&json!({"result": worst(findings).name(), "findings": rows, "logs": logs})))
        }
        Format::Text => say(&text(findings)),
    }
}

fn text(findings: &[Finding]) -> String {
    let mut out = String::new();
    for finding in findings {
        out.push_str(&format!("{:<4}  {}: {}", finding.level.name(), finding.about, finding.text.trim_end()));
        if !finding.next.is_empty() {
            out.push_str(&format!("\n      → {}", finding.next));
        }
        out.push('\n');
    }
    let count = |level| findings.iter().filter(|finding| finding.level == level).count();
    let (fails, warns) = (count(Level::Fail), count(Level::Warn));
    out.push_str(&match (fails, warns) {
        (0, 0) => "\nAll is well. Start it with: sendwarden run\n".to_owned(),
        (0, warns) => format!("\nThe agent can do its work; {warns} to look at.\n"),
        (fails, _) => format!("\n{fails} to mend before the agent can do its work.\n"),
    });
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_finding_begins_with_its_level_and_says_what_to_do() {
        let findings = [
            Finding::ok("log", "read"),
            Finding::warn("queue", "cannot be read", "run as root"),
            Finding::fail("state", "missing", "make it"),
        ];
        let text = text(&findings);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(
            lines[..5],
            [
                "ok    log: read",
                "warn  queue: cannot be read",
                "      → run as root",
                "fail  state: missing",
                "      → make it",
            ]
        );
        assert_eq!(worst(&findings), Level::Fail);
        assert_eq!(worst(&findings[..2]), Level::Warn);
    }
}
