//! The filter language: one small typed language for the filters that callers claim and the row filters (`@rows`) that
//! policies demand. [`parse`] reads the text, [`resolve`] types it against a table; what comes out, a [`Predicate`], is all
//! that a source may turn into SQL or, with [`to_polars`], into an expression over a file.
//!
//! ```text
//! condition  = and-part { "or" and-part }
//! and-part   = term { "and" term }
//! term       = "not" term | "(" condition ")" | comparison
//! comparison = column ( "=" | "!=" | "<>" | "<" | "<=" | ">" | ">=" ) value
//!            | column [ "not" ] "in" "(" value { "," value } ")"
//!            | column "is" [ "not" ] "null"
//! column     = letter or "_" { letter, digit or "_" } | '"' any text, "" for a quote '"'
//! value      = 'text, '' for an apostrophe' | number | "true" | "false"
//!            | ( "date" | "time" | "timestamp" | "uuid" ) 'text'
//! ```
//!
//! Keywords are read in either case, column names are not. A quoted value takes the type of its column, the words `date`,
//! `time`, `timestamp` and `uuid` only insist on it. At most 4096 bytes, 32 levels of `(` and `not`, 256 values in a list.
//!
//! **Meaning.** SQL's three-valued logic: a comparison with a null cell is unknown, `not` of unknown is unknown, `and` and
//! `or` follow Kleene, and only rows for which the whole is true are kept. Text compares by its bytes (in SQL: collation
//! `"C"`), numbers by value, and NaN equals itself and is greater than every number, as PostgreSQL has it. Text orders and
//! compares exactly, without folding case or trimming.
//!
//! | column | values it compares with |
//! | --- | --- |
//! | bool | `true`, `false`; only `=`, `!=` and `in` |
//! | integers | whole numbers in the type's range |
//! | float32, float64 | numbers, rounded to the column's type |
//! | decimal(p, s), numeric | numbers without exponent, at most `s` digits after the point |
//! | text, uuid, date, time | `'text'`, `'0…-…'`, `'YYYY-MM-DD'`, `'HH:MM[:SS[.ffffff]]'` |
//! | timestamp, timestamptz | `'DATE TIME'` or `'DATETTIME'`, timestamptz with a zone (`Z`, `±HH:MM`), timestamp without |
//! | binary, json, text_array, nested | none, only `is null` |

use crate::civil;
use crate::schema::{ColumnType, TableSchema};
use polars::prelude as pl;
use std::collections::BTreeSet;
use std::fmt;

/// The longest filter text, in bytes.
pub const MAX_BYTES: usize = 4096;
/// The deepest nesting of parentheses and `not`.
pub const MAX_DEPTH: usize = 32;
/// The longest list after `in`.
pub const MAX_LIST: usize = 256;

/// A condition on the rows of a table, with values of type `V`. `Display` writes its canonical text, which [`parse`] reads
/// back to an equal condition as long as `And` and `Or` have at least two parts.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub enum Condition<V> {
    /// The cell compares so with the value; unknown for a null cell.
    Compare {
        /// The column's name.
        column: String,
        /// How they compare, the cell on the left.
        op: CompareOp,
        /// The value on the right.
        value: V,
    },
    /// The cell equals one of the values; unknown for a null cell.
    In {
        /// The column's name.
        column: String,
        /// At least one value.
        values: Vec<V>,
    },
    /// The cell is null or, `negated`, is not; never unknown.
    IsNull {
        /// The column's name.
        column: String,
        /// Whether it reads `is not null`.
        negated: bool,
    },
    /// All parts hold.
    And(Vec<Condition<V>>),
    /// At least one part holds.
    Or(Vec<Condition<V>>),
    /// The part doesn't hold.
    Not(Box<Condition<V>>),
}

/// A parsed filter whose values have no type yet.
pub type Expr = Condition<Value>;

/// A filter resolved against a table: every column exists and every value has its column's type.
pub type Predicate = Condition<Literal>;

/// A comparison operator.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum CompareOp {
    /// `=`
    Eq,
    /// `!=`
    Ne,
    /// `<`
    Lt,
    /// `<=`
    Le,
    /// `>`
    Gt,
    /// `>=`
    Ge,
}

impl CompareOp {
    /// The operator as SQL and the filter language write it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Eq => "=",
            Self::Ne => "!=",
            Self::Lt => "<",
            Self::Le => "<=",
            Self::Gt => ">",
            Self::Ge => ">=",
        }
    }
}

/// A value as written.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// `true` or `false`.
    Bool(bool),
    /// A number's text.
    Number(String),
    /// The text between apostrophes.
    Text(String),
    /// A word that insists on a type, and the text behind it.
    Typed(TypeWord, String),
}

/// A word that insists on the type of the text behind it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TypeWord {
    /// `date`
    Date,
    /// `time`
    Time,
    /// `timestamp`
    Timestamp,
    /// `uuid`
    Uuid,
}

impl TypeWord {
    fn as_str(self) -> &'static str {
        match self {
            Self::Date => "date",
            Self::Time => "time",
            Self::Timestamp => "timestamp",
            Self::Uuid => "uuid",
        }
    }
}

/// A value with the type of its column.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub enum Literal {
    /// For bool columns.
    Bool(bool),
    /// For integer columns, within the range of the column's type.
    Int(i128),
    /// For float columns, finite, and for float32 columns already rounded to single precision.
    Float(f64),
    /// For decimal and numeric columns: an optional `-`, digits, and for a scale above 0 a point and exactly that many
    /// digits (numeric: as few as possible).
    Decimal(String),
    /// For text columns, without U+0000.
    Text(String),
    /// For date columns: days since 1970-01-01.
    Date(i32),
    /// For time columns: microseconds after midnight.
    Time(i64),
    /// For timestamp columns: microseconds since 1970-01-01 00:00.
    Timestamp(i64),
    /// For timestamptz columns: microseconds since 1970-01-01 00:00 UTC.
    TimestampTz(i64),
    /// For uuid columns: lower case, hyphenated.
    Uuid(String),
}

/// A text that is no filter: what is wrong, and where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("at byte {position}: {reason}")]
pub struct FilterError {
    /// The byte offset in the text, from 0.
    pub position: usize,
    /// The reason, lower case, without a full stop.
    pub reason: String,
}

/// A filter that doesn't fit the table.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ResolveError {
    /// The table has no such column.
    #[error("unknown column `{0}`")]
    UnknownColumn(String),
    /// A value or an operator doesn't fit the column's type.
    #[error("column `{column}` has type {found}, which {reason}")]
    Type {
        /// The column.
        column: String,
        /// Its type.
        found: ColumnType,
        /// What doesn't fit, to be read after "column … has type …, which".
        reason: &'static str,
    },
}

impl<V> Condition<V> {
    /// The names of the columns it looks at.
    pub fn columns(&self) -> BTreeSet<&str> {
        let mut names = BTreeSet::new();
        self.collect_columns(&mut names);
        names
    }

    fn collect_columns<'a>(&'a self, names: &mut BTreeSet<&'a str>) {
        match self {
            Self::Compare { column, .. } | Self::In { column, .. } | Self::IsNull { column, .. } => {
                names.insert(column);
            }
            Self::And(parts) | Self::Or(parts) => parts.iter().for_each(|part| part.collect_columns(names)),
            Self::Not(part) => part.collect_columns(names),
        }
    }

    /// All of `parts`: none for no part, the part itself for one.
    pub fn all(mut parts: Vec<Self>) -> Option<Self> {
        if parts.len() > 1 { Some(Self::And(parts)) } else { parts.pop() }
    }
}

// ---------------------------------------------------------------------------------------------------------------------------
// Text to condition

/// Reads a filter.
///
/// # Errors
/// [`FilterError`] with the place and the reason, if the text isn't a filter or is over a limit of this language.
pub fn parse(text: &str) -> Result<Expr, FilterError> {
    if text.len() > MAX_BYTES {
        let reason = format!("found {} bytes, at most {MAX_BYTES} allowed", text.len());
        return Err(FilterError { position: MAX_BYTES, reason });
    }
    let tokens = tokens(text)?;
    let mut parser = Parser { tokens: &tokens, next: 0, end: text.len(), depth: 0 };
    let condition = parser.condition()?;
    match parser.peek() {
        None => Ok(condition),
        Some(token) => Err(parser.expected(&format!("`and`, `or` or the end, found {token}"))),
    }
}

#[derive(Debug, Clone, PartialEq)]
enum Token {
    /// A bare word: keyword or column.
    Word(String),
    /// A quoted column.
    Quoted(String),
    Number(String),
    Text(String),
    Op(CompareOp),
    Open,
    Close,
    Comma,
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Word(word) | Self::Number(word) => write!(f, "`{word}`"),
            Self::Quoted(_) => f.write_str("a quoted column"),
            Self::Text(_) => f.write_str("a quoted value"),
            Self::Op(op) => write!(f, "`{}`", op.as_str()),
            Self::Open => f.write_str("`(`"),
            Self::Close => f.write_str("`)`"),
            Self::Comma => f.write_str("`,`"),
        }
    }
}

fn tokens(text: &str) -> Result<Vec<(usize, Token)>, FilterError> {
    let mut tokens = Vec::new();
    let mut chars = text.char_indices().peekable();
    while let Some((position, first)) = chars.next() {
        let error = |reason: String| FilterError { position, reason };
        let mut followed_by = |next: char| chars.next_if(|&(_, found)| found == next).is_some();
        let token = match first {
            ' ' | '\t' | '\r' | '\n' => continue,
            '(' => Token::Open,
            ')' => Token::Close,
            ',' => Token::Comma,
            '=' => Token::Op(CompareOp::Eq),
            '!' if followed_by('=') => Token::Op(CompareOp::Ne),
            '<' if followed_by('=') => Token::Op(CompareOp::Le),
            '<' if followed_by('>') => Token::Op(CompareOp::Ne),
            '<' => Token::Op(CompareOp::Lt),
            '>' if followed_by('=') => Token::Op(CompareOp::Ge),
            '>' => Token::Op(CompareOp::Gt),
            '\'' | '"' => {
                let mut value = String::new();
                loop {
                    match chars.next() {
                        Some((_, found)) if found == first => {
                            if chars.next_if(|&(_, next)| next == first).is_none() {
                                break;
                            }
                            value.push(first);
                        }
                        Some((position, '\0')) => {
                            return Err(FilterError { position, reason: "U+0000 stands in a quoted text".into() });
                        }
                        Some((_, other)) => value.push(other),
                        None => return Err(error(format!("the closing `{first}` is missing"))),
                    }
                }
                if first == '"' { Token::Quoted(value) } else { Token::Text(value) }
            }
            'a'..='z' | 'A'..='Z' | '_' => {
                let mut word = String::from(first);
                while let Some((_, next)) = chars.next_if(|&(_, next)| next.is_ascii_alphanumeric() || next == '_') {
                    word.push(next);
                }
                Token::Word(word)
            }
            '0'..='9' | '-' => {
                let mut number = String::from(first);
                loop {
                    let after_e = number.ends_with(['e', 'E']);
                    let Some((_, next)) = chars.next_if(|&(_, next)| {
                        next.is_ascii_alphanumeric() || next == '.' || (after_e && (next == '+' || next == '-'))
                    }) else {
                        break;
                    };
                    number.push(next);
                }
                if !is_number(&number) {
                    return Err(error(format!("`{number}` is no number")));
                }
                Token::Number(number)
            }
            other => return Err(error(format!("`{}` is not expected", other.escape_debug()))),
        };
        tokens.push((position, token));
    }
    Ok(tokens)
}

/// `-?digits[.digits][e[+-]digits]`
fn is_number(text: &str) -> bool {
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let text = text.strip_prefix('-').unwrap_or(text);
    let (mantissa, exponent) = text.split_once(['e', 'E']).map_or((text, None), |(m, e)| (m, Some(e)));
    let (whole, fraction) = mantissa.split_once('.').map_or((mantissa, None), |(w, f)| (w, Some(f)));
    digits(whole)
        && fraction.is_none_or(digits)
        && exponent.is_none_or(|exponent| digits(exponent.strip_prefix(['+', '-']).unwrap_or(exponent)))
}

const KEYWORDS: [&str; 8] = ["and", "or", "not", "in", "is", "null", "true", "false"];

struct Parser<'a> {
    tokens: &'a [(usize, Token)],
    next: usize,
    end: usize,
    depth: usize,
}

impl Parser<'_> {
    fn peek(&self) -> Option<&Token> {
        self.tokens.get(self.next).map(|(_, token)| token)
    }

    fn take(&mut self) -> Option<Token> {
        let token = self.peek().cloned();
        self.next += 1;
        token
    }

    /// The error at the next token.
    fn expected(&self, what: &str) -> FilterError {
        let position = self.tokens.get(self.next).map_or(self.end, |(position, _)| *position);
        FilterError { position, reason: format!("expected {what}") }
    }

    fn found(&self) -> String {
        self.peek().map_or_else(|| "the end".to_owned(), Token::to_string)
    }

    fn take_keyword(&mut self, keyword: &str) -> bool {
        let found = matches!(self.peek(), Some(Token::Word(word)) if word.eq_ignore_ascii_case(keyword));
        self.next += usize::from(found);
        found
    }

    fn require_keyword(&mut self, keyword: &str) -> Result<(), FilterError> {
        if self.take_keyword(keyword) {
            return Ok(());
        }
        Err(self.expected(&format!("`{keyword}`, found {}", self.found())))
    }

    fn require(&mut self, token: &Token) -> Result<(), FilterError> {
        if self.peek() == Some(token) {
            self.next += 1;
            return Ok(());
        }
        Err(self.expected(&format!("{token}, found {}", self.found())))
    }

    fn condition(&mut self) -> Result<Expr, FilterError> {
        self.chain("or", Self::and_part, Condition::Or)
    }

    fn and_part(&mut self) -> Result<Expr, FilterError> {
        self.chain("and", Self::term, Condition::And)
    }

    fn chain(
        &mut self,
        keyword: &str,
        part: fn(&mut Self) -> Result<Expr, FilterError>,
        join: fn(Vec<Expr>) -> Expr,
    ) -> Result<Expr, FilterError> {
        let first = part(self)?;
        if !self.take_keyword(keyword) {
            return Ok(first);
        }
        let mut parts = vec![first, part(self)?];
        while self.take_keyword(keyword) {
            parts.push(part(self)?);
        }
        Ok(join(parts))
    }

    fn term(&mut self) -> Result<Expr, FilterError> {
        let nested = |parser: &mut Self, inner: fn(&mut Self) -> Result<Expr, FilterError>| {
            if parser.depth == MAX_DEPTH {
                return Err(parser.expected(&format!("at most {MAX_DEPTH} levels of `(` and `not`")));
            }
            parser.depth += 1;
            let condition = inner(parser);
            parser.depth -= 1;
            condition
        };
        if self.take_keyword("not") {
            return Ok(Condition::Not(Box::new(nested(self, Self::term)?)));
        }
        if self.peek() == Some(&Token::Open) {
            self.next += 1;
            let condition = nested(self, Self::condition)?;
            self.require(&Token::Close)?;
            return Ok(condition);
        }
        self.comparison()
    }

    fn comparison(&mut self) -> Result<Expr, FilterError> {
        let column = match self.peek() {
            Some(Token::Quoted(name)) => name.clone(),
            Some(Token::Word(name)) if !KEYWORDS.iter().any(|keyword| keyword.eq_ignore_ascii_case(name)) => {
                name.clone()
            }
            _ => return Err(self.expected(&format!("a column, found {}", self.found()))),
        };
        self.next += 1;
        if let Some(Token::Op(op)) = self.peek() {
            let op = *op;
            self.next += 1;
            return Ok(Condition::Compare { column, op, value: self.value()? });
        }
        if self.take_keyword("is") {
            let negated = self.take_keyword("not");
            self.require_keyword("null")?;
            return Ok(Condition::IsNull { column, negated });
        }
        let negated = self.take_keyword("not");
        if !self.take_keyword("in") {
            return Err(self.expected(&format!("an operator, found {}", self.found())));
        }
        self.require(&Token::Open)?;
        let mut values = vec![self.value()?];
        while self.peek() == Some(&Token::Comma) {
            if values.len() == MAX_LIST {
                return Err(self.expected(&format!("at most {MAX_LIST} values in a list")));
            }
            self.next += 1;
            values.push(self.value()?);
        }
        self.require(&Token::Close)?;
        let list = Condition::In { column, values };
        Ok(if negated { Condition::Not(Box::new(list)) } else { list })
    }

    fn value(&mut self) -> Result<Value, FilterError> {
        let word = match self.peek() {
            Some(Token::Number(number)) => {
                let value = Value::Number(number.clone());
                self.next += 1;
                return Ok(value);
            }
            Some(Token::Text(text)) => {
                let value = Value::Text(text.clone());
                self.next += 1;
                return Ok(value);
            }
            Some(Token::Word(word)) => word.to_ascii_lowercase(),
            _ => return Err(self.expected(&format!("a value, found {}", self.found()))),
        };
        let type_word = match word.as_str() {
            "true" | "false" => {
                self.next += 1;
                return Ok(Value::Bool(word == "true"));
            }
            "date" => TypeWord::Date,
            "time" => TypeWord::Time,
            "timestamp" => TypeWord::Timestamp,
            "uuid" => TypeWord::Uuid,
            "null" => return Err(self.expected("a value; to find null cells, write `is null`")),
            _ => return Err(self.expected(&format!("a value, found {}", self.found()))),
        };
        self.next += 1;
        match self.take() {
            Some(Token::Text(text)) => Ok(Value::Typed(type_word, text)),
            _ => {
                self.next -= 1;
                Err(self.expected(&format!("a quoted value after `{word}`")))
            }
        }
    }
}

// ---------------------------------------------------------------------------------------------------------------------------
// Condition to predicate

/// Types a parsed filter against a table.
///
/// # Errors
/// [`ResolveError`] if a column is unknown or a value or operator doesn't fit its type (see the table in the module's doc).
pub fn resolve(condition: Expr, schema: &TableSchema) -> Result<Predicate, ResolveError> {
    let column_type =
        |column: &str| schema.column_type(column).ok_or_else(|| ResolveError::UnknownColumn(column.to_owned()));
    let all = |parts: Vec<Expr>| parts.into_iter().map(|part| resolve(part, schema)).collect::<Result<Vec<_>, _>>();
    Ok(match condition {
        Condition::Compare { column, op, value } => {
            let found = column_type(&column)?;
            let value = literal(&column, found, &value)?;
            if matches!(value, Literal::Bool(_)) && !matches!(op, CompareOp::Eq | CompareOp::Ne) {
                return Err(ResolveError::Type { column, found: found.clone(), reason: "has no order" });
            }
            Condition::Compare { column, op, value }
        }
        Condition::In { column, values } => {
            let found = column_type(&column)?;
            let values = values.iter().map(|value| literal(&column, found, value)).collect::<Result<_, _>>()?;
            Condition::In { column, values }
        }
        Condition::IsNull { column, negated } => {
            column_type(&column)?;
            Condition::IsNull { column, negated }
        }
        Condition::And(parts) => Condition::And(all(parts)?),
        Condition::Or(parts) => Condition::Or(all(parts)?),
        Condition::Not(part) => Condition::Not(Box::new(resolve(*part, schema)?)),
    })
}

/// The value as a literal of the type `found` of `column`.
fn literal(column: &str, found: &ColumnType, value: &Value) -> Result<Literal, ResolveError> {
    let error = |reason| ResolveError::Type { column: column.to_owned(), found: found.clone(), reason };
    let number = || match value {
        Value::Number(number) => Ok(number.as_str()),
        _ => Err(error("compares with numbers only")),
    };
    // The quoted text, if nothing insists on another type.
    let text = |word: Option<TypeWord>, reason| match value {
        Value::Text(text) => Ok(text.as_str()),
        Value::Typed(found, text) if Some(*found) == word => Ok(text.as_str()),
        _ => Err(error(reason)),
    };
    Ok(match found {
        ColumnType::Bool => match value {
            Value::Bool(value) => Literal::Bool(*value),
            _ => return Err(error("compares with `true` and `false` only")),
        },
        ColumnType::Float32 | ColumnType::Float64 => {
            let value: f64 = number()?.parse().map_err(|_| error("compares with numbers only"))?;
            let value = if *found == ColumnType::Float32 { round_to_single(value) } else { value };
            if !value.is_finite() {
                return Err(error("cannot hold so large a number"));
            }
            // -0.0 equals 0.0 and has one canonical text.
            Literal::Float(if value == 0.0 { 0.0 } else { value })
        }
        ColumnType::Decimal { precision, scale } => Literal::Decimal(
            canonical_decimal(number()?, Some((*precision, *scale)))
                .ok_or_else(|| error("compares only with numbers that it can hold, written without an exponent"))?,
        ),
        ColumnType::Numeric => Literal::Decimal(
            canonical_decimal(number()?, None)
                .ok_or_else(|| error("compares only with numbers without an exponent"))?,
        ),
        ColumnType::Text => Literal::Text(text(None, "compares with quoted text only")?.to_owned()),
        ColumnType::Uuid => {
            let reason = "compares with quoted UUIDs only";
            Literal::Uuid(canonical_uuid(text(Some(TypeWord::Uuid), reason)?).ok_or_else(|| error(reason))?)
        }
        ColumnType::Date => {
            let reason = "compares with quoted dates (`YYYY-MM-DD`) only";
            Literal::Date(civil::parse_date(text(Some(TypeWord::Date), reason)?).ok_or_else(|| error(reason))?)
        }
        ColumnType::Time => {
            let reason = "compares with quoted times (`HH:MM:SS`) only";
            Literal::Time(civil::parse_time(text(Some(TypeWord::Time), reason)?).ok_or_else(|| error(reason))?)
        }
        ColumnType::Timestamp => {
            let reason = "compares only with quoted timestamps (`YYYY-MM-DD HH:MM:SS`) without a zone";
            match civil::parse_timestamp(text(Some(TypeWord::Timestamp), reason)?) {
                Some((micros, false)) => Literal::Timestamp(micros),
                _ => return Err(error(reason)),
            }
        }
        ColumnType::TimestampTz => {
            let reason = "compares only with quoted timestamps (`YYYY-MM-DD HH:MM:SSZ`) with a zone";
            match civil::parse_timestamp(text(Some(TypeWord::Timestamp), reason)?) {
                Some((micros, true)) => Literal::TimestampTz(micros),
                _ => return Err(error(reason)),
            }
        }
        ColumnType::Binary
        | ColumnType::Json
        | ColumnType::TextArray
        | ColumnType::List(_)
        | ColumnType::Struct(_)
        | ColumnType::Unsupported(_) => {
            return Err(error("compares with nothing, only `is null` and `is not null` apply"));
        }
        integer => {
            let (min, max) = integer.int_range().ok_or_else(|| error("compares with nothing"))?;
            let value: i128 = number()?.parse().map_err(|_| error("compares with whole numbers only"))?;
            if value < min || value > max {
                return Err(error("cannot hold so large a number"));
            }
            Literal::Int(value)
        }
    })
}

#[expect(clippy::cast_possible_truncation, reason = "rounding to single precision is the point")]
fn round_to_single(value: f64) -> f64 {
    f64::from(value as f32)
}

/// A number's canonical text: no leading zeros, no `-0`, exactly `scale` digits after the point (without bounds: as few as
/// possible). `None` for an exponent or too many digits.
fn canonical_decimal(number: &str, bounds: Option<(u8, u8)>) -> Option<String> {
    let (negative, digits) = number.strip_prefix('-').map_or((false, number), |digits| (true, digits));
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    if !(whole.bytes().chain(fraction.bytes())).all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let whole = whole.trim_start_matches('0');
    let mut fraction = fraction.trim_end_matches('0').to_owned();
    let zero = whole.is_empty() && fraction.is_empty();
    if let Some((precision, scale)) = bounds {
        let (precision, scale) = (usize::from(precision), usize::from(scale));
        if fraction.len() > scale || whole.len() > precision.checked_sub(scale)? {
            return None;
        }
        fraction.push_str(&"0".repeat(scale - fraction.len()));
    }
    let sign = if negative && !zero { "-" } else { "" };
    let whole = if whole.is_empty() { "0" } else { whole };
    Some(if fraction.is_empty() { format!("{sign}{whole}") } else { format!("{sign}{whole}.{fraction}") })
}

/// A hyphenated UUID in lower case.
fn canonical_uuid(text: &str) -> Option<String> {
    let well_formed = text.len() == 36
        && text.bytes().enumerate().all(|(index, byte)| match index {
            8 | 13 | 18 | 23 => byte == b'-',
            _ => byte.is_ascii_hexdigit(),
        });
    well_formed.then(|| text.to_ascii_lowercase())
}

// ---------------------------------------------------------------------------------------------------------------------------
// Canonical text

impl<V: fmt::Display> fmt::Display for Condition<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let chain = |f: &mut fmt::Formatter<'_>, parts: &[Self], keyword: &str| {
            for (index, part) in parts.iter().enumerate() {
                if index > 0 {
                    f.write_str(keyword)?;
                }
                match part {
                    Self::And(_) | Self::Or(_) => write!(f, "({part})")?,
                    _ => write!(f, "{part}")?,
                }
            }
            Ok(())
        };
        match self {
            Self::Compare { column, op, value } => write!(f, "{} {} {value}", Name(column), op.as_str()),
            Self::In { column, values } => {
                write!(f, "{} in (", Name(column))?;
                for (index, value) in values.iter().enumerate() {
                    write!(f, "{}{value}", if index > 0 { ", " } else { "" })?;
                }
                f.write_str(")")
            }
            Self::IsNull { column, negated } => {
                write!(f, "{} is {}null", Name(column), if *negated { "not " } else { "" })
            }
            Self::And(parts) => chain(f, parts, " and "),
            Self::Or(parts) => chain(f, parts, " or "),
            Self::Not(part) => write!(f, "not ({part})"),
        }
    }
}

/// A column's name, quoted where it must be.
struct Name<'a>(&'a str);

impl fmt::Display for Name<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bare = self.0.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_')
            && self.0.chars().all(|char| char.is_ascii_alphanumeric() || char == '_')
            && !KEYWORDS.iter().any(|keyword| keyword.eq_ignore_ascii_case(self.0));
        if bare { f.write_str(self.0) } else { write!(f, "\"{}\"", self.0.replace('"', "\"\"")) }
    }
}

fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bool(value) => write!(f, "{value}"),
            Self::Number(number) => f.write_str(number),
            Self::Text(text) => f.write_str(&quoted(text)),
            Self::Typed(word, text) => write!(f, "{} {}", word.as_str(), quoted(text)),
        }
    }
}

impl fmt::Display for Literal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bool(value) => write!(f, "{value}"),
            Self::Int(value) => write!(f, "{value}"),
            Self::Float(value) => write!(f, "{value:?}"),
            Self::Decimal(number) => f.write_str(number),
            Self::Text(text) => f.write_str(&quoted(text)),
            Self::Date(days) => write!(f, "date '{}'", civil::format_date((*days).into())),
            Self::Time(micros) => write!(f, "time '{}'", civil::format_time(*micros)),
            Self::Timestamp(micros) => write!(f, "timestamp '{}'", civil::format_timestamp(*micros)),
            Self::TimestampTz(micros) => write!(f, "timestamp '{}Z'", civil::format_timestamp(*micros)),
            Self::Uuid(uuid) => write!(f, "uuid {}", quoted(uuid)),
        }
    }
}

// ---------------------------------------------------------------------------------------------------------------------------
// Predicate to polars

/// The predicate as an expression over a frame whose columns have the representation of the predicate's table
/// ([`ColumnType::dtype`]); `filter` keeps exactly the rows that the module's doc says. Numeric columns, which files don't
/// have, are compared by their text and so fail in polars.
pub fn to_polars(predicate: &Predicate) -> pl::Expr {
    let parts = |parts: &[Predicate]| parts.iter().map(to_polars).collect::<Vec<_>>();
    match predicate {
        Condition::Compare { column, op, value } => compare(column, *op, value),
        Condition::In { column, values } => {
            let equals = values.iter().map(|value| compare(column, CompareOp::Eq, value)).collect();
            joined(equals, pl::Expr::or).unwrap_or_else(|| pl::lit(false))
        }
        Condition::IsNull { column, negated: false } => pl::col(column.as_str()).is_null(),
        Condition::IsNull { column, negated: true } => pl::col(column.as_str()).is_not_null(),
        Condition::And(all) => joined(parts(all), pl::Expr::and).unwrap_or_else(|| pl::lit(true)),
        Condition::Or(any) => joined(parts(any), pl::Expr::or).unwrap_or_else(|| pl::lit(false)),
        Condition::Not(part) => to_polars(part).not(),
    }
}

/// Joins pairwise, so that a list of 256 makes an expression 8 levels deep and not 256.
fn joined(mut parts: Vec<pl::Expr>, join: fn(pl::Expr, pl::Expr) -> pl::Expr) -> Option<pl::Expr> {
    while parts.len() > 1 {
        let mut pairs = Vec::with_capacity(parts.len().div_ceil(2));
        let mut rest = parts.into_iter();
        while let Some(left) = rest.next() {
            pairs.push(match rest.next() {
                Some(right) => join(left, right),
                None => left,
            });
        }
        parts = pairs;
    }
    parts.pop()
}

fn compare(column: &str, op: CompareOp, value: &Literal) -> pl::Expr {
    use pl::{AnyValue, DataType, Scalar, TimeUnit, TimeZone};
    let column = pl::col(column);
    let value = match value {
        Literal::Bool(value) => pl::lit(*value),
        // An integer literal without a type takes its column's type, which can hold it; a typed one would turn a comparison
        // of unsigned 64-bit values into one of floats.
        Literal::Int(value) => pl::lit(*value),
        Literal::Float(value) => pl::lit(Scalar::from(*value)),
        Literal::Decimal(number) => {
            let scale = number.split_once('.').map_or(0, |(_, fraction)| fraction.len());
            match number.replace('.', "").parse::<i128>() {
                Ok(units) => pl::lit(Scalar::new(DataType::Decimal(38, scale), AnyValue::Decimal(units, 38, scale))),
                // Only a numeric literal can be so long; see the doc.
                Err(_) => pl::lit(number.as_str()),
            }
        }
        Literal::Text(text) | Literal::Uuid(text) => pl::lit(text.as_str()),
        Literal::Date(days) => pl::lit(Scalar::new(DataType::Date, AnyValue::Date(*days))),
        Literal::Time(micros) => pl::lit(Scalar::new(DataType::Time, AnyValue::Time(micros.saturating_mul(1000)))),
        Literal::Timestamp(micros) => pl::lit(Scalar::new(
            DataType::Datetime(TimeUnit::Microseconds, None),
            AnyValue::Datetime(*micros, TimeUnit::Microseconds, None),
        )),
        Literal::TimestampTz(micros) => pl::lit(Scalar::new(
            DataType::Datetime(TimeUnit::Microseconds, Some(TimeZone::UTC)),
            AnyValue::DatetimeOwned(*micros, TimeUnit::Microseconds, Some(std::sync::Arc::new(TimeZone::UTC))),
        )),
    };
    match op {
        CompareOp::Eq => column.eq(value),
        CompareOp::Ne => column.neq(value),
        CompareOp::Lt => column.lt(value),
        CompareOp::Le => column.lt_eq(value),
        CompareOp::Gt => column.gt(value),
        CompareOp::Ge => column.gt_eq(value),
    }
}
