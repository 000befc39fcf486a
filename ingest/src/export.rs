//! An export into one file is an entry of the ledger: recorded before the file is written, so that nobody takes evidence away
//! unseen. Whoever may write the file also reads the ledger's folder; this is a record, not a lock.

use anyhow::bail;
use countersign_ledger::evidence::{Class, TraceId};
use countersign_ledger::store::{Append, AppendError, Ledger, Selection};

/// How often it is tried again when another export was recorded in between.
const TRIES: usize = 5;

/// Records an export and waits until it stands under a published checkpoint. Gives the index of its entry.
pub fn record(ledger: &Ledger, selection: &Selection, by: Option<&str>, classes: &[Class]) -> anyhow::Result<u64> {
    check(selection)?;
    let trace = TraceId::exports();
    for _ in 0..TRIES {
        let head = ledger.trace(&trace)?.map(|head| head.head);
        let step = selection.step(by.map(str::to_owned), classes);
        let append = Append { expected_head: head, ..Append::opening(trace, vec![step]) };
        match ledger.append(append) {
            Ok(appended) => {
                ledger.wait_published()?;
                return Ok(appended.last().index().get());
            }
            Err(AppendError::HeadMoved { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
    bail!("other exports were recorded at the same time: try again")
}

/// What stands in an entry is no stranger's text: a pseudonym, and the name of a data set.
pub fn check(selection: &Selection) -> anyhow::Result<()> {
    let pseudonym = |text: &str| {
        text.strip_prefix("id-").is_some_and(|hex| hex.len() == 16 && hex.bytes().all(|b| b.is_ascii_hexdigit()))
    };
    if let Some(identity) = selection.identity.as_deref().filter(|identity| !pseudonym(identity)) {
        bail!("`{identity}` is not a pseudonym");
    }
    let name = |text: &str| text.len() <= 256 && text.contains('.') && !text.chars().any(char::is_control);
    if let Some(dataset) = selection.dataset.as_deref().filter(|dataset| !name(dataset)) {
        bail!("`{}` is not a data set: write `connection.table`", dataset.escape_debug());
    }
    Ok(())
}
