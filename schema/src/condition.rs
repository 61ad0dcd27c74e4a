//! Conditions: the `where` of operations and monitors (RFC 7047 5.1, `<condition>`).

use std::cmp::Ordering;

use serde_json::Value;

use crate::atom::{AtomicType, NamedUuids};
use crate::datum::Datum;
use crate::error::{ErrorKind, OvsdbError};
use crate::schema::{ColumnIndex, TableSchema};
use crate::types::UNLIMITED;

/// How a clause compares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Function {
    /// `==`
    Equal,
    /// `!=`
    NotEqual,
    /// `<`
    Less,
    /// `<=`
    LessOrEqual,
    /// `>`
    Greater,
    /// `>=`
    GreaterOrEqual,
    /// `includes`
    Includes,
    /// `excludes`
    Excludes,
}

/// One clause.
#[derive(Clone, Debug, PartialEq)]
pub enum Clause {
    /// A boolean literal (ovsdb-server(7) 5.1).
    Literal(bool),
    /// A column compared with an argument.
    Column {
        /// The column.
        column: ColumnIndex,
        /// How it is compared.
        function: Function,
        /// With what.
        argument: Datum,
    },
}

/// A list of clauses: all must hold in an operation, any in a monitor.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Condition {
    /// The clauses in the order given.
    pub clauses: Vec<Clause>,
}

impl Function {
    const ALL: [Self; 8] = [
        Self::Equal,
        Self::NotEqual,
        Self::Less,
        Self::LessOrEqual,
        Self::Greater,
        Self::GreaterOrEqual,
        Self::Includes,
        Self::Excludes,
    ];

    /// The name on the wire.
    pub fn name(self) -> &'static str {
        match self {
            Self::Equal => "==",
            Self::NotEqual => "!=",
            Self::Less => "<",
            Self::LessOrEqual => "<=",
            Self::Greater => ">",
            Self::GreaterOrEqual => ">=",
            Self::Includes => "includes",
            Self::Excludes => "excludes",
        }
    }

    fn from_name(name: &str) -> Result<Self, OvsdbError> {
        Self::ALL
            .into_iter()
            .find(|function| function.name() == name)
            .ok_or_else(|| ErrorKind::UnknownFunction(name.into()).into())
    }

    fn is_ordering(self) -> bool {
        matches!(
            self,
            Self::Less | Self::LessOrEqual | Self::Greater | Self::GreaterOrEqual
        )
    }
}

impl Clause {
    /// Parses one clause about rows of `table`.
    pub fn parse(
        json: &Value,
        table: &TableSchema,
        names: Option<&mut (dyn NamedUuids + '_)>,
    ) -> Result<Self, OvsdbError> {
        if let Value::Bool(literal) = json {
            return Ok(Self::Literal(*literal));
        }
        let Some([Value::String(column), Value::String(function), argument]) = json.as_array().map(Vec::as_slice)
        else {
            return Err(OvsdbError::in_json(ErrorKind::BadClause, json));
        };
        let column = table.column_named(column, json)?;
        let function = Function::from_name(function)?;
        let schema = table.column(column);
        let type_ = &schema.type_;
        let comparable = type_.is_scalar() || type_.is_optional_scalar();
        let type_ = match function {
            _ if function.is_ordering() => {
                if !comparable || !matches!(type_.key.kind, AtomicType::Integer | AtomicType::Real) {
                    let (column, english) = (schema.name.clone(), type_.to_english());
                    let kind = ErrorKind::OperatorMismatch {
                        operator: function.name(),
                        column,
                        english,
                    };
                    return Err(OvsdbError::in_json(kind, json));
                }
                type_.resized(1, 1)
            }
            Function::Includes if !type_.is_scalar() => type_.resized(0, type_.max),
            Function::Excludes if !type_.is_scalar() => type_.resized(0, UNLIMITED),
            _ => type_.clone(),
        };
        Ok(Self::Column {
            column,
            function,
            argument: Datum::parse(argument, &type_, names)?,
        })
    }

    /// True where the row with these fields satisfies the clause.
    pub fn holds(&self, fields: &[Datum]) -> bool {
        let Self::Column {
            column,
            function,
            argument,
        } = self
        else {
            return *self == Self::Literal(true);
        };
        let Some(field) = fields.get(column.0) else {
            return false;
        };
        let ordering = || match (field.as_scalar(), argument.as_scalar()) {
            (Some(field), Some(argument)) => Some(field.cmp(argument)),
            _ => None,
        };
        match function {
            Function::Equal => field == argument,
            Function::NotEqual => field != argument,
            Function::Less => ordering() == Some(Ordering::Less),
            Function::LessOrEqual => ordering().is_some_and(Ordering::is_le),
            Function::Greater => ordering() == Some(Ordering::Greater),
            Function::GreaterOrEqual => ordering().is_some_and(Ordering::is_ge),
            Function::Includes => field.includes(argument),
            Function::Excludes => field.excludes(argument),
        }
    }
}

impl Condition {
    /// Parses an array of clauses about rows of `table`.
    pub fn parse(
        json: &Value,
        table: &TableSchema,
        mut names: Option<&mut (dyn NamedUuids + '_)>,
    ) -> Result<Self, OvsdbError> {
        let Some(items) = json.as_array() else {
            return Err(OvsdbError::in_json(ErrorKind::BadClause, json));
        };
        let mut clauses = Vec::with_capacity(items.len());
        for item in items {
            clauses.push(Clause::parse(
                item,
                table,
                names.as_mut().map(|names| &mut **names as _),
            )?);
        }
        Ok(Self { clauses })
    }

    /// True where every clause holds: an operation's `where`.
    pub fn all_hold(&self, fields: &[Datum]) -> bool {
        self.clauses.iter().all(|clause| clause.holds(fields))
    }

    /// True where any clause holds, or there is none: a monitor's `where`.
    pub fn any_holds(&self, fields: &[Datum]) -> bool {
        self.clauses.is_empty() || self.clauses.iter().any(|clause| clause.holds(fields))
    }

    /// The argument of a `column == argument` clause, where there is one.
    pub fn equal_to(&self, column: ColumnIndex) -> Option<&Datum> {
        self.clauses.iter().find_map(|clause| match clause {
            Clause::Column {
                column: c,
                function: Function::Equal,
                argument,
            } if *c == column => Some(argument),
            _ => None,
        })
    }
}
