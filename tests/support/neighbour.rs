//! A milter of somebody else's beside ours: it quarantines mail of one sender, and everything else passes.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "a test")]

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use sendwarden::mail::Judgement;
use sendwarden::mta::postfix::milter::{Next, Session, wire};

/// Whose mail it quarantines.
pub const SUSPECT: &str = "suspect@hosting.test";

/// Ends with the test's process.
pub struct Neighbour {
    port: u16,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Neighbour {
    pub fn start() -> Neighbour {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let neighbour = Neighbour { port: listener.local_addr().unwrap().port(), asked: Arc::default() };
        let asked = Arc::clone(&neighbour.asked);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let asked = Arc::clone(&asked);
                std::thread::spawn(move || drop(converse(stream, &asked)));
            }
        });
        neighbour
    }

    /// As it stands in a list of milters.
    pub fn entry(&self) -> String {
        format!("inet:127.0.0.1:{}", self.port)
    }

    /// The queue ids that it was asked about, in the order they came.
    pub fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

fn converse(mut stream: TcpStream, asked: &Mutex<Vec<String>>) -> std::io::Result<()> {
    let (mut session, mut bytes, mut piece) = (Session::default(), Vec::new(), [0; 4096]);
    loop {
        let mut out = Vec::new();
        while let Some((frame, taken)) = wire::frame(&bytes).unwrap() {
            let next = session.take(frame, &mut out).unwrap();
            bytes.drain(..taken);
            match next {
                Next::Read | Next::Connected => {}
                Next::Judge => {
                    let candidate = session.candidate();
                    asked.lock().unwrap().push(candidate.id.unwrap().to_string());
                    let judgement = match *candidate.sender == *SUSPECT.as_bytes() {
                        true => Judgement::Hold { reason: "suspect".into() },
                        false => Judgement::Pass,
                    };
                    session.answer(&judgement, &mut out);
                }
                Next::Close => return Ok(()),
            }
        }
        stream.write_all(&out)?;
        match stream.read(&mut piece)? {
            0 => return Ok(()),
            length => bytes.extend_from_slice(&piece[..length]),
        }
    }
}
