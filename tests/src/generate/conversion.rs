//! Random changes of a schema that every database of it comes through, so that what follows is known.

use super::{Atom, Base, Choices, Column, Model, Table};

/// Changes of one conversion.
const CHANGES_MAX: usize = 3;

impl Model {
    /// Changes the schema.
    pub fn convert(&mut self, choices: &mut Choices<'_>) {
        self.conversions += 1;
        for _ in 0..choices.below(CHANGES_MAX + 1) {
            let table = choices.below(self.tables.len());
            match choices.below(8) {
                0 => self.add_column(table, choices),
                1 => {
                    let column = choices.below(self.tables[table].columns.len());
                    self.tables[table].drop_column(column);
                }
                2 => self.tables[table].column(choices).widen(choices),
                3 => self.tables[table].column(choices).loosen(),
                4 => self.tables[table].toggle(choices),
                5 => {
                    self.tables[table].indexes.clear();
                    self.tables[table].rows_max = None;
                }
                6 => self.add_table(choices),
                _ => self.drop_last_table(),
            }
        }
    }

    /// A number for a name that nothing has had: what has the same name is converted.
    fn new_number(&mut self) -> usize {
        self.names += 1;
        10 + self.names
    }

    fn roots(&self) -> Vec<bool> {
        self.tables.iter().map(|table| table.is_root).collect()
    }

    fn add_column(&mut self, table: usize, choices: &mut Choices<'_>) {
        let roots = self.roots();
        let number = self.new_number();
        let mut column = Column::new(number, &roots, &mut false, choices);
        if column.refers() {
            // Of existing rows the default would refer to nothing.
            column.min = 0;
        }
        self.tables[table].columns.push(column);
    }

    fn add_table(&mut self, choices: &mut Choices<'_>) {
        let mut roots = self.roots();
        roots.push(choices.below(2) == 0);
        let mut table = Table::new(self.tables.len(), &roots, choices);
        table.name = format!("t{}", self.new_number());
        self.tables.push(table);
    }

    /// The last one, so that the others keep their numbers; the columns that refer to it go too.
    fn drop_last_table(&mut self) {
        let last = self.tables.len() - 1;
        let refers = |column: &Column| {
            let bases = [Some(&column.key), column.value.as_ref()];
            bases
                .into_iter()
                .flatten()
                .any(|base| matches!(base, Base::Reference(table, _) if *table == last))
        };
        let is_needed = |table: &Table| table.columns.iter().all(refers);
        if last == 0 || self.tables[..last].iter().any(is_needed) {
            return;
        }
        self.tables.pop();
        self.rows.retain(|(table, _)| *table != last);
        for table in &mut self.tables {
            while let Some(column) = table.columns.iter().position(refers) {
                table.drop_column(column);
            }
        }
    }
}

impl Table {
    fn column(&mut self, choices: &mut Choices<'_>) -> &mut Column {
        let column = choices.below(self.columns.len());
        &mut self.columns[column]
    }

    /// Drops a column with the indexes that it is in; the last one stays.
    fn drop_column(&mut self, column: usize) {
        if self.columns.len() == 1 {
            return;
        }
        self.columns.remove(column);
        self.indexes.retain(|index| !index.contains(&column));
        for position in self.indexes.iter_mut().flatten() {
            *position -= usize::from(*position > column);
        }
    }

    /// Makes a column stored or not, or mutable or not.
    fn toggle(&mut self, choices: &mut Choices<'_>) {
        let number = choices.below(self.columns.len());
        let is_indexed = self.indexes.iter().flatten().any(|&column| column == number);
        let column = &mut self.columns[number];
        if column.refers() {
            return;
        }
        if choices.below(2) == 0 && !is_indexed {
            column.is_ephemeral = !column.is_ephemeral;
        } else {
            column.is_immutable = !column.is_immutable;
        }
    }
}

impl Column {
    fn refers(&self) -> bool {
        let bases = [Some(&self.key), self.value.as_ref()];
        bases
            .into_iter()
            .flatten()
            .any(|base| matches!(base, Base::Reference(..)))
    }

    fn widen(&mut self, choices: &mut Choices<'_>) {
        self.min = 0;
        self.max = match self.max {
            Some(1) => *choices.pick(&[Some(1), Some(2), None]),
            _ => None,
        };
    }

    fn loosen(&mut self) {
        self.key = match &self.key {
            Base::Range(..) => Base::Plain(Atom::Integer),
            Base::Enum(_) => Base::Plain(Atom::String),
            Base::Plain(Atom::Integer) => Base::Plain(Atom::Real),
            other => other.clone(),
        };
    }
}
