//! What fuzzers feed: one function per target, which takes any bytes and panics where a property does not hold.
//!
//! Two drivers share them: `tests/tests/fuzz.rs` (the corpus, and mutations of it by proptest, in every `cargo test`) and
//! `tests/fuzz` (libFuzzer, by hand).

mod rig;

use nonnet_schema::{
    Clause, Condition, DatabaseSchema, Datum, Function, Message, Scanner, error_reply_text, json as notation,
    reply_text,
};
use serde::Deserialize as _;
use serde_json::{Deserializer, Value};

use rig::Rig;

/// One thing that is fuzzed.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// Its name, and that of its directory of the corpus.
    pub name: &'static str,
    /// What is done with an input.
    pub run: fn(&[u8]),
}

/// All of them.
pub const TARGETS: [Target; 5] = [
    Target {
        name: "json",
        run: json,
    },
    Target {
        name: "message",
        run: message,
    },
    Target {
        name: "schema",
        run: schema,
    },
    Target {
        name: "condition",
        run: condition,
    },
    Target {
        name: "transact",
        run: transact,
    },
];

/// The messages of a stream come apart the same way however it is cut, and each prints as what it is.
pub fn json(data: &[u8]) {
    let cut_at = data.first().map_or(0, |first| usize::from(*first) % (data.len() + 1));
    let whole = frames(&[data]);
    assert_eq!(whole, frames(&[&data[..cut_at], &data[cut_at..]]), "cut at {cut_at}");
    for text in whole.0 {
        let Some(value) = parse(&text) else { continue };
        let printed = notation::to_text(&value);
        let again = parse_any_depth(printed.as_bytes()).unwrap_or_else(|error| panic!("{error}: printed {printed}"));
        assert_eq!(notation::to_text(&again), printed);
    }
}

/// A server that is sent any messages answers each at most once and goes on serving another session.
pub fn message(data: &[u8]) {
    let mut rig = Rig::new("types");
    for text in frames(&[data]).0 {
        let Some(value) = parse(&text) else { break };
        if let Ok(Message::Request { id, .. }) = Message::parse(value.clone()) {
            let reply = parse_any_depth(reply_text(&id, "[]").as_bytes()).expect("a reply is JSON");
            assert_eq!(notation::to_text(&reply["id"]), notation::to_text(&id));
        }
        rig.message(rig::CLIENT, value);
    }
    rig.settle();
    rig.check_served();
}

/// A schema that is accepted prints as one that is accepted and is the same; its rows have defaults.
pub fn schema(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let Ok(schema) = DatabaseSchema::from_text(text) else {
        return;
    };
    let printed = schema.to_text();
    let again = DatabaseSchema::from_text(&printed).unwrap_or_else(|error| panic!("{error}: {printed}"));
    assert_eq!(again.to_text(), printed);
    for table in schema.tables() {
        assert_eq!(table.default_fields().len(), table.columns().len());
    }
}

/// Clauses about rows of any table: they agree with each other, and errors print.
pub fn condition(data: &[u8]) {
    let Some(clauses) = parse(data) else { return };
    let schema = rig::schema("types");
    for table in schema.tables() {
        let condition = match Condition::parse(&clauses, table, None) {
            Ok(condition) => condition,
            Err(error) => {
                let text = error_reply_text(&Value::Null, &error.into());
                assert!(parse_any_depth(text.as_bytes()).is_ok(), "{text}");
                continue;
            }
        };
        let mut rows = vec![table.default_fields()];
        // Rows that are what the clauses ask for.
        for clause in &condition.clauses {
            if let Clause::Column { column, argument, .. } = clause {
                let mut row = table.default_fields();
                row[column.0] = argument.clone();
                rows.push(row);
            }
        }
        for row in &rows {
            check_row(&condition, row);
        }
    }
}

fn check_row(condition: &Condition, row: &[Datum]) {
    let each: Vec<bool> = condition.clauses.iter().map(|clause| clause.holds(row)).collect();
    assert_eq!(condition.all_hold(row), each.iter().all(|holds| *holds));
    assert_eq!(
        condition.any_holds(row),
        each.is_empty() || each.iter().any(|holds| *holds)
    );
    for (clause, holds) in condition.clauses.iter().zip(each) {
        let Clause::Column {
            column,
            function,
            argument,
        } = clause
        else {
            continue;
        };
        let with = |function| {
            let (column, argument) = (*column, argument.clone());
            Clause::Column {
                column,
                function,
                argument,
            }
            .holds(row)
        };
        match function {
            Function::Equal => assert_ne!(holds, with(Function::NotEqual)),
            Function::NotEqual => assert_ne!(holds, with(Function::Equal)),
            Function::Less => assert!(!holds || !with(Function::GreaterOrEqual)),
            Function::LessOrEqual => assert_eq!(holds, with(Function::Less) || row[column.0] == *argument),
            Function::Greater => assert!(!holds || !with(Function::LessOrEqual)),
            Function::GreaterOrEqual => assert_eq!(holds, with(Function::Greater) || row[column.0] == *argument),
            Function::Includes => assert!(holds || row[column.0] != *argument),
            Function::Excludes => assert!(!holds || argument.is_empty() || row[column.0] != *argument),
        }
    }
}

/// Transactions, one per line, each an array of operations; a line that is a string names the schema. Monitors of every version, and of a
/// session that does not read, end with the rows of the database; what could not be stored leaves nothing behind.
pub fn transact(data: &[u8]) {
    let mut lines = data.split(|byte| *byte == b'\n').peekable();
    let named = lines.next_if(|line| line.first() == Some(&b'"')).and_then(parse);
    let mut rig = Rig::new(named.as_ref().and_then(Value::as_str).unwrap_or("types"));
    rig.watch();
    for line in lines.take(rig::TRANSACTIONS_MAX) {
        let Some(Value::Array(operations)) = parse(line) else {
            continue;
        };
        rig.transact(operations);
    }
    rig.settle();
    rig.check_replicas();
    rig.undo_all();
}

/// The texts of the messages of a stream that comes in pieces, and how it ends.
fn frames(pieces: &[&[u8]]) -> (Vec<Vec<u8>>, Option<String>) {
    let (mut scanner, mut texts) = (Scanner::new(), Vec::new());
    for piece in pieces {
        scanner.push(piece);
        loop {
            match scanner.next_frame() {
                Ok(Some(frame)) => texts.push(frame.text.to_vec()),
                Ok(None) => break,
                Err(error) => return (texts, Some(error.to_string())),
            }
        }
    }
    (texts, scanner.finish().err().map(|error| error.to_string()))
}

/// As the server parses a message; nothing that is nested too deep.
fn parse(text: &[u8]) -> Option<Value> {
    let (mut depth, mut deepest) = (0_usize, 0);
    for byte in text {
        match byte {
            b'[' | b'{' => depth += 1,
            b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        deepest = deepest.max(depth);
    }
    if deepest > nonnet_schema::DEPTH_MAX {
        return None;
    }
    parse_any_depth(text).ok()
}

/// What a server sends is nested as deep as what it was sent.
fn parse_any_depth(text: &[u8]) -> serde_json::Result<Value> {
    let mut deserializer = Deserializer::from_slice(text);
    deserializer.disable_recursion_limit();
    let value = Value::deserialize(&mut deserializer)?;
    deserializer.end()?;
    Ok(value)
}
