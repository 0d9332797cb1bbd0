//! A client whose host says who it is: RFC 1413 answers and SMTP from an address of loopback that is the test's alone.
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

/// Answers on port 113 of `address` that every connection belongs to `name`; stops with its value.
pub struct Ident {
    address: String,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Ident {
    pub fn start(address: &str, name: &str) -> Self {
        // Another suite may have it.
        let listener = super::wait_for("port 113 (root may listen there)", || TcpListener::bind((address, 113)).ok());
        let stop = Arc::new(AtomicBool::new(false));
        let (stopped, name) = (Arc::clone(&stop), name.to_owned());
        let thread = std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if stopped.load(Ordering::SeqCst) {
                    return;
                }
                // A server that goes away gets no answer.
                drop(answer(stream, &name));
            }
        });
        Ident { address: address.to_owned(), stop, thread: Some(thread) }
    }
}

fn answer(mut stream: TcpStream, name: &str) -> std::io::Result<()> {
    let mut ports = String::new();
    BufReader::new(stream.try_clone()?).read_line(&mut ports)?;
    stream.write_all(format!("{} : USERID : UNIX : {name}\r\n", ports.trim()).as_bytes())
}

impl Drop for Ident {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        // Wakes the listener, which then sees the flag.
        drop(TcpStream::connect((self.address.as_str(), 113)));
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

/// A connection to `port` on loopback that comes from `address`.
pub fn connect_from(address: &str, port: u16) -> std::io::Result<TcpStream> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    let stream = runtime.block_on(async {
        let socket = tokio::net::TcpSocket::new_v4()?;
        let own = address.parse().map_err(std::io::Error::other)?;
        socket.bind(SocketAddr::new(own, 0))?;
        socket.connect(SocketAddr::from(([127, 0, 0, 1], port))).await
    })?;
    let stream = stream.into_std()?;
    stream.set_nonblocking(false)?;
    Ok(stream)
}
