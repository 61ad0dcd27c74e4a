//! What rows say about changes that others make to their objects: the key `heal` of `other_config` (of `properties` in a container's row),
//! `on`, `report` or `off`. That of the row of the host is for all that say nothing.

use nonnet_engine::{ChangeSet, Database, Row};
use nonnet_schema::{ColumnIndex, TableIndex};

use crate::fault::Fault;
use crate::object::Owner;
use crate::reconcile::Heal;
use crate::tables::{Tables, bridges, host, lxc, networks, owner, ports, text};

/// The key.
const KEY: &str = "heal";

/// Where the rows of a table say it: the name of the table, the column, that of the row's name.
type Place = (&'static str, ColumnIndex, Option<ColumnIndex>);

fn place(tables: &Tables, table: TableIndex) -> Option<Place> {
    let Tables {
        bridges,
        host,
        lxc,
        networks,
        ports,
        ..
    } = tables;
    let places = [
        (
            bridges.this,
            (bridges::Columns::NAME, bridges.other_config, Some(bridges.name)),
        ),
        (
            networks.this,
            (networks::Columns::NAME, networks.other_config, Some(networks.name)),
        ),
        (ports.this, (ports::Columns::NAME, ports.other_config, Some(ports.name))),
        (lxc.this, (lxc::Columns::NAME, lxc.properties, Some(lxc.id))),
        (host.this, (host::Columns::NAME, host.other_config, None)),
    ];
    places
        .into_iter()
        .find(|(this, _)| *this == table)
        .map(|(_, place)| place)
}

/// What a row says, if anything.
///
/// # Errors
/// When it is none of the three words.
pub(crate) fn said(tables: &Tables, table: TableIndex, row: &Row) -> Result<Option<Heal>, Fault> {
    let Some((place, column, name)) = place(tables, table) else {
        return Ok(None);
    };
    let word = row.get(column).get_str(KEY);
    let heal = word.map(|word| match word {
        "on" => Ok(Heal::On),
        "report" => Ok(Heal::Report),
        "off" => Ok(Heal::Off),
        other => {
            let column = if table == tables.lxc.this {
                "properties:heal"
            } else {
                "other_config:heal"
            };
            let subject = name.map_or(place, |name| text(row, name));
            Err(Fault::new(
                place,
                subject,
                column,
                format!("\"{other}\" is none of on, report, off"),
            ))
        }
    });
    heal.transpose()
}

/// What every row says, of those that say something.
pub(crate) fn all(tables: &Tables, database: &Database) -> Vec<(Owner, Option<Heal>)> {
    let mut all = Vec::new();
    for at in 0..database.schema().tables().len() {
        let name = &database.schema().table(TableIndex(at)).name;
        for row in database.table(TableIndex(at)).rows() {
            if let Ok(Some(heal)) = said(tables, TableIndex(at), row) {
                all.push((owner(name, row.uuid()), Some(heal)));
            }
        }
    }
    all
}

/// What those rows say whose word a commit changed.
pub(crate) fn changed(tables: &Tables, database: &Database, changes: &ChangeSet) -> Vec<(Owner, Option<Heal>)> {
    let others = changes.changes().iter().filter_map(|change| {
        let said = |row: Option<&Row>| row.and_then(|row| said(tables, change.table, row).ok().flatten());
        let (before, now) = (said(change.old.as_deref()), said(change.new.as_deref()));
        let name = &database.schema().table(change.table).name;
        (before != now).then(|| (owner(name, change.uuid), now))
    });
    others.collect()
}
