//! Datums of one type as datums of another: what a new schema makes of what a column holds.

use super::Datum;
use crate::atom::{Atom, AtomicType};
use crate::error::{ErrorKind, OvsdbError};
use crate::types::{BaseType, ColumnType};

impl Datum {
    /// The datum as one of type `to`: what its JSON form, parsed anew, gives (ovsdb-server(7) 4.1.17). An integer may become a real.
    ///
    /// # Errors
    /// As [`Datum::parse`]; a real is no integer, whatever its value.
    pub fn converted(&self, to: &ColumnType) -> Result<Self, OvsdbError> {
        let fits = (to.min as usize..=to.max as usize).contains(&self.len());
        if !fits || self.is_map() != to.is_map() {
            return Self::parse(&self.to_json(), to, None);
        }
        if self.is_of(to) {
            self.check(to)?;
            return Ok(self.clone());
        }
        let Some(value_type) = &to.value else {
            return Self::set(
                self.keys()
                    .map(|key| converted_atom(key, &to.key))
                    .collect::<Result<_, _>>()?,
            );
        };
        let pairs = self
            .iter()
            .filter_map(|(key, value)| Some((key, value?)))
            .map(|(key, value)| Ok((converted_atom(key, &to.key)?, converted_atom(value, value_type)?)));
        Self::map(pairs.collect::<Result<_, OvsdbError>>()?)
    }

    /// Whether all atoms are of the kinds of `type_`.
    fn is_of(&self, type_: &ColumnType) -> bool {
        self.iter().all(|(key, value)| {
            let value_kind = type_.value.as_ref().map(|value| value.kind);
            key.kind() == type_.key.kind && value.map(Atom::kind) == value_kind
        })
    }
}

fn converted_atom(atom: &Atom, to: &BaseType) -> Result<Atom, OvsdbError> {
    let json = || Datum::scalar(atom.clone()).to_json();
    let converted = match (atom, to.kind) {
        (atom, kind) if atom.kind() == kind => atom.clone(),
        // To the parser a whole real is an integer; here it is what it was stored as.
        (Atom::Real(_), AtomicType::Integer) => {
            return Err(OvsdbError::in_json(ErrorKind::AtomExpected("integer"), &json()));
        }
        _ => Atom::parse(&json(), to.kind, None)?,
    };
    to.check(&converted)?;
    Ok(converted)
}
