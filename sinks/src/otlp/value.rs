//! Values as OpenTelemetry's `AnyValue`, and back as JSON.
//!
//! ```text
//! message AnyValue { oneof value { string string_value = 1; bool bool_value = 2; int64 int_value = 3; double double_value = 4;
//!                                  ArrayValue array_value = 5; KeyValueList kvlist_value = 6; bytes bytes_value = 7; } }
//! message ArrayValue { repeated AnyValue values = 1; }    message KeyValueList { repeated KeyValue values = 1; }
//! message KeyValue { string key = 1; AnyValue value = 2; }
//! ```

use skidder_pipeline::json;
use skidder_pipeline::value::{Kind, Value};

use crate::common::proto;

/// Appends field `number`, a `KeyValue`.
pub fn attribute(number: u32, key: &[u8], value: Value<'_>, out: &mut Vec<u8>) {
    proto::message(number, out, |out| {
        proto::bytes(1, key, out);
        proto::message(2, out, |out| any(value, out));
    });
}

/// Appends field `number`, a `KeyValue` with a text.
pub fn text_attribute(number: u32, key: &str, text: &[u8], out: &mut Vec<u8>) {
    attribute(number, key.as_bytes(), Value::text(text), out);
}

/// Appends the inside of an `AnyValue`. `null` is one without a value. A number is an integer where it is written as one and fits,
/// a double where that says the same, and else the text it was written as: no digit is lost.
pub fn any(value: Value<'_>, out: &mut Vec<u8>) {
    match value.kind {
        Kind::Text | Kind::String => proto::bytes(1, &value.plain(), out),
        // A oneof is written also where it is the default.
        Kind::Bool => out.extend_from_slice(&[2 << 3, u8::from(value.raw == b"true")]),
        Kind::Null => {}
        Kind::Number => number(value.raw, out),
        Kind::Array => proto::message(5, out, |out| json::elements(value, |element| proto::message(1, out, |out| any(element, out)))),
        Kind::Object => proto::message(6, out, |out| {
            json::members(value, |key, value| attribute(1, &json::unescape(key), value, out));
        }),
    }
}

fn number(raw: &[u8], out: &mut Vec<u8>) {
    let text = std::str::from_utf8(raw).unwrap_or_default();
    if let Ok(integer) = text.parse::<i64>()
        && text != "-0"
    {
        out.push(3 << 3);
        proto::varint(integer as u64, out);
        return;
    }
    let is_integer = text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'-');
    match text.parse::<f64>() {
        Ok(double) if double.is_finite() && (!is_integer || text == "-0") && says_the_same(text, double) => {
            proto::fixed64(4, double.to_bits(), out);
        }
        _ => proto::bytes(1, raw, out),
    }
}

/// Whether a double holds as many digits as were written. 17 identify any double; what has more is cut.
fn says_the_same(text: &str, double: f64) -> bool {
    let mantissa = text.split(['e', 'E']).next().unwrap_or_default();
    let digits = mantissa.bytes().filter(u8::is_ascii_digit).skip_while(|byte| *byte == b'0').count();
    digits <= 17 && (double != 0.0 || mantissa.bytes().all(|byte| !(b'1'..=b'9').contains(&byte)))
}

/// An `AnyValue` as JSON, for people.
pub fn to_json(any: &[u8]) -> serde_json::Value {
    let Some(field) = proto::fields(any).last() else { return serde_json::Value::Null };
    let inside = || proto::fields(field.value.bytes()).filter(|field| field.number == 1);
    match field.number {
        2 => (field.value.number() != 0).into(),
        3 => (field.value.number() as i64).into(),
        4 => f64::from_bits(field.value.number()).into(),
        5 => inside().map(|value| to_json(value.value.bytes())).collect(),
        6 => serde_json::Value::Object(inside().map(|pair| key_value(pair.value.bytes())).collect()),
        _ => String::from_utf8_lossy(field.value.bytes()).into(),
    }
}

/// A `KeyValue`.
pub fn key_value(message: &[u8]) -> (String, serde_json::Value) {
    let part = |number| proto::fields(message).find(|field| field.number == number).map_or(&b""[..], |field| field.value.bytes());
    (String::from_utf8_lossy(part(1)).into_owned(), to_json(part(2)))
}
