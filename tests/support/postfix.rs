//! A real Postfix of the test's own: configuration, queue, data and log below `/var/tmp/sendwarden-rig/N`, ports on
//! loopback. `tests/rig/install` must have run once on the machine, as root.
//!
//! Recipients choose what happens: `accept.test` is delivered, `reject.test` refused with 550 at RCPT, `defer.test`
//! deferred with 450, `forge.test` answered with a text of the test's choice, `forward@localhost` forwarded by local(8)
//! to `forwarded@accept.test`. Everything else goes to the accepting sink too.
use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Mutex};

use super::place::{Kind, Place, command, succeed};
use super::server::{MailServer, Queued};
use super::sink::{Server, Sink};
use super::{filter, wait_until};

const KIND: Kind = Kind { prefix: "", ports: 21_000 };

/// What may differ between instances.
pub struct Options {
    /// `enable_long_queue_ids`.
    pub long_queue_ids: bool,
    /// Every message takes a hop through a content filter that re-injects it.
    pub content_filter: bool,
    /// `syslog_name`: the instance's name in its log.
    pub syslog_name: String,
    /// Unauthenticated SMTP also over `::1`.
    pub ipv6: bool,
    /// More lines for main.cf.
    pub extra: String,
}

impl Default for Options {
    fn default() -> Self {
        let syslog_name = "postfix".to_owned();
        Options { long_queue_ids: true, content_filter: false, syslog_name, ipv6: false, extra: String::new() }
    }
}

pub struct Postfix {
    dir: PathBuf,
    port: u16,
    pub accept: Sink,
    pub reject: Sink,
    pub defer: Sink,
    pub forge: Sink,
    forged: Arc<Mutex<String>>,
    filter: Option<Server>,
    place: Place,
}

impl Postfix {
    /// A started instance. Several can run at once.
    pub fn start(options: &Options) -> Self {
        let place = Place::take(KIND);
        let (dir, port) = (place.dir.clone(), place.port);
        if dir.join("spool/pid/master.pid").exists() {
            // Left behind by a test run that was killed.
            let mut stop = command("postfix");
            stop.arg("-c").arg(dir.join("etc")).arg("stop").stdout(Stdio::null()).stderr(Stdio::null());
            drop(stop.status());
        }
        drop(fs::remove_dir_all(&dir));
        let forged = Arc::new(Mutex::new("550 5.7.1 refused".to_owned()));
        let (text, taken) = (Arc::clone(&forged), Arc::clone(&forged));
        let postfix = Postfix {
            dir,
            port,
            accept: Sink::accepting(),
            reject: Sink::rejecting(),
            defer: Sink::deferring(),
            forge: Sink::answering(
                move |_| text.lock().expect("the text is only read and set").clone(),
                move || taken.lock().expect("the text is only read and set").clone(),
            ),
            forged,
            filter: options.content_filter.then(|| filter::reinjecting(port + 2)),
            place,
        };
        postfix.configure(options);
        postfix.run("postfix", &["start"]);
        wait_until("Postfix to listen", || {
            [postfix.smtp_port(), postfix.submission_port(), postfix.reinject_port()]
                .iter()
                .all(|port| std::net::TcpStream::connect(("127.0.0.1", *port)).is_ok())
                && (!options.ipv6 || std::net::TcpStream::connect(("::1", postfix.smtp_port())).is_ok())
        });
        postfix
    }

    /// Unauthenticated SMTP from loopback.
    pub fn smtp_port(&self) -> u16 {
        self.port
    }

    /// Submission: AUTH only, logins made by `add_login`.
    pub fn submission_port(&self) -> u16 {
        self.port + 1
    }

    /// Where a content filter hands messages back.
    pub fn reinject_port(&self) -> u16 {
        self.port + 2
    }

    /// An address nobody else uses, for the agent or a server of the test's: `number` is 0 to 3.
    pub fn address(&self, number: u16) -> String {
        self.place.address(number)
    }

    /// A directory of the instance's, removed with it.
    pub fn own_dir(&self, name: &str) -> PathBuf {
        let dir = self.dir.join(name);
        fs::create_dir_all(&dir).expect("the rig's directory can be written");
        dir
    }

    pub fn config_dir(&self) -> PathBuf {
        self.dir.join("etc")
    }

    pub fn queue_dir(&self) -> PathBuf {
        self.dir.join("spool")
    }

    /// The log file that the instance writes.
    pub fn log_path(&self) -> PathBuf {
        self.dir.join("log/mail.log")
    }

    pub fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(self.log_path()).unwrap_or_default()).into_owned()
    }

    /// Waits until a line of the log contains every one of `words`; gives the first such line.
    pub fn wait_log(&self, words: &[&str]) -> String {
        super::wait_for(&format!("a log line with {words:?}"), || {
            self.log().lines().find(|line| words.iter().all(|w| line.contains(w))).map(str::to_owned)
        })
    }

    /// What the queue directories hold: queue id, queue (`hold`, `deferred`, …) and the addresses that are open.
    pub fn queue(&self) -> Vec<Queued> {
        let listing = self.run("postqueue", &["-j"]);
        let read = |line: &str| {
            let message: serde_json::Value = serde_json::from_str(line).unwrap_or_else(|e| panic!("{line}: {e}"));
            let text = |key: &str| message[key].as_str().unwrap_or_default().to_owned();
            let open = message["recipients"].as_array().into_iter().flatten();
            let open = open.filter_map(|r| r["address"].as_str().map(str::to_owned));
            Queued { id: text("queue_id"), queue: text("queue_name"), recipients: open.collect() }
        };
        listing.lines().filter(|line| line.starts_with('{')).map(read).collect()
    }

    /// The queue id of the message that waits for this recipient.
    pub fn queue_id(&self, recipient: &str) -> String {
        super::wait_for(&format!("{recipient} in the queue"), || {
            let waiting = self.queue().into_iter().filter(|m| m.queue == "deferred" || m.queue == "hold");
            waiting.into_iter().find(|m| m.recipients.iter().any(|r| r == recipient)).map(|m| m.id)
        })
    }

    /// Rotates the log as logrotate does with `create`: rename, then `postfix reload`, at which postlogd
    /// ends. The new file is made by the next line that is logged.
    pub fn rotate(&self) -> PathBuf {
        // A reload puts what is under way back into `incoming`, where messages that were put off then stay.
        wait_until("nothing to be under way", || {
            self.queue().iter().all(|m| m.queue == "deferred" || m.queue == "hold")
        });
        let old = PathBuf::from(format!("{}.1", self.log_path().display()));
        fs::rename(self.log_path(), &old).expect("the log is there");
        self.run("postfix", &["reload"]);
        old
    }

    /// The reply of `forge.test` to RCPT from now on: whole lines separated by `\r\n`.
    pub fn forge(&self, reply: &str) {
        reply.clone_into(&mut self.forged.lock().expect("the text is only read and set"));
    }

    /// Makes a login such as `box1@hosting.test` for the submission port.
    pub fn add_login(&self, login: &str, password: &str) {
        let (user, realm) = login.split_once('@').expect("a login has a realm");
        let file = self.config_dir().join("sasl/sasldb2");
        let mut command = command("saslpasswd2");
        command.args(["-p", "-c", "-u", realm, "-f"]).arg(&file).arg(user);
        succeed(&mut command, Some(password));
        let owner = fs::metadata(self.dir.join("data")).expect("the data directory exists");
        chown(&file, Some(std::os::unix::fs::MetadataExt::uid(&owner)), None).expect("root may chown");
    }

    /// sendmail(1) as a unix user (`web1`), as PHP mail() calls it. Fails the test if sendmail does.
    pub fn sendmail(&self, user: &str, sender: &str, recipients: &[&str], message: &str) {
        let mut command = command("setpriv");
        command.args(["--reuid", user, "--regid", user, "--clear-groups", "sendmail", "-i", "-f", sender, "--"]);
        command.args(recipients).env("MAIL_CONFIG", self.config_dir()).current_dir("/");
        succeed(&mut command, Some(message));
    }

    /// Runs an administration command (`postqueue`, `postsuper`, …) on this instance.
    pub fn run(&self, program: &str, arguments: &[&str]) -> String {
        succeed(command(program).arg("-c").arg(self.config_dir()).args(arguments), None)
    }

    fn configure(&self, options: &Options) {
        let dir = |name: &str| {
            let path = self.dir.join(name);
            fs::create_dir_all(&path).expect("the rig's directory can be written");
            path
        };
        let (etc, data, spool, mail) = (dir("etc"), dir("data"), dir("spool"), dir("mail"));
        dir("log");
        dir("etc/sasl");
        fs::set_permissions(&mail, fs::Permissions::from_mode(0o1777)).expect("root may chmod");
        let uid = succeed(command("id").args(["-u", "postfix"]), None).trim().parse().expect("a uid");
        chown(&data, Some(uid), None).expect("root may chown");
        for file in ["postfix-files", "dynamicmaps.cf"] {
            fs::copy(Path::new("/etc/postfix").join(file), etc.join(file)).expect("tests/rig/install has run");
        }
        let here = self.dir.display();
        let to = |port: u16| format!("smtp:[127.0.0.1]:{port}");
        let mut main = format!(
            "compatibility_level = 3.6\nconfig_directory = {etc}\nqueue_directory = {spool}\ndata_directory = {data}\n\
             maillog_file = {here}/log/mail.log\nmaillog_file_prefixes = {here}\nsyslog_name = {name}\n\
             myhostname = mx.hosting.test\nmyorigin = hosting.test\nmydestination = localhost\n\
             inet_interfaces = 127.0.0.1\ninet_protocols = {protocols}\nmynetworks = {networks}\n\
             relayhost = [127.0.0.1]:{accept}\n\
             transport_maps = inline:{{ {{ reject.test = {reject} }}, {{ defer.test = {defer} }}, {{ forge.test = {forge} }} }}\n\
             disable_dns_lookups = yes\nsmtp_host_lookup = native\nsmtp_tls_security_level = none\n\
             smtpd_tls_security_level = none\nalias_maps = inline:{{ {{ forward = forwarded@accept.test }} }}\n\
             alias_database =\nlocal_recipient_maps =\nmail_spool_directory = {here}/mail/\nsmtputf8_enable = no\n\
             biff = no\nenable_long_queue_ids = {long}\nqueue_run_delay = 5s\nminimal_backoff_time = 5s\n\
             maximal_backoff_time = 10s\nsmtpd_peername_lookup = no\n\
             smtpd_sasl_type = cyrus\nsmtpd_sasl_path = smtpd\ncyrus_sasl_config_path = {etc}/sasl\n",
            etc = etc.display(),
            spool = spool.display(),
            data = data.display(),
            name = options.syslog_name,
            protocols = if options.ipv6 { "all" } else { "ipv4" },
            networks = if options.ipv6 { "127.0.0.0/8 [::1]/128" } else { "127.0.0.0/8" },
            accept = self.accept.port(),
            reject = to(self.reject.port()),
            defer = to(self.defer.port()),
            forge = to(self.forge.port()),
            long = if options.long_queue_ids { "yes" } else { "no" },
        );
        if let Some(filter) = &self.filter {
            main.push_str(&format!("content_filter = {}\n", to(filter.port)));
        }
        // A setting given twice makes every process log a warning as it starts, postlogd too: to itself, and while its
        // socket is full of the others' warnings after a reload, it waits for itself for ever.
        let key = |line: &str| line.split('=').next().unwrap_or_default().trim().to_owned();
        let given: Vec<String> = options.extra.lines().map(key).collect();
        main = main.lines().filter(|line| !given.contains(&key(line))).map(|line| format!("{line}\n")).collect();
        main.push_str(&options.extra);
        fs::write(etc.join("main.cf"), main).expect("main.cf can be written");
        fs::write(
            etc.join("sasl/smtpd.conf"),
            format!(
                "pwcheck_method: auxprop\nauxprop_plugin: sasldb\nmech_list: PLAIN\nsasldb_path: {}\n",
                etc.join("sasl/sasldb2").display()
            ),
        )
        .expect("smtpd.conf can be written");
        fs::write(etc.join("master.cf"), self.services(options)).expect("master.cf can be written");
    }

    /// Debian's own master.cf without chroot, with our three ports in place of port 25.
    fn services(&self, options: &Options) -> String {
        let name = &options.syslog_name;
        let proto = fs::read_to_string("/etc/postfix/master.cf.proto").expect("tests/rig/install has run");
        let foreign = ["maildrop", "uucp", "ifmail", "bsmtp", "scalemail-backend", "mailman"];
        let mut out = String::new();
        let mut skip = false;
        for line in proto.lines().filter(|line| !line.starts_with('#') && !line.trim().is_empty()) {
            let words: Vec<&str> = line.split_whitespace().collect();
            if line.starts_with(char::is_whitespace) {
                if !skip {
                    out.push_str(&format!("{line}\n"));
                }
                continue;
            }
            skip = foreign.contains(&words[0]) || (words[0] == "smtp" && words[1] == "inet");
            if !skip {
                let mut words = words;
                words[4] = "n";
                out.push_str(&format!("{}\n", words.join(" ")));
            }
        }
        let (smtp, submission, reinject) = (self.smtp_port(), self.submission_port(), self.reinject_port());
        out.push_str(&format!(
            "127.0.0.1:{smtp} inet n - n - - smtpd\n\
             127.0.0.1:{submission} inet n - n - - smtpd\n  -o syslog_name={name}/submission\n  \
             -o smtpd_sasl_auth_enable=yes\n  -o smtpd_relay_restrictions=permit_sasl_authenticated,reject\n\
             127.0.0.1:{reinject} inet n - n - - smtpd\n  -o content_filter=\n  \
             -o receive_override_options=no_unknown_recipient_checks,no_header_body_checks,no_milters\n"
        ));
        if options.ipv6 {
            out.push_str(&format!("[::1]:{smtp} inet n - n - - smtpd\n"));
        }
        out
    }
}

impl MailServer for Postfix {
    fn receivers(&self) -> [&Sink; 4] {
        [&self.accept, &self.reject, &self.defer, &self.forge]
    }

    fn under_way(&self) -> usize {
        self.queue().iter().filter(|m| m.queue != "deferred" && m.queue != "hold").count()
    }

    fn queue(&self) -> Vec<Queued> {
        Postfix::queue(self)
    }
}

impl Drop for Postfix {
    fn drop(&mut self) {
        // `postfix stop` ends the master by the pid in its own pid file and waits for it.
        // Without pipes: a daemon that outlives it would hold them open for ever.
        drop(
            command("postfix")
                .arg("-c")
                .arg(self.config_dir())
                .arg("stop")
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .status(),
        );
        if std::thread::panicking() {
            let log = self.log();
            let lines: Vec<&str> = log.lines().collect();
            eprintln!("{} (kept) ends with:", self.log_path().display());
            lines.iter().skip(lines.len().saturating_sub(40)).for_each(|line| eprintln!("  {line}"));
        } else {
            drop(fs::remove_dir_all(&self.dir));
        }
    }
}
