//! Makes a failing sequence, or a failing JSON text, smaller while it still fails.

use serde_json::Value;

/// Removes runs of items, long ones first, as long as `fails` says that the rest still fails.
pub fn without_needless<T: Clone>(items: &mut Vec<T>, mut fails: impl FnMut(&[T]) -> bool) {
    let mut run = items.len().div_ceil(2);
    while run > 0 {
        let mut start = 0;
        while start < items.len() {
            let end = (start + run).min(items.len());
            let rest: Vec<T> = items[..start].iter().chain(&items[end..]).cloned().collect();
            if fails(&rest) {
                *items = rest;
            } else {
                start = end;
            }
        }
        run /= 2;
    }
}

/// Removes elements and members, outermost first, as long as `fails` says that the rest still fails.
pub fn without_needless_parts(value: &mut Value, mut fails: impl FnMut(&Value) -> bool) {
    let mut tried = 0;
    while let Some(smaller) = without_part(value, &mut tried.clone()) {
        if fails(&smaller) {
            *value = smaller;
        } else {
            tried += 1;
        }
    }
}

/// The value without its part of that number, counted as they come; None where there are not so many.
fn without_part(value: &Value, number: &mut usize) -> Option<Value> {
    match value {
        Value::Array(items) => {
            if *number < items.len() {
                let mut items = items.clone();
                items.remove(*number);
                return Some(Value::Array(items));
            }
            *number -= items.len();
            items.iter().enumerate().find_map(|(at, item)| {
                let mut items = items.clone();
                items[at] = without_part(item, number)?;
                Some(Value::Array(items))
            })
        }
        Value::Object(members) => {
            if let Some(name) = members.keys().nth(*number) {
                let mut rest = members.clone();
                rest.remove(name);
                return Some(Value::Object(rest));
            }
            *number -= members.len();
            members.iter().find_map(|(name, member)| {
                let member = without_part(member, number)?;
                let mut members = members.clone();
                members.insert(name.clone(), member);
                Some(Value::Object(members))
            })
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{without_needless, without_needless_parts};

    #[test]
    fn only_needed_items_stay() {
        let mut items: Vec<u32> = (0..100).collect();
        without_needless(&mut items, |rest| {
            [7, 50, 93].iter().all(|needed| rest.contains(needed))
        });
        assert_eq!(items, [7, 50, 93]);
    }

    #[test]
    fn only_needed_parts_stay() {
        let mut value = json!({"a": [1, {"b": 2, "c": [3, 4]}], "d": 5});
        without_needless_parts(&mut value, |rest| rest.to_string().contains('4'));
        assert_eq!(value, json!({"a": [{"c": [4]}]}));
    }
}
