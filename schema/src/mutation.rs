//! Mutations: changes to one column in place (RFC 7047 5.1, `<mutation>`).

use serde_json::Value;

use crate::atom::{Atom, AtomicType, NamedUuids, Real};
use crate::datum::Datum;
use crate::error::{ErrorKind, OvsdbError};
use crate::schema::{ColumnIndex, TableSchema};
use crate::types::{BaseType, ColumnType, UNLIMITED};

/// What a mutation does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mutator {
    /// `+=`
    Add,
    /// `-=`
    Subtract,
    /// `*=`
    Multiply,
    /// `/=`
    Divide,
    /// `%=`
    Remainder,
    /// `insert`
    Insert,
    /// `delete`
    Delete,
}

/// One change to a column.
#[derive(Clone, Debug, PartialEq)]
pub struct Mutation {
    /// The column.
    pub column: ColumnIndex,
    /// What is done.
    pub mutator: Mutator,
    /// With what.
    pub argument: Datum,
}

impl Mutator {
    const ALL: [Self; 7] = [
        Self::Add,
        Self::Subtract,
        Self::Multiply,
        Self::Divide,
        Self::Remainder,
        Self::Insert,
        Self::Delete,
    ];

    /// The name on the wire.
    pub fn name(self) -> &'static str {
        match self {
            Self::Add => "+=",
            Self::Subtract => "-=",
            Self::Multiply => "*=",
            Self::Divide => "/=",
            Self::Remainder => "%=",
            Self::Insert => "insert",
            Self::Delete => "delete",
        }
    }

    fn from_name(name: &str) -> Result<Self, OvsdbError> {
        Self::ALL
            .into_iter()
            .find(|mutator| mutator.name() == name)
            .ok_or_else(|| ErrorKind::UnknownMutator(name.into()).into())
    }

    fn applies_to(self, type_: &ColumnType) -> bool {
        match self {
            Self::Insert | Self::Delete => !type_.is_scalar(),
            Self::Remainder => type_.is_numeric() && type_.key.kind == AtomicType::Integer,
            _ => type_.is_numeric(),
        }
    }

    fn compute(self, left: &Atom, right: &Atom) -> Result<Atom, OvsdbError> {
        let range = || OvsdbError::new(ErrorKind::ResultOutOfRange(self.name()));
        match (left, right) {
            (Atom::Integer(left), Atom::Integer(right)) => {
                if *right == 0 && matches!(self, Self::Divide | Self::Remainder) {
                    return Err(ErrorKind::DivisionByZero.into());
                }
                let result = match self {
                    Self::Add => left.checked_add(*right),
                    Self::Subtract => left.checked_sub(*right),
                    Self::Multiply => left.checked_mul(*right),
                    Self::Divide => left.checked_div(*right),
                    Self::Remainder => left.checked_rem(*right),
                    Self::Insert | Self::Delete => None,
                };
                result.map(Atom::Integer).ok_or_else(range)
            }
            (Atom::Real(left), Atom::Real(right)) => {
                let (left, right) = (left.get(), right.get());
                if right == 0.0 && self == Self::Divide {
                    return Err(ErrorKind::DivisionByZero.into());
                }
                let result = match self {
                    Self::Add => left + right,
                    Self::Subtract => left - right,
                    Self::Multiply => left * right,
                    Self::Divide => left / right,
                    Self::Remainder | Self::Insert | Self::Delete => f64::NAN,
                };
                Real::new(result).map(Atom::Real).ok_or_else(range)
            }
            _ => Err(range()),
        }
    }
}

impl Mutation {
    /// Parses one mutation of rows of `table`.
    pub fn parse(
        json: &Value,
        table: &TableSchema,
        mut names: Option<&mut (dyn NamedUuids + '_)>,
    ) -> Result<Self, OvsdbError> {
        let Some([Value::String(column), Value::String(mutator), argument]) = json.as_array().map(Vec::as_slice) else {
            return Err(OvsdbError::in_json(ErrorKind::BadMutation, json));
        };
        let column = table.column_named(column, json)?;
        let schema = table.column(column);
        if !schema.mutable {
            let kind = ErrorKind::ImmutableMutate {
                column: schema.name.clone(),
                table: table.name.clone(),
            };
            return Err(OvsdbError::in_json(kind, json));
        }
        let mutator = Mutator::from_name(mutator)?;
        let type_ = &schema.type_;
        if !mutator.applies_to(type_) {
            let (column, english) = (schema.name.clone(), type_.to_english());
            let kind = ErrorKind::OperatorMismatch {
                operator: mutator.name(),
                column,
                english,
            };
            return Err(OvsdbError::in_json(kind, json));
        }
        let argument = match mutator {
            Mutator::Insert => Datum::parse(argument, &type_.resized(0, type_.max), names)?,
            Mutator::Delete => {
                let pairs = type_.resized(0, UNLIMITED);
                let parsed = Datum::parse(argument, &pairs, names.as_mut().map(|names| &mut **names as _));
                match parsed {
                    Err(_) if type_.is_map() => Datum::parse(argument, &ColumnType { value: None, ..pairs }, names)?,
                    parsed => parsed?,
                }
            }
            _ => Datum::parse(argument, &ColumnType::scalar(BaseType::plain(type_.key.kind)), None)?,
        };
        Ok(Self {
            column,
            mutator,
            argument,
        })
    }

    /// The datum that `datum`, of a column of type `type_`, becomes.
    ///
    /// # Errors
    /// A result out of range, against the column's constraints, with duplicates, or of a wrong size.
    pub fn apply(&self, datum: &Datum, type_: &ColumnType) -> Result<Datum, OvsdbError> {
        let result = match self.mutator {
            Mutator::Insert => datum.union(&self.argument),
            Mutator::Delete => datum.subtract(&self.argument),
            _ => return self.compute(datum, type_),
        };
        let size = result.len();
        if size < type_.min as usize || size > type_.max as usize {
            return Err(ErrorKind::ResultSize {
                count: size,
                english: type_.to_english(),
            }
            .into());
        }
        Ok(result)
    }

    fn compute(&self, datum: &Datum, type_: &ColumnType) -> Result<Datum, OvsdbError> {
        let Some(argument) = self.argument.as_scalar() else {
            return Ok(datum.clone());
        };
        let mut results = Vec::with_capacity(datum.len());
        for key in datum.keys() {
            let result = self.mutator.compute(key, argument)?;
            type_.key.check(&result)?;
            results.push(result);
        }
        Datum::set(results).map_err(|_| ErrorKind::ResultDuplicates(self.mutator.name()).into())
    }
}
