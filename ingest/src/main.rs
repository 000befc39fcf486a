//! The binary `countersign`.

use clap::Parser;
use std::process::ExitCode;

fn main() -> ExitCode {
    // Before any connection: rustls takes the process's one provider from here.
    if rustls::crypto::aws_lc_rs::default_provider().install_default().is_err() {
        eprintln!("countersign: a TLS provider is installed already");
        return ExitCode::FAILURE;
    }
    match countersign::cli::run(countersign::cli::Cli::parse()) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("countersign: {error:#}");
            ExitCode::FAILURE
        }
    }
}
