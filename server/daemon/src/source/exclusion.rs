//! The tables that a backup does not follow: `DB:TABLE`, separated by commas or spaces (ovsdb-server(1), `--sync-exclude-tables`).

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

/// Tables, by database and name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Exclusion(BTreeSet<(String, String)>);

impl Exclusion {
    pub(crate) fn contains(&self, database: &str, table: &str) -> bool {
        self.0.contains(&(database.to_owned(), table.to_owned()))
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl FromIterator<(String, String)> for Exclusion {
    fn from_iter<T: IntoIterator<Item = (String, String)>>(tables: T) -> Self {
        Self(tables.into_iter().collect())
    }
}

impl FromStr for Exclusion {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parse = |name: &str| match name.split_once(':') {
            Some((database, table)) if !database.is_empty() && !table.is_empty() => {
                Ok((database.to_owned(), table.to_owned()))
            }
            // The words of ovsdb-server.
            _ => Err(format!("Can't parse excluded table: {name}")),
        };
        let names = text.split([',', ' ']).filter(|name| !name.is_empty());
        names.map(parse).collect::<Result<_, _>>().map(Self)
    }
}

impl fmt::Display for Exclusion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<String> = self
            .0
            .iter()
            .map(|(database, table)| format!("{database}:{table}"))
            .collect();
        f.write_str(&names.join(","))
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed test panics")]
mod tests {
    use super::*;

    #[test]
    fn tables_are_separated_by_commas_or_spaces_and_shown_sorted() {
        let exclusion: Exclusion = "db:t other:y,db:a".parse().unwrap();
        assert_eq!(exclusion.to_string(), "db:a,db:t,other:y");
        assert!(exclusion.contains("db", "t") && !exclusion.contains("db", "y"));
        assert!("".parse::<Exclusion>().unwrap().is_empty());
        assert_eq!("db".parse::<Exclusion>().unwrap_err(), "Can't parse excluded table: db");
    }
}
