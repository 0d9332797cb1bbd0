//! Deliveries, which must not run in the helper's own house: it is bound by its unit (no network, no home directories, little
//! memory), and what it has started ends with it.
//!
//! Where systemd runs (sd_booted(3)), it is asked to start them in a unit of their own, systemd-run(1); else, or when that
//! fails, they are started here.

use crate::host::exec;
use std::path::Path;

/// Starts a program when its turn has come, without waiting for it.
pub(super) fn start(argv: Vec<String>) {
    let run = ["/usr/bin/systemd-run", "/bin/systemd-run"].into_iter().find(|path| Path::new(path).exists());
    let booted = Path::new("/run/systemd/system").is_dir();
    exec::start_first(ways(run.filter(|_| booted), argv));
}

/// The ways to start it, of which the next is for when the one before fails.
fn ways(run: Option<&str>, argv: Vec<String>) -> Vec<Vec<String>> {
    // --wait: not all of a large queue at once. The program's own end is no failure (`-Mc` ends with 0, whatever came of it).
    let own = run.map(|run| {
        let options = ["--quiet", "--collect", "--wait", "--description=mail released by sendwarden", "--"];
        [run].into_iter().chain(options).map(str::to_owned).chain(argv.clone()).collect()
    });
    own.into_iter().chain([argv]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn systemd_is_asked_first_where_it_runs() {
        let argv: Vec<String> = ["exim", "-Mc", "1xVROW-0001BH-2c"].map(str::to_owned).to_vec();
        assert_eq!(ways(None, argv.clone()), std::slice::from_ref(&argv));
        let both = ways(Some("/usr/bin/systemd-run"), argv.clone());
        assert!(both[0].join(" ").starts_with("/usr/bin/systemd-run --quiet --collect --wait "), "{both:?}");
        assert!(both[0].ends_with(&argv) && both[1] == argv, "{both:?}");
    }
}
