//! What is printed: on standard output, for people or programs.
//!
//! Colours only on a terminal, and not where `NO_COLOR` is set. Control characters in what came from elsewhere never reach a terminal.

use std::collections::BTreeSet;
use std::io::{self, IsTerminal, StdoutLock, Write};

use serde_json::{Map, Value};

use crate::arguments::Format;
use crate::limits::CELL_CHARACTERS_MAX;

/// What stands for no value.
pub(crate) const NOTHING: &str = "-";

/// A colour that says how good something is, or what kind of thing it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Colour {
    Green,
    Yellow,
    Red,
    Bold,
}

/// Standard output.
pub(crate) struct Output {
    stream: StdoutLock<'static>,
    format: Format,
    is_coloured: bool,
}

impl Output {
    /// Standard output in that format.
    pub(crate) fn new(format: Format) -> Self {
        let stream = io::stdout().lock();
        let is_silenced = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let is_coloured = !is_silenced && stream.is_terminal();
        Self {
            stream,
            format,
            is_coloured,
        }
    }

    /// Whether programs read it.
    pub(crate) fn is_json(&self) -> bool {
        self.format == Format::Json
    }

    /// Prints a line.
    pub(crate) fn line(&mut self, text: &str) -> io::Result<()> {
        self.stream.write_all(text.as_bytes())?;
        self.stream.write_all(b"\n")
    }

    /// Prints a JSON text for one reader: with line breaks.
    pub(crate) fn json(&mut self, json: &impl serde::Serialize) -> io::Result<()> {
        serde_json::to_writer_pretty(&mut self.stream, json)?;
        self.stream.write_all(b"\n")
    }

    /// Prints a JSON text as one line.
    pub(crate) fn json_line(&mut self, json: &Value) -> io::Result<()> {
        serde_json::to_writer(&mut self.stream, json)?;
        self.stream.write_all(b"\n")
    }

    /// Where bytes go that are meant for other programs as they are.
    pub(crate) fn bytes(&mut self) -> &mut impl Write {
        &mut self.stream
    }

    /// The text in a colour, where there are colours.
    pub(crate) fn coloured(&self, colour: Colour, text: &str) -> String {
        if !self.is_coloured {
            return text.to_owned();
        }
        let code = match colour {
            Colour::Green => "32",
            Colour::Yellow => "33",
            Colour::Red => "31",
            Colour::Bold => "1",
        };
        format!("\x1b[{code}m{text}\x1b[0m")
    }

    /// Prints rows of cells under their headings.
    pub(crate) fn table(&mut self, headings: &[&str], rows: &[Vec<String>]) -> io::Result<()> {
        let rows: Vec<Vec<String>> = rows
            .iter()
            .map(|row| row.iter().map(|cell| cut(cell)).collect())
            .collect();
        let width = |at: usize| {
            let cells = rows
                .iter()
                .filter_map(|row| row.get(at))
                .map(|cell| cell.chars().count());
            cells
                .chain(headings.get(at).map(|text| text.chars().count()))
                .max()
                .unwrap_or(0)
        };
        let widths: Vec<usize> = (0..headings.len()).map(width).collect();
        let heading = padded(headings.iter().copied(), &widths);
        let heading = self.coloured(Colour::Bold, &heading);
        self.line(&heading)?;
        for row in &rows {
            self.line(&padded(row.iter().map(String::as_str), &widths))?;
        }
        Ok(())
    }

    /// Sends what was printed on its way.
    pub(crate) fn flush(&mut self) -> io::Result<()> {
        self.stream.flush()
    }
}

/// A JSON value in the form of the files in a few words: `br0`, `a, b`, `{k=v}`, and [`NOTHING`] for none.
pub(crate) fn words(value: &Value) -> String {
    match value {
        Value::Null => NOTHING.to_owned(),
        Value::String(text) => bare_or_quoted(text),
        Value::Bool(_) | Value::Number(_) => value.to_string(),
        Value::Array(items) if items.is_empty() => NOTHING.to_owned(),
        Value::Object(members) if members.is_empty() => NOTHING.to_owned(),
        Value::Array(items) => items.iter().map(words).collect::<Vec<_>>().join(", "),
        Value::Object(members) => {
            let pairs: Vec<String> = members
                .iter()
                .map(|(name, value)| format!("{}={}", bare_or_quoted(name), words(value)))
                .collect();
            format!("{{{}}}", pairs.join(", "))
        }
    }
}

/// A column's change in a few words: `mtu 1500 -> 1400`, `mtu 1400` of a new row; of maps the keys that differ, `status:state a -> b`.
pub(crate) fn change_words(column: &str, old: Option<&Value>, new: Option<&Value>) -> String {
    match (old, new) {
        (Some(Value::Object(old)), Some(Value::Object(new))) => {
            let keys: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
            let changed = keys.into_iter().filter(|key| old.get(*key) != new.get(*key));
            let member =
                |members: &Map<String, Value>, key: &String| members.get(key).map_or(NOTHING.to_owned(), words);
            let words = changed.map(|key| {
                let name = bare_or_quoted(key);
                format!("{column}:{name} {} -> {}", member(old, key), member(new, key))
            });
            words.collect::<Vec<_>>().join(", ")
        }
        (Some(old), Some(new)) => format!("{column} {} -> {}", words(old), words(new)),
        (Some(only), None) | (None, Some(only)) => format!("{column} {}", words(only)),
        (None, None) => column.to_owned(),
    }
}

/// The text with what could confuse a terminal or a reader escaped.
pub(crate) fn bare_or_quoted(text: &str) -> String {
    let is_plain = |c: char| c.is_ascii_graphic() && !matches!(c, '"' | '{' | '}' | '=' | ',') || c.is_alphanumeric();
    if !text.is_empty() && text != NOTHING && text.chars().all(is_plain) {
        text.to_owned()
    } else {
        format!("\"{}\"", printable(&text.replace('\\', "\\\\").replace('"', "\\\"")))
    }
}

/// The text with control characters escaped.
pub(crate) fn printable(text: &str) -> String {
    let is_unsafe = |c: char| {
        c.is_control() || matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if is_unsafe(c) {
            out.extend(c.escape_default());
        } else {
            out.push(c);
        }
    }
    out
}

fn cut(cell: &str) -> String {
    if cell.chars().count() <= CELL_CHARACTERS_MAX {
        return cell.to_owned();
    }
    let kept: String = cell.chars().take(CELL_CHARACTERS_MAX - 3).collect();
    format!("{kept}...")
}

fn padded<'a>(cells: impl Iterator<Item = &'a str>, widths: &[usize]) -> String {
    let mut line = String::new();
    for (cell, width) in cells.zip(widths) {
        line.push_str(cell);
        line.extend(std::iter::repeat_n(' ', width + 2 - cell.chars().count().min(*width)));
    }
    line.truncate(line.trim_end().len());
    line
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn values_are_shown_in_few_words() {
        assert_eq!(words(&json!("br0")), "br0");
        assert_eq!(words(&json!(["a", "b c"])), "a, \"b c\"");
        assert_eq!(
            words(&json!({"ipv4": "10.0.0.1/24", "n": 5})),
            "{ipv4=10.0.0.1/24, n=5}"
        );
        assert_eq!(words(&json!("")), "\"\"");
        assert_eq!(words(&json!([])), "-");
    }

    #[test]
    fn of_a_map_the_changed_keys_are_shown() {
        let (old, new) = (
            json!({"a": "1", "b": "2", "c": "3"}),
            json!({"a": "1", "b": "4", "d": "5"}),
        );
        let words = change_words("status", Some(&old), Some(&new));
        assert_eq!(words, "status:b 2 -> 4, status:c 3 -> -, status:d - -> 5");
        assert_eq!(
            change_words("mtu", Some(&json!(1500)), Some(&json!(null))),
            "mtu 1500 -> -"
        );
    }

    #[test]
    fn control_characters_are_escaped() {
        assert_eq!(words(&json!("a\u{1b}[31m")), "\"a\\u{1b}[31m\"");
    }
}
