//! Every row of the table of faults, against a server that speaks raw TCP and misbehaves on purpose.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::AtomicU32;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::*;

const OK: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
const BODY: &[u8] = b"{\"hello\":\"room\"}";

/// A server whose every connection is handled by `serve`; counts requests that it read in full.
struct Server {
    url: String,
    posts: Arc<AtomicU32>,
    connections: Arc<AtomicU32>,
}

/// One connection of the server.
struct Peer {
    stream: TcpStream,
    /// Which connection this is, from 1.
    nth: u32,
    posts: Arc<AtomicU32>,
}

impl Server {
    async fn start<F, S>(serve: S) -> Self
    where
        S: Fn(Peer) -> F + Send + 'static,
        F: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (posts, connections) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicU32::new(0)));
        let server = Self { url, posts: posts.clone(), connections: connections.clone() };
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let nth = connections.fetch_add(1, Ordering::SeqCst) + 1;
                tokio::spawn(serve(Peer { stream, nth, posts: posts.clone() }));
            }
        });
        server
    }

    fn client(&self) -> Client {
        Client::new(std::slice::from_ref(&self.url), Duration::from_millis(1_500)).unwrap()
    }

    fn posts(&self) -> u32 {
        self.posts.load(Ordering::SeqCst)
    }
}

impl Peer {
    /// Reads one whole request; false when the client closed instead.
    async fn read(&mut self) -> bool {
        let mut seen = Vec::new();
        while !seen.ends_with(BODY) {
            let mut buffer = [0; 4_096];
            match self.stream.read(&mut buffer).await {
                Ok(0) | Err(_) => return false,
                Ok(n) => seen.extend_from_slice(&buffer[..n]),
            }
        }
        let text = String::from_utf8(seen).unwrap();
        assert!(text.starts_with("POST /a/messages HTTP/1.1\r\n"), "{text}");
        assert!(text.contains("\r\nx-test: yes\r\n"), "{text}");
        self.posts.fetch_add(1, Ordering::SeqCst);
        true
    }

    async fn write(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.unwrap();
    }

    /// Ends the connection with a reset instead of a close.
    fn reset(self) {
        self.stream.set_zero_linger().unwrap();
    }

    /// Keeps the connection open until the client closes it.
    async fn hold(mut self) {
        let mut buffer = [0; 64];
        while self.stream.read(&mut buffer).await.is_ok_and(|n| n > 0) {}
    }
}

fn call() -> Call {
    let mut headers = HeaderMap::new();
    headers.insert("x-test", "yes".parse().unwrap());
    Call { path: "/a/messages".to_owned(), headers, body: Bytes::from_static(BODY) }
}

fn unknown(answer: &Answer) -> &str {
    match answer {
        Err(Fault::Unknown(text)) => text,
        other => panic!("expected Unknown, got {other:?}"),
    }
}

fn not_sent(answer: &Answer) -> &str {
    match answer {
        Err(Fault::NotSent(text)) => text,
        other => panic!("expected NotSent, got {other:?}"),
    }
}

#[tokio::test]
async fn an_answer_is_read_and_the_connection_kept() {
    let server = Server::start(|mut peer| async move {
        while peer.read().await {
            peer.write(OK).await;
        }
    })
    .await;
    let client = server.client();
    for _ in 0..5 {
        let reply = client.call(call()).await.unwrap();
        assert_eq!((reply.status, &*reply.body, reply.whole), (200, b"ok".as_slice(), true));
    }
    assert_eq!((server.posts(), server.connections.load(Ordering::SeqCst)), (5, 1));
}

#[tokio::test]
async fn a_refused_port_is_not_sent() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let client = Client::new(&[url], Duration::from_secs(1)).unwrap();
    let answer = client.call(call()).await;
    assert!(not_sent(&answer).contains("refused"), "{answer:?}");
}

#[tokio::test]
async fn a_name_that_does_not_exist_is_not_sent() {
    let client = Client::new(&["http://nowhere.invalid".to_owned()], Duration::from_secs(20)).unwrap();
    assert!(!not_sent(&client.call(call()).await).is_empty());
}

/// A listener whose queue is full lets no connection come about: packets are dropped.
#[tokio::test]
async fn a_connection_that_does_not_come_about_is_not_sent() {
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let listener = socket.listen(1).unwrap();
    let address = listener.local_addr().unwrap();
    let mut filling = Vec::new();
    loop {
        let connect = TcpStream::connect(address);
        match tokio::time::timeout(Duration::from_millis(200), connect).await {
            Ok(stream) => filling.push(stream.unwrap()),
            Err(_) => break,
        }
        assert!(filling.len() < 64, "the listener's queue does not fill");
    }
    let client = Client::new(&[format!("http://{address}")], Duration::from_millis(500)).unwrap();
    not_sent(&client.call(call()).await);
}

#[tokio::test]
async fn a_kept_connection_that_was_closed_meanwhile_costs_nothing() {
    let server = Server::start(|mut peer| async move {
        peer.read().await;
        peer.write(OK).await;
    })
    .await;
    let client = server.client();
    for _ in 0..3 {
        assert_eq!(client.call(call()).await.unwrap().status, 200);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!((server.posts(), server.connections.load(Ordering::SeqCst)), (3, 3));
}

/// The server never reads, so either class is true; what must not be said is that it was answered.
#[tokio::test]
async fn a_close_right_after_accept_is_no_answer() {
    let server = Server::start(|peer| async move { drop(peer) }).await;
    let client = server.client();
    for _ in 0..20 {
        client.call(call()).await.unwrap_err();
    }
    assert_eq!(server.posts(), 0);
}

#[tokio::test]
async fn a_reset_before_or_while_reading_is_unknown() {
    for read in [0, 10] {
        let server = Server::start(move |mut peer| async move {
            let mut buffer = vec![0; read];
            peer.stream.read_exact(&mut buffer).await.unwrap();
            // Until there is something to read: a reset before anything was written may be "unsent".
            peer.stream.peek(&mut [0; 1]).await.unwrap();
            peer.reset();
        })
        .await;
        unknown(&server.client().call(call()).await);
    }
}

#[tokio::test]
async fn a_close_or_reset_after_the_whole_request_is_unknown() {
    for reset in [false, true] {
        let server = Server::start(move |mut peer| async move {
            peer.read().await;
            if reset {
                peer.reset();
            }
        })
        .await;
        unknown(&server.client().call(call()).await);
        assert_eq!(server.posts(), 1, "reset: {reset}");
    }
}

#[tokio::test]
async fn a_close_after_the_second_request_of_a_connection_is_unknown_and_not_repeated() {
    let server = Server::start(|mut peer| async move {
        peer.read().await;
        peer.write(OK).await;
        if peer.nth == 1 {
            peer.read().await;
        }
    })
    .await;
    let client = server.client();
    assert_eq!(client.call(call()).await.unwrap().status, 200);
    unknown(&client.call(call()).await);
    assert_eq!(server.posts(), 2);
    assert_eq!(client.call(call()).await.unwrap().status, 200);
    assert_eq!(server.posts(), 3);
}

#[tokio::test]
async fn no_answer_within_the_limit_is_unknown() {
    let server = Server::start(|mut peer| async move {
        peer.read().await;
        peer.hold().await;
    })
    .await;
    let client = Client::new(std::slice::from_ref(&server.url), Duration::from_millis(150)).unwrap();
    let answer = client.call(call()).await;
    assert_eq!(unknown(&answer), "no answer within 150ms");
    assert_eq!(server.posts(), 1);
}

#[tokio::test]
async fn a_status_wins_over_a_body_that_is_cut_or_stalls() {
    for stall in [false, true] {
        let server = Server::start(move |mut peer| async move {
            peer.read().await;
            peer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{\"code\"").await;
            if stall {
                peer.hold().await;
            }
        })
        .await;
        let client = Client::new(std::slice::from_ref(&server.url), Duration::from_millis(300)).unwrap();
        let reply = client.call(call()).await.unwrap();
        assert_eq!((reply.status, &*reply.body, reply.whole), (200, b"{\"code\"".as_slice(), false));
    }
}

#[tokio::test]
async fn garbage_for_a_status_line_is_unknown() {
    let server = Server::start(|mut peer| async move {
        peer.read().await;
        peer.write(b"SSH-2.0-OpenSSH_9.6\r\n\r\n").await;
    })
    .await;
    unknown(&server.client().call(call()).await);
    assert_eq!(server.posts(), 1);
}

#[tokio::test]
async fn a_body_is_read_in_pieces_and_up_to_its_bound() {
    for (length, kept, whole) in
        [(40_000, 40_000, true), (BODY_MAX, BODY_MAX, true), (70_000, BODY_MAX, false)]
    {
        let server = Server::start(move |mut peer| async move {
            peer.read().await;
            peer.write(format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n").as_bytes()).await;
            for piece in vec![b'x'; length].chunks(9_000) {
                // The client may have closed already: it reads no more than it keeps.
                let _ = peer.stream.write_all(piece).await;
            }
            peer.hold().await;
        })
        .await;
        let reply = server.client().call(call()).await.unwrap();
        assert_eq!((reply.body.len(), reply.whole), (kept, whole));
    }
}

#[tokio::test]
async fn redirects_are_answers() {
    let server = Server::start(|mut peer| async move {
        while peer.read().await {
            peer.write(b"HTTP/1.1 307 Temporary Redirect\r\nlocation: /b\r\ncontent-length: 0\r\n\r\n").await;
        }
    })
    .await;
    assert_eq!(server.client().call(call()).await.unwrap().status, 307);
    assert_eq!(server.posts(), 1);
}

#[tokio::test]
async fn the_next_call_goes_to_the_next_base_url_after_an_unreachable_one_or_a_502() {
    let gateway = Server::start(|mut peer| async move {
        while peer.read().await {
            peer.write(b"HTTP/1.1 502 Bad Gateway\r\ncontent-length: 0\r\n\r\n").await;
        }
    })
    .await;
    let good = Server::start(|mut peer| async move {
        while peer.read().await {
            peer.write(OK).await;
        }
    })
    .await;
    let refused = {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        format!("http://{}/", listener.local_addr().unwrap())
    };
    let bases = [refused, gateway.url.clone(), good.url.clone()];
    let client = Client::new(&bases, Duration::from_secs(2)).unwrap();
    not_sent(&client.call(call()).await);
    assert_eq!(client.call(call()).await.unwrap().status, 502);
    assert_eq!(client.call(call()).await.unwrap().status, 200);
    assert_eq!(client.call(call()).await.unwrap().status, 200);
    assert_eq!((gateway.posts(), good.posts()), (1, 2));
}

#[test]
fn retry_after_is_read_in_both_forms_and_capped() {
    let read = |value: &str, date: Option<&str>| {
        let mut headers = HeaderMap::new();
        headers.insert(RETRY_AFTER, value.parse().unwrap());
        if let Some(date) = date {
            headers.insert(DATE, date.parse().unwrap());
        }
        retry_after(&headers, super::date(&headers)).map(|span| span.as_secs())
    };
    let noon = Some("Sun, 06 Nov 1994 12:00:00 GMT");
    assert_eq!(read("10", None), Some(10));
    assert_eq!(read("0", None), Some(0));
    assert_eq!(read("901", None), Some(900));
    assert_eq!(read("99999999999999999999999", None), Some(900));
    assert_eq!(read("Sun, 06 Nov 1994 12:00:30 GMT", noon), Some(30));
    assert_eq!(read("Sun, 06 Nov 1994 11:00:30 GMT", noon), Some(0));
    assert_eq!(read("Mon, 07 Nov 1994 12:00:00 GMT", noon), Some(900));
    assert_eq!(read("Sun, 06 Nov 1994 12:00:30 GMT", None), None);
    assert_eq!(read("-1", noon), None);
    assert_eq!(read("soon", noon), None);
    assert_eq!(read("", noon), None);
}

#[tokio::test]
async fn date_and_retry_after_reach_the_reply_unless_it_is_a_success() {
    for (status, expected) in [(429, Some(Duration::from_secs(7))), (200, None)] {
        let server = Server::start(move |mut peer| async move {
            peer.read().await;
            let head = format!(
                "HTTP/1.1 {status} X\r\nretry-after: 7\r\ndate: Sun, 06 Nov 1994 08:49:37 GMT\r\ncontent-length: 0\r\n\r\n"
            );
            peer.write(head.as_bytes()).await;
        })
        .await;
        let reply = server.client().call(call()).await.unwrap();
        assert_eq!((reply.retry_after, reply.date), (expected, Some(Wall(784_111_777_000))));
    }
}

#[test]
fn base_urls_that_cannot_be_used_are_refused_without_showing_a_password() {
    let refused =
        |url: &str| format!("{:#}", Client::new(&[url.to_owned()], Duration::from_secs(5)).unwrap_err());
    assert!(refused("a1.easemob.com").contains("not a URL"));
    assert!(refused("ftp://a1.easemob.com").contains("neither https:// nor http://"));
    assert!(refused("https://a1.easemob.com/?x=1").contains("`?` or `#`"));
    let secret = refused("https://me:hunter2@a1.easemob.com");
    assert!(secret.contains("a1.easemob.com") && !secret.contains("hunter2"), "{secret}");
    assert!(Client::new(&[], Duration::from_secs(5)).is_err());
}
