//! Which lines name the script behind a message, and how to have more of them. It never judges: they are a choice.

use super::Finding;
use crate::app::commands::counted;
use crate::app::setup::{Format, Setup};
use crate::mail::{Kind, ScriptSource};
use serde_json::{Value, json};

/// Lines that told of scripts, by what told.
#[derive(Debug, Clone, Copy, Default)]
pub struct Told {
    commands: u64,
    rules: u64,
    headers: u64,
    calls: u64,
}

impl Told {
    pub fn hear(&mut self, kind: &Kind<'_>) {
        if let Kind::Script(script) = kind {
            *match script.from {
                ScriptSource::Command { .. } => &mut self.commands,
                ScriptSource::Rule => &mut self.rules,
                ScriptSource::Header => &mut self.headers,
                ScriptSource::Interpreter => &mut self.calls,
            } += 1;
        }
    }

    pub fn add(&mut self, other: Told) {
        self.commands += other.commands;
        self.rules += other.rules;
        self.headers += other.headers;
        self.calls += other.calls;
    }

    pub fn json(self) -> Value {
        json!({"commands": self.commands, "rules": self.rules, "headers": self.headers, "calls": self.calls})
    }
}

pub fn judge(told: Told, setup: &Setup, findings: &mut Vec<Finding>) {
    let kinds = [
        (told.headers, ["header", "headers"], "logged by header_checks"),
        (told.calls, ["call", "calls"], "in PHP's mail log"),
        (told.commands, ["command line", "command lines"], "of Exim"),
        (told.rules, ["line", "lines"], "of an access rule of Exim"),
    ];
    let on: Vec<String> = kinds
        .iter()
        .filter(|(n, ..)| *n > 0)
        .map(|(n, [one, many], of)| format!("{} {of}", counted(*n, one, many)))
        .collect();
    let text = match on.is_empty() {
        true => "no line names the script behind a message".to_owned(),
        false => format!("named, as a claim, by {}", on.join(", ")),
    };
    let mut more: Vec<&str> = Vec::new();
    if !setup.logs.iter().any(|log| log.format == Format::Php) {
        more.push("set mail.log in php.ini and list that file under logs with `format: php`");
    }
    if told.headers == 0 {
        more.push(
            "in Postfix, put `/^X-PHP-Originating-Script:/ INFO` into header_checks (with mail.add_x_header = On)",
        );
    }
    if told.commands + told.rules == 0 {
        more.push("in Exim, set `log_selector = +arguments +pid`");
    }
    let next = match more.is_empty() {
        true => String::new(),
        false => format!("to know more of them: {}", more.join("; ")),
    };
    findings.push(Finding { next, ..Finding::ok("scripts", text) });
}
