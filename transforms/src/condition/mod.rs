//! Conditions on the fields of a record: `level in ["error", "fatal"] and not path starts_with "/health"`.
//!
//! The language is described, with its grammar, in docs/conditions.md; why it is our own in decisions/0005.

mod eval;
mod lexer;
mod parser;
#[cfg(test)]
mod tests;

use regex::bytes::Regex;
use skidder_pipeline::path::Path;
use skidder_pipeline::shared::Shared;
use skidder_pipeline::value::Value;

/// A condition, ready to be asked.
#[derive(Clone, Debug)]
pub struct Condition {
    root: Node,
}

/// Why a text is no condition.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("column {column}: {message}")]
pub struct ConditionError {
    /// Where in the text: characters, counted from 1.
    pub column: usize,
    /// What is wrong, in one sentence without a full stop.
    pub message: String,
    /// What to do about it.
    pub help: Option<String>,
}

/// How deep conditions may nest. People write three or four levels; evaluation takes a stack frame for each.
pub const MAX_DEPTH: usize = 64;

/// The most bytes that a compiled regular expression of a condition may take, and each table that a search with it builds.
const MAX_REGEX_BYTES: usize = 1 << 20;

/// A condition as a tree.
#[derive(Clone, Debug)]
enum Node {
    Or(Box<Node>, Box<Node>),
    And(Box<Node>, Box<Node>),
    Not(Box<Node>),
    Exists(Path),
    Test(Path, Test),
}

/// What is asked of the value of a field.
#[derive(Clone, Debug)]
enum Test {
    IsTrue,
    Equals(Literal),
    Differs(Literal),
    Ordered(Order, Literal),
    Contains(Literal),
    StartsWith(Box<[u8]>),
    EndsWith(Box<[u8]>),
    Matches(Regex),
    In(Box<[Literal]>),
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Order {
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

#[derive(Clone, PartialEq, Debug)]
enum Literal {
    Text(Box<[u8]>),
    Number(f64),
    Bool(bool),
    Null,
}

impl Condition {
    /// Reads a condition.
    pub fn parse(source: &str) -> Result<Condition, ConditionError> {
        parser::parse(source).map(|root| Condition { root })
    }

    /// Whether the condition holds, with fields as `lookup` gives them.
    pub fn holds<'a>(&self, lookup: impl Fn(&Path) -> Option<Value<'a>>) -> bool {
        eval::holds(&self.root, &lookup)
    }

    /// Whether the answer is the same for all records of a batch with these shared fields: every field that takes part is
    /// shared, by its first key.
    pub fn is_shared(&self, shared: &Shared) -> bool {
        fn all(node: &Node, shared: &Shared) -> bool {
            match node {
                Node::Or(a, b) | Node::And(a, b) => all(a, shared) && all(b, shared),
                Node::Not(a) => all(a, shared),
                Node::Exists(path) | Node::Test(path, _) => shared.get(path.first()).is_some(),
            }
        }
        all(&self.root, shared)
    }
}
