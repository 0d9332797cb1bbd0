//! Whose process holds the client's end of a connection: the kernel is asked for the one socket, where the server's end is
//! known ([`exact`]); else for all with the client's port, else its tables are read ([`search`]).
//!
//! The uid is that of the process that made the socket. Two connections may share the client's address and port when they
//! lead to different servers, also across users: only the one whose other end is held by the mail server counts, or one
//! whose other end is nobody's here, as it is when the connection was redirected. A user may well bring about a connection
//! with the address and port of somebody else's: who that leads elsewhere to is never taken for the client.

mod diag;
mod table;

use std::net::IpAddr;

use super::Why;

/// Most connections from one address and port that are looked at.
const MOST_ALIKE: usize = 64;

type End = (IpAddr, u16);

/// What the kernel tells of one socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Socket {
    local: End,
    remote: End,
    uid: u32,
}

/// The sockets at both ends of what a client's address and port take part in.
#[derive(Debug, Default)]
struct Ends {
    ours: Vec<Socket>,
    others: Vec<Socket>,
}

impl Ends {
    fn add(&mut self, client: End, socket: Socket) {
        let side = match (socket.local == client, socket.remote == client) {
            (true, false) => &mut self.ours,
            (false, true) => &mut self.others,
            _ => return,
        };
        if side.len() < MOST_ALIKE {
            side.push(socket);
        }
    }

    /// The uid of the end that leads to the mail server, or of those that lead to nobody here.
    fn owner(&self, server: Option<u32>) -> Result<u32, Why> {
        let held_by = |socket: &Socket, held: &dyn Fn(&Socket) -> bool| {
            self.others.iter().any(|other| other.local == socket.remote && held(other))
        };
        let to_server = |socket: &&Socket| held_by(socket, &|other| server.is_none_or(|uid| other.uid == uid));
        if self.ours.iter().any(|socket| to_server(&socket)) {
            agreed(self.ours.iter().filter(to_server))
        } else {
            agreed(self.ours.iter().filter(|socket| !held_by(socket, &|_| true)))
        }
    }
}

/// The uid of all of them.
fn agreed<'a>(mut sockets: impl Iterator<Item = &'a Socket>) -> Result<u32, Why> {
    let first = sockets.next().ok_or(Why::NoSocket)?;
    if sockets.all(|socket| socket.uid == first.uid) { Ok(first.uid) } else { Err(Why::SharedPort) }
}

/// The uid of the client of the connection with these two ends, in microseconds: [`Why::NoSocket`] where it has hung up.
/// `None` where there is no such connection on this host: the client is elsewhere, or was redirected, or has vanished; or
/// where the kernel may not be asked.
pub fn exact(client: End, server: End) -> Option<Result<u32, Why>> {
    diag::one(canonical(client), canonical(server)).ok().flatten().map(|uid| uid.ok_or(Why::NoSocket))
}

/// The uid of the client at this end of a connection on this host, by a walk through all connections: some ten
/// milliseconds. `server`: the uid that holds the mail server's ends.
pub fn search(client: End, server: Option<u32>) -> Result<u32, Why> {
    let client = canonical(client);
    if let Ok(ends) = diag::alike(client) {
        return ends.owner(server);
    }
    // What the kernel answers in pieces may miss a row that moves between two of them: it is there the next time.
    match table::ends(client).owner(server) {
        Err(Why::NoSocket) => table::ends(client).owner(server),
        answer => answer,
    }
}

fn canonical((address, port): End) -> End {
    (address.to_canonical(), port)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{Ipv4Addr, TcpListener, TcpStream};

    const CLIENT: End = (IpAddr::V4(Ipv4Addr::LOCALHOST), 40_000);
    const MAIL: u32 = 102;

    fn asked(sockets: &[(u16, u16, u32)]) -> Result<u32, Why> {
        let mut ends = Ends::default();
        for &(from, to, uid) in sockets {
            let (local, remote) = ((CLIENT.0, from), (CLIENT.0, to));
            ends.add(CLIENT, Socket { local, remote, uid });
        }
        ends.owner(Some(MAIL))
    }

    #[test]
    fn a_port_that_two_users_share_is_the_one_of_the_mail_servers_client() {
        let mail = [(40_000, 25, 2001), (25, 40_000, MAIL)];
        let sql = [(40_000, 3306, 2002), (3306, 40_000, 110)];
        assert_eq!(asked(&[sql, mail].concat()), Ok(2001));
        assert_eq!(asked(&sql), Err(Why::NoSocket), "the client has hung up, and another user's connection is like it");
        let both = [(40_000, 587, 2002), (587, 40_000, MAIL)];
        assert_eq!(asked(&[both, mail].concat()), Err(Why::SharedPort));
        assert_eq!(asked(&[(40_000, 587, 2002)]), Ok(2002), "the server's end may be in another table");
        assert_eq!(asked(&[(40_001, 25, 2001)]), Err(Why::NoSocket));
        let many = [(40_000, 26, 2002); MOST_ALIKE + 1];
        assert_eq!(asked(&[&many[..], &mail].concat()), Ok(2002), "so many are looked at and no more");
    }

    /// Both ways of asking know a real connection, and neither one that is none.
    #[test]
    fn the_kernel_knows_whose_a_connection_is() {
        let own = rustix::process::getuid().as_raw();
        for (listen, to) in [
            ("127.0.0.1:0", "127.0.0.1"),
            ("[::1]:0", "::1"),
            ("127.0.0.1:0", "::ffff:127.0.0.1"),
            ("[::]:0", "127.0.0.1"),
            ("[::]:0", "::ffff:127.0.0.1"),
        ] {
            let listener = TcpListener::bind(listen).unwrap();
            let to: IpAddr = to.parse().unwrap();
            let client = TcpStream::connect((to, listener.local_addr().unwrap().port())).unwrap();
            let (server, _) = listener.accept().unwrap();
            let end = |address: std::net::SocketAddr| (address.ip().to_canonical(), address.port());
            let (from, to) = (end(client.local_addr().unwrap()), end(client.peer_addr().unwrap()));
            assert_eq!(diag::one(from, to).unwrap(), Some(Some(own)), "{listen}");
            for ends in [diag::alike(from).unwrap(), table::ends(from)] {
                assert_eq!((ends.ours.len(), ends.others.len(), ends.owner(Some(own))), (1, 1, Ok(own)), "{listen}");
            }
            // The server's own port as a client's: a socket that listens is no connection.
            assert_eq!(diag::one(to, (from.0, from.1 ^ 1)).unwrap(), None);
            assert_eq!((exact(from, to), search(from, None)), (Some(Ok(own)), Ok(own)));
            assert_eq!(exact(from, (to.0, to.1 ^ 1)), None, "the client elsewhere, or redirected");
            // Hung up before the server has read to the end: the kernel keeps what nobody holds.
            drop(client);
            assert_eq!((exact(from, to), search(from, None)), (Some(Err(Why::NoSocket)), Err(Why::NoSocket)));
            drop((server, listener));
            assert_eq!(search(from, None), Err(Why::NoSocket), "nobody holds it any more");
        }
    }
}
