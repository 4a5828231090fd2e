//! Types of columns, as ClickHouse writes them (`LowCardinality(Nullable(String))`), as far as rows are written of them.

/// A type that values are coerced to. `LowCardinality` is a matter of storage: its values are those of the type within.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Type {
    /// Bytes, by convention UTF-8.
    String,
    /// So many bytes, filled up with zeros.
    FixedString(usize),
    /// An unsigned integer of so many bytes: 1, 2, 4 or 8.
    UInt(usize),
    /// A signed integer of so many bytes: 1, 2, 4 or 8.
    Int(usize),
    /// IEEE 754, 4 bytes.
    Float32,
    /// IEEE 754, 8 bytes.
    Float64,
    /// One byte, 0 or 1.
    Bool,
    /// Days since 1970-01-01, 2 bytes.
    Date,
    /// Days since 1970-01-01, 4 bytes, signed.
    Date32,
    /// Seconds since 1970-01-01, 4 bytes.
    DateTime,
    /// Units of 10 to the power of minus this, since 1970-01-01, 8 bytes, signed.
    DateTime64(u32),
    /// 16 bytes, each half little-endian.
    Uuid,
    /// 4 bytes, little-endian.
    IPv4,
    /// 16 bytes in the order of the network.
    IPv6,
    /// A number of 1 or 2 bytes for each of some names.
    Enum {
        /// 1 or 2.
        bytes: usize,
        /// Names and their numbers.
        names: Vec<(String, i16)>,
    },
    /// A JSON object; it travels as its text (`input_format_binary_read_json_as_string`).
    Json,
    /// A byte that says whether there is none, then the value.
    Nullable(Box<Type>),
    /// A count and so many values.
    Array(Box<Type>),
    /// A count and so many pairs.
    Map(Box<Type>, Box<Type>),
}

impl Type {
    /// Reads a type; `None` for one that rows are not written of (`Decimal`, `Tuple`, wide integers, …).
    pub fn parse(text: &str) -> Option<Type> {
        let text = text.trim();
        let (name, arguments) = match text.split_once('(') {
            Some((name, rest)) => (name, split(rest.strip_suffix(')')?)),
            None => (text, Vec::new()),
        };
        let inner = |index: usize| arguments.get(index).and_then(|text| Type::parse(text)).map(Box::new);
        Some(match name {
            "String" => Type::String,
            "FixedString" => Type::FixedString(arguments.first()?.parse().ok()?),
            "UInt8" => Type::UInt(1),
            "UInt16" => Type::UInt(2),
            "UInt32" => Type::UInt(4),
            "UInt64" => Type::UInt(8),
            "Int8" => Type::Int(1),
            "Int16" => Type::Int(2),
            "Int32" => Type::Int(4),
            "Int64" => Type::Int(8),
            "Float32" => Type::Float32,
            "Float64" => Type::Float64,
            "Bool" => Type::Bool,
            "Date" => Type::Date,
            "Date32" => Type::Date32,
            "DateTime" => Type::DateTime,
            "DateTime64" => Type::DateTime64(arguments.first()?.parse().ok().filter(|precision| *precision <= 9)?),
            "UUID" => Type::Uuid,
            "IPv4" => Type::IPv4,
            "IPv6" => Type::IPv6,
            "Enum8" => Type::Enum { bytes: 1, names: names(&arguments)? },
            "Enum16" => Type::Enum { bytes: 2, names: names(&arguments)? },
            "JSON" => Type::Json,
            "LowCardinality" => *inner(0)?,
            "Nullable" => Type::Nullable(inner(0)?),
            "Array" => Type::Array(inner(0)?),
            "Map" => Type::Map(inner(0)?, inner(1)?),
            _ => return None,
        })
    }

    /// Whether values are texts.
    pub fn is_text(&self) -> bool {
        matches!(self, Type::String)
    }

    /// Whether any field can become part of it: a map from texts to texts, an object, or a text that holds one.
    pub fn holds_fields(&self) -> bool {
        match self {
            Type::String | Type::Json => true,
            Type::Map(key, value) => key.is_text() && value.is_text(),
            _ => false,
        }
    }
}

/// The arguments of a type: at the commas that stand within no other parentheses and no quotes.
fn split(text: &str) -> Vec<&str> {
    let (mut parts, mut start, mut depth, mut quoted, mut escaped) = (Vec::new(), 0, 0, false, false);
    for (at, c) in text.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '\'' => quoted = !quoted,
            '(' if !quoted => depth += 1,
            ')' if !quoted => depth -= 1,
            ',' if !quoted && depth == 0 => {
                parts.push(text[start..at].trim());
                start = at + 1;
            }
            _ => {}
        }
    }
    parts.push(text[start..].trim());
    parts
}

/// `'a' = 1`, `'b' = 2`.
fn names(arguments: &[&str]) -> Option<Vec<(String, i16)>> {
    let pair = |text: &&str| {
        let (name, number) = text.rsplit_once('=')?;
        let name = name.trim().strip_prefix('\'')?.strip_suffix('\'')?;
        Some((name.replace("\\'", "'").replace("\\\\", "\\"), number.trim().parse().ok()?))
    };
    arguments.iter().map(pair).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn reads_types_as_the_server_writes_them() {
        assert_eq!(Type::parse("LowCardinality(Nullable(String))"), Some(Type::Nullable(Box::new(Type::String))));
        assert_eq!(Type::parse("DateTime64(9, 'Asia/Tokyo')"), Some(Type::DateTime64(9)));
        assert_eq!(Type::parse("DateTime('UTC')"), Some(Type::DateTime));
        assert_eq!(
            Type::parse("Map(LowCardinality(String), Array(UInt16))"),
            Some(Type::Map(Box::new(Type::String), Box::new(Type::Array(Box::new(Type::UInt(2))))))
        );
        let names = vec![("a, b".to_owned(), -1), ("it's".to_owned(), 2), ("x)".to_owned(), 3)];
        assert_eq!(Type::parse("Enum8('a, b' = -1, 'it\\'s' = 2, 'x)' = 3)"), Some(Type::Enum { bytes: 1, names }));
        assert_eq!(Type::parse("JSON(max_dynamic_paths=8, a.b UInt32)"), Some(Type::Json));
        for unknown in
            ["Decimal(9, 2)", "Tuple(a String)", "Int128", "Map(String, Decimal(9, 2))", "Nothing", "", "Array(", "DateTime64(12)"]
        {
            assert_eq!(Type::parse(unknown), None, "{unknown}");
        }
        assert!(Type::parse("Map(LowCardinality(String), String)").unwrap().holds_fields());
        assert!(!Type::parse("Map(String, UInt8)").unwrap().holds_fields());
    }
}
