//! Brokers that want to know who comes: TLS with certificates on both sides, SASL, credentials files.
//! An event comes in and a letter goes out by each way; what is wrong is told and waited for.

mod accounts;
mod certificates;

use std::time::Duration;

use async_nats::ConnectOptions;

use self::accounts::Accounts;
use self::certificates::{Certificates, Pair, text};
use crate::bed::{Bed, Event, line_route, lines};
use crate::support::daemon::Daemon;
use crate::support::free_port;
use crate::support::kafka::Kafka;
use crate::support::nats::Nats;
use crate::support::oracle::judge;
use crate::support::provider::{Kind, Provider};

const PATIENCE: Duration = Duration::from_secs(60);
/// The password of every user of [`Guarded`].
pub const PASSWORD: &str = "swordfish-7";
/// Enough that the letter's producer and the reader both had to log in.
const COUNT: u64 = 20;

/// A Kafka with three listeners that ask for more than an address, and what a client needs for each.
pub struct Guarded {
    kafka: Kafka,
    certificates: Certificates,
    client: Pair,
    ssl: u16,
    sasl_ssl: u16,
    /// The port of SASL without TLS.
    pub sasl_plain: u16,
}

impl Guarded {
    /// Starts it.
    pub fn start() -> Self {
        let certificates = Certificates::new();
        let (server, client) = (certificates.server(), certificates.client());
        let (ssl, sasl_ssl, sasl_plain) = (free_port(), free_port(), free_port());
        let listeners = format!(
            "listeners=SSL://127.0.0.1:{ssl},SASL_SSL://127.0.0.1:{sasl_ssl},SASL_PLAINTEXT://127.0.0.1:{sasl_plain}"
        );
        let store = format!("ssl.keystore.location={}", text(&server.store));
        let trusted = format!("ssl.truststore.location={}", text(&certificates.authority()));
        let login = "org.apache.kafka.common.security";
        let scram = |listener: &str, mechanism: &str| {
            format!(
                "listener.name.{listener}.{mechanism}.sasl.jaas.config={login}.scram.ScramLoginModule required;"
            )
        };
        let kafka = Kafka::start(&[
            &listeners,
            "ssl.keystore.type=PEM",
            &store,
            "ssl.truststore.type=PEM",
            &trusted,
            "listener.name.ssl.ssl.client.auth=required",
            "listener.name.sasl_ssl.ssl.client.auth=required",
            "sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-256,SCRAM-SHA-512",
            &format!(
                "listener.name.sasl_ssl.plain.sasl.jaas.config={login}.plain.PlainLoginModule required user_roomcast=\"{PASSWORD}\";"
            ),
            &scram("sasl_ssl", "scram-sha-512"),
            &scram("sasl_plaintext", "scram-sha-256"),
            "listener.name.sasl_ssl.sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-512",
            "listener.name.sasl_plaintext.sasl.enabled.mechanisms=SCRAM-SHA-256",
        ]);
        for mechanism in ["SCRAM-SHA-256", "SCRAM-SHA-512"] {
            kafka.add_scram_user(mechanism, "roomcast", PASSWORD);
        }
        Self { kafka, certificates, client, ssl, sasl_ssl, sasl_plain }
    }

    /// The `tls` line of a source that trusts the authority and shows the client's certificate.
    fn tls(&self) -> String {
        let (ca, cert, key) = (self.certificates.authority(), &self.client.cert, &self.client.key);
        format!(
            "tls = {{ ca_file = \"{}\", cert_file = \"{}\", key_file = \"{}\" }}\n",
            text(&ca),
            text(cert),
            text(key)
        )
    }

    /// A topic of its own, and the source that reads it through the listener on `port`.
    pub fn source(&self, port: u16, more: &str) -> (Bed, String) {
        let bed = Bed::kafka_on(self.kafka.without_process(), &[]);
        let source = bed.source(more).replace(&self.kafka.address(), &format!("127.0.0.1:{port}"));
        (bed, source)
    }
}

/// The lines of a source that logs in.
pub fn login(mechanism: &str, password: &str) -> String {
    format!("mechanism = \"{mechanism}\"\nusername = \"roomcast\"\npassword = \"{password}\"\n")
}

/// Lines that are delivered and one event that becomes a letter, through one source.
fn events_come_in_and_a_letter_goes_out(bed: &Bed, source: &str) {
    let provider = Provider::start(Kind::Yunxin, &["--no-limits"]);
    let account = provider.account("match", "quota = { room_messages_per_second = 1000 }");
    let mut daemon = Daemon::start_ready(&[&account, source, &line_route("match", "")].concat());
    let lines = lines(5, COUNT);
    bed.publish_lines(&lines);
    bed.publish([Event::new("1001", "not JSON")]);
    bed.await_finished(PATIENCE);
    judge(&lines.into_iter().collect(), &provider.log(), &[].into()).assert_kept();
    assert_eq!(bed.letters().len(), 1);
    assert!(daemon.stop().success());
}

#[test]
fn kafka_is_reached_by_tls_and_by_sasl() {
    let guarded = Guarded::start();
    let tls = guarded.tls();
    let authority = format!("tls = {{ ca_file = \"{}\"", text(&guarded.certificates.authority()));
    let ways = [
        (guarded.ssl, tls.clone()),
        (guarded.sasl_ssl, tls.clone() + &login("PLAIN", PASSWORD)),
        (guarded.sasl_ssl, tls.clone() + &login("SCRAM-SHA-512", PASSWORD)),
        (guarded.sasl_plain, login("SCRAM-SHA-256", PASSWORD)),
    ];
    for (port, more) in ways {
        let (bed, source) = guarded.source(port, &more);
        events_come_in_and_a_letter_goes_out(&bed, &source);
    }
    let other = Certificates::new();
    let stranger = format!("tls = {{ ca_file = \"{}\" }}\n", text(&other.authority()));
    let wrong = [
        (guarded.sasl_plain, login("SCRAM-SHA-256", "guessed"), "uthentication failed"),
        (guarded.sasl_ssl, tls.clone() + &login("PLAIN", "guessed"), "uthentication failed"),
        (guarded.ssl, stranger, "certificate verify failed"),
        (guarded.ssl, authority + " }\n", "certificate"),
    ];
    for (port, more, why) in wrong {
        let (_bed, source) = guarded.source(port, &more);
        what_is_wrong_is_told_and_waited_for(&source, why);
    }
}

#[test]
fn nats_is_reached_by_tls_and_a_credentials_file() {
    let (certificates, accounts) = (Certificates::new(), Accounts::new());
    let (server, client) = (certificates.server(), certificates.client());
    let authority = certificates.authority();
    let tls = format!(
        "tls {{ cert_file: \"{}\", key_file: \"{}\", ca_file: \"{}\", verify: true }}\n",
        text(&server.cert),
        text(&server.key),
        text(&authority)
    );
    let (cert, key, ca) = (client.cert.clone(), client.key.clone(), authority.clone());
    let credentials = accounts.credentials.clone();
    let nats = Nats::start_guarded(&(tls + &accounts.server), move || {
        let options = ConnectOptions::with_credentials(&credentials).expect("the credentials are whole");
        options
            .require_tls(true)
            .add_root_certificates(ca.clone())
            .add_client_certificate(cert.clone(), key.clone())
    });
    let folder = tempfile::tempdir().expect("a scratch folder");
    let file = folder.path().join("roomcast.creds");
    std::fs::write(&file, &accounts.credentials).expect("the scratch folder can be written");
    let ours = format!("credentials_file = \"{}\"\n", text(&file));
    let tls = |ca: &str, more: &str| format!("tls = {{ ca_file = \"{ca}\"{more} }}\n");
    let shown = format!(", cert_file = \"{}\", key_file = \"{}\"", text(&client.cert), text(&client.key));

    let bed = Bed::nats_on(nats);
    let source = bed.source(&(ours.clone() + &tls(text(&authority), &shown)));
    events_come_in_and_a_letter_goes_out(&bed, &source);

    let other = Certificates::new();
    let stranger = Accounts::new();
    let theirs = folder.path().join("stranger.creds");
    std::fs::write(&theirs, &stranger.credentials).expect("the scratch folder can be written");
    let theirs = format!("credentials_file = \"{}\"\n", text(&theirs));
    let wrong = [
        (theirs + &tls(text(&authority), &shown), "uthorization violation"),
        (ours.clone() + &tls(text(&other.authority()), &shown), "certificate"),
        (ours + &tls(text(&authority), ""), "ertificate"),
    ];
    for (more, why) in wrong {
        what_is_wrong_is_told_and_waited_for(&bed.source(&more), why);
    }
}

/// The daemon says what the broker said, is not ready, and still runs.
#[track_caller]
fn what_is_wrong_is_told_and_waited_for(source: &str, why: &str) {
    let provider = Provider::start(Kind::Yunxin, &[]);
    let config = [&provider.account("match", ""), source, &line_route("match", "")].concat();
    let mut daemon = Daemon::start(&config);
    let line = daemon.process().await_line(why, PATIENCE);
    assert!(!line.contains("guessed"), "a password in the log: {line}");
    assert_eq!(daemon.get("/readyz").map(|answer| answer.status), Some(503));
    assert_eq!(daemon.get("/livez").map(|answer| answer.status), Some(200));
    let ended = daemon.stop();
    assert!(ended.success(), "{ended}");
}
