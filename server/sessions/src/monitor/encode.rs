//! Table updates as text: `<table-updates>` (RFC 7047 4.1.6) and `<table-updates2>` (ovsdb-server(7) 4.1.14).

use std::sync::Arc;

use nonnet_engine::{Row, RowChange, Snapshot};
use nonnet_schema::{
    Atom, ColumnIndex, DatabaseSchema, Datum, MonitorRequest, MonitoredTable, Select, TableSchema, json,
};

use super::Notation;

/// What happens to a row in the eyes of a monitor.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Initial,
    Insert,
    Delete,
    Modify,
}

impl Kind {
    fn is_in(self, select: Select) -> bool {
        match self {
            Self::Initial => select.initial,
            Self::Insert => select.insert,
            Self::Delete => select.delete,
            Self::Modify => select.modify,
        }
    }
}

/// The rows that a monitor starts with, as the text of an object; `{}` for none.
pub(crate) fn encode_initial(snapshot: &Snapshot, request: &MonitorRequest, notation: Notation) -> String {
    let mut out = Updates::new(notation);
    for table in request.tables.iter().filter(|table| table.select.initial) {
        let schema = snapshot.schema().table(table.table);
        for row in snapshot
            .table(table.table)
            .rows()
            .filter(|row| table.condition.any_holds(row.fields()))
        {
            out.row(schema, table, Kind::Initial, None, Some(row));
        }
        out.end_table();
    }
    out.finish().unwrap_or_else(|| "{}".to_owned())
}

/// What `changes`, sorted by table, look like to a monitor; None where it sees nothing of them.
pub(crate) fn encode_changes(
    schema: &DatabaseSchema,
    request: &MonitorRequest,
    notation: Notation,
    changes: &[RowChange],
) -> Option<String> {
    let mut out = Updates::new(notation);
    for changes in changes.chunk_by(|a, b| a.table == b.table) {
        let Some(table) = changes.first().and_then(|change| request.table(change.table)) else {
            continue;
        };
        let seen = |row: &'_ Option<Arc<Row>>| row.clone().filter(|row| table.condition.any_holds(row.fields()));
        for change in changes {
            let (old, new) = (seen(&change.old), seen(&change.new));
            let kind = match (&old, &new) {
                (None, None) => continue,
                (None, Some(_)) => Kind::Insert,
                (Some(_), None) => Kind::Delete,
                (Some(_), Some(_)) => Kind::Modify,
            };
            out.row(schema.table(table.table), table, kind, old.as_ref(), new.as_ref());
        }
        out.end_table();
    }
    out.finish()
}

/// The text in the making: `{"table":{"uuid":...},...`.
struct Updates {
    out: String,
    notation: Notation,
    /// Whether the current table has been begun.
    in_table: bool,
}

impl Updates {
    fn new(notation: Notation) -> Self {
        Self {
            out: String::from("{"),
            notation,
            in_table: false,
        }
    }

    fn finish(mut self) -> Option<String> {
        self.out.push('}');
        (self.out.len() > 2).then_some(self.out)
    }

    fn end_table(&mut self) {
        if std::mem::take(&mut self.in_table) {
            self.out.push('}');
        }
    }

    fn row(
        &mut self,
        schema: &TableSchema,
        table: &MonitoredTable,
        kind: Kind,
        old: Option<&Arc<Row>>,
        new: Option<&Arc<Row>>,
    ) {
        let Some(uuid) = old.or(new).map(|row| row.uuid()) else {
            return;
        };
        if !kind.is_in(table.select) || (kind == Kind::Modify && !changes_anything(table, old, new)) {
            return;
        }
        self.begin_row(schema, uuid);
        match self.notation {
            Notation::Update => self.row_update(schema, table, kind, old, new),
            Notation::Update2 | Notation::Update3 => self.row_update2(schema, table, kind, old, new),
        }
    }

    fn begin_row(&mut self, schema: &TableSchema, uuid: nonnet_schema::Uuid) {
        if self.in_table {
            self.out.push(',');
        } else {
            if self.out.len() > 1 {
                self.out.push(',');
            }
            json::write_string(&schema.name, &mut self.out);
            self.out.push_str(":{");
            self.in_table = true;
        }
        self.out.push('"');
        Atom::Uuid(uuid).write_message(&mut self.out);
        self.out.push_str("\":");
    }

    fn row_update(
        &mut self,
        schema: &TableSchema,
        table: &MonitoredTable,
        kind: Kind,
        old: Option<&Arc<Row>>,
        new: Option<&Arc<Row>>,
    ) {
        self.out.push('{');
        if let Some(old) = old {
            let shown =
                |column: ColumnIndex| kind == Kind::Delete || new.is_some_and(|new| new.get(column) != old.get(column));
            self.out.push_str("\"old\":");
            self.columns(schema, table, kind, |column| {
                shown(column).then(|| old.get(column).clone())
            });
        }
        if let Some(new) = new {
            self.out.push_str(if old.is_some() { ",\"new\":" } else { "\"new\":" });
            self.columns(schema, table, kind, |column| Some(new.get(column).clone()));
        }
        self.out.push('}');
    }

    fn row_update2(
        &mut self,
        schema: &TableSchema,
        table: &MonitoredTable,
        kind: Kind,
        old: Option<&Arc<Row>>,
        new: Option<&Arc<Row>>,
    ) {
        let Some(new) = new else {
            self.out.push_str("{\"delete\":null}");
            return;
        };
        self.out.push_str(match kind {
            Kind::Initial => "{\"initial\":",
            Kind::Modify => "{\"modify\":",
            Kind::Insert | Kind::Delete => "{\"insert\":",
        });
        self.columns(schema, table, kind, |column| {
            let (datum, type_) = (new.get(column), &schema.column(column).type_);
            match old {
                Some(old) if old.get(column) == datum => None,
                Some(old) => Some(datum.diff_from(old.get(column), type_)),
                None => (*datum != Datum::default_for(type_)).then(|| datum.clone()),
            }
        });
        self.out.push('}');
    }

    /// Appends an object of the columns that are selected for `kind` and for which `datum` gives one.
    fn columns(
        &mut self,
        schema: &TableSchema,
        table: &MonitoredTable,
        kind: Kind,
        datum: impl Fn(ColumnIndex) -> Option<Datum>,
    ) {
        self.out.push('{');
        let mut first = true;
        for (column, _) in table.columns.iter().filter(|(_, select)| kind.is_in(*select)) {
            let Some(datum) = datum(*column) else {
                continue;
            };
            if !std::mem::take(&mut first) {
                self.out.push(',');
            }
            json::write_string(&schema.column(*column).name, &mut self.out);
            self.out.push(':');
            datum.write_json(&mut self.out);
        }
        self.out.push('}');
    }
}

/// True where any monitored column differs.
fn changes_anything(table: &MonitoredTable, old: Option<&Arc<Row>>, new: Option<&Arc<Row>>) -> bool {
    let (Some(old), Some(new)) = (old, new) else {
        return true;
    };
    table
        .columns
        .iter()
        .any(|(column, _)| old.get(*column) != new.get(*column))
}
