//! The HTTP side: takes connections, reads requests whole, sends what `judge` planned, and breaks
//! what it says is to break.
//!
//! One task a connection, HTTP/1.1 with keep-alive. An outage gives the port up without losing it:
//! a second socket that never listens stays bound to it.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use http::{Response, StatusCode};
use hyper::body::{Body, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::task::JoinSet;

use super::control;
use super::judge::{Manner, Request};
use super::payload::{Payload, response};
use super::shared::Shared;

/// The largest request that is read; more is answered 413, as by a gateway.
const MAX_BODY: usize = 1 << 20;
/// Connections that wait to be taken.
const BACKLOG: u32 = 1_024;

/// An address that stays ours whether or not we listen on it.
#[derive(Debug)]
pub(super) struct Place {
    pub addr: SocketAddr,
    /// Bound, never listening.
    _reserve: TcpSocket,
}

impl Place {
    /// Takes an address; port 0 is any free one.
    pub(super) fn take(wanted: SocketAddr) -> io::Result<(Self, TcpListener)> {
        if wanted.port() != 0 {
            // Sockets that share a port would also share it with another simulator of the same
            // user, silently: a plain bind finds that out first.
            drop(std::net::TcpListener::bind(wanted)?);
        }
        let reserve = shared_socket(wanted)?;
        let addr = reserve.local_addr()?;
        let place = Self { addr, _reserve: reserve };
        let listener = place.listen()?;
        Ok((place, listener))
    }

    fn listen(&self) -> io::Result<TcpListener> {
        shared_socket(self.addr)?.listen(BACKLOG)
    }
}

fn shared_socket(addr: SocketAddr) -> io::Result<TcpSocket> {
    let socket = if addr.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket.set_reuseaddr(true)?;
    #[cfg(unix)]
    socket.set_reuseport(true)?;
    socket.bind(addr)?;
    Ok(socket)
}

/// Serves until told to stop; then open connections finish the answers they owe.
pub(super) async fn run(shared: Arc<Shared>, place: Place, listener: TcpListener) {
    let mut listener = Some(listener);
    let mut connections = JoinSet::new();
    let mut changed = shared.changed.subscribe();
    let mut stop = shared.stop.subscribe();
    while !*stop.borrow_and_update() {
        changed.mark_unchanged();
        if let Some(end) = shared.outage() {
            listener = None;
            connections.shutdown().await;
            let over = async {
                match end {
                    Some(end) => shared.clock().sleep_until(end).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = over => {}
                _ = changed.changed() => {}
                _ = stop.changed() => {}
            }
            continue;
        }
        if listener.is_none() {
            match place.listen() {
                Ok(open) => listener = Some(open),
                Err(error) => {
                    tracing::error!(%error, addr = %place.addr, "the simulator cannot listen again after an outage");
                    return;
                }
            }
        }
        let Some(open) = &listener else { continue };
        tokio::select! {
            accepted = open.accept() => match accepted {
                Ok((stream, _)) => drop(connections.spawn(connection(Arc::clone(&shared), stream))),
                Err(error) => {
                    tracing::warn!(%error, "the simulator could not take a connection");
                    // Out of file descriptors, most likely: nothing tells when there are some again.
                    tokio::time::sleep(std::time::Duration::from_millis(20)).await;
                }
            },
            Some(_) = connections.join_next(), if !connections.is_empty() => {}
            _ = changed.changed() => {}
            _ = stop.changed() => {}
        }
    }
    drop(listener);
    while connections.join_next().await.is_some() {}
}

async fn connection(shared: Arc<Shared>, stream: TcpStream) {
    // An answer is one small write: waiting to fill a packet would only make it late.
    if stream.set_nodelay(true).is_err() {
        return;
    }
    let reset = Arc::new(AtomicBool::new(false));
    let wire = Wire { stream, reset: Arc::clone(&reset) };
    let mut stop = shared.stop.subscribe();
    let service = service_fn(move |request| serve(Arc::clone(&shared), Arc::clone(&reset), request));
    let mut builder = http1::Builder::new();
    builder.auto_date_header(false).header_read_timeout(None);
    let mut connection = std::pin::pin!(builder.serve_connection(TokioIo::new(wire), service));
    // A connection that ends in an error was closed by the client or by a fault: both are in the log.
    tokio::select! {
        _ = connection.as_mut() => return,
        _ = stop.wait_for(|stop| *stop) => connection.as_mut().graceful_shutdown(),
    }
    drop(connection.await);
}

/// Ends the connection without an answer.
fn hang_up(why: &'static str) -> io::Error {
    io::Error::other(why)
}

async fn serve(
    shared: Arc<Shared>,
    reset: Arc<AtomicBool>,
    request: http::Request<Incoming>,
) -> io::Result<Response<Payload>> {
    let (head, body) = request.into_parts();
    let path = head.uri.path();
    if let Some(at) = path.find("/_sim").filter(|at| path[..*at].is_empty() || &path[..*at] == "/nimserver") {
        let body = read(body).await?.unwrap_or_default();
        return Ok(control::answer(
            &shared,
            &head.method,
            &path[at..],
            head.uri.query().unwrap_or(""),
            &body,
        ));
    }
    if shared.outage().is_some() || shared.resets(shared.endpoint(path)) {
        reset.store(true, Ordering::Relaxed);
        return Err(hang_up("reset by a fault"));
    }
    let Some(body) = read(body).await? else {
        shared.warn("request above 1 MiB".into());
        let mut response = Response::new(Payload::Whole(None));
        *response.status_mut() = StatusCode::PAYLOAD_TOO_LARGE;
        return Ok(response);
    };
    let request =
        Request { method: head.method, path: head.uri.path().to_owned(), headers: head.headers, body };
    let plan = shared.take(&request);
    if plan.manner == Manner::Silence {
        // Until the client goes (which drops this future) or the simulator stops.
        drop(shared.stop.subscribe().wait_for(|stop| *stop).await);
        return Err(hang_up("black hole"));
    }
    if plan.due > shared.clock().now().mono {
        shared.clock().sleep_until(plan.due).await;
    }
    if plan.manner == Manner::Close {
        return Err(hang_up("dropped by a fault"));
    }
    Ok(response(plan, &shared.options.clock))
}

/// The body, or nothing when it is longer than [`MAX_BODY`].
async fn read(mut body: Incoming) -> io::Result<Option<Bytes>> {
    let mut first: Option<Bytes> = None;
    let mut more = BytesMut::new();
    while let Some(frame) = std::future::poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {
        let Ok(bytes) = frame.map_err(io::Error::other)?.into_data() else { continue };
        let length = first.as_ref().map_or(0, Bytes::len) + more.len() + bytes.len();
        if length > MAX_BODY {
            return Ok(None);
        }
        // Nearly every body comes in one piece and is not copied.
        match &first {
            None => first = Some(bytes),
            Some(_) => more.extend_from_slice(&bytes),
        }
    }
    let Some(first) = first else { return Ok(Some(Bytes::new())) };
    if more.is_empty() {
        return Ok(Some(first));
    }
    let mut whole = BytesMut::with_capacity(first.len() + more.len());
    whole.extend_from_slice(&first);
    whole.extend_from_slice(&more);
    Ok(Some(whole.freeze()))
}

/// A connection that can end with a reset (RST) in place of an orderly end.
struct Wire {
    stream: TcpStream,
    reset: Arc<AtomicBool>,
}

impl Drop for Wire {
    fn drop(&mut self) {
        if self.reset.load(Ordering::Relaxed) {
            // Failing, it ends in the orderly way, which a client tells apart but survives as well.
            drop(self.stream.set_zero_linger());
        }
    }
}

impl AsyncRead for Wire {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Wire {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
