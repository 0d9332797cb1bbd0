//! Connections: bounded in number, in the time they may take, and in what they may send.
//!
//! Every listener has places of its own, so that crowds on TCP never shut out the operator's unix socket.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
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
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;

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

impl House {
    async fn listen(self, socket: Socket) {
        let places = Arc::new(Semaphore::new(self.settings.max_connections.max(1)));
        let mut connections = JoinSet::new();
        let mut shutdown = self.shutdown.clone();
        let ended = async {
            let _ = shutdown.wait_for(|stop| *stop).await;
        };
        tokio::pin!(ended);
        loop {
            // A place first: who finds none waits in the kernel's queue.
            let next = async {
                let place = Arc::clone(&places).acquire_owned().await;
                (place, socket.accept(&self).await)
            };
            tokio::select! {
                _ = &mut ended => break,
                Some(_) = connections.join_next() => {}
                (place, accepted) = next => match accepted {
                    Ok(connection) => {
                        connections.spawn(async move {
                            connection.await;
                            drop(place);
                        });
                    }
                    Err(error) => {
                        // Out of file descriptors, mostly: trying again at once would only spin.
                        tracing::warn!(%error, "accepting a connection failed; trying again");
                        tokio::time::sleep(Duration::from_millis(200)).await;
                    }
                },
            }
        }
        let finish = async { while connections.join_next().await.is_some() {} };
        if tokio::time::timeout(GRACE, finish).await.is_err() {
            tracing::info!("connections still open at the end were cut");
        }
    }

    /// One connection from its first byte to its end.
    async fn serve<S: AsyncRead + AsyncWrite + Unpin>(self, stream: S, peer: Peer) {
        let request_timeout = self.settings.request_timeout;
        let app = TowerToHyperService::new(self.app);
        let service = hyper::service::service_fn(move |mut request: Request<Incoming>| {
            request.extensions_mut().insert(peer);
            let answer = app.call(request);
            async move {
                Ok::<Response<Body>, Infallible>(match tokio::time::timeout(request_timeout, answer).await {
                    Ok(Ok(response)) => response,
                    Ok(Err(never)) => match never {},
                    Err(_) => too_slow(),
                })
            }
        });
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(self.settings.header_timeout)
            .max_buf_size(64 * 1024)
            .max_headers(64)
            .serve_connection(TokioIo::new(stream), service);
        tokio::pin!(connection);
        let mut shutdown = self.shutdown;
        let end_of_time = tokio::time::sleep(self.settings.connection_timeout);
        let stop = async {
            tokio::select! {
                _ = shutdown.wait_for(|stop| *stop) => {}
                () = end_of_time => {}
            }
        };
        let result = tokio::select! {
            result = &mut connection => Some(result),
            () = stop => None,
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
    /// Waits for a connection; the future it gives serves it.
    async fn accept(&self, house: &House) -> std::io::Result<Pin<Box<dyn Future<Output = ()> + Send>>> {
        Ok(match self {
            Socket::Tcp(listener) => {
                let (stream, address) = listener.accept().await?;
                Box::pin(house.clone().serve(stream, Peer::Tcp(address)))
            }
            Socket::Unix(listener) => {
                let (stream, _) = listener.accept().await?;
                let peer = match stream.peer_cred() {
                    Ok(who) => Peer::Unix { uid: who.uid(), gid: who.gid() },
                    Err(_) => Peer::Unknown,
                };
                Box::pin(house.clone().serve(stream, peer))
            }
        })
    }
}

fn too_slow() -> Response<Body> {
    let failure =
        Failure::new(StatusCode::SERVICE_UNAVAILABLE, "timeout", "The request took too long and was given up.");
    let mut response = failure.into_response();
    secure(response.headers_mut());
    response
}
