//! Load: so many appends under way at a time, or so many a second; and what is said about the answers.

use anyhow::Result;
use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

/// What was measured.
pub struct Figures {
    /// Answers a second.
    pub rate: f64,
    /// From append to answer, in milliseconds.
    pub p50: f64,
    pub p99: f64,
}

impl Figures {
    fn new(mut millis: Vec<f64>, took: Duration) -> Self {
        millis.sort_by(f64::total_cmp);
        Self { rate: millis.len() as f64 / took.as_secs_f64(), p50: at(&millis, 0.5), p99: at(&millis, 0.99) }
    }
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:>8.0}/s  p50 {:>8.2} ms  p99 {:>8.2} ms", self.rate, self.p50, self.p99)
    }
}

/// The value at that part of sorted values.
pub fn at(sorted: &[f64], part: f64) -> f64 {
    sorted.get((sorted.len() as f64 * part) as usize).copied().unwrap_or_default()
}

/// `writers` that each make the next append when the last is answered. `make` connects a writer; what it gives makes one append.
pub async fn closed<M, C, A, F>(writers: usize, seconds: Duration, make: M) -> Result<Figures>
where
    M: Fn(usize) -> C,
    C: Future<Output = Result<A>>,
    A: Fn() -> F + Send + Sync + 'static,
    F: Future<Output = Result<()>> + Send,
{
    let mut appends = Vec::new();
    for writer in 0..writers {
        appends.push(make(writer).await?);
    }
    let started = Instant::now();
    let tasks: Vec<_> = appends
        .into_iter()
        .map(|append| {
            tokio::spawn(async move {
                let mut millis = Vec::new();
                while started.elapsed() < seconds {
                    let sent = Instant::now();
                    append().await?;
                    millis.push(sent.elapsed().as_secs_f64() * 1e3);
                }
                anyhow::Ok(millis)
            })
        })
        .collect();
    let mut all = Vec::new();
    for task in tasks {
        all.extend(task.await??);
    }
    Ok(Figures::new(all, started.elapsed()))
}

/// `rate` appends a second, each timed from the moment at which it was due: waiting behind others counts.
pub async fn open<F>(rate: u64, seconds: Duration, append: impl Fn() -> F) -> Result<Figures>
where
    F: Future<Output = Result<()>> + Send + 'static,
{
    let millis = Arc::new(Mutex::new(Vec::new()));
    let started = Instant::now();
    let mut tasks = tokio::task::JoinSet::new();
    let mut sent = 0u64;
    while started.elapsed() < seconds {
        let due = (started.elapsed().as_secs_f64() * rate as f64) as u64;
        while sent < due {
            let (at, append, millis) =
                (started + Duration::from_secs_f64(sent as f64 / rate as f64), append(), Arc::clone(&millis));
            tasks.spawn(async move {
                append.await?;
                millis.lock().unwrap_or_else(PoisonError::into_inner).push(at.elapsed().as_secs_f64() * 1e3);
                anyhow::Ok(())
            });
            sent += 1;
        }
        while let Some(done) = tasks.try_join_next() {
            done??;
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    while let Some(done) = tasks.join_next().await {
        done??;
    }
    let millis = std::mem::take(&mut *millis.lock().unwrap_or_else(PoisonError::into_inner));
    Ok(Figures::new(millis, started.elapsed()))
}
