//! Real wordings of receivers and the classes they must get.

use super::*;
use ReplyClass::*;

#[rustfmt::skip]
const WORDS: &[(&str, &str, ReplyClass)] = &[
    ("5.1.1", "host gmail-smtp-in.l.google.com[192.0.2.1] said: 550-5.1.1 The email account that you tried to reach does not exist. Please try 550-5.1.1 double-checking the recipient's email address (in reply to RCPT TO command)", UnknownRecipient),
    ("5.1.1", "host mx said: 550 5.1.1 No such user here (in reply to RCPT TO command)", UnknownRecipient),
    ("5.1.1", "unknown user: \"multi\"", UnknownRecipient),
    ("5.5.0", "host hotmail-com.olc.protection.outlook.com[192.0.2.1] said: 550 5.5.0 Requested action not taken: mailbox unavailable (S2017062302)", UnknownRecipient),
    ("5.1.10", "host x.mail.protection.outlook.com[192.0.2.1] said: 550 5.1.10 RESOLVER.ADR.RecipientNotFound; Recipient a@b not found by SMTP address lookup", UnknownRecipient),
    ("5.0.0", "host mta5.am0.yahoodns.net[192.0.2.1] said: 554 delivery error: dd This user doesn't have a yahoo.com account (x@yahoo.com) [0]", UnknownRecipient),
    ("5.0.0", "host mxs.mail.ru[192.0.2.1] said: 550 Message was not accepted -- invalid mailbox. Local mailbox a@mail.ru is unavailable: user not found", UnknownRecipient),
    ("5.1.1", "host smtp-in.orange.fr[192.0.2.1] said: 550 5.1.1 Adresse d au moins un destinataire invalide. Invalid recipient. OFR_416 [416]", UnknownRecipient),
    ("5.1.1", "host mx said: 550 5.1.1 <a@b>: Recipient address rejected: User unknown in virtual mailbox table", UnknownRecipient),
    ("5.2.2", "host gmail-smtp-in.l.google.com[192.0.2.1] said: 552-5.2.2 The email account that you tried to reach is over quota (in reply to RCPT TO command)", MailboxFull),
    ("4.2.2", "host mx said: 452 4.2.2 Mailbox full", MailboxFull),
    ("5.2.1", "host gmail-smtp-in.l.google.com[192.0.2.1] said: 550-5.2.1 The email account that you tried to reach is inactive.", MailboxDisabled),
    ("5.0.0", "host mta7.am0.yahoodns.net[192.0.2.1] said: 554 30 Sorry, your message to a@yahoo.com cannot be delivered. This mailbox is disabled (554.30).", MailboxDisabled),
    ("5.7.1", "host gmail-smtp-in.l.google.com[192.0.2.1] said: 550-5.7.1 [192.0.2.9 12] Our system has detected that this message is likely unsolicited mail.", Spam),
    ("5.7.1", "host mx said: 554 5.7.1 Message rejected because of SpamAssassin score", Spam),
    ("5.7.1", "host mx said: 550 5.7.1 Service unavailable, Client host [192.0.2.9] blocked using Spamhaus. To request removal from this list see https://www.spamhaus.org/query/ip/192.0.2.9 (AS3130)", Blocklisted),
    ("5.7.1", "host x.protection.outlook.com[192.0.2.1] said: 550 5.7.1 Unfortunately, messages from [192.0.2.9] weren't sent. Please contact your Internet service provider since part of their network is on our block list (S3150).", Blocklisted),
    ("5.0.0", "host mx said: 554 Service unavailable; Client host [192.0.2.9] blocked using b.barracudacentral.org", Blocklisted),
    ("4.7.0", "host mta5.am0.yahoodns.net[192.0.2.1] said: 421 4.7.0 [TSS04] Messages from 192.0.2.9 temporarily deferred due to unexpected volume or user complaints - 4.16.55.1", Blocklisted),
    ("4.7.28", "host gmail-smtp-in.l.google.com[192.0.2.1] said: 421-4.7.28 Gmail has detected an unusual rate of unsolicited mail originating from your IP address.", RateLimited),
    ("4.0.0", "host smtp-in.orange.fr[192.0.2.1] refused to talk to me: 421 Service refuse. Veuillez essayer plus tard. Too many connections, slow down. OFR_999", RateLimited),
    ("4.2.0", "host 127.0.0.1[127.0.0.1] said: 450 4.2.0 Greylisted, try later (in reply to RCPT TO command)", Greylisted),
    ("4.7.1", "host mx1.free.fr[192.0.2.1] said: 451 4.7.1 Greylisting in action, please come back later", Greylisted),
    ("5.7.26", "host gmail-smtp-in.l.google.com[192.0.2.1] said: 550-5.7.26 This mail has been blocked because the sender is unauthenticated. DKIM = did not pass SPF", AuthFailed),
    ("5.7.1", "host mx said: 554 5.7.1 <a@b>: Relay access denied", AuthFailed),
    ("5.7.509", "host x.protection.outlook.com said: 550 5.7.509 Access denied, sending domain x.test does not pass DMARC verification", AuthFailed),
    ("5.7.0", "host gmail-smtp-in.l.google.com[192.0.2.1] said: 552-5.7.0 This message was blocked because its content presents a potential security issue.", Content),
    ("5.7.1", "host mx said: 550 virus Eicar found", Content),
    ("5.3.4", "message size 20480001 exceeds size limit 10240000 of server mx[192.0.2.1]", TooLarge),
    ("4.4.1", "connect to 127.0.0.1[127.0.0.1]:10039: Connection refused", Connection),
    ("4.4.1", "connect to mx[192.0.2.1]:25: Connection timed out", Connection),
    ("4.4.2", "conversation with mx[192.0.2.1] timed out while receiving the initial server greeting", Connection),
    ("4.4.2", "lost connection with mx[192.0.2.1] while sending RCPT TO", Connection),
    ("5.4.4", "Host or domain name not found. Name service error for name=x.test type=AAAA: Host not found", Dns),
    ("5.1.0", "Domain x.test does not accept mail (nullMX)", Dns),
    ("5.4.6", "mail for x.test loops back to myself", Loop),
    ("5.4.6", "mail forwarding loop for a@b", Loop),
    ("4.7.5", "Server certificate not trusted", Tls),
    ("4.7.4", "TLS is required, but was not offered by host mx[192.0.2.1]", Tls),
    ("4.3.0", "mail transport unavailable", LocalError),
    ("4.3.0", "temporary failure. Command output: x", LocalError),
    ("5.7.1", "host mx said: 554 5.7.1 Message rejected for policy reasons", Policy),
    ("5.0.0", "qwertz", Other),
];

#[test]
fn real_words_get_their_classes() {
    let replies = Replies::new(&[]).unwrap();
    let mut wrong = Vec::new();
    for (dsn, reply, class) in WORDS {
        let got = replies.classify(Dsn::parse(dsn.as_bytes()).unwrap(), smtp_code(reply.as_bytes()), reply.as_bytes());
        if got != *class {
            wrong.push(format!("{got:?} instead of {class:?}: {reply}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn any_bytes_have_a_class() {
    let replies = Replies::new(&[]).unwrap();
    let mut random = fastrand::Rng::with_seed(1);
    for _ in 0..2_000 {
        let reply: Vec<u8> = (0..random.usize(..200)).map(|_| random.u8(..)).collect();
        let code = smtp_code(&reply);
        assert!(code == 0 || (200..600).contains(&code));
        let _ = replies.classify(Dsn::NONE, code, &reply);
    }
}
