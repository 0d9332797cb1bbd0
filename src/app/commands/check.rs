//! stub
use crate::app::Exit;
pub fn run(_: &crate::app::cli::CheckArgs) -> Exit {
    Exit::Failed
}
