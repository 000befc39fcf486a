//! The command line. Each command is a few lines over [`client`](crate::client) or [`service`](crate::service); what it prints
//! is for people, and for programs where a command has `--json`.

mod admin;
pub(crate) mod approvals;
mod audit;
mod detect;
mod fetch;
pub(crate) mod init;
mod keys;
mod ledger;
mod policy;
mod reidentify;
pub(crate) mod request;
mod retention;
pub mod rows;
mod source;

use crate::client::Client;
use crate::config::{ClientConfig, Config};
use crate::identity::change::Operation;
use crate::service::Service;
use crate::source::parquet;
use anyhow::Context;
use clap::{Args, Parser, Subcommand};
use std::path::PathBuf;
use std::process::ExitCode;
use tracing_subscriber::EnvFilter;

/// An append-only audit ledger service with a streaming masker
#[derive(Parser, Debug)]
#[command(name = "countersign", version)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// Set up a ledger: its key, its first admin, its configuration
    Init(init::Init),
    /// Try everything out, with an embedded broker and made-up people
    Demo(crate::demo::Demo),
    /// Run the service
    Serve(Serve),
    /// Keys, registrations, revocations, groups
    #[command(subcommand)]
    Identity(admin::IdentityCommand),
    /// Sign and hand in changes that need several admins
    #[command(subcommand)]
    Admin(admin::AdminCommand),
    /// Register the stores that data comes from
    #[command(subcommand)]
    Connection(admin::ConnectionCommand),
    /// Check policies, and put them in force
    #[command(subcommand)]
    Policy(policy::PolicyCommand),
    /// Check catalogs, and put them in force
    #[command(subcommand)]
    Catalog(policy::CatalogCommand),
    /// Ask for a chunk
    Request(Box<request::Request>),
    /// Print the rows of a delivered chunk, each with its proof
    Rows(rows::Rows),
    /// What you may read of a table, and how
    Columns(request::Columns),
    /// Get values back for tokens
    Reidentify(reidentify::Reidentify),
    /// Requests that wait for people
    #[command(subcommand)]
    Approvals(approvals::ApprovalsCommand),
    /// Show what the detectors find in texts
    Detect(detect::Detect),
    /// The evidence
    #[command(subcommand)]
    Ledger(ledger::LedgerCommand),
    /// The stores' own accounts
    #[command(subcommand)]
    Source(source::SourceCommand),
    /// The ledger's signing key, and the master key of tokens
    #[command(subcommand)]
    Keys(keys::KeysCommand),
    /// How long payloads are kept
    #[command(subcommand)]
    Retention(retention::RetentionCommand),
    /// Read one Parquet file for the service
    #[command(name = parquet::COMMAND, hide = true)]
    ReadParquet {
        /// The longest that it may take
        seconds: u64,
        /// Names and types of the columns whose rows are wanted, as JSON
        columns: Option<String>,
    },
    /// Decisions, made again
    #[command(subcommand)]
    Audit(audit::AuditCommand),
}

#[derive(Args, Debug)]
struct Serve {
    /// The configuration
    #[arg(long, default_value = "countersign.toml")]
    config: PathBuf,
}

/// Where a client finds its configuration.
#[derive(Args, Debug)]
pub(crate) struct ClientArgs {
    /// The client configuration: identity, key, where the service is
    #[arg(long = "client", env = "COUNTERSIGN_CLIENT", default_value = "client.toml")]
    config: PathBuf,
}

impl ClientArgs {
    fn client(&self) -> anyhow::Result<Client> {
        Client::new(ClientConfig::load(&self.config)?)
    }
}

/// Who makes a change, and whether others must sign it too.
#[derive(Args, Debug)]
pub(crate) struct ChangeArgs {
    #[command(flatten)]
    client: ClientArgs,
    /// Write the signed change to a file, for other admins to sign, instead of handing it in
    #[arg(long, value_name = "FILE")]
    propose: Option<PathBuf>,
}

impl ChangeArgs {
    /// Signs the change, and hands it in or writes it down.
    fn make(&self, operation: Operation) -> anyhow::Result<()> {
        let client = self.client.client()?;
        match &self.propose {
            None => println!("in force from entry {} on", client.change(operation)?),
            Some(path) => {
                let text = serde_json::to_string_pretty(&client.propose(operation)?)? + "\n";
                std::fs::write(path, text).with_context(|| format!("cannot write `{}`", path.display()))?;
                println!("signed, not in force; other admins add theirs with `admin sign {}`", path.display());
            }
        }
        Ok(())
    }
}

/// Writes the log to standard error; `COUNTERSIGN_LOG` chooses how much, as in `info,countersign=debug`.
pub fn log_to_stderr() {
    let filter = EnvFilter::try_from_env("COUNTERSIGN_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    let subscriber = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).finish();
    // A second subscriber is refused: whoever came first has the log.
    let _ = tracing::subscriber::set_global_default(subscriber);
}

fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build().context("cannot start the runtime")
}

/// Runs a command.
pub fn run(cli: Cli) -> anyhow::Result<ExitCode> {
    parquet::has_command();
    match cli.command {
        Command::Init(args) => args.run().map(done),
        Command::Demo(args) => args.run(&runtime()?),
        Command::Serve(args) => {
            log_to_stderr();
            runtime()?.block_on(serve(args)).map(done)
        }
        Command::Identity(args) => args.run().map(done),
        Command::Admin(args) => args.run().map(done),
        Command::Connection(args) => args.run().map(done),
        Command::Policy(args) => args.run(),
        Command::Catalog(args) => args.run(),
        Command::Request(args) => args.run(),
        Command::Rows(args) => args.run().map(done),
        Command::Approvals(args) => args.run().map(done),
        Command::Detect(args) => args.run().map(done),
        Command::Ledger(args) => args.run().map(done),
        Command::Source(args) => args.run(),
        Command::Retention(args) => args.run().map(done),
        Command::Audit(args) => args.run(),
        Command::Keys(args) => args.run().map(done),
        Command::Columns(args) => args.run(),
        Command::Reidentify(args) => args.run(),
        Command::ReadParquet { seconds, columns } => {
            Ok(parquet::reading::answer(columns.as_deref(), seconds).map(done)?)
        }
    }
}

fn done(_: ()) -> ExitCode {
    ExitCode::SUCCESS
}

/// Has panics logged by their place alone: what a library says when it panics may quote the cell that it panicked over.
fn log_panics_by_place() {
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        tracing::error!(place, thread = std::thread::current().name(), "a panic");
    }));
}

async fn serve(args: Serve) -> anyhow::Result<()> {
    log_panics_by_place();
    let service = Service::start(Config::load(&args.config)?, false).await?;
    let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
    let fatal = tokio::select! {
        why = service.fatal() => Some(why),
        _ = terminate.recv() => None,
        _ = tokio::signal::ctrl_c() => None,
    };
    if let Some(why) = fatal {
        // Nothing may run on over a ledger that cannot be trusted to keep what it is given.
        eprintln!("countersign: {why}");
        std::process::exit(70);
    }
    tracing::info!("stopping");
    service.stop().await;
    Ok(())
}
