//! From the words of a condition to its tree, by recursive descent: one function for each line of the grammar.

use regex::bytes::{Regex, RegexBuilder};
use skidder_pipeline::path::Path;

use super::lexer::{Lexer, Token, TokenKind};
use super::{ConditionError, Literal, MAX_DEPTH, MAX_REGEX_BYTES, Node, Order, Test};

const OPERATORS: &str = "one of ==, !=, <, <=, >, >=, =~, !~, in, contains, starts_with, ends_with, matches";

pub(super) fn parse(source: &str) -> Result<Node, ConditionError> {
    let mut lexer = Lexer::new(source);
    let token = lexer.next()?;
    let mut parser = Parser { lexer, token };
    if matches!(parser.token.kind, TokenKind::End) {
        return Err(parser.error("the condition is empty", Some("write for example `level == \"error\"`")));
    }
    let root = parser.either(0)?;
    match &parser.token.kind {
        TokenKind::End => Ok(root),
        TokenKind::Sign(")") => Err(parser.error("this parenthesis was never opened", None)),
        _ => Err(parser.error("the condition should have ended here", Some("join two conditions with `and` or `or`"))),
    }
}

struct Parser<'a> {
    lexer: Lexer<'a>,
    /// The word that comes next.
    token: Token,
}

impl Parser<'_> {
    fn error(&self, message: impl Into<String>, help: Option<&str>) -> ConditionError {
        self.lexer.error(self.token.at, message, help)
    }

    fn advance(&mut self) -> Result<Token, ConditionError> {
        let next = self.lexer.next()?;
        Ok(std::mem::replace(&mut self.token, next))
    }

    fn sign(&self) -> &'static str {
        match self.token.kind {
            TokenKind::Sign(sign) => sign,
            _ => "",
        }
    }

    /// The next word where it is one of letters.
    fn word(&self) -> &str {
        match &self.token.kind {
            TokenKind::Name(name, _) => name,
            _ => "",
        }
    }

    fn expect(&mut self, sign: &str, context: &str) -> Result<(), ConditionError> {
        if self.sign() != sign {
            return Err(self.error(format!("`{sign}` is missing here, {context}"), None));
        }
        self.advance().map(drop)
    }

    /// either = both { ("or" | "||") both }
    fn either(&mut self, depth: usize) -> Result<Node, ConditionError> {
        let mut node = self.both(depth)?;
        let mut chain = depth;
        while self.word() == "or" || self.sign() == "||" {
            chain = self.deeper(chain)?;
            self.advance()?;
            node = Node::Or(Box::new(node), Box::new(self.both(depth)?));
        }
        Ok(node)
    }

    /// both = one { ("and" | "&&") one }
    fn both(&mut self, depth: usize) -> Result<Node, ConditionError> {
        let mut node = self.one(depth)?;
        let mut chain = depth;
        while self.word() == "and" || self.sign() == "&&" {
            chain = self.deeper(chain)?;
            self.advance()?;
            node = Node::And(Box::new(node), Box::new(self.one(depth)?));
        }
        Ok(node)
    }

    /// one = ("not" | "!") one | "(" either ")" | "exists" "(" path ")" | path [test]
    fn one(&mut self, depth: usize) -> Result<Node, ConditionError> {
        let depth = self.deeper(depth)?;
        if self.word() == "not" || self.sign() == "!" {
            self.advance()?;
            return Ok(Node::Not(Box::new(self.one(depth)?)));
        }
        if self.sign() == "(" {
            self.advance()?;
            let node = self.either(depth)?;
            self.expect(")", "to close the parenthesis")?;
            return Ok(node);
        }
        let token = self.advance()?;
        let at = token.at;
        match token.kind {
            TokenKind::Name(name, _) if name == "exists" && self.sign() == "(" => {
                self.advance()?;
                let path = self.path("`exists` asks for a field")?;
                self.expect(")", "after the field")?;
                Ok(Node::Exists(path))
            }
            TokenKind::Name(name, _) if is_reserved(&name) => {
                let help = format!("a field of that name is written with a dot before it: `.{name}`");
                Err(self.lexer.error(at, format!("`{name}` cannot stand here"), Some(&help)))
            }
            TokenKind::Name(_, path) => self.test(path),
            TokenKind::Literal(Literal::Text(text)) => {
                let help =
                    format!("write the field first; a key with special characters is written `.\"{}\"`", String::from_utf8_lossy(&text));
                Err(self.lexer.error(at, "a condition starts with a field, and this is a text", Some(&help)))
            }
            TokenKind::End => Err(self.lexer.error(at, "the condition ends where a field is needed", None)),
            _ => Err(self.lexer.error(at, "a field is needed here", Some("write for example `level == \"error\"`"))),
        }
    }

    /// test = order literal | ["not"] ("in" list | "contains" literal | …); a path alone asks whether it is `true`.
    fn test(&mut self, path: Path) -> Result<Node, ConditionError> {
        let negated = self.word() == "not";
        if negated {
            self.advance()?;
        }
        let operator = match &self.token.kind {
            TokenKind::Sign(sign) => *sign,
            TokenKind::Name(name, _) => match name.as_str() {
                "in" => "in",
                "contains" => "contains",
                "starts_with" => "starts_with",
                "ends_with" => "ends_with",
                "matches" => "matches",
                "and" | "or" => "",
                _ => return Err(self.unknown_operator()),
            },
            TokenKind::Literal(_) => return Err(self.unknown_operator()),
            TokenKind::End => "",
        };
        let is_word = operator.starts_with(|c: char| c.is_ascii_lowercase());
        if negated && !is_word {
            return Err(
                self.error("`not` is followed by no operator that it goes with", Some("write `not` before the field: `not a == 1`"))
            );
        }
        let test = match operator {
            "==" => Test::Equals(self.operand()?),
            "!=" => Test::Differs(self.operand()?),
            "<" => Test::Ordered(Order::Less, self.ordered_operand()?),
            "<=" => Test::Ordered(Order::LessOrEqual, self.ordered_operand()?),
            ">" => Test::Ordered(Order::Greater, self.ordered_operand()?),
            ">=" => Test::Ordered(Order::GreaterOrEqual, self.ordered_operand()?),
            "contains" => Test::Contains(self.operand()?),
            "starts_with" => Test::StartsWith(self.text_operand()?),
            "ends_with" => Test::EndsWith(self.text_operand()?),
            "in" => Test::In(self.list()?),
            "=~" | "matches" => Test::Matches(self.regex()?),
            "!~" => return Ok(Node::Not(Box::new(Node::Test(path, Test::Matches(self.regex()?))))),
            "=" => return Err(self.error("`=` is no operator", Some("compare with `==`"))),
            "(" | "[" | "]" | "," | "!" => return Err(self.unknown_operator()),
            _ => Test::IsTrue,
        };
        let node = Node::Test(path, test);
        Ok(if negated { Node::Not(Box::new(node)) } else { node })
    }

    fn unknown_operator(&self) -> ConditionError {
        let known = ["in", "contains", "starts_with", "ends_with", "matches", "and", "or", "not", "exists"];
        let word = self.word().to_ascii_lowercase();
        let squeezed = |word: &str| word.replace(['_', '-'], "");
        let help = match known.iter().find(|known| squeezed(known) == squeezed(&word)) {
            Some(known) => format!("did you mean `{known}`?"),
            None => format!("write {OPERATORS}"),
        };
        self.error("an operator is needed here", Some(&help))
    }

    /// The literal after the operator.
    fn operand(&mut self) -> Result<Literal, ConditionError> {
        self.advance()?;
        self.literal()
    }

    fn literal(&mut self) -> Result<Literal, ConditionError> {
        let token = self.advance()?;
        match token.kind {
            TokenKind::Literal(literal) => Ok(literal),
            TokenKind::Name(name, _) => match name.as_str() {
                "true" => Ok(Literal::Bool(true)),
                "false" => Ok(Literal::Bool(false)),
                "null" => Ok(Literal::Null),
                _ => {
                    let help = format!("write a text in quotes: \"{name}\"");
                    Err(self.lexer.error(token.at, format!("`{name}` is a field, and a value is needed here"), Some(&help)))
                }
            },
            TokenKind::End => Err(self.lexer.error(token.at, "the condition ends where a value is needed", None)),
            TokenKind::Sign(sign) => Err(self.lexer.error(token.at, format!("a value is needed here, and not `{sign}`"), None)),
        }
    }

    fn ordered_operand(&mut self) -> Result<Literal, ConditionError> {
        self.advance()?;
        let at = self.token.at;
        match self.literal()? {
            literal @ (Literal::Number(_) | Literal::Text(_)) => Ok(literal),
            _ => Err(self.lexer.error(at, "only numbers and texts have an order", None)),
        }
    }

    fn text_operand(&mut self) -> Result<Box<[u8]>, ConditionError> {
        self.advance()?;
        let at = self.token.at;
        match self.literal()? {
            Literal::Text(text) => Ok(text),
            _ => Err(self.lexer.error(at, "a text is needed here", Some("put it in quotes"))),
        }
    }

    /// list = "[" literal { "," literal } "]"
    fn list(&mut self) -> Result<Box<[Literal]>, ConditionError> {
        self.advance()?;
        self.expect("[", "before the values: `in [\"a\", \"b\"]`")?;
        let mut literals = Vec::new();
        while self.sign() != "]" {
            literals.push(self.literal()?);
            if self.sign() != "]" {
                self.expect(",", "between the values")?;
            }
        }
        self.advance()?;
        Ok(literals.into())
    }

    /// A regular expression between slashes or in quotes. Stands at the operator; the lexer stands after it.
    fn regex(&mut self) -> Result<Regex, ConditionError> {
        let (pattern, at) = match self.lexer.regex()? {
            Some(found) => {
                self.token = self.lexer.next()?;
                found
            }
            None => {
                self.advance()?;
                let at = self.token.at;
                match self.literal()? {
                    Literal::Text(text) => (String::from_utf8_lossy(&text).into_owned(), at),
                    _ => {
                        return Err(self.lexer.error(
                            at,
                            "a regular expression is needed here",
                            Some("write it between slashes: `/^GET /`"),
                        ));
                    }
                }
            }
        };
        RegexBuilder::new(&pattern).size_limit(MAX_REGEX_BYTES).dfa_size_limit(MAX_REGEX_BYTES).build().map_err(|error| {
            let message = match error {
                regex::Error::CompiledTooBig(limit) => format!("the regular expression takes more than {limit} bytes when it is compiled"),
                // The library draws the pattern with a caret over several lines; the last one says what is wrong.
                other => other.to_string().lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned(),
            };
            self.lexer.error(at, format!("the regular expression is wrong: {message}"), None)
        })
    }

    fn path(&mut self, context: &str) -> Result<Path, ConditionError> {
        let token = self.advance()?;
        match token.kind {
            TokenKind::Name(_, path) => Ok(path),
            _ => Err(self.lexer.error(token.at, context, Some("write for example `exists(user.id)`"))),
        }
    }

    fn deeper(&self, depth: usize) -> Result<usize, ConditionError> {
        if depth == MAX_DEPTH {
            return Err(
                self.error(format!("the condition nests deeper than {MAX_DEPTH}"), Some("use several filters, or `in` for many values"))
            );
        }
        Ok(depth + 1)
    }
}

fn is_reserved(name: &str) -> bool {
    matches!(name, "and" | "or" | "not" | "in" | "contains" | "starts_with" | "ends_with" | "matches" | "true" | "false" | "null")
}
