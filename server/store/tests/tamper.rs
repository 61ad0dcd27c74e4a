//! What somebody with the file in hand can do to it, and what verification says then: alone, and with a head that was kept outside.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a failed test panics")]
#![allow(unreachable_pub, missing_docs)]

mod fixture;

use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use fixture::{Model, materialise};
use nonnet_chain::tree::Tree;
use nonnet_chain::{Checkpoint, FaultKind, Header, RecordHash, SecretKey, StateDigest, row_sum};
use nonnet_schema::Uuid;
use nonnet_store::{Damage, Log as _, OpenError, Reader, Scope, Sound, SqliteLog, open};
use rusqlite::Connection;

/// Where the key was replaced.
const ROTATED: u64 = 401;

/// Records in all.
const RECORDS: u64 = 802;

/// A database of 802 records with checkpoints, and what was seen of it outside.
struct Scene {
    directory: tempfile::TempDir,
    /// Its newest head.
    head: Checkpoint,
}

impl Scene {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.db");
        let mut model = Model::create_signed(&path);
        let mut log = open(&path).unwrap().log;
        fill(&mut model, &mut log, 4);
        model.rotate(&mut log);
        assert_eq!(model.chain.head().seq, ROTATED);
        fill(&mut model, &mut log, 2);
        materialise(&mut log);
        drop(log);
        for name in ["a.db", "a.db.key"] {
            std::fs::copy(
                directory.path().join(name),
                directory.path().join(format!("old-{name}")),
            )
            .unwrap();
        }
        let mut log = open(&path).unwrap().log;
        fill(&mut model, &mut log, 2);
        materialise(&mut log);
        drop(log);
        let (size, note) = Reader::open(&path).unwrap().checkpoint().unwrap().unwrap();
        assert_eq!(size, RECORDS);
        let scene = Self {
            directory,
            head: Checkpoint::parse(&note).unwrap(),
        };
        let sound = scene.verify(true).unwrap();
        assert_eq!(
            (sound.verifier.records(), sound.checkpoints, sound.unsigned),
            (RECORDS, 8, 0)
        );
        scene
    }

    fn path(&self) -> PathBuf {
        self.directory.path().join("a.db")
    }

    fn sql(&self, text: &str) {
        Connection::open(self.path()).unwrap().execute_batch(text).unwrap();
    }

    /// Removes what tells the next start how far the log went.
    fn forget_head(&self) {
        let _ = std::fs::remove_file(self.directory.path().join("a.db.head"));
    }

    fn verify(&self, with_head: bool) -> Result<Sound, Damage> {
        let scope = Scope {
            every_state: true,
            heads: with_head.then(|| self.head.clone()).into_iter().collect(),
            since: None,
        };
        match Reader::open(&self.path()).unwrap().verify(&scope, |_| ()) {
            Ok(sound) => Ok(sound),
            Err(OpenError::Damaged { damage, .. }) => Err(damage),
            Err(other) => panic!("{other}"),
        }
    }

    /// The same fault with and without a head from outside.
    fn fault(&self) -> Damage {
        let fault = self.verify(false).unwrap_err();
        assert_eq!(self.verify(true).unwrap_err(), fault);
        fault
    }

    /// Changes who made record `from`, and makes hashes, links, tree and checkpoints of all that follows anew with the key that is there.
    fn rewrite(&self, from: u64, tree_too: bool) {
        let connection = Connection::open(self.path()).unwrap();
        let mut headers: Vec<Header> = Reader::open(&self.path())
            .unwrap()
            .records(0..=u64::MAX)
            .map(|record| Header::decode(&record.unwrap().header).unwrap())
            .collect();
        let mut prev = headers[from as usize].prev;
        for header in &mut headers[from as usize..] {
            if header.seq == from {
                header.uid = 4242;
            }
            header.prev = prev;
            prev = header.hash();
            let (bytes, hash) = (header.encode(), prev.0);
            let update = "UPDATE log SET header = ?, hash = ? WHERE seq = ?";
            connection
                .execute(update, (&bytes[..], hash, header.seq as i64))
                .unwrap();
        }
        self.forget_head();
        if tree_too {
            resign(&connection, &headers, &self.stolen_key(), &self.head.origin);
        }
    }

    fn stolen_key(&self) -> SecretKey {
        let text = std::fs::read_to_string(self.directory.path().join("a.db.key")).unwrap();
        let seed = STANDARD.decode(text.lines().nth(1).unwrap()).unwrap();
        SecretKey::from_seed(&seed.try_into().unwrap())
    }
}

/// Hundreds of records, each with a checkpoint behind it.
fn fill(model: &mut Model, log: &mut SqliteLog, hundreds: usize) {
    for _ in 0..hundreds {
        model.append(log, 100);
        log.checkpoint().unwrap();
    }
}

fn resign(connection: &Connection, headers: &[Header], key: &SecretKey, origin: &str) {
    // Those of the key before cannot be made anew.
    let drop_old = format!("DELETE FROM tree; DELETE FROM checkpoint WHERE size <= {}", ROTATED + 1);
    connection.execute_batch(&drop_old).unwrap();
    let mut tree = Tree::default();
    for header in headers {
        tree.add(&header.hash(), |node, hash| {
            if node.level >= 8 {
                let insert = "INSERT INTO tree VALUES (?, ?, ?)";
                connection
                    .execute(insert, (node.level, node.index as i64, hash.0))
                    .unwrap();
            }
        });
        if tree.size() > ROTATED + 1 {
            let checkpoint = Checkpoint {
                origin: origin.to_owned(),
                size: tree.size(),
                root: tree.root(),
            };
            let update = "UPDATE checkpoint SET note = ? WHERE size = ?";
            let note = checkpoint.sign(key).unwrap();
            connection.execute(update, (note, tree.size() as i64)).unwrap();
        }
    }
}

fn kind(damage: Damage) -> (u64, FaultKind) {
    match damage {
        Damage::Record(fault) | Damage::LostRecords { fault } => (fault.seq, fault.kind),
        other => panic!("{other}"),
    }
}

#[test]
fn an_edit_is_found_where_it_is() {
    let scene = Scene::new();
    scene.sql("UPDATE log SET body = CAST(body || x'00' AS BLOB) WHERE seq = 300");
    assert_eq!(kind(scene.fault()), (300, FaultKind::EditedBody));
}

#[test]
fn an_edit_with_a_new_hash_breaks_the_next_link() {
    let scene = Scene::new();
    let record = Reader::open(&scene.path())
        .unwrap()
        .records(250..=250)
        .next()
        .unwrap()
        .unwrap();
    let mut header = Header::decode(&record.header).unwrap();
    header.uid = 4242;
    let (bytes, hash) = (header.encode(), header.hash().0);
    let connection = Connection::open(scene.path()).unwrap();
    let update = "UPDATE log SET header = ?, hash = ? WHERE seq = 250";
    connection.execute(update, (&bytes[..], hash)).unwrap();
    assert_eq!(kind(scene.fault()), (251, FaultKind::BrokenLink));
}

#[test]
fn all_that_follows_made_anew_is_not_what_the_tree_and_the_checkpoints_say() {
    let scene = Scene::new();
    scene.rewrite(600, false);
    assert!(matches!(scene.fault(), Damage::Checkpoint { size: 602, .. }));
    let scene = Scene::new();
    scene.rewrite(600, false);
    scene.sql("DELETE FROM checkpoint");
    assert!(matches!(scene.fault(), Damage::Tree { node: Some(node) } if node.level == 8));
}

#[test]
fn a_deleted_a_swapped_and_an_inserted_record_are_named() {
    let scene = Scene::new();
    scene.sql("DELETE FROM log WHERE seq = 300");
    assert_eq!(kind(scene.fault()), (301, FaultKind::MissingRecord { expected: 300 }));
    let scene = Scene::new();
    scene.sql("UPDATE log SET seq = -1 WHERE seq = 300; UPDATE log SET seq = 300 WHERE seq = 310; UPDATE log SET seq = 310 WHERE seq = -1");
    assert_eq!(kind(scene.fault()), (300, FaultKind::Reordered { found: 310 }));
    let scene = Scene::new();
    scene.sql("INSERT INTO log SELECT 802, hash, header, body FROM log WHERE seq = 300");
    assert_eq!(kind(scene.fault()), (802, FaultKind::Reordered { found: 300 }));
}

#[test]
fn a_log_that_was_cut_is_found_by_what_was_acknowledged_by_its_checkpoints_and_from_outside() {
    let scene = Scene::new();
    scene.sql("DELETE FROM log WHERE seq >= 780; DELETE FROM tree WHERE level > 8");
    scene.sql("UPDATE setting SET datum = datum WHERE name = 'rows'");
    assert!(scene.verify(false).is_err());
    let cut = Scene::new();
    // Rows and all as they were then, but for the checkpoints.
    std::fs::copy(cut.directory.path().join("old-a.db"), cut.path()).unwrap();
    let error = cut.verify(false).unwrap_err();
    assert_eq!(kind(error), (601, FaultKind::Truncated { known: RECORDS - 1 }));
    cut.forget_head();
    cut.sql("INSERT INTO checkpoint SELECT 700, note FROM checkpoint WHERE size = 602");
    assert!(matches!(cut.verify(false), Err(Damage::Checkpoint { size: 700, .. })));
}

#[test]
fn an_old_file_put_back_is_sound_alone_and_too_short_for_a_head_from_outside() {
    let scene = Scene::new();
    std::fs::copy(scene.directory.path().join("old-a.db"), scene.path()).unwrap();
    scene.forget_head();
    assert_eq!(scene.verify(false).unwrap().verifier.records(), 602);
    let behind = Damage::Behind {
        records: 602,
        size: RECORDS,
    };
    assert_eq!(scene.verify(true).unwrap_err(), behind);
}

#[test]
fn a_fork_is_sound_alone_and_another_history_for_a_head_from_outside() {
    let scene = Scene::new();
    std::fs::copy(scene.directory.path().join("old-a.db"), scene.path()).unwrap();
    scene.forget_head();
    let opened = open(&scene.path()).unwrap();
    let (mut log, mut model) = (opened.log, Model::after(opened.chain));
    for _ in 0..300 {
        let uuid = Uuid::from_u128(u128::from(model.random(u64::MAX)) << 64 | 9);
        let row = model.row(nonnet_schema::TableIndex(0), uuid);
        let expected = model.chain.head();
        let record = model.record(vec![(nonnet_schema::TableIndex(0), uuid, Some(row))]);
        log.append(&[record], expected, true).unwrap();
    }
    log.checkpoint().unwrap();
    drop(log);
    assert_eq!(scene.verify(false).unwrap().verifier.records(), 902);
    assert_eq!(scene.verify(true).unwrap_err(), Damage::Forked { size: RECORDS });
}

#[test]
fn the_key_in_force_does_not_help_to_rewrite_what_was_before_it() {
    let scene = Scene::new();
    scene.rewrite(300, true);
    assert_eq!(kind(scene.fault()), (ROTATED, FaultKind::UnsignedKey));
}

#[test]
fn with_the_key_in_force_what_came_after_it_can_be_rewritten_unless_a_head_was_seen_outside() {
    let scene = Scene::new();
    scene.rewrite(700, true);
    // The manual says that this cannot be found on one machine.
    scene.verify(false).unwrap();
    assert_eq!(scene.verify(true).unwrap_err(), Damage::Forked { size: RECORDS });
}

#[test]
fn rows_edited_behind_the_log_are_found_though_all_sums_fit() {
    let scene = Scene::new();
    let connection = Connection::open(scene.path()).unwrap();
    let (table, uuid, fields, sum): (String, [u8; 16], Vec<u8>, [u8; 16]) = connection
        .query_row(
            "SELECT tbl, uuid, fields, sum FROM row WHERE tbl = 'port' LIMIT 1",
            (),
            |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?)),
        )
        .unwrap();
    let mut edited = fields.clone();
    *edited.last_mut().unwrap() ^= 1;
    let new_sum = row_sum(&table, Uuid::from_bytes(uuid), &edited);
    let update = "UPDATE row SET fields = ?, sum = ? WHERE tbl = ? AND uuid = ?";
    connection.execute(update, (&edited, new_sum, &table, uuid)).unwrap();
    let setting = |name: &str| -> Vec<u8> {
        let query = "SELECT datum FROM setting WHERE name = ?";
        connection.query_row(query, (name,), |row| row.get(0)).unwrap()
    };
    let put = |name: &str, mut bytes: Vec<u8>| {
        let checksum = row_sum("", Uuid::nil(), &bytes);
        bytes.extend_from_slice(&checksum);
        connection
            .execute("UPDATE setting SET datum = ? WHERE name = ?", (bytes, name))
            .unwrap();
    };
    let mut rows = setting("rows");
    rows.truncate(32);
    let total = u128::from_le_bytes(rows[16..32].try_into().unwrap());
    let total = total
        .wrapping_sub(u128::from_le_bytes(sum))
        .wrapping_add(u128::from_le_bytes(new_sum));
    rows[16..32].copy_from_slice(&total.to_le_bytes());
    put("rows", rows);
    assert!(matches!(scene.fault(), Damage::State { seq } if seq == RECORDS - 1));
    assert!(matches!(
        open(&scene.path()),
        Err(OpenError::Damaged {
            damage: Damage::State { .. },
            ..
        })
    ));
    // Whoever makes the digest beside them fit as well still has the record against them.
    let mut state = setting("state");
    state.truncate(8);
    state.extend_from_slice(&StateDigest::default().to_bytes());
    put("state", state);
    assert!(matches!(
        open(&scene.path()),
        Err(OpenError::Damaged {
            damage: Damage::State { .. },
            ..
        })
    ));
}

#[test]
fn a_record_of_another_database_does_not_fit() {
    let scene = Scene::new();
    let connection = Connection::open(scene.path()).unwrap();
    let record = Reader::open(&scene.path())
        .unwrap()
        .records(801..=801)
        .next()
        .unwrap()
        .unwrap();
    let mut header = Header::decode(&record.header).unwrap();
    header.db_id = Uuid::from_u128(0xbad);
    let (bytes, hash): (_, RecordHash) = (header.encode(), header.hash());
    let update = "UPDATE log SET header = ?, hash = ? WHERE seq = 801";
    connection.execute(update, (&bytes[..], hash.0)).unwrap();
    assert_eq!(kind(scene.fault()), (801, FaultKind::ForeignRecord));
}

#[test]
fn a_key_that_was_lost_is_replaced_and_told() {
    let scene = Scene::new();
    let key = scene.directory.path().join("a.db.key");
    std::fs::remove_file(&key).unwrap();
    let _ = std::fs::remove_file(scene.directory.path().join("a.db.key.next"));
    let opened = open(&scene.path()).unwrap();
    let (mut log, mut chain) = (opened.log, opened.chain);
    assert!(log.keys().lock().current().is_none());
    let new = log.keys().lock().prepare().unwrap();
    let expected = chain.head();
    let (author, request) = (nonnet_chain::Author::default(), nonnet_chain::Request::default());
    let record = chain
        .rotate(&author, &request, nonnet_chain::Moment::default(), (None, new))
        .unwrap();
    log.append(&[record], expected, true).unwrap();
    log.checkpoint().unwrap();
    drop(log);
    let sound = scene.verify(true).unwrap();
    assert_eq!(
        (sound.verifier.lost_keys(), sound.verifier.key()),
        (&[RECORDS][..], Some(new))
    );
    assert!(key.exists());
}

/// Whoever reads it may do so only as its owner.
#[test]
fn keys_are_for_their_owner_only_and_the_old_one_is_gone() {
    use std::os::unix::fs::PermissionsExt as _;
    let scene = Scene::new();
    let old = std::fs::read(scene.directory.path().join("old-a.db.key")).unwrap();
    let mut files: Vec<PathBuf> = std::fs::read_dir(scene.directory.path())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    files.retain(|path: &PathBuf| path.file_name().unwrap().to_string_lossy().starts_with("a.db.key"));
    assert!(!files.is_empty());
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    for file in &files {
        assert_eq!(mode(file), 0o600, "{}", file.display());
    }
    assert_eq!(
        std::fs::read(scene.directory.path().join("a.db.key")).unwrap(),
        old,
        "the key since the rotation"
    );
}

#[test]
fn a_later_verification_reads_only_what_came_and_finds_another_past() {
    let scene = Scene::new();
    let first = scene.verify(false).unwrap().verified().unwrap();
    let since = |verified| Scope {
        since: Some(verified),
        ..Scope::default()
    };
    let again = || Reader::open(&scene.path()).unwrap().verify(&since(first), |_| ());
    assert_eq!(again().unwrap().verifier.records(), 0);
    let opened = open(&scene.path()).unwrap();
    let (mut log, mut model) = (opened.log, Model::after(opened.chain));
    for number in 0..10 {
        let uuid = Uuid::from_u128(number << 64 | 0xb);
        let row = model.row(nonnet_schema::TableIndex(0), uuid);
        let expected = model.chain.head();
        let record = model.record(vec![(nonnet_schema::TableIndex(0), uuid, Some(row))]);
        log.append(&[record], expected, true).unwrap();
    }
    log.checkpoint().unwrap();
    drop(log);
    let sound = again().unwrap();
    assert_eq!((sound.verifier.records(), sound.checkpoints), (10, 1));
    assert_eq!(sound.root, scene.verify(true).unwrap().root);
    std::fs::copy(scene.directory.path().join("old-a.db"), scene.path()).unwrap();
    scene.forget_head();
    let OpenError::Damaged { damage, .. } = again().unwrap_err() else {
        panic!("another error")
    };
    let behind = Damage::Behind {
        records: 602,
        size: RECORDS,
    };
    assert_eq!(damage, behind);
    let other = Scene::new();
    other.rewrite(700, true);
    let found = Reader::open(&other.path()).unwrap().verify(&since(first), |_| ());
    assert!(matches!(
        found,
        Err(OpenError::Damaged {
            damage: Damage::Forked { size: RECORDS },
            ..
        })
    ));
}
