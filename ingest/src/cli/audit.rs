//! `countersign audit`: decisions, made again.

use crate::config::Config;
use crate::redecide::{Evidence, Export, Judged, Outcome, Summary, redecide};
use crate::service::ledger_options;
use anyhow::anyhow;
use clap::Subcommand;
use countersign_ledger::store::Ledger;
use std::path::PathBuf;
use std::process::ExitCode;

#[derive(Subcommand, Debug)]
pub(crate) enum AuditCommand {
    /// Make every decision again from the committed texts, and say which ones come out otherwise
    ///
    /// Reads the service's own ledger and vault, or an export with the payloads `request`, `identity`, `config` and `query`. Ends with 0
    /// where every decision follows, with 1 where one comes out otherwise, with 3 where one cannot be made again for lack of a payload.
    /// Whether the evidence is the signed one is for `countersign-verify` to say.
    Redecide {
        /// An export; without it, the ledger of the configuration
        export: Option<PathBuf>,
        /// The service's configuration
        #[arg(long, default_value = "countersign.toml", conflicts_with = "export")]
        config: PathBuf,
        /// One JSON object a line: the decisions that do not follow, then the counts
        #[arg(long)]
        json: bool,
    },
}

impl AuditCommand {
    pub(crate) fn run(self) -> anyhow::Result<ExitCode> {
        let Self::Redecide { export, config, json } = self;
        let evidence: Box<dyn Evidence> = match export {
            Some(dir) => Box::new(Export::open(&dir).map_err(|e| anyhow!("`{}`: {e}", dir.display()))?),
            None => {
                Box::new(Ledger::open_reading(&ledger_options(&Config::load(&config)?)?).map_err(|e| anyhow!("{e}"))?)
            }
        };
        let mut summary = Summary::default();
        redecide(&*evidence, |judged| {
            summary.add(&judged.outcome);
            if judged.outcome != Outcome::Follows {
                println!("{}", if json { as_json(&judged) } else { in_words(&judged) });
            }
        })
        .map_err(|e| anyhow!("{e}"))?;
        if json {
            println!("{}", serde_json::to_string(&summary)?);
        } else {
            let Summary { follow, on_its_word, differ, missing, .. } = &summary;
            let total = follow + on_its_word + differ + missing;
            println!("{total} decisions in {} entries, made again", evidence.size());
            println!("  {follow} follow from what is committed");
            println!("  {on_its_word} rest on the service's word for what only it saw");
            println!("  {differ} come out otherwise");
            println!("  {missing} cannot be made again");
        }
        Ok(ExitCode::from(summary.exit()))
    }
}

fn in_words(judged: &Judged) -> String {
    let Judged { index, trace, outcome } = judged;
    let what = match outcome {
        Outcome::Follows => "follows".to_owned(),
        Outcome::OnItsWord(reason) => format!("refused for `{reason}`, which only the service saw"),
        Outcome::Differs(points) => format!("comes out otherwise: {}", points.join("; ")),
        Outcome::Missing(what) => format!("cannot be made again without {what}"),
    };
    format!("entry {index} (trace {trace}): {what}")
}

fn as_json(judged: &Judged) -> String {
    let Judged { index, trace, outcome } = judged;
    let (word, points) = match outcome {
        Outcome::Follows => ("follows", Vec::new()),
        Outcome::OnItsWord(reason) => ("on_its_word", vec![reason.to_string()]),
        Outcome::Differs(points) => ("differs", points.clone()),
        Outcome::Missing(what) => ("missing", vec![what.clone()]),
    };
    serde_json::json!({"entry": index, "trace": trace, "outcome": word, "points": points}).to_string()
}
