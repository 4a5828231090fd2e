//! The bounds of numbers.

use serde_json::Value;
use toml::de::DeValue;

use super::schema::Object;

/// What is wrong with a number of the right type, if anything.
pub fn out_of_bounds(number: &DeValue<'_>, schema: &Object) -> Option<String> {
    match number {
        DeValue::Integer(integer) => match i128::from_str_radix(integer.as_str(), integer.radix()) {
            Ok(value) => integer_out_of_bounds(value, schema),
            Err(_) => Some("the number is too large".to_owned()),
        },
        DeValue::Float(float) => float_out_of_bounds(float.as_str().parse().ok()?, schema),
        _ => None,
    }
}

fn integer_out_of_bounds(value: i128, schema: &Object) -> Option<String> {
    let bound = |keyword: &str| schema.get(keyword).and_then(integer);
    let (lowest, highest) = range_of_format(schema);
    let low = [bound("minimum"), bound("exclusiveMinimum").map(|b| b + 1), lowest].into_iter().flatten().max();
    let high = [bound("maximum"), bound("exclusiveMaximum").map(|b| b - 1), highest].into_iter().flatten().min();
    match (low, high) {
        (Some(low), _) if value < low => Some(format!("must be at least {low}")),
        (_, Some(high)) if value > high => Some(format!("must be at most {high}")),
        _ => None,
    }
}

fn float_out_of_bounds(value: f64, schema: &Object) -> Option<String> {
    let bound = |keyword: &str| schema.get(keyword).and_then(Value::as_f64);
    let wrong = [
        (bound("minimum"), "at least", value.is_nan() || bound("minimum").is_some_and(|b| value < b)),
        (bound("maximum"), "at most", bound("maximum").is_some_and(|b| value > b)),
        (bound("exclusiveMinimum"), "above", bound("exclusiveMinimum").is_some_and(|b| value <= b)),
        (bound("exclusiveMaximum"), "below", bound("exclusiveMaximum").is_some_and(|b| value >= b)),
    ];
    wrong.into_iter().find_map(|(bound, words, wrong)| bound.filter(|_| wrong).map(|bound| format!("must be {words} {bound}")))
}

/// The range of the Rust type. schemars writes it as bounds for 8 and 16 bits, and as a format for the others.
fn range_of_format(schema: &Object) -> (Option<i128>, Option<i128>) {
    match schema.get("format").and_then(Value::as_str) {
        Some("uint32") => (Some(0), Some(u32::MAX.into())),
        Some("int32") => (Some(i32::MIN.into()), Some(i32::MAX.into())),
        Some("uint64" | "uint") => (Some(0), Some(u64::MAX.into())),
        Some("int64" | "int") => (Some(i64::MIN.into()), Some(i64::MAX.into())),
        _ => (None, None),
    }
}

fn integer(bound: &Value) -> Option<i128> {
    // A bound on an integer may be written as a float in an attribute.
    bound.as_i64().map(i128::from).or_else(|| bound.as_u64().map(i128::from)).or_else(|| bound.as_f64().map(|b| b as i128))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn knows_bounds() {
        for (schema, value, expected) in [
            (r#"{"format":"uint32","minimum":0}"#, "4294967296", Some("must be at most 4294967295")),
            (r#"{"format":"uint32","minimum":0}"#, "-1", Some("must be at least 0")),
            (r#"{"format":"uint32","minimum":1}"#, "0", Some("must be at least 1")),
            (r#"{"minimum":1,"maximum":255}"#, "0xff", None),
            (r#"{"minimum":1,"maximum":255}"#, "0x1_00", Some("must be at most 255")),
            (r#"{"format":"uint64"}"#, "18446744073709551615", None),
            (r#"{}"#, "99999999999999999999999999999999999999999", Some("the number is too large")),
            (r#"{"minimum":0.5}"#, "0.25", Some("must be at least 0.5")),
            (r#"{"exclusiveMinimum":0,"maximum":1}"#, "0.0", Some("must be above 0")),
            (r#"{"exclusiveMinimum":0,"maximum":1}"#, "1.0", None),
        ] {
            let schema: Object = serde_json::from_str(schema).unwrap_or_default();
            let number = DeValue::parse(value).map(|v| v.into_inner()).unwrap_or(DeValue::Boolean(false));
            assert_eq!(out_of_bounds(&number, &schema).as_deref(), expected, "{value}");
        }
    }
}
