//! What to do about a verdict, in plain words: for the account's owner and for the operator, in English and French.
//!
//! A pure function of what the evidence shows. It names scripts, directories and logins of the account, never an address
//! that mail was for.

use crate::mail::{Cause, ReplyClass, Scope, Signal};

/// What the words depend on.
#[derive(Debug, Clone, Copy)]
pub struct Hints<'a> {
    /// `None`: a rule of another version.
    pub signal: Option<Signal>,
    pub scope: &'a Scope,
    /// The script that sent most, and where; empty where nothing is said of one.
    pub script: &'a str,
    pub directory: &'a str,
    /// Most refusals are of this class.
    pub class: Option<ReplyClass>,
    /// Its mail is held.
    pub blocked: bool,
}

/// The same in two languages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Words {
    pub en: String,
    pub fr: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Advice {
    pub owner: Words,
    pub operator: Words,
}

/// What seems to be the matter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Matter {
    /// Somebody else sends with a login.
    Login,
    Spam,
    /// Addresses that are wrong or gone.
    Dead,
    /// Receivers refuse this host, or all that comes at this pace.
    Host,
    /// Errors of another kind.
    Errors,
    /// What waits.
    Queue,
    /// Mail to people it never wrote to.
    Strangers,
    Volume,
}

impl Matter {
    fn of(hints: &Hints<'_>) -> Matter {
        let host = [ReplyClass::Blocklisted, ReplyClass::RateLimited, ReplyClass::Dns, ReplyClass::Connection];
        let dead = [ReplyClass::UnknownRecipient, ReplyClass::MailboxDisabled];
        match (hints.signal, hints.class) {
            (Some(Signal::LoginAddresses), _) => Matter::Login,
            (Some(Signal::SpamVerdicts), _) => Matter::Spam,
            (Some(Signal::UnknownRecipients), _) => Matter::Dead,
            (Some(Signal::Queued | Signal::Held), _) => Matter::Queue,
            (Some(Signal::NewRecipients), _) if !matches!(hints.scope, Scope::Login(_)) => Matter::Strangers,
            (Some(signal), class) if signal.cause() == Cause::Errors => match class {
                Some(ReplyClass::Spam | ReplyClass::Content | ReplyClass::Policy) => Matter::Spam,
                Some(class) if dead.contains(&class) => Matter::Dead,
                Some(class) if host.contains(&class) => Matter::Host,
                _ => Matter::Errors,
            },
            _ if matches!(hints.scope, Scope::Login(_)) => Matter::Login,
            _ => Matter::Volume,
        }
    }
}

pub fn advice(hints: &Hints<'_>) -> Advice {
    let matter = Matter::of(hints);
    let (what, quoi) = place(hints);
    let owner = match matter {
        Matter::Login => words(
            format!(
                "Somebody else may know the password of {what}. Change it, on every device that uses it, and look for \
                 rules in the mailbox that forward or hide mail."
            ),
            format!(
                "Quelqu'un d'autre connaît peut-être le mot de passe de {quoi}. Changez-le, aussi sur chaque appareil qui \
                 l'utilise, et cherchez dans la boîte des règles qui transfèrent ou cachent du courrier."
            ),
        ),
        Matter::Spam => words(
            format!(
                "Receivers call this mail spam. Look at {what}: did you mean to send this? If not, the site is abused: update \
                 it, change its passwords and protect its forms with a captcha. If it is a newsletter, write only to people \
                 who asked for it, and let them leave."
            ),
            format!(
                "Les destinataires traitent ces messages comme du spam. Regardez {quoi} : cet envoi est-il voulu ? Sinon, le \
                 site est détourné : mettez-le à jour, changez ses mots de passe et protégez ses formulaires par un captcha. \
                 Si c'est une lettre d'information, n'écrivez qu'à ceux qui l'ont demandée, et laissez-les se désinscrire."
            ),
        ),
        Matter::Dead => words(
            format!(
                "Many of these addresses do not exist. Look at {what}: if it is a form, somebody feeds it with addresses, so \
                 add a captcha and never write to an address that a visitor typed without a check; if it is a list, take the \
                 addresses in error out of it."
            ),
            format!(
                "Beaucoup de ces adresses n'existent pas. Regardez {quoi} : si c'est un formulaire, quelqu'un le remplit \
                 d'adresses ; ajoutez un captcha et n'écrivez jamais sans contrôle à une adresse saisie par un visiteur ; si \
                 c'est une liste, retirez-en les adresses en erreur."
            ),
        ),
        Matter::Host => words(
            "Receivers refuse the server or its pace, not your addresses: this is for your hosting provider."
                .to_owned(),
            "Les destinataires refusent le serveur ou son rythme, pas vos adresses : c'est à votre hébergeur d'agir."
                .to_owned(),
        ),
        Matter::Errors => words(
            format!("Too many messages fail. Read the receivers' words below, and look at {what}."),
            format!("Trop de messages échouent. Lisez les réponses des destinataires ci-dessous, et regardez {quoi}."),
        ),
        Matter::Queue => words(
            format!(
                "Mail waits because receivers do not take it. Look at {what}; if this mail is not wanted, delete what waits \
                 before you send more."
            ),
            format!(
                "Des messages attendent car les destinataires ne les acceptent pas. Regardez {quoi} ; si cet envoi n'est pas \
                 voulu, supprimez ce qui attend avant d'en envoyer plus."
            ),
        ),
        Matter::Strangers => words(
            format!(
                "Much mail goes to people whom this account has not written to before. Look at {what}: did you mean to send \
                 this? If not, it is abused: update it, change its passwords, and never let a form write to an address that a \
                 visitor typed without a captcha. If you did, write only to people who asked for it, never to a list that was \
                 bought."
            ),
            format!(
                "Beaucoup de messages vont à des personnes à qui ce compte n'avait encore jamais écrit. Regardez {quoi} : cet \
                 envoi est-il voulu ? Sinon, il y a détournement : mettez à jour, changez les mots de passe, et ne laissez \
                 aucun formulaire écrire à une adresse saisie par un visiteur sans captcha. Si oui, n'écrivez qu'à ceux qui \
                 l'ont demandé, jamais à une liste achetée."
            ),
        ),
        Matter::Volume => words(
            format!(
                "More mail than usual comes from {what}. If you did not mean that, it is abused: take it away or repair it, \
                 change the site's passwords (also the form's, with a captcha) and update it. If you did, ask your hosting \
                 provider for a higher limit."
            ),
            format!(
                "Plus de courrier que d'habitude vient de {quoi}. Si ce n'est pas voulu, il y a détournement : retirez ou \
                 réparez, changez les mots de passe du site (et protégez le formulaire par un captcha), mettez-le à jour. \
                 Si c'est voulu, demandez une limite plus haute à votre hébergeur."
            ),
        ),
    };
    let operator = match matter {
        Matter::Login => words(
            "Compare the client addresses with where this login usually sends from. Have the password changed before you \
             unblock."
                .to_owned(),
            "Comparez les adresses des clients à celles d'où ce compte envoie d'habitude. Faites changer le mot de passe avant \
             de débloquer."
                .to_owned(),
        ),
        Matter::Host => words(
            "See whether this host's address is on a list, or one receiver limits it, before you hold the account responsible. \
             Other accounts see the same then."
                .to_owned(),
            "Vérifiez si l'adresse de ce serveur est sur une liste noire, ou si un destinataire la limite, avant d'en rendre \
             le compte responsable. D'autres comptes voient alors la même chose."
                .to_owned(),
        ),
        Matter::Queue => words(
            "If one domain is most of it, its receiver is slow or full: that is no fault of the account's. Otherwise look at a \
             message (sendwarden trace QUEUE_ID)."
                .to_owned(),
            "Si un domaine en fait l'essentiel, c'est son serveur qui est lent ou plein : le compte n'y est pour rien. Sinon, \
             regardez un message (sendwarden trace QUEUE_ID)."
                .to_owned(),
        ),
        Matter::Spam | Matter::Dead | Matter::Errors | Matter::Strangers | Matter::Volume => words(
            format!(
                "Look at one of the messages (sendwarden trace QUEUE_ID) and at {what}. If it is a newsletter of the customer's, \
                 raise the limit with a rule for this account; if not, tell the customer, and purge what is held."
            ),
            format!(
                "Regardez un des messages (sendwarden trace QUEUE_ID) et {quoi}. Si c'est une lettre d'information du client, \
                 relevez la limite par une règle pour ce compte ; sinon, prévenez-le et supprimez ce qui est retenu."
            ),
        ),
    };
    match hints.blocked {
        true => Advice {
            owner: owner.and(
                " Then unblock; delete first what is held if it was not wanted.",
                " Ensuite, débloquez ; supprimez d'abord ce qui est retenu si ce n'était pas voulu.",
            ),
            operator,
        },
        false => Advice {
            owner: owner.and(" Nothing is held because of this.", " Rien n'est retenu pour cela."),
            operator: operator.and(" Nothing is held because of this.", " Rien n'est retenu pour cela."),
        },
    }
}

fn words(en: String, fr: String) -> Words {
    Words { en, fr }
}

impl Words {
    fn and(mut self, en: &str, fr: &str) -> Words {
        self.en.push_str(en);
        self.fr.push_str(fr);
        self
    }
}

/// What is to be looked at.
fn place(hints: &Hints<'_>) -> (String, String) {
    let Hints { script, directory, .. } = hints;
    if let Scope::Login(login) = hints.scope {
        return (format!("the mailbox {login}"), format!("la boîte {login}"));
    }
    match (script.is_empty(), directory.is_empty()) {
        (false, false) if !script.starts_with('/') => {
            (format!("the script {script} in {directory}"), format!("le script {script} dans {directory}"))
        }
        (false, _) => (format!("the script {script}"), format!("le script {script}")),
        (true, false) => (format!("the scripts in {directory}"), format!("les scripts de {directory}")),
        (true, true) => ("the site's programs and mailboxes".to_owned(), "les programmes et boîtes du site".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: Hints<'static> = Hints {
        signal: Some(Signal::Messages),
        scope: &Scope::Script,
        script: "",
        directory: "",
        class: None,
        blocked: true,
    };

    #[test]
    fn what_is_to_be_looked_at_is_named() {
        let told = |hints: Hints<'_>| advice(&hints).owner;
        let script = told(Hints { script: "form.php", directory: "/home/web1/www", ..PLAIN });
        assert!(script.en.contains("the script form.php in /home/web1/www"), "{script:?}");
        assert!(script.fr.contains("le script form.php dans /home/web1/www"), "{script:?}");
        let whole = told(Hints { script: "/home/web1/form.php", directory: "/home/web1/www", ..PLAIN });
        assert!(whole.en.contains("the script /home/web1/form.php. "), "{whole:?}");
        let directory = told(Hints { directory: "/srv/a", ..PLAIN });
        assert!(directory.en.contains("the scripts in /srv/a") && directory.fr.contains("les scripts de /srv/a"));
        let scope = Scope::Login("box@shop.test".into());
        let login = told(Hints { signal: Some(Signal::LoginAddresses), scope: &scope, ..PLAIN });
        assert!(login.en.contains("password of the mailbox box@shop.test"), "{login:?}");
        assert!(login.fr.contains("mot de passe de la boîte box@shop.test"), "{login:?}");
    }

    #[test]
    fn why_receivers_refuse_decides_what_is_said() {
        let errors = |class| Matter::of(&Hints { signal: Some(Signal::ErrorRatio), class, ..PLAIN });
        assert_eq!(errors(Some(ReplyClass::UnknownRecipient)), Matter::Dead);
        assert_eq!(errors(Some(ReplyClass::Spam)), Matter::Spam);
        assert_eq!(errors(Some(ReplyClass::Blocklisted)), Matter::Host);
        assert_eq!(errors(Some(ReplyClass::MailboxFull)), Matter::Errors);
        assert_eq!(Matter::of(&Hints { signal: None, ..PLAIN }), Matter::Volume);
        let of = |signal| Matter::of(&Hints { signal: Some(signal), ..PLAIN });
        assert_eq!(of(Signal::NewRecipients), Matter::Strangers);
        assert_eq!((of(Signal::Scripts), of(Signal::AgainstHistory)), (Matter::Volume, Matter::Volume));
    }

    #[test]
    fn every_signal_has_words_for_both_in_both_languages_and_says_whether_mail_is_held() {
        for signal in Signal::ALL {
            for class in ReplyClass::ALL.into_iter().map(Some).chain([None]) {
                for blocked in [true, false] {
                    let Advice { owner, operator } = advice(&Hints { signal: Some(signal), class, blocked, ..PLAIN });
                    for words in [&owner, &operator] {
                        assert!(words.en.len() > 40 && words.fr.len() > 40 && words.en != words.fr, "{words:?}");
                        assert_eq!(words.en.contains("Nothing is held"), !blocked, "{words:?}");
                        assert_eq!(words.fr.contains("Rien n'est retenu"), !blocked, "{words:?}");
                    }
                    assert_eq!(owner.en.contains("Then unblock"), blocked);
                }
            }
        }
    }
}
