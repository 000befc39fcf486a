//! `countersign-verify`: see the library for what it does, `docs/formats.md` for what it checks.

use std::io::{stderr, stdout};
use std::process::ExitCode;

fn main() -> ExitCode {
    ExitCode::from(countersign_verify::run(std::env::args_os(), &mut stdout(), &mut stderr()))
}
