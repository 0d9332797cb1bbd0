//! The built-in table of reply patterns, in order: the specific words of large receivers before general ones, and
//! verdicts on the sender (spam, blocklisted) before what may follow from them. First match wins.
//!
//! Patterns match anywhere, in any case, over bytes. See [`TABLE`].

use crate::mail::ReplyClass;
use ReplyClass::*;

/// Pattern and class.
#[rustfmt::skip]
pub(super) const TABLE: &[(&str, ReplyClass)] = &[
    // What the server itself says before it reached anybody.
    (r"^(delivery temporarily suspended: )?connect to .*: (connection (refused|timed out|reset)|no route to host|network is unreachable|operation timed out|host is (down|unreachable))", Connection),
    (r"(conversation|lost connection) with .* (timed out )?while ", Connection),
    (r"host or domain name not found|name service error for|unable to look ?up host|null ?mx|domain .* does not accept mail|domain not found|malformed dns server reply|no mx (record|host)", Dns),
    (r"loops back to myself|mail forwarding loop|too many hops|hop count exceeded|mail ?loop|routing loop", Loop),
    (r"cannot start tls|tls (is|was) required|server certificate not|tls handshake|must issue a starttls|certificate verif|tlsa lookup|no tlsa|ssl_connect|starttls (is )?required|requires? (tls|encryption)", Tls),
    (r"mail transport unavailable|bounce or trace service failure|unknown mail transport|command (died|time limit|output)|local configuration error|local data error|temporary failure\. command|cannot (open|create|append)|no space left|disk full|insufficient (system|disk|main) (storage|resources|space)|queue file write error|user lookup|temporary lookup failure|server configuration (error|problem)", LocalError),

    // Block lists: of the network, by name or by the words around it.
    (r"spamhaus|spamcop|barracudacentral|barracuda reputation|\bsorbs\b|\buceprotect|\bpsbl\b|\bcbl\b|abuseat|invaluement|mailspike|senderscore|sender ?score|cloudmark.*(block|list|poor)|csi\.cloudmark|proofpoint.*(block|dynamic)|ipcheck\.proofpoint|\bpdr\b.*block|ironport.*reputation|talos|senderbase|truncate\.gbudb|backscatterer|\bnixspam|manitu|dnsbl|\brbl\b|\bdnswl", Blocklisted),
    (r"part of their network is on our block list|\bS3150\b|\bS3140\b|banned sending ip|access denied, banned|\b(AS|S)\(?(7[0-9]{2}|14[0-9]{2})\)?.*banned|JunkMail.*denied", Blocklisted),
    (r"(black|block|deny|ban)[- ]?list|bl(ac|o)klisted|listed (in|at|by|on) |(your |client )?(ip|host|server|address).{0,60}(blocked|banned|rejected|refused|denied).{0,60}(reputation|abuse|spam)|(poor|bad|low) (sender |ip |email )?reputation|reputation (is )?(too )?(low|bad|poor)|\[TSS0[49]\]|\[TS03\]|permanently deferred|all messages from .* will be permanently", Blocklisted),
    (r"\bOFR_?(1|2|5|6)\d\d\b.*(block|reject|list)|\bLPN00[47]_?40[12]\b|\bLPN007_4(0|1)|\bOU-00[12]\b|\bSC-00[124]\b|\bDY-00[12]\b", Blocklisted),

    // Volume.
    (r"unusual rate|rate[- ]?limit|too many (messages|mails|emails|e-mails|recipients|connections|concurrent|sessions|errors|requests)|too much mail|exceed(ed|s|ing)?.{0,40}(rate|limit|quota|number of (messages|connections|recipients)).{0,40}(hour|minute|day|connection|sender|session|ip|per )|sending (rate|limit)|throttl|\[TSS?0[12]\]|\[TSS0[78]\]|temporarily deferred|deferred due to (user complaints|unexpected volume)|unexpected volume|message rate|slow down|connection(s)? (rate|limit|count)|daily (user )?sending (quota|limit)|\bOFR_?(004|006|999)|\bRP-00[123]\b|quota of messages|mailbox .* receiving mail (at a rate|too quickly)|receiving mail (at a rate|too quickly)|try again later.*(4\.7\.28|volume)|over quota.*(ip|hour)|too many invalid recipients|4\.7\.28|421[ -]4\.7\.(650|651|500|28)", RateLimited),

    // Authentication of the sending domain.
    (r"\bdmarc\b|\bspf\b|\bdkim\b|sender policy framework|unauthenticated (email|mail|sender)|not authenticated|(fails?|failed|lacks?|requires?).{0,30}(sender|message|domain|email)? ?authentication|5\.7\.(26|509|515|23|25)\b|reverse (dns|lookup|hostname)|\bptr\b|no rdns|cannot find your (reverse )?hostname|fcrdns|helo command rejected|invalid helo|sender address rejected: domain not found|sender verif(y|ication)|sender domain must|not (authorized|allowed) to send (mail|email|from)|authentication (is )?required|smtp auth|relay(ing)? (access )?denied|relaying (is )?(not allowed|prohibited)|unable to relay|we do not relay|5\.7\.57", AuthFailed),

    // Grey lists.
    (r"gr[ea]y-?list|gr[ea]ylisted|postgrey|try again in \d+ (sec|min)|please (try|retry) (again )?(in|after) (a few|several|\d+) (sec|min)|retry (time|in) \d|first time sender|temporarily (rejected|refused|blocked).{0,40}(try|retry)", Greylisted),

    // Verdicts on the message.
    (r"\bspam\b|spammy|junk ?mail|unsolicited|\buce\b|\bube\b|bulk (e-?)?mail|high probability|likely (un)?solicited|message (looks|appears|seems).{0,20}(like|to be).{0,20}(spam|suspicious|unsolicited)|spamassassin|rspamd|score.{0,20}(too high|exceed|above)|suspicious (message|content|activity|due)|phish|complaints? (from|by) (users|recipients)|user complaints|\[PH01\]|\bHVU:B|\bOU-00[23]\b|554.{0,20}transaction failed.*policy|mailspam|vade ?(secure|retro)|considered (un)?wanted|marked as (un)?wanted|\bOFR_?(500|506)|\bLPN105|sfr\.fr.*(5\.7\.1|spam)|spm-|\bAUP#|cannot be accepted.*ofr", Spam),
    (r"virus|malware|infected|trojan|banned (content|file|attachment|filename)|prohibited (attachment|content|file)|(attachment|file) ?(type|extension|name)?.{0,20}(not allowed|blocked|forbidden|prohibited|unacceptable)|illegal attachment|5\.7\.0.{0,60}(security issue|attachment)|content (rejected|denied|not allowed|violation)|message content|mime (error|violation)|invalid (header|mime|message format)|rfc ?[25]?822 (compliant|noncompliant)|missing (from|date|subject|message-id|required) ?header|duplicate header|bare (lf|cr|newline)|line (is )?too long|header.{0,20}(missing|invalid|malformed)|5\.6\.\d|8bit|smtputf8|url.{0,30}(blocked|listed)|blocked (url|link)", Content),

    // The mailbox.
    (r"(mail)?box.{0,40}(full|over ?quota|exceeds? (its )?(quota|limit|size|storage)|quota (exceeded|limit))|over ?quota|quota (is )?(exceeded|full|reached)|out of storage|storage (is )?(full|exceeded|limit)|insufficient (mailbox )?storage|exceeded (its |the )?(storage|mailbox|quota|disk)|bo[iî]te.{0,20}pleine|5\.2\.2|552[ -]5\.2\.3.*full|OverQuotaTemp|OverQuotaPerm|mailfull|not enough (disk )?space|maildir (over|delivery failed).{0,20}quota|disk quota", MailboxFull),
    (r"message.{0,40}(too (large|big)|(size|length).{0,20}(exceed|limit|over|too))|size limit|exceeds? (maximum|max|the maximum|fixed|administrative|our).{0,30}(size|limit)|message file too big|5\.3\.4|5\.2\.3|file too (large|big)", TooLarge),
    (r"(account|mailbox|user|recipient|address|box)( [^ ]+)?( ?is| has been| was)? ?(currently |temporarily |permanently )?(disabled|inactive|suspended|deactivated|locked|blocked from receiving|expired|closed|not active|unavailable due to inactivity|discontinued)|disabled (account|mailbox|user|recipient)|inactive (account|mailbox|user|recipient)|DisabledUser|(account|mailbox).{0,30}(does not accept|not accepting|no longer (accepts|active|in use))|no longer (available|active|in use|employed|with)|compte.{0,20}(d[eé]sactiv|suspendu|ferm)|5\.2\.1 ", MailboxDisabled),
    (r"(user|recipient|mailbox|address|account|e-?mail|login|box|alias|inbox)[^;]{0,80}(unknown|not found|n[o']t exist|doesn.t exist|does not exist|not (a )?(valid|known|exist|listed|local|registered|recognized|recognised|have an? (account|mailbox))|invalid|unavailable|undeliverable|could not be found|is not available|couldn.t be found|cannot be found|no such)|(unknown|invalid|no such|nonexistent|non[- ]existent|no valid|bad|incorrect|not our|unrouteable|unroutable|unresolvable)[^;]{0,20}(user|recipient|mailbox|address|account|login|person|destination|inbox|local part|customer|alias|domain in recipient)|NoSuchUser|recipient ?not ?found|RecipNotFound|recipient address rejected: (access denied|undeliverable)|(doesn.t|does not) have an? [^ ]* ?(account|mailbox)|no mailbox (here )?by that name|no one (here )?by that name|not (a )?(valid|known) (user|mailbox|recipient)|adresse.{0,40}(inconnu|invalide|n.existe)|utilisateur inconnu|destinataire (inconnu|invalide)|addressee unknown|delivery error: dd|recipient rejected|recipient verif|bad destination mailbox|5\.1\.(1|10)\b|OFR_?416|LPN_?416|delivery not authorized.*mailbox", UnknownRecipient),

    // What is left: general refusals.
    (r"access denied|administrative prohibition|administratively|not (permitted|allowed|authorized|authorised|accepted)|policy|rejected (by|due to|for) (local |security |content |site )?(policy|reasons|rule)|prohibited|denied|refused by|rejected by (recipient|the recipient|user|administrator)|blocked|restricted|mail (is )?refused|message (was )?(rejected|refused|blocked)|transaction failed|service refused|command rejected|5\.7\.[01]\b|5\.7\.1\d\d", Policy),
    (r"connection (refused|timed out|reset|closed|dropped|lost)|timed? ?out|no route to host|network is unreachable|host (is )?(down|unreachable)|refused to talk to me|service (is )?(currently |temporarily )?(unavailable|not available|shutting)|server (is )?(too )?busy|too busy|not available.*try (again )?later|closing (transmission )?channel|try again later|temporar(y|ily).{0,30}(fail|problem|error|unavailable|local)|resources temporarily|system (is )?(not|temporarily|too)", Connection),
];
