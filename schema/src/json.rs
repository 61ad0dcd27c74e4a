//! JSON as ovsdb-server reads and writes it (protocol facts beyond RFC 8259).
//!
//! Text goes in as [`serde_json::Value`] and comes out through the writers here: members sorted, no spaces, reals with 15 significant
//! digits as C's `%.15g` prints them.

use std::fmt::Write as _;

use serde_json::{Number, Value};

/// The integer that `json` is, however it was written: `5`, `5.0` and `50e-1` are all 5.
pub fn as_integer(json: &Value) -> Option<i64> {
    match json {
        Value::Number(number) => number_as_integer(number),
        _ => None,
    }
}

/// The number that `json` is, as a finite real.
pub fn as_real(json: &Value) -> Option<f64> {
    match json {
        Value::Number(number) => number.as_f64().filter(|real| real.is_finite()),
        _ => None,
    }
}

fn number_as_integer(number: &Number) -> Option<i64> {
    if let Some(integer) = number.as_i64() {
        return Some(integer);
    }
    // 2^63 as a real is the first value out of range; -2^63 is the last one in it.
    let bound = 2_f64.powi(63);
    number
        .as_f64()
        .filter(|real| !number.is_u64() && real.fract() == 0.0 && (-bound..bound).contains(real))
        .map(|real| real as i64)
}

/// True for `[A-Za-z_][A-Za-z0-9_]*` (RFC 7047 3.1, `<id>`).
pub fn is_id(text: &str) -> bool {
    let mut bytes = text.bytes();
    bytes.next().is_some_and(|b| b.is_ascii_alphabetic() || b == b'_')
        && bytes.all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

/// Bytes that a JSON value takes in memory, roughly. An object has room for eleven members however few it has.
pub fn weight_bytes(json: &Value) -> usize {
    const VALUE: usize = size_of::<Value>();
    const MEMBERS: usize = 11 * (VALUE + size_of::<String>());
    match json {
        Value::Null | Value::Bool(_) | Value::Number(_) => VALUE,
        Value::String(text) => VALUE + text.len(),
        Value::Array(items) => VALUE + items.iter().map(weight_bytes).sum::<usize>(),
        Value::Object(members) => {
            let each = members.iter().map(|(name, value)| name.len() + weight_bytes(value));
            VALUE + members.len().div_ceil(11) * MEMBERS + each.sum::<usize>()
        }
    }
}

/// Compact text with members sorted bytewise.
pub fn to_text(json: &Value) -> String {
    let mut out = String::new();
    write_value(json, &mut out);
    out
}

/// Appends `json` to `out` as compact text with members sorted bytewise.
pub fn write_value(json: &Value, out: &mut String) {
    match json {
        Value::Null => out.push_str("null"),
        Value::Bool(true) => out.push_str("true"),
        Value::Bool(false) => out.push_str("false"),
        Value::Number(number) => match (number.as_i64(), number.as_f64()) {
            (Some(integer), _) => write_integer(integer, out),
            // Up to 15 digits a whole real prints like the integer that it is to ovsdb-server.
            (None, Some(real)) => write_real(real, out),
            (None, None) => out.push_str("null"),
        },
        Value::String(text) => write_string(text, out),
        Value::Array(items) => write_sequence(items.iter(), out, write_value),
        Value::Object(members) => {
            out.push('{');
            for (i, (name, value)) in members.iter().enumerate() {
                if i > 0 {
                    out.push(',');
                }
                write_string(name, out);
                out.push(':');
                write_value(value, out);
            }
            out.push('}');
        }
    }
}

/// Appends `[a,b,...]`, each item by `write_item`.
pub fn write_sequence<T>(items: impl Iterator<Item = T>, out: &mut String, mut write_item: impl FnMut(T, &mut String)) {
    out.push('[');
    for (i, item) in items.enumerate() {
        if i > 0 {
            out.push(',');
        }
        write_item(item, out);
    }
    out.push(']');
}

/// Appends a decimal integer.
pub fn write_integer(integer: i64, out: &mut String) {
    let _infallible = write!(out, "{integer}");
}

/// Appends a quoted string: only `"`, `\` and C0 controls are escaped.
pub fn write_string(text: &str, out: &mut String) {
    out.push('"');
    let mut clean_from = 0;
    for (at, byte) in text.bytes().enumerate() {
        if byte >= 0x20 && byte != b'"' && byte != b'\\' {
            continue;
        }
        out.push_str(&text[clean_from..at]);
        clean_from = at + 1;
        match byte {
            b'"' => out.push_str("\\\""),
            b'\\' => out.push_str("\\\\"),
            b'\x08' => out.push_str("\\b"),
            b'\x0c' => out.push_str("\\f"),
            b'\n' => out.push_str("\\n"),
            b'\r' => out.push_str("\\r"),
            b'\t' => out.push_str("\\t"),
            control => {
                let _infallible = write!(out, "\\u{control:04x}");
            }
        }
    }
    out.push_str(&text[clean_from..]);
    out.push('"');
}

/// Appends a real as C's `printf("%.15g")` does: `0.3`, `5`, `1e+16`, `1e-07`.
pub fn write_real(real: f64, out: &mut String) {
    const DIGITS: usize = 15;
    if real == 0.0 {
        out.push('0');
        return;
    }
    let scientific = format!("{:.*e}", DIGITS - 1, real);
    let Some((mantissa, exponent)) = scientific.split_once('e') else {
        out.push_str(&scientific);
        return;
    };
    let exponent: i32 = exponent.parse().unwrap_or(0);
    let (sign, mantissa) = mantissa.strip_prefix('-').map_or(("", mantissa), |rest| ("-", rest));
    let digits: String = mantissa.chars().filter(char::is_ascii_digit).collect();
    let digits = digits.trim_end_matches('0');
    let digits = if digits.is_empty() { "0" } else { digits };
    out.push_str(sign);
    if exponent < -4 || exponent >= DIGITS as i32 {
        let (first, rest) = digits.split_at(1);
        out.push_str(first);
        if !rest.is_empty() {
            out.push('.');
            out.push_str(rest);
        }
        let _infallible = write!(out, "e{}{:02}", if exponent < 0 { '-' } else { '+' }, exponent.abs());
    } else if exponent < 0 {
        out.push_str("0.");
        out.extend(std::iter::repeat_n('0', (-exponent - 1) as usize));
        out.push_str(digits);
    } else {
        let whole = exponent as usize + 1;
        if digits.len() <= whole {
            out.push_str(digits);
            out.extend(std::iter::repeat_n('0', whole - digits.len()));
        } else {
            out.push_str(&digits[..whole]);
            out.push('.');
            out.push_str(&digits[whole..]);
        }
    }
}

#[cfg(test)]
#[expect(clippy::expect_used, reason = "a failed test panics")]
mod tests {
    use super::*;

    fn real(value: f64) -> String {
        let mut out = String::new();
        write_real(value, &mut out);
        out
    }

    #[test]
    fn reals_print_as_c_prints_them() {
        for (value, text) in [
            (0.1 + 0.2, "0.3"),
            (5.0, "5"),
            (1e16, "1e+16"),
            (1e15, "1e+15"),
            (1e14, "100000000000000"),
            (1e-7, "1e-07"),
            (0.0001, "0.0001"),
            (-1.5, "-1.5"),
            (123_456.789, "123456.789"),
            (1.797_693_134_862_315_7e308, "1.79769313486232e+308"),
        ] {
            assert_eq!(real(value), text);
        }
    }

    #[test]
    fn integers_are_recognised_however_written() {
        for (text, integer) in [
            ("5.0", Some(5)),
            ("50e-1", Some(5)),
            ("1e3", Some(1000)),
            ("-0.0", Some(0)),
            ("9223372036854775807", Some(i64::MAX)),
            ("9223372036854775808", None),
            ("-9223372036854775808", Some(i64::MIN)),
            ("1.5", None),
        ] {
            let json: Value = serde_json::from_str(text).expect(text);
            assert_eq!(as_integer(&json), integer, "{text}");
        }
    }

    #[test]
    fn only_quotes_backslashes_and_controls_are_escaped() {
        let mut out = String::new();
        write_string("a\"b\\c/\n\u{1}\u{7f}\u{e9}", &mut out);
        assert_eq!(out, "\"a\\\"b\\\\c/\\n\\u0001\u{7f}\u{e9}\"");
    }
}
