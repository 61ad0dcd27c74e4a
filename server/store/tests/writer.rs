//! The writer: order, groups, and what becomes of batches when the log fails.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a failed test panics")]
#![allow(unreachable_pub, missing_docs)]

mod fixture;

use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use fixture::Model;
use nonnet_chain::{Chain, Head, Record};
use nonnet_store::{
    AppendError, Batch, Completion, Durability, Faulty, InjectedFault, Log, MemoryLog, QueueError, Writer, open,
};

const PATIENCE: Duration = Duration::from_secs(10);

fn start(log: impl Log + 'static, durability: Durability) -> (Writer, Receiver<Completion>) {
    let (sender, completions) = channel();
    let writer = Writer::start(Box::new(log), durability, move |completion| {
        drop(sender.send(completion));
    })
    .unwrap();
    (writer, completions)
}

fn model() -> Model {
    let directory = tempfile::tempdir().unwrap();
    Model::create(&directory.path().join("a.db"))
}

fn batch(model: &mut Model, id: u64) -> Batch {
    let expected = model.chain.head();
    Batch {
        id,
        records: vec![model.next(), model.next()],
        expected,
        durable: false,
    }
}

#[test]
fn batches_are_completed_in_order_and_stored() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.db");
    let mut model = Model::create(&path);
    let (writer, completions) = start(open(&path).unwrap().log, Durability::EveryCommit);
    for id in 0..200 {
        writer.append(batch(&mut model, id)).unwrap();
    }
    let (mut ids, mut head) = (Vec::new(), None);
    while ids.len() < 200 {
        let completion = completions.recv_timeout(PATIENCE).unwrap();
        ids.extend(completion.batches);
        head = Some(completion.result.unwrap());
    }
    assert_eq!(ids, (0..200).collect::<Vec<_>>());
    assert_eq!(head, Some(model.chain.head()));
    writer.stop().unwrap();
    let opened = open(&path).unwrap();
    model.assert_same(&opened);
    assert_eq!(opened.replayed, 0);
}

#[test]
fn what_is_built_on_a_batch_that_found_no_room_fails_too_and_then_it_goes_on() {
    let mut model = model();
    let before = (model.chain.clone(), model.rows.clone());
    let log = Faulty::new(MemoryLog::after(model.chain.head()), [(0, InjectedFault::Full)]);
    let (writer, completions) = start(log, Durability::EveryCommit);
    let mut failed = Vec::new();
    for id in 0..5 {
        writer.append(batch(&mut model, id)).unwrap();
    }
    while failed.len() < 5 {
        let completion = completions.recv_timeout(PATIENCE).unwrap();
        assert!(matches!(completion.result, Err(AppendError::Full { .. })));
        failed.extend(completion.batches);
    }
    assert_eq!(failed, [0, 1, 2, 3, 4]);
    (model.chain, model.rows) = before;
    writer.append(batch(&mut model, 5)).unwrap();
    assert_eq!(
        completions.recv_timeout(PATIENCE).unwrap().result.unwrap(),
        model.chain.head()
    );
    writer.stop().unwrap();
}

#[test]
fn after_an_unknown_outcome_the_writer_ends() {
    for fault in [InjectedFault::Failed, InjectedFault::FailedAfterWriting] {
        let mut model = model();
        let log = Faulty::new(MemoryLog::after(model.chain.head()), [(1, fault)]);
        let (writer, completions) = start(log, Durability::EveryCommit);
        writer.append(batch(&mut model, 0)).unwrap();
        completions.recv_timeout(PATIENCE).unwrap().result.unwrap();
        writer.append(batch(&mut model, 1)).unwrap();
        let completion = completions.recv_timeout(PATIENCE).unwrap();
        assert_eq!(completion.batches, [1]);
        assert!(completion.result.unwrap_err().is_fatal());
        assert!(completions.recv_timeout(PATIENCE).is_err());
        assert!(matches!(writer.append(batch(&mut model, 2)), Err(QueueError::Ended(_))));
    }
}

/// Tells of each append with its durability, and of each sync.
struct Telling {
    inner: MemoryLog,
    told: Sender<Option<bool>>,
}

impl Log for Telling {
    fn head(&self) -> Head {
        self.inner.head()
    }

    fn append(&mut self, batch: &[Record], expected: Head, durable: bool) -> Result<Head, AppendError> {
        self.told.send(Some(durable)).unwrap();
        self.inner.append(batch, expected, durable)
    }

    fn sync(&mut self) -> Result<(), AppendError> {
        self.told.send(None).map_err(|_| panic!("nobody listens"))
    }

    fn maintain(&mut self, _idle: bool) -> Result<bool, AppendError> {
        Ok(false)
    }
}

#[test]
fn on_request_syncs_at_once_where_asked_and_soon_elsewhere() {
    let mut model = model();
    let (told, tells) = channel();
    let log = Telling {
        inner: MemoryLog::after(model.chain.head()),
        told,
    };
    let (writer, completions) = start(log, Durability::OnRequest);
    writer.append(batch(&mut model, 0)).unwrap();
    completions.recv_timeout(PATIENCE).unwrap().result.unwrap();
    assert_eq!(tells.recv_timeout(PATIENCE), Ok(Some(false)));
    assert_eq!(tells.recv_timeout(PATIENCE), Ok(None));
    writer
        .append(Batch {
            durable: true,
            ..batch(&mut model, 1)
        })
        .unwrap();
    assert_eq!(tells.recv_timeout(PATIENCE), Ok(Some(true)));
    writer.stop().unwrap();
}

#[test]
fn a_full_queue_gives_the_batch_back() {
    struct Stuck(Receiver<()>, MemoryLog);
    impl Log for Stuck {
        fn head(&self) -> Head {
            self.1.head()
        }
        fn append(&mut self, batch: &[Record], expected: Head, durable: bool) -> Result<Head, AppendError> {
            let _ = self.0.recv();
            self.1.append(batch, expected, durable)
        }
        fn sync(&mut self) -> Result<(), AppendError> {
            Ok(())
        }
        fn maintain(&mut self, _idle: bool) -> Result<bool, AppendError> {
            Ok(false)
        }
    }
    let (release, stuck) = channel();
    let model = model();
    let mut chain: Chain = model.chain;
    let (writer, _completions) = start(Stuck(stuck, MemoryLog::after(chain.head())), Durability::EveryCommit);
    let mut refused = None;
    for id in 0..10_000 {
        let expected = chain.head();
        let record = chain
            .commit(
                &nonnet_chain::Author::default(),
                &nonnet_chain::Request::default(),
                nonnet_chain::Moment::default(),
                &nonnet_engine::ChangeSet::default(),
                &model.schema,
            )
            .unwrap();
        match writer.append(Batch {
            id,
            records: vec![record],
            expected,
            durable: false,
        }) {
            Ok(()) => {}
            Err(QueueError::Full(batch)) => {
                refused = Some(batch.id);
                break;
            }
            Err(QueueError::Ended(_)) => panic!("ended"),
        }
    }
    assert!(refused.is_some());
    drop(release);
    writer.stop().unwrap();
}
