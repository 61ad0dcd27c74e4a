//! Damage in the words of ovsdb-server, which scripts look for in its log.

use std::path::Path;

use super::{RecordDamage, RecordFault};

impl RecordDamage {
    /// What ovsdb-server says of this damage when it opens the file under that name (ovsdb/log.c, ovsdb/file.c). What is wrong with JSON is
    /// said in our words within them.
    pub fn as_ovsdb_server_says(&self, path: &Path) -> String {
        let file = path.display();
        let body = format!(
            "syntax error: {file}: {} bytes starting at offset {}",
            self.body_bytes, self.body_offset
        );
        match &self.fault {
            RecordFault::Header(text) => {
                let offset = self.offset;
                format!("syntax error: {file}: parse error at offset {offset} in header line \"{text}\"")
            }
            RecordFault::Short { expected, .. } => {
                let offset = self.body_offset;
                format!("I/O error: {file}: error reading {expected} bytes starting at offset {offset} (End of file)")
            }
            RecordFault::Checksum { found, expected } => {
                format!("{body} have SHA-1 hash {found} but should have hash {expected}")
            }
            RecordFault::Json(error) => format!("{body} are not valid JSON ({error})"),
            RecordFault::UnknownTable { table, syntax } => {
                format!("syntax \"{syntax}\": unknown table: No table named {table}.")
            }
            RecordFault::UnknownColumn { table, column, syntax } => {
                format!("syntax \"{syntax}\": unknown column: No column {column} in table {table}.")
            }
            RecordFault::BadUuid { text, syntax, .. } => {
                format!("syntax \"{syntax}\": syntax error: \"{text}\" is not a valid UUID")
            }
            RecordFault::UnknownRow { uuid, .. } => {
                format!("syntax error: transaction deletes row {uuid} that does not exist")
            }
            RecordFault::Schema(error) | RecordFault::Value { error, .. } => {
                let words = format!("{}: {}", error.kind().tag(), error.kind());
                error
                    .syntax()
                    .map_or(words.clone(), |syntax| format!("syntax \"{syntax}\": {words}"))
            }
            RecordFault::NotObject(_) | RecordFault::Size { .. } => format!("syntax error: {file}: {}", self.fault),
        }
    }
}
