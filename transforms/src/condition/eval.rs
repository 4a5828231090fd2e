//! Asking a condition of a record.

use std::borrow::Cow;
use std::cmp::Ordering;

use skidder_pipeline::json;
use skidder_pipeline::path::Path;
use skidder_pipeline::value::{Kind, Value};

use super::{Literal, Node, Order, Test};

pub(super) fn holds<'a>(node: &Node, lookup: &impl Fn(&Path) -> Option<Value<'a>>) -> bool {
    match node {
        Node::Or(a, b) => holds(a, lookup) || holds(b, lookup),
        Node::And(a, b) => holds(a, lookup) && holds(b, lookup),
        Node::Not(a) => !holds(a, lookup),
        Node::Exists(path) => lookup(path).is_some(),
        Node::Test(path, test) => match lookup(path) {
            Some(value) => passes(value, test),
            // A field that is not there equals nothing and differs from everything.
            None => matches!(test, Test::Differs(_)),
        },
    }
}

fn passes(value: Value<'_>, test: &Test) -> bool {
    match test {
        Test::IsTrue => value.kind == Kind::Bool && value.raw == b"true",
        Test::Equals(literal) => equals(value, literal),
        Test::Differs(literal) => !equals(value, literal),
        Test::Ordered(order, literal) => compare(value, literal).is_some_and(|ordering| order.admits(ordering)),
        Test::Contains(literal) => contains(value, literal),
        Test::StartsWith(start) => text(value).is_some_and(|text| text.starts_with(start)),
        Test::EndsWith(end) => text(value).is_some_and(|text| text.ends_with(end)),
        Test::Matches(regex) => text(value).is_some_and(|text| regex.is_match(&text)),
        Test::In(literals) => literals.iter().any(|literal| equals(value, literal)),
    }
}

/// The characters of a text; `None` for other kinds.
fn text(value: Value<'_>) -> Option<Cow<'_, [u8]>> {
    value.kind.is_text().then(|| value.plain())
}

fn equals(value: Value<'_>, literal: &Literal) -> bool {
    match literal {
        Literal::Text(expected) => text(value).is_some_and(|text| *text == **expected),
        Literal::Number(expected) => value.number() == Some(*expected),
        Literal::Bool(expected) => value.kind == Kind::Bool && (value.raw == b"true") == *expected,
        Literal::Null => value.kind == Kind::Null,
    }
}

/// Numbers compare as numbers, texts byte by byte; nothing else has an order.
fn compare(value: Value<'_>, literal: &Literal) -> Option<Ordering> {
    match literal {
        Literal::Text(other) => text(value).map(|text| (*text).cmp(other)),
        Literal::Number(other) => value.number()?.partial_cmp(other),
        Literal::Bool(_) | Literal::Null => None,
    }
}

fn contains(value: Value<'_>, literal: &Literal) -> bool {
    if value.kind == Kind::Array {
        let mut found = false;
        json::elements(value, |element| found |= equals(element, literal));
        return found;
    }
    match literal {
        Literal::Text(part) => text(value).is_some_and(|text| memchr::memmem::find(&text, part).is_some()),
        _ => false,
    }
}

impl Order {
    fn admits(self, ordering: Ordering) -> bool {
        match self {
            Order::Less => ordering.is_lt(),
            Order::LessOrEqual => ordering.is_le(),
            Order::Greater => ordering.is_gt(),
            Order::GreaterOrEqual => ordering.is_ge(),
        }
    }
}
