//! Names and words: message ids of both forms, accounts, subjects and what far servers say.

use std::fmt;

/// A message's id: second, process and fraction in base 62, in the widths of before or after 4.97.
#[derive(Debug, Clone, Copy)]
pub struct Id {
    pub second: u64,
    pub serial: u64,
    pub new: bool,
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fraction = self.serial * 7919;
        digits(f, self.second, 6)?;
        f.write_str("-")?;
        digits(f, self.serial, if self.new { 11 } else { 6 })?;
        f.write_str("-")?;
        digits(f, fraction, if self.new { 4 } else { 2 })
    }
}

/// The last `width` digits of `n` in base 62.
fn digits(f: &mut fmt::Formatter<'_>, n: u64, width: u32) -> fmt::Result {
    const DIGITS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    let mut text = [b'0'; 11];
    let mut rest = n;
    for place in text.iter_mut().take(width as usize).rev() {
        *place = DIGITS[(rest % 62) as usize];
        rest /= 62;
    }
    f.write_str(std::str::from_utf8(&text[..width as usize]).map_err(|_| fmt::Error)?)
}

/// Even accounts are unix users, odd ones logins.
pub fn account(n: u32) -> String {
    if n % 2 == 1 { format!("box{n}@dom{}.hosting.test", n % 97) } else { format!("web{n}") }
}

/// As Exim escapes them. Some try to look like other fields.
pub const SUBJECTS: [&str; 8] = [
    "Your order 1007 has been shipped",
    "Re: invoice",
    "Password reset",
    "[shop] new customer \\303\\251t\\303\\251",
    "a \\\"quoted\\\" word, and a \\\\ backslash",
    "now for x@y.test and for z@y.test",
    "U=web2 P=local A=plain:box3@dom3.hosting.test",
    "a\\\" for v@w.test",
];

/// Replies that say no for good.
pub const REFUSALS: [&str; 5] = [
    "550 5.1.1 <x>: Recipient address rejected: User unknown",
    "550-5.7.26 This mail is unauthenticated\\n550 5.7.26 second line of text",
    "552 5.2.2 mailbox full, => Completed soon",
    "554 5.7.1 Message rejected: retry timeout exceeded says my log",
    "550 5.7.1 spam content",
];

/// Replies that say not now.
pub const DELAYS: [&str; 3] = [
    "451 4.7.1 Greylisted, try again later",
    "421 4.7.0 Too many connections, ** slow down: retry timeout exceeded soon",
    "452 4.2.2 mailbox full",
];
