//! stub
use crate::app::Exit;
pub fn run(_: &crate::app::cli::DemoArgs) -> Exit {
    Exit::Failed
}
