//! What an Exim needs in its configuration so that mail of blocked accounts is held: text for its sections, and the names
//! of the flag files that this text looks for. Pure text; who puts it where is somebody else's business.
//!
//! An empty file in a subdirectory of the flags' directory is a held identity. It is looked up (`dsearch`, in every build
//! since 4.94) while a message is accepted, by [`acl`], which freezes it, and once more before it is delivered, by
//! [`routers`], which keeps back what was accepted before the file was there, or was thawed by a timer. No process need
//! run for that. Without the directory all mail passes (`exists`): a lookup in a missing one would refuse it.
//!
//! Who speaks SMTP without a login names nobody. If it is a process of this host, the agent is asked whose (`super::ask`),
//! over its socket beside the flags. It has two seconds; without an answer the message passes. It is asked about everybody's
//! mail while a limit could be crossed by the next message, which one more flag says.

/// Who handed the message to sendmail(1): the caller's login name, the kernel's word.
pub const USER: &str = "user";
/// The name of an authenticated SMTP client.
pub const LOGIN: &str = "auth";
/// The domain of such a name.
pub const DOMAIN: &str = "domain";
/// Of a message, by its id: it was released while its account is held, so the routers let it pass.
pub const FREE: &str = "free";
/// All subdirectories of identities.
pub const KINDS: [&str; 3] = [USER, LOGIN, DOMAIN];
/// The same of those of which no more may be held, in the order of [`KINDS`].
pub const FULL: [&str; 3] = ["full-user", "full-auth", "full-domain"];
/// Rules for everybody, each a file of its own.
pub const RULES: &str = "rules";
/// The rule that mail of a held login is refused, so that the person at the mail program knows.
pub const REFUSE_LOGINS: &str = "refuse-logins";
/// The rule that the agent is asked about mail of those who are not held: it counts.
pub const VOLUME: &str = "volume";
/// The file of networks whose clients are asked about besides this host's own: one a line.
pub const NETWORKS: &str = "networks";
/// The socket at which the agent is asked.
pub const SOCKET: &str = "gate.sock";

/// What the access rules log of a message behind its id, up to the identity: `user:` or `auth:` and the name, or `smtp:`
/// where the agent was asked and knows more. What is refused has the reply code before that.
pub(super) const HELD: &[u8] = b"sendwarden: HOLD ";
pub(super) const REFUSED: &[u8] = b"sendwarden: REFUSED 550 ";
pub(super) const TOO_MANY: &[u8] = b"sendwarden: REFUSED 552 ";
pub(super) const DISCARDED: &[u8] = b"sendwarden: DISCARDED ";
/// Told to the client when no more of an account may be held, and when its login is refused.
const TOO_MUCH: &str = "552 5.2.2 Too much mail of this account is on hold; ask your provider";
const ON_HOLD: &str = "550 5.7.1 Sending from this account is on hold, ask your provider";
/// The domain that exists nowhere: deferring an address of its own leaves no retry time on anybody else's.
const HOLD_DOMAIN: &str = ".sendwarden-hold.invalid";

/// Longer keys are cut by the lookup, so that the file system does not fail on them: no flag has such a name.
const MOST: usize = 254;

/// The name of the flag file of an identity, as the lookup makes it; `None` when no file may have that name.
pub fn flag(kind: &str, identity: &str) -> Option<String> {
    let lower = if kind == USER { identity.to_owned() } else { identity.to_lowercase() };
    let plain = !lower.is_empty() && lower != "." && lower != ".." && lower.len() < MOST;
    (plain && !lower.chars().any(char::is_control)).then(|| lower.replace('/', "\u{1}"))
}

/// Yields 1 or 0. The dot asks whether the directory may be entered: in one that may not the lookup would fail, and with
/// it the message. So would a key with a slash, which becomes a character that no name of ours has.
fn lookup(flags: &str, kind: &str, key: &str) -> String {
    format!(
        "${{if exists{{{flags}/{kind}/.}}{{${{lookup{{${{length_{MOST}:${{tr{{{key}}}{{/}}{{\\001}}}}}}}}\
         dsearch,filter=file{{{flags}/{kind}}}{{1}}{{0}}}}}}{{0}}}}"
    )
}

/// By sendmail(1), `-bs` included: what a client's ident answer says is no proof.
const IS_LOCAL: &str = "${if and{{eq{$sender_host_address}{}}{def:sender_ident}}}";
/// Exim sets the id for local mail too: there it is the user.
const IS_LOGIN: &str = "${if and{{!eq{$sender_host_address}{}}{def:authenticated_id}}}";

/// Over SMTP, and nobody has logged in.
const IS_UNNAMED: &str = "${if and{{!eq{$sender_host_address}{}}{!def:authenticated_id}}}";

const LOGIN_KEY: &str = "${lc:$authenticated_id}";
const DOMAIN_KEY: &str = r"${if match{${lc:$authenticated_id}}{\N@([^@]+)$\N}{$1}{}}";

fn of_user(flags: &str) -> String {
    lookup(flags, USER, "$sender_ident")
}

fn of_login(flags: &str) -> String {
    login_in(flags, LOGIN, DOMAIN)
}

fn login_in(flags: &str, whole: &str, domain: &str) -> String {
    let (whole, domain) = (lookup(flags, whole, LOGIN_KEY), lookup(flags, domain, DOMAIN_KEY));
    format!("${{if or{{{{bool{{{whole}}}}}{{bool{{{domain}}}}}}}}}")
}

/// For the section that begins with `begin acl`: the rule itself. It is called by [`acl_call`].
///
/// `authenticated` as a condition would refuse all local mail (`cannot test authenticated condition in non-SMTP ACL`,
/// measured), so the variable is asked; so would `hosts`, if the condition before it did not come first. Variables are set
/// before they are looked at, for `strict_acl_vars`.
pub fn acl(flags: &str) -> String {
    let (user, login) = (of_user(flags), of_login(flags));
    let [full_user, full_login, full_domain] = FULL;
    let (full_user, full_login) = (lookup(flags, full_user, "$sender_ident"), login_in(flags, full_login, full_domain));
    let asked = |question: &str| format!("${{readsocket{{{flags}/{SOCKET}}}{{{question}\\n}}{{2s}}{{}}{{}}}}");
    let counts = format!("${{if exists{{{flags}/{RULES}/{VOLUME}}}}}");
    let of_unnamed = asked(
        "smtp $message_exim_id $recipients_count $sender_host_address $sender_host_port \
         $received_ip_address $received_port",
    );
    let of_user = asked("user $message_exim_id $recipients_count $originator_uid");
    // A login with a space in it would be more than one word.
    let of_login =
        asked(r"auth $message_exim_id $recipients_count ${length_120:${tr{$authenticated_id}{ \n\r\t}{____}}}");
    format!(
        "held_by_sendwarden:\n  \
           warn   set acl_m_sendwarden_said =\n  \
           accept condition = {IS_LOCAL}\n         \
                  condition = {user}\n         \
                  set acl_m_sendwarden = user:$sender_ident\n         \
                  set acl_m_sendwarden_no = ${{if bool{{{full_user}}}{{{TOO_MUCH}}}{{}}}}\n  \
           accept condition = {IS_LOGIN}\n         \
                  condition = {login}\n         \
                  set acl_m_sendwarden = auth:${{lc:$authenticated_id}}\n         \
                  set acl_m_sendwarden_no = ${{if exists{{{flags}/{RULES}/{REFUSE_LOGINS}}}{{{ON_HOLD}}}\
                                             {{${{if bool{{{full_login}}}{{{TOO_MUCH}}}{{}}}}}}}}\n  \
           warn   condition = {IS_LOCAL}\n         \
                  condition = {counts}\n         \
                  set acl_m_sendwarden_said = {of_user}\n  \
           warn   condition = {IS_LOGIN}\n         \
                  condition = {counts}\n         \
                  set acl_m_sendwarden_said = {of_login}\n  \
           warn   condition = {IS_UNNAMED}\n         \
                  hosts = <; @[] ; 127.0.0.0/8 ; ::1 ${{if exists{{{flags}/{NETWORKS}}}{{; {flags}/{NETWORKS}}}{{}}}}\n         \
                  set acl_m_sendwarden_said = {of_unnamed}\n  \
           accept condition = ${{if eq{{${{length_5:$acl_m_sendwarden_said}}}}{{hold }}}}\n         \
                  set acl_m_sendwarden = smtp:${{substr_5:$acl_m_sendwarden_said}}\n  \
           accept condition = ${{if eq{{${{length_7:$acl_m_sendwarden_said}}}}{{refuse }}}}\n         \
                  set acl_m_sendwarden = smtp:\n         \
                  set acl_m_sendwarden_no = ${{substr_7:$acl_m_sendwarden_said}}\n  \
           deny\n"
    )
}

/// The first lines of the ACLs that `acl_not_smtp` and `acl_smtp_data` name. `no_tell`: no mail about each message that
/// is frozen (`freeze_tell`). What may not be held is refused to a client, who is told; what a process hands over without
/// SMTP would bounce or be tried again for ever, so it is thrown away, and the log says whom it was from and for. Each address
/// ends with a comma, so that one that is cut is seen to be; of a text beyond 8 KiB Exim would log nothing (log.c).
pub fn acl_call() -> &'static str {
    "  warn set acl_m_sendwarden_no =\n       acl = held_by_sendwarden\n       condition = ${if !def:acl_m_sendwarden_no}\n       \
       control = freeze/no_tell\n       logwrite = sendwarden: HOLD $acl_m_sendwarden\n  \
     discard condition = ${if and{{def:acl_m_sendwarden_no}{eq{$received_protocol}{local}}}}\n       \
       logwrite = sendwarden: DISCARDED $acl_m_sendwarden for $recipients_count: \
       ${length_7000:${escape:$sender_address, $recipients,}}\n  \
     defer condition = ${if and{{def:acl_m_sendwarden_no}{eq{${length_1:$acl_m_sendwarden_no}}{4}}}}\n       \
       message = $acl_m_sendwarden_no\n  \
     deny condition = ${if def:acl_m_sendwarden_no}\n       \
       message = $acl_m_sendwarden_no\n       \
       logwrite = sendwarden: REFUSED ${length_3:$acl_m_sendwarden_no} $acl_m_sendwarden\n"
}

/// The first routers. Deferring the recipient itself would leave a retry time on its domain, which everybody's mail to
/// it then waits for (measured); so it goes to an address that only this message has, and that is deferred. What was released
/// while its account is held is let through.
pub fn routers(flags: &str) -> String {
    let (user, login) = (of_user(flags), of_login(flags));
    let own = format!("m${{lc:$message_exim_id}}{HOLD_DOMAIN}");
    format!(
        "hold_by_sendwarden:\n  driver = redirect\n  no_verify\n  no_expn\n  no_rewrite\n  domains = ! {own}\n  \
           condition = ${{if and{{{{!exists{{{flags}/{FREE}/$message_exim_id}}}}{{or{{\
                                  {{and{{{{bool{{{IS_LOCAL}}}}}{{bool{{{user}}}}}}}}}\
                                  {{and{{{{bool{{{IS_LOGIN}}}}}{{bool{{{login}}}}}}}}}}}}}}}}}\n  \
           data = h${{md5:$local_part@$domain}}@{own}\n\n\
         defer_by_sendwarden:\n  driver = redirect\n  no_verify\n  no_expn\n  domains = {own}\n  allow_defer\n  \
           data = :defer: held by sendwarden\n"
    )
}

/// The first rule behind `begin retry`: what the routers keep back is not given up. The agent ends it after 72 hours.
pub fn retry() -> &'static str {
    "*.sendwarden-hold.invalid * F,4w,15m\n"
}

/// Behind `ID == `: the line of a recipient that [`routers`] kept back.
pub(super) fn is_kept_back(id: &[u8], text: &[u8]) -> bool {
    let word = super::scan::word(text).0;
    let host =
        word.strip_suffix(HOLD_DOMAIN.as_bytes()).and_then(|head| memchr::memrchr(b'@', head).map(|at| (head, at)));
    host.and_then(|(head, at)| head.get(at + 1..)?.strip_prefix(b"m")).is_some_and(|own| own.eq_ignore_ascii_case(id))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_flags_are_those_that_the_lookup_makes() {
        assert_eq!(flag(USER, "Web1").as_deref(), Some("Web1"));
        assert_eq!(flag(LOGIN, "Box@Site.TEST").as_deref(), Some("box@site.test"));
        assert_eq!(flag(LOGIN, "../../etc/passwd").as_deref(), Some("..\u{1}..\u{1}etc\u{1}passwd"));
        assert_eq!(flag(LOGIN, &"x".repeat(253)).map(|name| name.len()), Some(253));
        for hostile in ["", ".", "..", "a\u{1}b", "a\nb", "a\0b", &"x".repeat(254), &"\u{e9}".repeat(127)] {
            assert_eq!(KINDS.map(|kind| flag(kind, hostile)), [None, None, None], "{hostile:?}");
        }
    }

    #[test]
    fn the_text_to_copy_is_this_text() {
        let text = include_str!("../../../packaging/exim/gate.conf");
        let flags = "/var/lib/sendwarden-gate";
        for piece in [acl(flags), acl_call().to_owned(), routers(flags), retry().to_owned()] {
            assert!(text.contains(&format!("\n\n{piece}")), "{piece}");
        }
    }

    #[test]
    fn only_the_messages_own_address_is_kept_back() {
        let id = b"1xWsio-0000000059R-39Pc";
        let line = |address: &str| format!("{address} <a@d.test> R=defer_by_sendwarden defer (-1): held by sendwarden");
        assert!(is_kept_back(id, line("h17@m1xwsio-0000000059r-39pc.sendwarden-hold.invalid").as_bytes()));
        for other in ["h17@m1xwsio-0000000059r-39pd.sendwarden-hold.invalid", "a@d.test", "m.sendwarden-hold.invalid"] {
            assert!(!is_kept_back(id, line(other).as_bytes()), "{other}");
        }
        assert!(!is_kept_back(id, b"a@d.test R=x: for h17@m1xwsio-0000000059r-39pc.sendwarden-hold.invalid"));
    }
}
