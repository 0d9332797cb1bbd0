//! A real opendkim that signs what comes from this host, as hosts run it beside ours.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "a test")]

use std::fs;
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Stdio};

use super::place::{command, succeed};
use super::wait_until;

/// Ends with its value.
pub struct Signer {
    child: Child,
    address: String,
}

impl Signer {
    /// Listens on this address; its files are in this directory.
    pub fn start(dir: &Path, address: &str) -> Signer {
        let here = dir.display();
        succeed(command("openssl").args(["genrsa", "-out"]).arg(dir.join("key.pem")).arg("2048"), None);
        let (host, port) = address.split_once(':').unwrap();
        let text = format!(
            "Mode s\nDomain hosting.test\nSelector test\nKeyFile {here}/key.pem\nRequireSafeKeys false\n\
             Socket inet:{port}@{host}\nInternalHosts {here}/hosts\nBackground no\nSyslog no\nPidFile {here}/pid\n"
        );
        fs::write(dir.join("hosts"), "127.0.0.1\n::1\nlocalhost\n").unwrap();
        fs::write(dir.join("opendkim.conf"), text).unwrap();
        let mut child = command("opendkim");
        child.args(["-f", "-x"]).arg(dir.join("opendkim.conf")).stdin(Stdio::null());
        let mut signer =
            Signer { child: child.spawn().expect("tests/rig/install has run"), address: address.to_owned() };
        wait_until("opendkim to listen", || {
            assert!(signer.child.try_wait().unwrap().is_none(), "opendkim has ended");
            TcpStream::connect(&signer.address).is_ok()
        });
        signer
    }

    /// As it stands in a list of milters.
    pub fn entry(&self) -> String {
        format!("inet:{}", self.address)
    }
}

impl Drop for Signer {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
