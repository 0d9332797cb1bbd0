//! Connections: bounded in number, in the time they may take, and in what they may send.
//!
//! Every listener has places of its own, so that crowds on TCP never shut out the operator's unix socket.

use std::convert::Infallible;
use std::future::Future;
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

/// Serves until `shutdown` becomes true (or its sender is gone), then lets running requests finish for a moment.
pub async fn serve(listeners: Listeners, backend: Arc<dyn Backend>, settings: Settings, shutdown: watch::Receiver<bool>) {
    let settings = Arc::new(settings);
    let app = router(Shared::new(backend, Arc::clone(&settings)));
    let mut tasks = JoinSet::new();
    for listener in listeners.tcp {
        let house = House { app: app.clone(), settings: Arc::clone(&settings), shutdown: shutdown.clone() };
        tasks.spawn(house.accept(move || {
            let listener = &listener;
            // The borrow ends with the future; `Listener` cannot say that without a box per connection.
            let accepted = listener.poll_once();
            accepted
        }));
    }
    while tasks.join_next().await.is_some() {}
}
