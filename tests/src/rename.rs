//! Makes replies comparable: UUIDs become `<0>`, `<1>` by first appearance, and what has no order is put in one.
//!
//! Expected and received texts each get a [`Renamer`] of their own. Both are canonical when both have gone through the same
//! messages in the same order; then equal texts mean equal replies up to the choice of random UUIDs.

use std::collections::{BTreeSet, HashMap};

use serde_json::{Map, Value};

/// Characters of a UUID's text.
const UUID_CHARS: usize = 36;

/// How the two rows of an index message are introduced.
pub(crate) const FIRST_ROW: &str = "  First row, with UUID ";
pub(crate) const SECOND_ROW: &str = "  Second row, with UUID ";

/// The names given so far on one side of a comparison.
#[derive(Debug, Default)]
pub struct Renamer {
    names: HashMap<String, usize>,
    tokens: Vec<String>,
    keep: BTreeSet<String>,
    leniency: Leniency,
}

/// What the two sides may differ in.
#[derive(Clone, Copy, Debug, Default)]
pub struct Leniency {
    /// `_version` is taken out of every object: it is renewed by a restart.
    pub drop_version: bool,
    /// The two rows an index message names may change places: `ovsdb-server` 3.1 has no order there.
    pub index_rows_in_any_order: bool,
}

/// How messages are brought into a common form.
#[derive(Clone, Copy, Debug, Default)]
pub struct Order {
    /// The rows of a select have an order that counts.
    pub rows_are_sorted: bool,
}

impl Renamer {
    /// A renamer that makes these differences invisible.
    pub fn new(leniency: Leniency) -> Self {
        Self {
            leniency,
            ..Self::default()
        }
    }

    /// Leaves these UUIDs as they are: a request named them.
    pub fn keep(&mut self, text: &str) {
        for (start, end) in tokens(text) {
            let token = &text[start..end];
            if token.len() == UUID_CHARS && !self.names.contains_key(token) {
                self.keep.insert(token.to_owned());
            }
        }
    }

    /// The message in canonical order with names for UUIDs.
    pub fn canonical(&mut self, message: &Value, order: Order) -> Value {
        let mut message = message.clone();
        if self.leniency.drop_version {
            without_version(&mut message);
        }
        self.assign(&message, order);
        // Now that all have names.
        let ordered = self.in_order(&message, order);
        let mut named = self.renamed(&ordered).into_value();
        self.order_index_rows(&mut named);
        named
    }

    /// The token (UUID, or name in a case) that has this name.
    pub fn token(&self, name: usize) -> Option<&str> {
        self.tokens.get(name).map(String::as_str)
    }

    /// The name of a token.
    pub fn name(&self, token: &str) -> Option<usize> {
        self.names.get(token).copied()
    }

    /// Puts the two rows of an index message in the order of their texts where that order says nothing.
    fn order_index_rows(&self, value: &mut Value) {
        match value {
            Value::Array(items) => items.iter_mut().for_each(|item| self.order_index_rows(item)),
            Value::Object(members) => members.values_mut().for_each(|item| self.order_index_rows(item)),
            Value::String(text) => {
                if let Some((head, first, second)) = index_rows(text) {
                    let alike = without_tokens(first) == without_tokens(second);
                    if first > second && (alike || self.leniency.index_rows_in_any_order) {
                        *text = format!("{head}{FIRST_ROW}{second}{SECOND_ROW}{first}");
                    }
                }
            }
            _ => {}
        }
    }

    /// Names what has no name yet. What comes earlier is named before what comes later is put in order, which may depend on those names.
    fn assign(&mut self, value: &Value, order: Order) {
        match value {
            Value::String(text) => self.assign_text(text),
            Value::Array(items) => {
                if let [Value::String(tag), Value::Array(elements)] = items.as_slice()
                    && holds_uuids(tag, elements)
                {
                    self.assign_unordered(elements, order);
                } else {
                    for item in items {
                        self.assign(item, order);
                    }
                }
            }
            Value::Object(members) => {
                let mut members: Vec<(&String, &Value)> = members.iter().collect();
                members.sort_by_cached_key(|(name, value)| {
                    (self.renamed_text(name), self.masked(&self.in_order(value, order)))
                });
                for (name, value) in members {
                    self.assign_text(name);
                    match value {
                        Value::Array(rows) if name == "rows" && !order.rows_are_sorted => {
                            self.assign_unordered(rows, order);
                        }
                        _ => self.assign(value, order),
                    }
                }
            }
            _ => {}
        }
    }

    fn assign_unordered(&mut self, items: &[Value], order: Order) {
        let mut items: Vec<&Value> = items.iter().collect();
        items.sort_by_cached_key(|item| self.masked(&self.in_order(item, order)));
        for item in items {
            self.assign(item, order);
        }
    }

    /// Names the tokens of a text that have no name yet, in the order they stand there.
    pub fn assign_text(&mut self, text: &str) {
        for (start, end) in tokens(text) {
            let token = &text[start..end];
            if !self.keep.contains(token) && !self.names.contains_key(token) {
                self.names.insert(token.to_owned(), self.tokens.len());
                self.tokens.push(token.to_owned());
            }
        }
    }

    fn renamed(&self, node: &Node) -> Node {
        match node {
            Node::Text(text) => Node::Text(self.renamed_text(text)),
            Node::Array(items) => Node::Array(items.iter().map(|item| self.renamed(item)).collect()),
            Node::Object(members) => Node::Object(
                members
                    .iter()
                    .map(|(name, value)| (self.renamed_text(name), self.renamed(value)))
                    .collect(),
            ),
            Node::Other(value) => Node::Other(value.clone()),
        }
    }

    /// The text with names for its tokens; `<?>` stands for one that has none yet.
    pub fn renamed_text(&self, text: &str) -> String {
        let mut result = String::new();
        let mut done = 0;
        for (start, end) in tokens(text) {
            let token = &text[start..end];
            result.push_str(&text[done..start]);
            match self.names.get(token) {
                Some(name) => result.push_str(&["<", &name.to_string(), ">"].concat()),
                None if self.keep.contains(token) => result.push_str(token),
                None => result.push_str("<?>"),
            }
            done = end;
        }
        result.push_str(&text[done..]);
        without_milliseconds(&result)
    }

    /// What a value looks like while unnamed UUIDs are all alike: the key by which the unordered is ordered.
    fn masked(&self, node: &Node) -> String {
        self.renamed(node).into_value().to_string()
    }

    fn in_order(&self, value: &Value, order: Order) -> Node {
        match value {
            Value::String(text) => Node::Text(text.clone()),
            Value::Array(items) => self.array_in_order(items, order),
            Value::Object(members) => self.object_in_order(members, order),
            other => Node::Other(other.clone()),
        }
    }

    fn array_in_order(&self, items: &[Value], order: Order) -> Node {
        let mut nodes: Vec<Node> = items.iter().map(|item| self.in_order(item, order)).collect();
        if let [Value::String(tag), Value::Array(elements)] = items
            && holds_uuids(tag, elements)
            && let Some(Node::Array(inner)) = nodes.get_mut(1)
        {
            inner.sort_by_cached_key(|node| self.masked(node));
        }
        Node::Array(nodes)
    }

    fn object_in_order(&self, members: &Map<String, Value>, order: Order) -> Node {
        let mut nodes: Vec<(String, Node)> = members
            .iter()
            .map(|(name, value)| {
                let mut node = self.in_order(value, order);
                if name == "rows"
                    && !order.rows_are_sorted
                    && let Node::Array(rows) = &mut node
                {
                    rows.sort_by_cached_key(|row| self.masked(row));
                }
                (name.clone(), node)
            })
            .collect();
        nodes.sort_by_cached_key(|(name, node)| (self.renamed_text(name), self.masked(node)));
        Node::Object(nodes)
    }
}

/// JSON whose objects keep the order they are given.
enum Node {
    Text(String),
    Array(Vec<Node>),
    Object(Vec<(String, Node)>),
    Other(Value),
}

impl Node {
    fn into_value(self) -> Value {
        match self {
            Self::Text(text) => Value::String(text),
            Self::Array(items) => Value::Array(items.into_iter().map(Self::into_value).collect()),
            Self::Object(members) => {
                let mut object = Map::new();
                for (name, node) in members {
                    // Two unnamed UUIDs look alike while masked; neither may hide the other.
                    let mut unique = name.clone();
                    while object.contains_key(&unique) {
                        unique.push('+');
                    }
                    object.insert(unique, node.into_value());
                }
                Value::Object(object)
            }
            Self::Other(value) => value,
        }
    }
}

/// Whether this is a set of UUIDs or a map keyed by them: stored by UUID, hence in random order.
fn holds_uuids(tag: &str, elements: &[Value]) -> bool {
    let is_uuid = |value: &Value| value.get(0).is_some_and(|tag| tag == "uuid");
    match tag {
        "set" => elements.iter().all(is_uuid),
        "map" => elements.iter().all(|pair| pair.get(0).is_some_and(is_uuid)),
        _ => false,
    }
}

fn without_version(value: &mut Value) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(without_version),
        Value::Object(members) => {
            members.remove("_version");
            members.values_mut().for_each(without_version);
        }
        _ => {}
    }
}

/// `after 12 ms` depends on the clock.
fn without_milliseconds(text: &str) -> String {
    let Some((before, rest)) = text.split_once("\"wait\" timed out after ") else {
        return text.to_owned();
    };
    let after = rest.trim_start_matches(|c: char| c.is_ascii_digit() || c == 'N');
    format!("{before}\"wait\" timed out after N{after}")
}

/// An index message in three parts: before the rows, the first row, the second row.
fn index_rows(text: &str) -> Option<(&str, &str, &str)> {
    let (head, rest) = text.split_once(FIRST_ROW)?;
    let (first, second) = rest.split_once(SECOND_ROW)?;
    Some((head, first, second))
}

fn without_tokens(text: &str) -> String {
    let mut rest = text.to_owned();
    for (start, end) in tokens(text).into_iter().rev() {
        rest.replace_range(start..end, "");
    }
    rest
}

/// The byte ranges of UUIDs and of names like `<3>`, in order.
fn tokens(text: &str) -> Vec<(usize, usize)> {
    let bytes = text.as_bytes();
    let mut found = Vec::new();
    let mut position = 0;
    while position < bytes.len() {
        match token_length(&bytes[position..]) {
            Some(length) => {
                found.push((position, position + length));
                position += length;
            }
            None => position += 1,
        }
    }
    found
}

fn token_length(bytes: &[u8]) -> Option<usize> {
    if bytes.first() == Some(&b'<') {
        let end = bytes.iter().position(|&byte| byte == b'>')?;
        let is_name = end > 1 && bytes[1..end].iter().all(u8::is_ascii_digit);
        return is_name.then_some(end + 1);
    }
    let candidate = bytes.get(..UUID_CHARS)?;
    let is_uuid = candidate.iter().enumerate().all(|(index, byte)| match index {
        8 | 13 | 18 | 23 => *byte == b'-',
        _ => byte.is_ascii_hexdigit() && !byte.is_ascii_uppercase(),
    });
    is_uuid.then_some(UUID_CHARS)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{Order, Renamer};

    const A: &str = "11111111-1111-4111-8111-111111111111";
    const B: &str = "22222222-2222-4222-8222-222222222222";

    #[test]
    fn rows_that_differ_only_in_uuids_get_the_same_text() {
        let one = json!({"rows": [{"_uuid": ["uuid", A], "n": 1}, {"_uuid": ["uuid", B], "n": 2}]});
        let two = json!({"rows": [{"_uuid": ["uuid", A], "n": 2}, {"_uuid": ["uuid", B], "n": 1}]});
        let left = Renamer::default().canonical(&one, Order::default());
        let right = Renamer::default().canonical(&two, Order::default());
        assert_eq!(left, right);
    }

    #[test]
    fn rows_are_ordered_by_names_that_were_given_before_them() {
        const VERSION: &str = "33333333-3333-4333-8333-333333333333";
        const OTHER_VERSION: &str = "44444444-4444-4444-8444-444444444444";
        let row = |uuid, version| json!({"_uuid": ["uuid", uuid], "_version": ["uuid", version]});
        let inserted = json!([{"uuid": ["uuid", A]}, {"uuid": ["uuid", B]}]);
        let one = json!([inserted, {"rows": [row(A, VERSION), row(B, OTHER_VERSION)]}]);
        let two = json!([inserted, {"rows": [row(B, VERSION), row(A, OTHER_VERSION)]}]);
        let left = Renamer::default().canonical(&one, Order::default());
        let right = Renamer::default().canonical(&two, Order::default());
        assert_eq!(left, right);
    }

    #[test]
    fn a_uuid_that_a_request_named_stays() {
        let mut renamer = Renamer::default();
        renamer.keep(A);
        assert_eq!(renamer.canonical(&json!([A, B]), Order::default()), json!([A, "<0>"]));
    }

    #[test]
    fn row_keys_of_updates_are_ordered_by_content() {
        let one = json!({"t": {A: {"new": {"n": 1}}, B: {"new": {"n": 2}}}});
        let two = json!({"t": {A: {"new": {"n": 2}}, B: {"new": {"n": 1}}}});
        let left = Renamer::default().canonical(&one, Order::default());
        let right = Renamer::default().canonical(&two, Order::default());
        assert_eq!(left, right);
    }
}
