//! A process that has run out of file descriptors rests, and goes on when there are some again. Alone in its process.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    missing_docs,
    reason = "a failed test panics, and a test crate has no documentation"
)]

use std::{fs::File, time::Duration};

use nonnet_rpc::{Inbound, Listeners, Remote, RemoteOptions, inbound_channel};
use tokio::{net::UnixSocket, time::timeout};

/// The processor time this process has used, in ticks of 10 ms (`proc(5)`, stat fields 14 and 15).
fn ticks_used(stat: &mut File) -> u64 {
    use std::io::{Read, Seek};
    let mut text = String::new();
    stat.rewind().unwrap();
    stat.read_to_string(&mut text).unwrap();
    let fields = text.rsplit_once(')').unwrap().1.split_whitespace();
    fields.skip(11).take(2).map(|field| field.parse::<u64>().unwrap()).sum()
}

#[tokio::test]
async fn accept_loop_rests_without_file_descriptors_and_recovers() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("sock");
    let (sender, mut events) = inbound_channel();
    let mut listeners = Listeners::new(sender);
    listeners
        .start(Remote::PassiveUnix(path.clone()), RemoteOptions::default())
        .unwrap();
    let client = UnixSocket::new_stream().unwrap();
    let mut stat = File::open("/proc/self/stat").unwrap();
    let mut hoard = Vec::new();
    while let Ok(file) = File::open("/dev/null") {
        hoard.push(file);
    }
    let _client = client.connect(&path).await.unwrap();
    let before = ticks_used(&mut stat);
    assert!(timeout(Duration::from_millis(500), events.recv()).await.is_err());
    assert!(ticks_used(&mut stat) - before < 25, "half of one processor at most");
    drop(hoard);
    let event = timeout(Duration::from_secs(20), events.recv()).await.unwrap();
    assert!(matches!(event, Some(Inbound::Opened { .. })));
}
