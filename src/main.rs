//! The command `sendwarden`. Everything it does is in the library.

use std::process::ExitCode;

/// Messages in flight are many small allocations that come and go: measured faster than the system's allocator.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    ExitCode::from(sendwarden::app::cli::main().code())
}
