//! A relay between the daemon and a simulator that keeps every request word for word: the
//! simulator's own log keeps only what it judges. Passes bytes on as they come and changes none.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

use serde_json::Value;

use crate::support::provider::Provider;

/// A running relay. It ends with the test's process.
pub struct Tap {
    account: String,
    seen: Arc<Mutex<Vec<Request>>>,
}

/// A request as it went over the wire.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// The path, with what stands before the endpoint.
    pub path: String,
    /// The body.
    pub body: Vec<u8>,
}

impl Request {
    /// The body as JSON.
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).expect("the body is JSON")
    }

    /// The body as a form.
    pub fn form(&self) -> BTreeMap<String, String> {
        form_urlencoded::parse(&self.body).into_owned().collect()
    }
}

impl Tap {
    /// Stands before a simulator; `name` and `more` as for [`Provider::account`].
    pub fn before(provider: &Provider, name: &str, more: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let own = listener.local_addr().expect("it is bound").to_string();
        let url = provider.base_url().strip_prefix("http://").expect("the simulator speaks plain HTTP");
        let target = url.split('/').next().expect("a host and a port").to_owned();
        let account = provider.account(name, more).replace(&target, &own);
        let seen = Arc::new(Mutex::new(Vec::new()));
        let keep = Arc::clone(&seen);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let Ok(upstream) = TcpStream::connect(&target) else { continue };
                relay(stream, upstream, Arc::clone(&keep));
            }
        });
        Self { account, seen }
    }

    /// The account's section, which points here.
    pub fn account(&self) -> &str {
        &self.account
    }

    /// All requests so far.
    pub fn requests(&self) -> Vec<Request> {
        self.seen.lock().expect("no holder panics").clone()
    }
}

fn relay(client: TcpStream, upstream: TcpStream, keep: Arc<Mutex<Vec<Request>>>) {
    let (mut back_from, mut back_to) = (
        upstream.try_clone().expect("a socket can be shared"),
        client.try_clone().expect("a socket can be shared"),
    );
    thread::spawn(move || {
        // A connection that breaks is over for both sides.
        drop(std::io::copy(&mut back_from, &mut back_to));
        drop(back_to.shutdown(Shutdown::Both));
    });
    thread::spawn(move || {
        let (mut client, mut upstream) = (client, upstream);
        let mut piece = vec![0; 65_536];
        let mut unread = Vec::new();
        while let Ok(length @ 1..) = client.read(&mut piece) {
            unread.extend_from_slice(&piece[..length]);
            while let Some(request) = take(&mut unread) {
                keep.lock().expect("no holder panics").push(request);
            }
            if upstream.write_all(&piece[..length]).is_err() {
                break;
            }
        }
        drop(upstream.shutdown(Shutdown::Both));
    });
}

/// Takes the first request off the bytes, once it is whole.
fn take(bytes: &mut Vec<u8>) -> Option<Request> {
    let head = bytes.windows(4).position(|window| window == b"\r\n\r\n")?;
    let text = String::from_utf8_lossy(&bytes[..head]).into_owned();
    let mut lines = text.lines();
    let path = lines.next()?.split(' ').nth(1)?.to_owned();
    let length = lines.find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>().ok()).flatten()
    });
    let end = head + 4 + length.unwrap_or(0);
    if bytes.len() < end {
        return None;
    }
    let body = bytes[head + 4..end].to_vec();
    bytes.drain(..end);
    Some(Request { path, body })
}
