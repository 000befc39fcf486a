//! Who used the processor: seconds of processor time by process, and by thread of this one, from `/proc`.

use anyhow::{Context, Result};
use std::collections::BTreeMap;

/// The kernel counts processor time in these units a second (`USER_HZ`, 100 wherever Linux runs).
const TICKS: f64 = 100.0;

/// The name and the numbered fields of a `stat` file, `fields[0]` being field 3 of proc(5), the state.
fn stat(path: &str) -> Result<(String, Vec<String>)> {
    let text = std::fs::read_to_string(path)?;
    let (head, fields) = text.rsplit_once(") ").context("no name")?;
    let name = head.split_once('(').context("no name")?.1;
    Ok((name.into(), fields.split_whitespace().map(String::from).collect()))
}

fn ticks(fields: &[String], places: &[usize]) -> f64 {
    places.iter().filter_map(|at| fields.get(*at)?.parse::<f64>().ok()).sum()
}

/// Processor seconds of a process with its children, those that have ended included.
pub fn of_process(pid: u32) -> Result<f64> {
    let own = || stat(&format!("/proc/{pid}/stat"));
    loop {
        // User and system time, its own and that of children it has waited for.
        let (_, fields) = own()?;
        let (mut sum, ended) = (ticks(&fields, &[11, 12, 13, 14]), ticks(&fields, &[13, 14]));
        for entry in std::fs::read_dir("/proc")? {
            let path = entry?.path().join("stat");
            // A process may end while it is looked at.
            if let Ok((_, fields)) = stat(&path.to_string_lossy())
                && fields.get(1).is_some_and(|parent| *parent == pid.to_string())
            {
                sum += ticks(&fields, &[11, 12]);
            }
        }
        // One that ended meanwhile is in neither sum.
        if ticks(&own()?.1, &[13, 14]) == ended {
            return Ok(sum / TICKS);
        }
    }
}

/// Processor seconds of this process, by the first word of its threads' names.
pub fn of_threads() -> Result<BTreeMap<String, f64>> {
    let mut sums = BTreeMap::new();
    for entry in std::fs::read_dir("/proc/self/task")? {
        let path = entry?.path().join("stat");
        if let Ok((name, fields)) = stat(&path.to_string_lossy()) {
            let word = name.split(['-', ':', '0', '1', '2', '3']).next().unwrap_or_default();
            *sums.entry(word.to_owned()).or_default() += ticks(&fields, &[11, 12]) / TICKS;
        }
    }
    Ok(sums)
}
