//! `countersign policy|catalog`: checked by the very code that enforces them, before they are signed; explained and compared by it as
//! well. What is in force is asked of the service, and judged here.

use super::{ChangeArgs, ClientArgs};
use crate::config::ClientConfig;
use crate::http::ask::{Person, Rules as InForce, ScanQuestion, Scanned, Table, Text};
use crate::identity::change::Operation;
use crate::{approval, http};
use anyhow::{Context, bail};
use clap::{Args, Subcommand};
use countersign_masker::coverage::gaps;
use countersign_masker::explain::{self, Doors, Explanation, Rules, Said, Schemas};
use countersign_masker::policy::PolicyFault;
use countersign_masker::{Ask, Catalog, Policies, Subject, TableSchema};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

#[derive(Args, Debug)]
pub(crate) struct Put {
    #[command(flatten)]
    change: ChangeArgs,
    /// The file
    file: PathBuf,
}

#[derive(Subcommand, Debug)]
pub(crate) enum PolicyCommand {
    /// Say whether a policy file could be put in force, and if not where it is wrong
    Check {
        /// The file
        file: PathBuf,
        /// An admin's client configuration: find policies that never match and columns that nobody can read as well, among
        /// the registered identities and the catalog in force
        #[arg(long)]
        client: Option<PathBuf>,
        /// With `--client`: this catalog instead of the one in force
        #[arg(long, requires = "client")]
        catalog: Option<PathBuf>,
    },
    /// Put a policy file in force
    Set(Put),
    /// Decide for a registered identity as the service would, and say why
    Explain(ExplainArgs),
    /// Say what changes from one policy to another, for whom, on which columns, for which purposes; ends with 1 where anything does
    Diff {
        #[command(flatten)]
        client: ClientArgs,
        /// A file, or `in-force`
        old: PathBuf,
        /// A file, or `in-force`
        new: PathBuf,
        /// A catalog file that comes with the new one
        #[arg(long)]
        catalog: Option<PathBuf>,
        /// One JSON object a difference
        #[arg(long)]
        json: bool,
    },
}

#[derive(Args, Debug)]
pub(crate) struct ExplainArgs {
    #[command(flatten)]
    client: ClientArgs,
    /// A registered name
    #[arg(long)]
    identity: String,
    /// `connection.table`
    #[arg(long)]
    dataset: String,
    /// The columns, separated by commas; all of the table unless stated
    #[arg(long, value_delimiter = ',')]
    columns: Vec<String>,
    /// A word of the catalog's list
    #[arg(long)]
    purpose: String,
    /// A row filter
    #[arg(long)]
    filter: Option<String>,
    /// The identity that it acts for
    #[arg(long)]
    on_behalf_of: Option<String>,
    /// This policy file instead of the one in force
    #[arg(long)]
    policy: Option<PathBuf>,
    /// This catalog file instead of the one in force
    #[arg(long)]
    catalog: Option<PathBuf>,
}

#[derive(Subcommand, Debug)]
pub(crate) enum CatalogCommand {
    /// Say whether a catalog file could be put in force, and if not where it is wrong
    Check {
        /// The file
        file: PathBuf,
    },
    /// Put a catalog file in force
    Set(Put),
    /// Look into tables and propose classes for their columns, as a change to review; for admins, with an entry for each table
    Scan {
        #[command(flatten)]
        client: ClientArgs,
        /// A connection, or `connection.table`
        target: String,
        /// How many rows to look at
        #[arg(long, default_value_t = 1000)]
        rows: u64,
        /// The least confidence, in percent, of a proposal that is not commented out
        #[arg(long, default_value_t = 50)]
        confidence: u8,
    },
    /// List what has no class, what has drifted, and what is masked by default only; ends with 1 where there is any
    Coverage {
        #[command(flatten)]
        client: ClientArgs,
    },
}

fn read(file: &Path) -> anyhow::Result<String> {
    std::fs::read_to_string(file).with_context(|| format!("cannot read `{}`", file.display()))
}

fn check_policy(file: &Path) -> anyhow::Result<(Policies, String)> {
    let text = read(file)?;
    let policies = Policies::parse(&file.display().to_string(), &text)?;
    println!("{}: {} policies", file.display(), policies.ids().count());
    Ok((policies, text))
}

fn check_catalog(file: &Path) -> anyhow::Result<String> {
    let text = read(file)?;
    let catalog = Catalog::parse(&file.display().to_string(), &text)?;
    println!("{}: {} tables", file.display(), catalog.tables().count());
    Ok(text)
}

/// A file, or the text in force.
fn policies(in_force: Option<&Text>, file: Option<&Path>) -> anyhow::Result<Policies> {
    match (file.filter(|file| file.as_os_str() != "in-force"), in_force) {
        (Some(file), _) => Ok(Policies::parse(&file.display().to_string(), &read(file)?)?),
        (None, Some(text)) => Ok(Policies::parse(&format!("policy v{}", text.version), &text.text)?),
        (None, None) => bail!("no policy is in force"),
    }
}

fn catalog(in_force: Option<&Text>, file: Option<&Path>) -> anyhow::Result<Catalog> {
    match (file, in_force) {
        (Some(file), _) => Ok(Catalog::parse(&file.display().to_string(), &read(file)?)?),
        (None, Some(text)) => Ok(Catalog::parse(&format!("catalog v{}", text.version), &text.text)?),
        (None, None) => bail!("no catalog is in force"),
    }
}

/// The tables whose sources have answered.
fn schemas(rules: &InForce) -> Schemas {
    let known = rules.tables.iter().filter_map(|(name, table)| {
        let (connection, name) = name.split_once('.')?;
        match table {
            Table::Columns(columns) => {
                Some(((connection.to_owned(), name.to_owned()), TableSchema { columns: columns.clone() }))
            }
            Table::NoTable => Some(((connection.to_owned(), name.to_owned()), TableSchema::default())),
            Table::Unavailable => None,
        }
    });
    known.collect()
}

/// The doors by which the service asks policy for what is not reading.
const DOORS: Doors = Doors { approve: approval::DOOR, audit: http::DOOR, reidentify: http::DOOR };

/// Everybody as the Kafka door sees them, and once more as the ones they may act for.
fn subjects(rules: &InForce) -> Vec<Subject> {
    let subject = |person: &Person, on_behalf_of: Option<String>| Subject {
        id: person.name.clone(),
        groups: person.groups.clone(),
        on_behalf_of,
        door: crate::pipeline::request::DOOR.into(),
        time: rules.time,
    };
    let all = rules.identities.iter().flat_map(|person| {
        let other = person.on_behalf_of.clone().map(|name| subject(person, Some(name)));
        std::iter::once(subject(person, None)).chain(other)
    });
    all.collect()
}

impl PolicyCommand {
    pub(crate) fn run(self) -> anyhow::Result<ExitCode> {
        match self {
            Self::Check { file, client, catalog: other } => {
                let (policies, _) = check_policy(&file)?;
                if let Some(client) = client {
                    let rules = crate::client::Client::new(ClientConfig::load(&client)?)?.rules()?;
                    let catalog = catalog(rules.catalog.as_ref(), other.as_deref())?;
                    print_idle(&policies, &catalog, &rules);
                }
                Ok(ExitCode::SUCCESS)
            }
            Self::Set(Put { change, file }) => {
                change.make(Operation::SetPolicy { text: check_policy(&file)?.1 })?;
                Ok(ExitCode::SUCCESS)
            }
            Self::Explain(args) => args.run(),
            Self::Diff { client, old, new, catalog: other, json } => {
                let rules = client.client()?.rules()?;
                let before = policies(rules.policy.as_ref(), Some(&old))?;
                let after = policies(rules.policy.as_ref(), Some(&new))?;
                let in_force = catalog(rules.catalog.as_ref(), None)?;
                let with = catalog(rules.catalog.as_ref(), other.as_deref())?;
                let before = Rules { policies: &before, catalog: &in_force };
                let after = Rules { policies: &after, catalog: &with };
                let differences = explain::diff(before, after, &schemas(&rules), &subjects(&rules), DOORS);
                for d in &differences {
                    if json {
                        println!("{}", serde_json::to_string(d)?);
                        continue;
                    }
                    let acting = d.on_behalf_of.as_ref().map(|name| format!(" for {name}")).unwrap_or_default();
                    let purpose = d.purpose.as_ref().map(|purpose| format!(", {purpose}")).unwrap_or_default();
                    println!(
                        "{}{acting}: {} {}{purpose}\n  - {}\n  + {}",
                        d.identity, d.action, d.resource, d.old, d.new
                    );
                }
                eprintln!("{} differences", differences.len());
                Ok(ExitCode::from(u8::from(!differences.is_empty())))
            }
        }
    }
}

fn print_idle(policies: &Policies, catalog: &Catalog, rules: &InForce) {
    let idle = explain::idle(Rules { policies, catalog }, &schemas(rules), &subjects(rules), DOORS);
    let moment = if policies.reads_time() { ", at this moment" } else { "" };
    for id in &idle.policies {
        println!(
            "policy `{id}` matches nothing that the {} registered identities can ask{moment}",
            rules.identities.len()
        );
    }
    for column in &idle.columns {
        println!("column `{column}` can be read by nobody, in no way{moment}");
    }
    if idle == explain::Idle::default() {
        println!("every policy matches something, every column can be read by somebody{moment}");
    }
}

impl ExplainArgs {
    fn run(self) -> anyhow::Result<ExitCode> {
        let rules = self.client.client()?.rules()?;
        let policies = policies(rules.policy.as_ref(), self.policy.as_deref())?;
        let catalog = catalog(rules.catalog.as_ref(), self.catalog.as_deref())?;
        let person = rules.identities.iter().find(|person| person.name == self.identity);
        let person = person.with_context(|| format!("no identity `{}` that counts now", self.identity))?;
        if self.on_behalf_of.is_some() && self.on_behalf_of != person.on_behalf_of {
            bail!("`{}` may not act for `{}`", self.identity, self.on_behalf_of.unwrap_or_default());
        }
        let (connection, table) = self.dataset.split_once('.').context("the data set is not `connection.table`")?;
        let schemas = schemas(&rules);
        let known = schemas.get(&(connection.to_owned(), table.to_owned()));
        let schema = match (known, rules.tables.get(&self.dataset)) {
            (Some(schema), Some(Table::Columns(_))) => Some(schema.clone()),
            (None, Some(Table::Unavailable)) => {
                eprintln!("the source does not answer: taking the catalog's columns for the table's");
                explain::assumed_schema(&catalog, connection, table)
            }
            _ => None,
        };
        let mut columns = self.columns;
        if columns.is_empty() {
            columns.extend(schema.iter().flat_map(|schema| &schema.columns).map(|(name, _)| name.clone()));
        }
        let subject = Subject {
            id: person.name.clone(),
            groups: person.groups.clone(),
            on_behalf_of: self.on_behalf_of,
            door: crate::pipeline::request::DOOR.into(),
            time: rules.time,
        };
        let ask = Ask {
            connection: connection.into(),
            table: table.into(),
            columns,
            filter: self.filter,
            purpose: self.purpose,
            ..Ask::default()
        };
        let explanation = explain::explain(&policies, &catalog, schema.as_ref(), &subject, &ask);
        print!("{}", render(&subject, &explanation)?);
        Ok(ExitCode::SUCCESS)
    }
}

fn render(subject: &Subject, explanation: &Explanation) -> anyhow::Result<String> {
    use std::fmt::Write;
    let mut out = String::new();
    let groups = if subject.groups.is_empty() { "no group".to_owned() } else { subject.groups.join(", ") };
    writeln!(out, "{} in {groups}", subject.id)?;
    writeln!(out, "answer    {}", explain::summary(&explanation.decision))?;
    if !explanation.decision.policies.is_empty() {
        writeln!(out, "by        {}", explanation.decision.policies.join(", "))?;
    }
    let said = |said: &Result<Said, PolicyFault>| match said {
        Ok(Said { allowed: true, policies }) => format!("yes, by {}", policies.join(", ")),
        Ok(Said { policies, .. }) if policies.is_empty() => "no, nothing permits it".to_owned(),
        Ok(Said { policies, .. }) => format!("no, forbidden by {}", policies.join(", ")),
        Err(fault) => format!("no, {} failed", fault.policies.join(", ")),
    };
    for column in &explanation.columns {
        writeln!(out, "\n{} ({})", column.column, column.class)?;
        if !column.exists {
            writeln!(out, "  the table has no such column")?;
            continue;
        }
        writeln!(out, "  alone       {}", explain::summary(&column.alone))?;
        writeln!(out, "  read        {}", said(&column.read))?;
        writeln!(out, "  read_clear  {}", said(&column.read_clear))?;
    }
    Ok(out)
}

impl CatalogCommand {
    pub(crate) fn run(self) -> anyhow::Result<ExitCode> {
        match self {
            Self::Check { file } => check_catalog(&file).map(|_| ExitCode::SUCCESS),
            Self::Set(Put { change, file }) => {
                change.make(Operation::SetCatalog { text: check_catalog(&file)? })?;
                Ok(ExitCode::SUCCESS)
            }
            Self::Scan { client, target, rows, confidence } => scan(&client, &target, rows, confidence),
            Self::Coverage { client } => coverage(&client),
        }
    }
}

fn scan(client: &ClientArgs, target: &str, rows: u64, confidence: u8) -> anyhow::Result<ExitCode> {
    let client = client.client()?;
    let rules = client.rules()?;
    let listed = rules.tables.keys().chain(&rules.unlisted);
    let tables: Vec<String> = match target.split_once('.') {
        Some(_) => vec![target.to_owned()],
        None => listed.filter(|t| t.split_once('.').is_some_and(|(c, _)| c == target)).cloned().collect(),
    };
    if tables.is_empty() {
        bail!("`{target}` has no table that could be looked into");
    }
    let catalog = catalog(rules.catalog.as_ref(), None).ok();
    println!("--- catalog v{}\n+++ proposed", rules.catalog.as_ref().map_or(0, |text| text.version));
    let mut classes = std::collections::BTreeMap::new();
    for name in &tables {
        let Some((connection, table)) = name.split_once('.') else { continue };
        let question = ScanQuestion { connection: connection.into(), table: table.into(), rows };
        let scanned = match client.scan(&question) {
            Ok(scanned) => scanned,
            Err(error) if tables.len() > 1 => {
                println!("# {name}: {error:#}");
                continue;
            }
            Err(error) => return Err(error),
        };
        let known = catalog.as_ref().and_then(|catalog| catalog.table(connection, table));
        println!("@@ {name} @@");
        if known.is_none() {
            println!("+[tables.{}]", toml_key(name));
        }
        println!("{}[tables.{}.columns]", if known.is_none() { '+' } else { ' ' }, toml_key(name));
        for column in &scanned {
            let listed = known.and_then(|table| table.columns.get(&column.column)).map(|column| column.class.as_str());
            println!("{}", line(column, listed, confidence));
            if let (Some(class), Some(mask)) = (&column.class, &column.mask) {
                classes.insert(class.clone(), mask.clone());
            }
        }
    }
    for (class, mask) in classes {
        println!("+[classes.{}]\n+mask = {}", toml_key(&class), toml_key(&mask));
    }
    Ok(ExitCode::SUCCESS)
}

fn toml_key(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}

/// A column as a line of the change: kept, added, replaced, or a remark where there is too little to say.
fn line(column: &Scanned, listed: Option<&str>, least: u8) -> String {
    let name = toml_key(&column.column);
    let because = format!("# {} %: {}", column.confidence, column.because);
    let says = |class: &str| format!("{name} = {}", toml_key(class));
    match (listed, &column.class) {
        (Some(listed), Some(class)) if listed == class => format!(" {}    {because}", says(class)),
        (Some(listed), Some(class)) if column.confidence >= least => {
            format!("-{}    # as listed; keep it if it is stricter\n+{}    {because}", says(listed), says(class))
        }
        (Some(listed), _) => format!(" {}", says(listed)),
        (None, Some(class)) if column.confidence >= least => format!("+{}    {because}", says(class)),
        (None, class) => format!("+# {}    {because}", says(class.as_deref().unwrap_or("?"))),
    }
}

fn coverage(client: &ClientArgs) -> anyhow::Result<ExitCode> {
    let rules = client.client()?.rules()?;
    let catalog = catalog(rules.catalog.as_ref(), None)?;
    let mut found = 0;
    for (connection, table, entry) in catalog.tables() {
        let name = format!("{connection}.{table}");
        let schema = match rules.tables.get(&name) {
            Some(Table::Columns(columns)) => Some(TableSchema { columns: columns.clone() }),
            Some(Table::NoTable) => None,
            Some(Table::Unavailable) | None => {
                found += 1;
                println!("{name}: the source does not answer");
                continue;
            }
        };
        for gap in gaps(entry, schema.as_ref()) {
            found += 1;
            println!("{name}: {gap}");
        }
    }
    for name in &rules.unlisted {
        found += 1;
        println!("{name}: not in the catalog, nobody can reach it");
    }
    eprintln!("{found} gaps in {} tables", catalog.tables().count());
    Ok(ExitCode::from(u8::from(found > 0)))
}
