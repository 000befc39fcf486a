//! PostgreSQL's own log, as far as reconciling needs it: which statements which role ran, and when. Three forms: `csvlog`,
//! `jsonlog`, and plain text with a `log_line_prefix`. What cannot be read is an error with its line, never passed over.

use std::io::BufRead;

use anyhow::{Context, bail};

/// A statement that the server ran.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Logged {
    /// The line of the log where it begins, from 1.
    pub line: u64,
    /// When, microseconds of Unix time; where the log's time zone can be told.
    pub at_micros: Option<u64>,
    /// The role.
    pub user: String,
    /// The statement.
    pub sql: String,
}

/// The form of a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Form {
    /// `log_destination = csvlog`.
    Csv,
    /// `log_destination = jsonlog`.
    Json,
    /// `log_destination = stderr` with this `log_line_prefix`.
    Text(String),
}

/// Reads a log, and gives each statement to `each`.
pub fn read(log: impl BufRead, form: &Form, mut each: impl FnMut(Logged)) -> anyhow::Result<()> {
    match form {
        Form::Csv => csv(log, &mut each),
        Form::Json => json(log, &mut each),
        Form::Text(prefix) => text(log, prefix, &mut each),
    }
}

/// The statement in a message of level `LOG`, where it holds one: `statement: …`, `execute NAME: …`, either perhaps after
/// `duration: … ms  `. Parsing and binding alone run nothing.
fn statement(message: &str) -> Option<&str> {
    let rest = match message.strip_prefix("duration: ") {
        Some(rest) => rest.split_once(" ms  ")?.1,
        None => message,
    };
    if let Some(sql) = rest.strip_prefix("statement: ") {
        return Some(sql);
    }
    let execute = rest.strip_prefix("execute ").or_else(|| rest.strip_prefix("fastpath function call: "))?;
    execute.split_once(": ").map(|(_, sql)| sql)
}

fn csv(mut log: impl BufRead, each: &mut dyn FnMut(Logged)) -> anyhow::Result<()> {
    let mut text = String::new();
    let (mut line, mut begins) = (0, 1);
    loop {
        if log.read_line(&mut text)? == 0 {
            if !text.trim().is_empty() {
                bail!("line {begins}: a record that does not end");
            }
            return Ok(());
        }
        line += 1;
        // A record goes on over a line's end while a quote is open.
        if text.matches('"').count() % 2 == 1 {
            continue;
        }
        let fields = fields(text.trim_end_matches(['\n', '\r']));
        let field = |at: usize| fields.get(at).map(String::as_str).unwrap_or_default();
        if fields.len() < 14 {
            bail!("line {begins}: a record of {} fields, where a csvlog has 23 or more", fields.len());
        }
        if field(11) == "LOG"
            && let Some(sql) = statement(field(13))
        {
            each(Logged { line: begins, at_micros: time(field(0)), user: field(1).into(), sql: sql.into() });
        }
        text.clear();
        begins = line + 1;
    }
}

/// The fields of one CSV record.
fn fields(record: &str) -> Vec<String> {
    let mut fields = vec![String::new()];
    let mut quoted = false;
    let mut chars = record.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '"' if quoted && chars.peek() == Some(&'"') => {
                chars.next();
                push(&mut fields, '"');
            }
            '"' => quoted = !quoted,
            ',' if !quoted => fields.push(String::new()),
            c => push(&mut fields, c),
        }
    }
    fields
}

fn push(fields: &mut [String], c: char) {
    if let Some(field) = fields.last_mut() {
        field.push(c);
    }
}

fn json(log: impl BufRead, each: &mut dyn FnMut(Logged)) -> anyhow::Result<()> {
    #[derive(serde::Deserialize)]
    struct Record {
        #[serde(default)]
        timestamp: String,
        #[serde(default)]
        user: String,
        #[serde(default)]
        error_severity: String,
        #[serde(default)]
        message: String,
    }
    for (at, text) in log.lines().enumerate() {
        let line = at as u64 + 1;
        let record: Record = serde_json::from_str(&text?).with_context(|| format!("line {line}"))?;
        if let Some(sql) = statement(&record.message).filter(|_| record.error_severity == "LOG") {
            each(Logged { line, at_micros: time(&record.timestamp), user: record.user, sql: sql.into() });
        }
    }
    Ok(())
}

fn text(log: impl BufRead, prefix: &str, each: &mut dyn FnMut(Logged)) -> anyhow::Result<()> {
    let prefix = Prefix::parse(prefix)?;
    let mut open: Option<Logged> = None;
    for (at, text) in log.lines().enumerate() {
        let (line, text) = (at as u64 + 1, text?);
        if let Some(more) = text.strip_prefix('\t') {
            if let Some(logged) = &mut open {
                logged.sql.push('\n');
                logged.sql.push_str(more);
            }
            continue;
        }
        open.take().into_iter().for_each(&mut *each);
        let Some(read) = prefix.read(&text) else {
            bail!("line {line}: it does not begin with the log_line_prefix that --prefix gives");
        };
        let Some(sql) = read.message.strip_prefix("LOG:  ").and_then(statement) else { continue };
        open = Some(Logged { line, at_micros: read.time.and_then(time), user: read.user.into(), sql: sql.into() });
    }
    open.into_iter().for_each(each);
    Ok(())
}

/// A `log_line_prefix`, taken apart: what stands there as it is, and the escapes between.
struct Prefix {
    parts: Vec<Part>,
}

enum Part {
    Literal(String),
    Time,
    User,
    /// Sessions go on; other processes stop here.
    SessionsOnly,
    Other,
}

struct PrefixRead<'a> {
    time: Option<&'a str>,
    user: &'a str,
    message: &'a str,
}

impl Prefix {
    fn parse(prefix: &str) -> anyhow::Result<Self> {
        let mut parts = Vec::new();
        let mut literal = String::new();
        let mut chars = prefix.chars();
        while let Some(c) = chars.next() {
            if c != '%' {
                literal.push(c);
                continue;
            }
            // Between the percent sign and the letter a width may stand.
            let escape = chars.by_ref().find(|c| !(c.is_ascii_digit() || *c == '-')).unwrap_or('%');
            if escape == '%' {
                literal.push('%');
                continue;
            }
            if !literal.is_empty() {
                parts.push(Part::Literal(std::mem::take(&mut literal)));
            }
            parts.push(match escape {
                'm' | 't' => Part::Time,
                'u' => Part::User,
                'q' => Part::SessionsOnly,
                _ => Part::Other,
            });
        }
        if !literal.is_empty() {
            parts.push(Part::Literal(literal));
        }
        if !parts.iter().any(|part| matches!(part, Part::User)) {
            bail!("a log_line_prefix without `%u` does not say who ran a statement");
        }
        let whole = matches!(parts.last(), Some(Part::Literal(_)));
        let apart = parts.windows(2).all(|pair| {
            matches!(pair, [Part::Literal(_) | Part::SessionsOnly, _] | [_, Part::Literal(_) | Part::SessionsOnly])
        });
        if !whole || !apart {
            bail!("a log_line_prefix whose escapes have nothing between or after them cannot be told apart");
        }
        Ok(Self { parts })
    }

    fn read<'a>(&self, line: &'a str) -> Option<PrefixRead<'a>> {
        let mut read = PrefixRead { time: None, user: "", message: line };
        let mut sessions_only = false;
        for (at, part) in self.parts.iter().enumerate() {
            let value = match part {
                Part::Literal(literal) => {
                    match read.message.strip_prefix(literal.as_str()) {
                        Some(rest) => read.message = rest,
                        None if sessions_only => return Some(read),
                        None => return None,
                    }
                    continue;
                }
                Part::SessionsOnly => {
                    sessions_only = true;
                    // A process that is no session goes straight to its message.
                    if is_message(read.message) {
                        return Some(read);
                    }
                    continue;
                }
                Part::Time | Part::User | Part::Other => {
                    let next = self.parts.iter().skip(at + 1).find_map(|part| match part {
                        Part::Literal(literal) => Some(literal.as_str()),
                        _ => None,
                    })?;
                    let (value, _) = read.message.split_once(next)?;
                    read.message = read.message.strip_prefix(value)?;
                    value
                }
            };
            match part {
                Part::Time => read.time = Some(value),
                Part::User => read.user = value,
                _ => {}
            }
        }
        Some(read)
    }
}

fn is_message(text: &str) -> bool {
    let level = text.split_once(":  ").map_or("", |(level, _)| level);
    !level.is_empty() && level.chars().all(|c| c.is_uppercase() || c.is_ascii_digit())
}

/// `2026-11-26 17:20:01.123 UTC` as microseconds; none in a time zone whose name does not say how far it is from UTC.
fn time(text: &str) -> Option<u64> {
    let mut words = text.split(' ');
    let (day, clock, zone) = (words.next()?, words.next()?, words.next().unwrap_or_default());
    if !matches!(zone, "UTC" | "GMT" | "Z") {
        return None;
    }
    let mut numbers = day.split('-').map(str::parse::<i32>);
    let (year, month, day) = (numbers.next()?.ok()?, numbers.next()?.ok()?, numbers.next()?.ok()?);
    let (clock, fraction) = clock.split_once('.').unwrap_or((clock, ""));
    let mut numbers = clock.split(':').map(str::parse::<u64>);
    let (hour, minute, second) = (numbers.next()?.ok()?, numbers.next()?.ok()?, numbers.next()?.ok()?);
    let fraction: u64 = format!("{fraction:0<6}").get(..6)?.parse().ok()?;
    let days = days(year, u32::try_from(month).ok()?, u32::try_from(day).ok()?)?;
    Some(((days * 24 + hour) * 60 + minute) * 60_000_000 + second * 1_000_000 + fraction)
}

/// Days since 1970.
fn days(year: i32, month: u32, day: u32) -> Option<u64> {
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let year = u64::try_from(year).ok()?;
    let days = year * 365 + year / 4 - year / 100 + year / 400 + u64::from((153 * month + 2) / 5 + day.checked_sub(1)?);
    days.checked_sub(719_468)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(form: Form, log: &str, expect: &[(u64, &str, &str)]) {
        let mut found = Vec::new();
        read(log.as_bytes(), &form, |logged| found.push(logged)).unwrap();
        let found: Vec<_> = found.iter().map(|l| (l.line, l.user.as_str(), l.sql.as_str())).collect();
        assert_eq!(found, expect);
    }

    const DEBIAN: &str = "%m [%p] %q%u@%d ";

    #[test]
    fn text_with_a_prefix() {
        let log = "2026-11-26 17:20:01.123 UTC [7] LOG:  database system is ready\n\
                   2026-11-26 17:20:02.000 UTC [8] app@shop LOG:  statement: SELECT 1\n\
                   \t, 2\n\
                   2026-11-26 17:20:03.000 UTC [8] app@shop DETAIL:  parameters: $1 = 'x'\n\
                   2026-11-26 17:20:04.000 UTC [8] app@shop LOG:  duration: 0.5 ms  execute s1: COPY (SELECT 3) TO STDOUT\n\
                   2026-11-26 17:20:04.000 UTC [8] app@shop LOG:  duration: 0.5 ms  parse s1: COPY (SELECT 3) TO STDOUT\n\
                   2026-11-26 17:20:05.000 UTC [8] app@shop ERROR:  statement: not one\n";
        check(Form::Text(DEBIAN.into()), log, &[(2, "app", "SELECT 1\n, 2"), (5, "app", "COPY (SELECT 3) TO STDOUT")]);
    }

    #[test]
    fn csv_over_several_lines() {
        let log = "2026-11-26 17:20:02.000 UTC,\"app\",\"shop\",8,\"[local]\",6a.8,1,\"SELECT\",2026-11-26 17:20:00 UTC,3/2,0,LOG,00000,\"statement: SELECT \"\"a,b\"\"\n FROM t\",,,,,,,,,\"psql\",\"client backend\",,0\n";
        check(Form::Csv, log, &[(1, "app", "SELECT \"a,b\"\n FROM t")]);
        assert!(read("a,b\n".as_bytes(), &Form::Csv, |_| {}).is_err());
        assert!(read("a,\"b\n".as_bytes(), &Form::Csv, |_| {}).is_err());
    }

    #[test]
    fn json_lines() {
        let log = r#"{"timestamp":"2026-11-26 17:20:02.000 UTC","user":"app","error_severity":"LOG","message":"execute <unnamed>: SELECT 1"}"#;
        check(Form::Json, log, &[(1, "app", "SELECT 1")]);
        assert!(read("no json\n".as_bytes(), &Form::Json, |_| {}).is_err());
    }

    #[test]
    fn what_cannot_be_read_is_an_error() {
        let fails = |prefix: &str, log: &str, why: &str| {
            let error = read(log.as_bytes(), &Form::Text(prefix.into()), |_| {}).unwrap_err().to_string();
            assert!(error.contains(why), "{error}");
        };
        fails(DEBIAN, "something else\n", "line 1");
        fails("%m [%p] ", "", "%u");
        fails("%m%u ", "", "told apart");
        fails("%m %u", "", "told apart");
    }

    #[test]
    fn times() {
        assert_eq!(time("2025-11-23 21:00:00.000001 UTC"), Some(1_763_931_600_000_001));
        assert_eq!(time("2025-11-23 21:00:00 GMT"), Some(1_763_931_600_000_000));
        assert_eq!(time("2025-11-23 21:00:00 CET"), None);
        assert_eq!(time(""), None);
    }
}
