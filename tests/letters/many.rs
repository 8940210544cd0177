//! Many letters: listed in bounded memory, and given up as soon as nobody reads.

use std::io::{BufRead, BufReader};
use std::process::Stdio;
use std::time::Instant;

use roomcast::core::model::Class;

use crate::bed::{Bed, Broker};
use crate::chains::letter;
use crate::support::daemon::roomcast;
use crate::support::kafka::Record;

/// What a listing may take, whatever the letters weigh: the program and its libraries, 4 MiB that the
/// Kafka client reads ahead, and 35 bytes for each letter's id.
const MOST_KIB: u64 = 80_000;

fn many() -> u64 {
    let told = std::env::var("LETTERS_MANY").ok();
    told.map_or(60_000, |text| text.parse().expect("LETTERS_MANY is a number"))
}

/// Letters that differ in their ids alone.
fn fill(bed: &Bed, count: u64) {
    let Broker::Kafka(kafka) = &bed.broker else { unreachable!("this bed is Kafka's") };
    kafka.create_topic(&bed.dead_letter(), 3, &[]);
    let sealed = letter(0, Class::Rejected, Vec::new());
    let value = Some([b"{\"type\":\"line\",\"text\":\"", &[b'x'; 400][..], b"\"}"].concat());
    let headers: Vec<(String, Vec<u8>)> =
        sealed.headers.iter().map(|(name, value)| (name.to_string(), value.to_vec())).collect();
    let id = headers.iter().position(|(name, _)| name == "roomcast-letter").expect("a letter has an id");
    kafka.produce(
        &bed.dead_letter(),
        (0..count).map(|number| {
            let mut headers = headers.clone();
            headers[id].1 = uuid::Uuid::from_u128(u128::from(number) << 64 | 7).to_string().into_bytes();
            let partition = Some(i32::try_from(number % 3).expect("small"));
            Record { partition, key: Some(b"1001".to_vec()), value: value.clone(), headers }
        }),
    );
}

/// The most memory that a process has had, in KiB.
fn most_resident(pid: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().trim_end_matches(" kB").parse().ok()
}

#[test]
#[expect(clippy::print_stderr, reason = "figures of a run that was made larger are read by people")]
fn many_letters_are_listed_in_bounded_memory_and_a_reader_that_goes_away_ends_it() {
    let (bed, count) = (Bed::kafka(), many());
    fill(&bed, count);
    let mut most = 0;
    for format in ["json", "table"] {
        let mut command = roomcast(&["letters", "list", "--format", format, "-c"]);
        command.arg(bed.config_file()).stdin(Stdio::null()).stdout(Stdio::piped());
        let began = Instant::now();
        let mut child = command.spawn().expect("the binary is built");
        let mut lines = 0_u64;
        for line in BufReader::new(child.stdout.take().expect("it is piped")).lines() {
            line.expect("output is UTF-8");
            lines += 1;
            if lines.is_multiple_of(5_000) {
                most = most.max(most_resident(child.id()).unwrap_or(0));
            }
        }
        assert!(child.wait().expect("it is our child").success());
        assert_eq!(lines, count + u64::from(format == "table"), "each once, and a line of titles");
        eprintln!("{count} letters as {format}: {:?}, at most {most} KiB", began.elapsed());
    }
    // 35 bytes more for each of a larger run.
    assert!(most < MOST_KIB + count * 35 / 1_024, "{most} KiB");

    let began = Instant::now();
    let gone = bed.three_lines(&["list"]);
    assert_eq!((gone.code, &*gone.stderr, gone.stdout.lines().count()), (Some(0), "", 3));
    eprintln!("three lines: {:?}", began.elapsed());
}
