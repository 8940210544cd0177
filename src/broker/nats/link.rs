//! The connection to the servers: made once, waited for as long as it takes, then kept by the client.
//!
//! Everything that talks to the broker borrows it from here. It knows nothing of streams. Connecting
//! for the first time is our own loop, so that the reason of each failure is told; from then on
//! the client reconnects by itself, for ever.

use std::fmt::{self, Debug, Display};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_nats::connection::State;
use async_nats::jetstream::Context;
use async_nats::jetstream::context::ContextBuilder;
use async_nats::{Client, ConnectOptions, Event, ServerAddr};
use secrecy::ExposeSecret;
use tokio::sync::watch;

use super::settings::{Login, Settings};

/// How long one attempt to connect may take.
const CONNECT: Duration = Duration::from_secs(5);
/// How long the server may take to answer a request of the JetStream API.
const ANSWER: Duration = Duration::from_secs(5);
/// The waits between attempts: the first, and the longest.
const WAITS: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(5));
/// How often a failure that goes on is told again in the log.
const TOLD_AGAIN: Duration = Duration::from_secs(30);

/// Hears each loss (`false`) and return of the connection.
type Listener = Box<dyn Fn(bool) + Send>;

/// A connection that may not be there yet.
pub struct Link {
    client: watch::Sender<Option<Connected>>,
    up: watch::Sender<bool>,
    listeners: Arc<Mutex<Vec<Listener>>>,
    /// Held by whoever connects: how many connections there were.
    made: tokio::sync::Mutex<u64>,
}

/// A client, and which one it is: when one ends, another is made.
#[derive(Clone, Debug)]
pub struct Connected {
    /// The client.
    pub client: Client,
    /// Its number, from 1.
    pub number: u64,
}

impl Default for Link {
    fn default() -> Self {
        Self {
            client: watch::Sender::new(None),
            up: watch::Sender::new(false),
            listeners: Arc::default(),
            made: tokio::sync::Mutex::new(0),
        }
    }
}

impl Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link").field("up", &*self.up.borrow()).finish_non_exhaustive()
    }
}

impl Link {
    /// From now on `changed` hears each loss and return of the connection, whoever connected.
    pub fn listen(&self, changed: impl Fn(bool) + Send + 'static) {
        self.listeners.lock().unwrap_or_else(PoisonError::into_inner).push(Box::new(changed));
    }

    /// Connects unless somebody has, and tries for ever; `told` hears why it waits.
    pub async fn connect(&self, settings: &Settings, mut told: impl FnMut(String)) -> Connected {
        let mut made = self.made.lock().await;
        if let Some(connected) = self.client.borrow().clone() {
            return connected;
        }
        let mut patience = Patience::default();
        loop {
            match self.attempt(settings, &mut made).await {
                Ok(connected) => return connected,
                Err(why) => {
                    patience.tell(&why, &mut told);
                    patience.wait().await;
                }
            }
        }
    }

    /// The client, for those who ask once: tries once to connect unless somebody has, waits a moment for
    /// a connection that is lost, or says why there is none.
    pub async fn reach(&self, settings: &Settings) -> Result<Client, String> {
        let mut made = self.made.lock().await;
        if self.client.borrow().is_none() {
            return self.attempt(settings, &mut made).await.map(|connected| connected.client);
        }
        drop(made);
        let connected = tokio::time::timeout(CONNECT, self.connected()).await;
        connected.map_err(|_| format!("not connected to {}", settings.addresses()))
    }

    async fn attempt(&self, settings: &Settings, made: &mut u64) -> Result<Connected, String> {
        let up = self.up.clone();
        let listeners = self.listeners.clone();
        let changed = move |is_up| {
            let listeners = listeners.lock().unwrap_or_else(PoisonError::into_inner);
            listeners.iter().for_each(|listener| listener(is_up));
        };
        let on_event = move |event: Event| {
            // A change is noted before the callback's future runs, in the order of events.
            match event {
                Event::Connected => {
                    up.send_replace(true);
                    changed(true);
                }
                Event::Disconnected | Event::Closed => {
                    up.send_replace(false);
                    changed(false);
                }
                Event::SlowConsumer(_) => tracing::error!("the client dropped messages: {event}"),
                Event::ServerError(_) | Event::ClientError(_) => tracing::debug!("nats: {event}"),
                Event::LameDuckMode | Event::Draining => tracing::info!("nats: {event}"),
            }
            std::future::ready(())
        };
        let client = connect_once(settings, on_event)
            .await
            .map_err(|why| format!("cannot connect to {}: {why}", settings.addresses()))?;
        *made += 1;
        let connected = Connected { client, number: *made };
        self.client.send_replace(Some(connected.clone()));
        self.up.send_replace(true);
        Ok(connected)
    }

    /// The client, once it is connected; waits for that.
    pub async fn connected(&self) -> Client {
        // Waiting on a watch fails only when its sender is gone, and `self` owns both.
        let _ = self.up.subscribe().wait_for(|up| *up).await;
        let mut clients = self.client.subscribe();
        let client = clients.wait_for(Option::is_some).await.expect("the link owns the sender");
        client.as_ref().expect("waited for until it was there").client.clone()
    }

    /// Lets go of a client that has ended; the next [`Link::connect`] makes another. Nothing happens
    /// when somebody else has seen to that already.
    pub fn forget(&self, number: u64) {
        let is_current = |connected: &Option<Connected>| {
            connected.as_ref().is_some_and(|connected| connected.number == number)
        };
        let forgotten = self.client.send_if_modified(|connected| {
            let is_current = is_current(connected);
            if is_current {
                *connected = None;
            }
            is_current
        });
        if forgotten {
            self.up.send_replace(false);
        }
    }

    /// Whether the client is connected, whatever its events said; notes it when it is.
    pub fn is_back(&self) -> bool {
        let is_back = self.client_if_connected().is_some();
        if is_back {
            self.up.send_replace(true);
        }
        is_back
    }

    /// The client, if it is connected.
    pub fn client_if_connected(&self) -> Option<Client> {
        let client = self.client.borrow().as_ref()?.client.clone();
        (client.connection_state() == State::Connected).then_some(client)
    }

    /// The JetStream API, or why it cannot be used now.
    pub fn jetstream(&self, addresses: &str) -> Result<Context, String> {
        let client = self.client_if_connected();
        client.map(jetstream).ok_or_else(|| format!("not connected to {addresses}"))
    }
}

/// The JetStream API of a client.
pub fn jetstream(client: Client) -> Context {
    ContextBuilder::new().timeout(ANSWER).build(client)
}

/// Connects once, or says why not.
pub async fn connect_once<F>(settings: &Settings, on_event: F) -> Result<Client, String>
where
    F: Fn(Event) -> std::future::Ready<()> + Send + Sync + 'static,
{
    let mut options = ConnectOptions::new()
        .name("roomcast")
        .max_reconnects(None)
        .connection_timeout(CONNECT)
        .request_timeout(Some(ANSWER))
        .event_callback(on_event);
    options = match &settings.login {
        Login::Nobody => options,
        Login::Password(name, password) => {
            options.user_and_password(name.clone(), password.expose_secret().to_owned())
        }
        Login::Token(token) => options.token(token.expose_secret().to_owned()),
        Login::Nkey(seed) => options.nkey(seed.expose_secret().trim().to_owned()),
        // A secret is kept without the line break at its end, which the client's reader insists on.
        // The error is not repeated: it could quote what it could not read.
        Login::Credentials(text) => options
            .credentials(&format!("{}\n", text.expose_secret()))
            .map_err(|_| "the credentials are not a NATS credentials file (a JWT and a seed)".to_owned())?,
    };
    if let Some(tls) = &settings.tls {
        options = options.require_tls(true);
        if let Some(file) = &tls.ca_file {
            options = options.add_root_certificates(file.clone());
        }
        if let Some((cert, key)) = &tls.client {
            options = options.add_client_certificate(cert.clone(), key.clone());
        }
    }
    let servers = settings
        .servers
        .iter()
        .map(|server| server.parse::<ServerAddr>().map_err(|_| "an address cannot be read".to_owned()))
        .collect::<Result<Vec<_>, _>>()?;
    let attempt = options.connect(servers);
    match tokio::time::timeout(CONNECT * 2, attempt).await {
        Ok(Ok(client)) => Ok(client),
        Ok(Err(error)) => Err(chain(&error)),
        Err(_) => Err("no answer in time".to_owned()),
    }
}

/// An error and what caused it, on one line, each cause once.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        cause = error.source();
    }
    text
}

/// Grows the wait between tries, and tells a failure when it is new or has gone on for a while.
#[derive(Debug)]
pub struct Patience {
    is_quiet: bool,
    wait: Duration,
    said: Option<(String, tokio::time::Instant)>,
}

impl Default for Patience {
    fn default() -> Self {
        Self { is_quiet: false, wait: WAITS.0, said: None }
    }
}

impl Patience {
    /// One that logs nothing, where another meets the same and does.
    pub fn quiet(is_quiet: bool) -> Self {
        Self { is_quiet, ..Self::default() }
    }

    /// Logs `why` if it is time, and gives it to `told` if it is new.
    pub fn tell(&mut self, why: &str, mut told: impl FnMut(String)) {
        let is_new = self.said.as_ref().is_none_or(|(said, _)| said != why);
        if is_new {
            told(why.to_owned());
        }
        if is_new || self.said.as_ref().is_some_and(|(_, at)| at.elapsed() >= TOLD_AGAIN) {
            if !self.is_quiet {
                tracing::warn!("{}", Line(why));
            }
            self.said = Some((why.to_owned(), tokio::time::Instant::now()));
        }
    }

    /// Waits: each time twice as long, up to five seconds.
    pub async fn wait(&mut self) {
        tokio::time::sleep(self.wait).await;
        self.wait = (self.wait * 2).min(WAITS.1);
    }
}

/// A reason with what is done about it.
struct Line<'a>(&'a str);

impl Display for Line<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "waiting for NATS, trying again: {}", self.0)
    }
}
