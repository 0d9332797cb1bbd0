//! The command `sendwarden`. Everything it does is in the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    ExitCode::from(sendwarden::app::cli::main().code())
}
