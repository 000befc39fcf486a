//! A bare log server over the ledger: `log_server FOLDER [ADDRESS] [ORIGIN]`. Prints the log's verifier key and where it listens, and
//! ends in order on Ctrl-C or SIGTERM. For judging and measuring: anybody who reaches it may append.

mod server;

use axum::serve::ListenerExt;
use countersign_ledger::{tlog::SignerKey, vault::files};
use std::{error::Error, fs, path::Path};
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let (folder, rest) = words.split_first().ok_or("usage: log_server FOLDER [ADDRESS] [ORIGIN]")?;
    let address = rest.first().map_or("127.0.0.1:2025", String::as_str);
    let origin = rest.get(1).map_or("log.example/bare", String::as_str);
    let folder = Path::new(folder);
    let signer = signer(folder, origin)?;
    println!("key {}", signer.verifier());
    let ledger = server::open(folder, signer)?;
    println!("{}", ledger.opening());
    // Any error of the disk ends the process: opening anew, which verifies, is the only way on.
    ledger.on_fatal(|reason| {
        eprintln!("error: {reason}");
        std::process::exit(70);
    });
    let listener = TcpListener::bind(address).await?.tap_io(|stream| {
        // A socket that is gone already says so to whoever reads from it.
        let _ = stream.set_nodelay(true);
    });
    println!("listening on http://{}/", axum::serve::Listener::local_addr(&listener)?);
    let mut terminate = signal(SignalKind::terminate())?;
    let end = async move {
        tokio::select! {
            _ = terminate.recv() => (),
            _ = tokio::signal::ctrl_c() => (),
        }
    };
    axum::serve(listener, server::routes(ledger.clone())).with_graceful_shutdown(end).await?;
    ledger.close();
    Ok(())
}

/// The log's key, made at the first start.
fn signer(folder: &Path, origin: &str) -> Result<SignerKey, Box<dyn Error>> {
    let path = folder.join("key");
    if !path.exists() {
        fs::create_dir_all(folder)?;
        let mut seed = [0; 32];
        getrandom::fill(&mut seed)?;
        files::create(&path, SignerKey::generate_from_seed(origin, &seed)?.secret_text().as_bytes())?;
    }
    Ok(std::str::from_utf8(&files::read(&path)?)?.trim().parse()?)
}
