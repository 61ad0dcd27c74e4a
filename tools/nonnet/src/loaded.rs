//! A database in memory, on which operations are executed here instead of by a server.

use std::sync::Arc;

use anyhow::Result;
use nonnet_engine::{Access, Context, Database, Entropy, Outcome, execute};
use nonnet_schema::DatabaseSchema;
use nonnet_store::StoredRow;
use serde_json::Value;

use crate::origin;

/// The rows of a file.
pub(crate) struct Loaded {
    pub(crate) database: Database,
    pub(crate) entropy: Entropy,
}

impl Loaded {
    /// Rows of that schema.
    pub(crate) fn new(schema: DatabaseSchema, rows: Vec<StoredRow>) -> Result<Self> {
        let mut entropy = Entropy::new(origin::seed()?);
        let mut database = Database::new(Arc::new(schema), entropy.uuid().as_u64_pair().0);
        for row in rows {
            database.load(row.table, row.uuid, row.fields, &mut entropy);
        }
        Ok(Self { database, entropy })
    }

    /// What a server would answer; nothing has changed then.
    pub(crate) fn execute(&mut self, operations: &[Value], role: &str) -> Outcome {
        let context = Context {
            elapsed_ms: 0,
            read_only: false,
            // Nobody showed a certificate.
            access: Access { role, client: "" },
            owns_lock: &|_| false,
            sequence: 0,
            hook: None,
        };
        execute(&self.database, operations, &context, &mut self.entropy)
    }
}
