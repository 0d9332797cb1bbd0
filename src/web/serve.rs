//! Connections: bounded in number, in the time they may take, and in what they may send.
//!
//! Every listener has places of its own, so that crowds on TCP never shut out the operator's unix socket; who of a crowd
//! has to leave is told in `places`.

use std::convert::Infallible;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::{Request, Response, StatusCode};
use axum::response::IntoResponse;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::Service;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::hosts;
use super::places::{Place, Places};
use super::reply::{Failure, secure};
use super::routes::{Shared, router};
use super::{Backend, Peer, Settings};

/// Open sockets to listen on; whoever starts the agent binds them and sets the rights of the unix socket.
#[derive(Debug, Default)]
pub struct Listeners {
    pub tcp: Vec<TcpListener>,
    pub unix: Option<UnixListener>,
}

/// After the end is asked for: how long running requests may take.
const GRACE: Duration = Duration::from_secs(5);

/// What every connection needs.
#[derive(Clone)]
struct House {
    app: Router,
    settings: Arc<Settings>,
    shutdown: watch::Receiver<bool>,
}

/// Serves until `shutdown` becomes true (or its sender is gone), then lets running requests finish for a moment.
pub async fn serve(
    listeners: Listeners,
    backend: Arc<dyn Backend>,
    settings: Settings,
    shutdown: watch::Receiver<bool>,
) {
    let settings = Arc::new(settings);
    let app = router(Shared::new(backend, Arc::clone(&settings)));
    let house = House { app, settings, shutdown };
    let mut tasks = JoinSet::new();
    for listener in listeners.tcp {
        tasks.spawn(house.clone().listen(Socket::Tcp(listener)));
    }
    if let Some(listener) = listeners.unix {
        tasks.spawn(house.listen(Socket::Unix(listener)));
    }
    while tasks.join_next().await.is_some() {}
}

enum Socket {
    Tcp(TcpListener),
    Unix(UnixListener),
}

enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl House {
    async fn listen(self, socket: Socket) {
        let places = Places::new(self.settings.max_connections);
        let mut connections = JoinSet::new();
        let mut shutdown = self.shutdown.clone();
        let ended = async {
            let _ = shutdown.wait_for(|stop| *stop).await;
        };
        tokio::pin!(ended);
        loop {
            let accepted = tokio::select! {
                _ = &mut ended => break,
                Some(_) = connections.join_next() => continue,
                accepted = socket.accept() => accepted,
            };
            match accepted {
                Ok((stream, peer)) => {
                    let place = tokio::select! {
                        _ = &mut ended => break,
                        place = places.enter(peer.address()) => place,
                    };
                    let house = self.clone();
                    let at = socket.address();
                    connections.spawn(async move {
                        match stream {
                            Stream::Tcp(stream) => house.serve(stream, peer, at, place).await,
                            Stream::Unix(stream) => house.serve(stream, peer, at, place).await,
                        }
                    });
                }
                Err(error) => {
                    // Out of file descriptors, mostly: trying again at once would only spin.
                    tracing::warn!(%error, "accepting a connection failed; trying again");
                    tokio::time::sleep(Duration::from_millis(200)).await;
                }
            }
        }
        let finish = async { while connections.join_next().await.is_some() {} };
        if tokio::time::timeout(GRACE, finish).await.is_err() {
            tracing::info!("connections still open at the end were cut");
        }
    }

    /// One connection from its first byte to its end. `at`: the address that the listener has, if it has one.
    async fn serve<S>(self, stream: S, peer: Peer, at: Option<IpAddr>, place: Place)
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let settings = self.settings;
        let app = TowerToHyperService::new(self.app);
        let service = hyper::service::service_fn(|mut request: Request<Incoming>| {
            place.working();
            let asked = at
                .map_or(Ok(()), |at| hosts::check(&settings, at, request.version(), request.uri(), request.headers()));
            request.extensions_mut().insert(peer);
            let answer = asked.map(|()| app.call(request));
            let (settings, place) = (&settings, &place);
            async move {
                let response = match answer {
                    Err(failure) => failed(failure),
                    Ok(answer) => match tokio::time::timeout(settings.request_timeout, answer).await {
                        Ok(Ok(response)) => response,
                        Ok(Err(never)) => match never {},
                        Err(_) => failed(too_slow()),
                    },
                };
                place.answered();
                Ok::<Response<Body>, Infallible>(response)
            }
        });
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(settings.header_timeout)
            .max_buf_size(64 * 1024)
            .max_headers(64)
            .serve_connection(TokioIo::new(stream), service);
        tokio::pin!(connection);
        let mut shutdown = self.shutdown;
        let end_of_time = tokio::time::sleep(settings.connection_timeout);
        let stop = async {
            tokio::select! {
                _ = shutdown.wait_for(|stop| *stop) => {}
                () = end_of_time => {}
            }
        };
        let result = tokio::select! {
            result = &mut connection => Some(result),
            () = stop => None,
            () = place.needed() => return,
        };
        let result = match result {
            Some(result) => result,
            None => {
                connection.as_mut().graceful_shutdown();
                match tokio::time::timeout(GRACE, connection).await {
                    Ok(result) => result,
                    Err(_) => return,
                }
            }
        };
        if let Err(error) = result {
            tracing::debug!(%error, ?peer, "a connection ended badly");
        }
    }
}

impl Socket {
    async fn accept(&self) -> std::io::Result<(Stream, Peer)> {
        Ok(match self {
            Socket::Tcp(listener) => {
                let (stream, address) = listener.accept().await?;
                (Stream::Tcp(stream), Peer::Tcp(address))
            }
            Socket::Unix(listener) => {
                let (stream, _) = listener.accept().await?;
                let peer = match stream.peer_cred() {
                    Ok(who) => Peer::Unix { uid: who.uid(), gid: who.gid() },
                    Err(_) => Peer::Unknown,
                };
                (Stream::Unix(stream), peer)
            }
        })
    }

    /// No browser comes over the unix socket. A listener that cannot be asked is taken for one on loopback.
    fn address(&self) -> Option<IpAddr> {
        match self {
            Socket::Tcp(listener) => {
                Some(listener.local_addr().map_or(IpAddr::V4(Ipv4Addr::LOCALHOST), |address| address.ip()))
            }
            Socket::Unix(_) => None,
        }
    }
}

fn too_slow() -> Failure {
    Failure::new(StatusCode::SERVICE_UNAVAILABLE, "timeout", "The request took too long and was given up.")
}

/// An answer that does not come from the router.
fn failed(failure: Failure) -> Response<Body> {
    let mut response = failure.into_response();
    secure(response.headers_mut());
    response
}
