//! What a source's lines are written in: a mail server's log, or that of a script's interpreter.

use super::setup::{Format, LogSource};
use crate::host::clock;
use crate::mail::Time;
use crate::mta::any::Any;
use crate::mta::php::Php;
use crate::mta::syslog::Stamps;
use crate::mta::{Mta, Read};

#[derive(Debug, Clone)]
pub enum Dialect {
    Mail(Any),
    Php(Php),
}

impl Dialect {
    /// `reference`: when the log was written last.
    pub fn of(log: &LogSource, reference: Time) -> Dialect {
        let stamps = Stamps { zone: log.zone.clone().unwrap_or_else(clock::zone), reference };
        match log.format {
            Format::Mail => Dialect::Mail(Any::new(stamps, log.only)),
            Format::Php => Dialect::Php(Php::new(stamps, clock::zone_named)),
        }
    }

    pub fn set_reference(&mut self, reference: Time) {
        match self {
            Dialect::Mail(mail) => mail.set_reference(reference),
            Dialect::Php(php) => php.set_reference(reference),
        }
    }
}

impl Mta for Dialect {
    #[inline]
    fn read<'a>(&'a mut self, line: &'a [u8]) -> Read<'a> {
        match self {
            Dialect::Mail(mail) => mail.read(line),
            Dialect::Php(php) => php.read(line),
        }
    }

    #[inline]
    fn read_alone<'a>(&mut self, line: &'a [u8]) -> Option<Read<'a>> {
        match self {
            Dialect::Mail(mail) => mail.read_alone(line),
            Dialect::Php(php) => php.read_alone(line),
        }
    }

    fn take_lost(&mut self) -> u64 {
        match self {
            Dialect::Mail(mail) => mail.take_lost(),
            Dialect::Php(php) => php.take_lost(),
        }
    }

    fn finish(&mut self) {
        match self {
            Dialect::Mail(mail) => mail.finish(),
            Dialect::Php(php) => php.finish(),
        }
    }

    fn save(&self) -> Vec<u8> {
        match self {
            Dialect::Mail(mail) => mail.save(),
            Dialect::Php(php) => php.save(),
        }
    }

    fn restore(&mut self, saved: &[u8]) {
        match self {
            Dialect::Mail(mail) => mail.restore(saved),
            Dialect::Php(php) => php.restore(saved),
        }
    }
}
