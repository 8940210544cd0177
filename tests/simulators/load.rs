//! How much a simulator carries, with a client as thin as can be. Prints requests a second
//! (`cargo test --test simulators carries -- --nocapture`); what it asserts is that nothing is lost.

use std::time::Instant;

use roomcast::simulator::{Easemob, Options, start};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

const CONNECTIONS: usize = 64;
const PER_CONNECTION: usize = 500;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_simulator_carries_a_load_and_loses_nothing() {
    let knobs = Easemob { app_token: Some("YWMt".into()), ..Easemob::default().without_limits() };
    let sim = start(Options::easemob(knobs)).expect("a free port");
    let addr = sim.addr();
    let began = Instant::now();
    let clients: Vec<_> = (0..CONNECTIONS)
        .map(|room| {
            tokio::spawn(async move {
                let mut stream = TcpStream::connect(addr).await.expect("it listens");
                stream.set_nodelay(true).expect("a TCP socket");
                let mut buffer = vec![0; 4_096];
                for nth in 0..PER_CONNECTION {
                    let body = format!(
                        r#"{{"to":["{room}"],"type":"txt","body":{{"msg":"{nth}"}},"ext":{{"roomcast_id":"{room}-{nth}"}}}}"#
                    );
                    let request = format!(
                        "POST /acme/live/messages/chatrooms HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer YWMt\r\nAccept: application/json\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
                        body.len()
                    );
                    stream.write_all(request.as_bytes()).await.expect("it is read");
                    let read = stream.read(&mut buffer).await.expect("an answer");
                    assert!(buffer[..read].starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&buffer[..read]));
                }
            })
        })
        .collect();
    for client in clients {
        client.await.expect("every answer was 200");
    }
    let seconds = began.elapsed().as_secs_f64();
    let requests = CONNECTIONS * PER_CONNECTION;
    #[expect(clippy::print_stdout, reason = "the figure is what this test is for")]
    {
        println!(
            "{:.0} requests a second ({CONNECTIONS} connections, client and server on two threads)",
            requests as f64 / seconds
        );
    }
    assert_eq!(sim.stats().accepted, requests as u64);
    for room in 0..CONNECTIONS {
        let seen = sim.seen_in(&room.to_string());
        let contents: Vec<String> = seen.iter().map(|entry| entry.content.to_string()).collect();
        let sent: Vec<String> = (0..PER_CONNECTION).map(|nth| format!(r#"{{"msg":"{nth}"}}"#)).collect();
        assert_eq!(contents, sent, "room {room} in its order");
    }
}
