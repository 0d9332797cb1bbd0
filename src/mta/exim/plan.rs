//! Work on the queue as steps: `exim -Mf`, `-Mt`, `-Mrm` (the specification's chapter on the command line) with message
//! ids as arguments.
//!
//! What a step has done is read from what Exim says of each id. `is already frozen` is no such word: somebody else froze
//! it. `is locked` is none either: a delivery is under way, and it is tried again.

use crate::mail::{Place, QueueId, Run, Step, Talk, Verb};

/// Ids for one call: of a longer command line Exim's own log line (selector +arguments) overflows (measured).
pub const BATCH: usize = 100;

/// The steps that do `verb` to these places of the Exim that this program is. Doing them twice is the same as once.
pub fn plan(verb: Verb, places: &[Place], program: &str) -> Vec<Step> {
    let mut places: Vec<&Place> = places.iter().filter(|place| is_message_id(&place.id)).collect();
    // One id of a form that the program does not know, and it does nothing at all: the forms go apart.
    places.sort_unstable_by_key(|place| (place.id.as_bytes().len(), *place));
    places.dedup();
    let (flag, says, tries, pause_ms) = match verb {
        Verb::Hold => ("-Mf", "is now frozen", 3, 300),
        Verb::Release => ("-Mt", "is no longer frozen", 4, 300),
        Verb::Delete => ("-Mrm", "has been removed", 4, 300),
    };
    let mut steps = Vec::new();
    for form in places.chunk_by(|a, b| a.id.as_bytes().len() == b.id.as_bytes().len()) {
        for batch in form.chunks(BATCH) {
            let argv = vec![program.to_owned(), flag.to_owned()];
            let places = batch.iter().map(|place| (*place).clone()).collect();
            steps.push(Step::Run(Run { argv, places, talk: Talk::Arguments, says, tries, pause_ms, lanes: 1 }));
            if verb == Verb::Release {
                // `-Mt` delivers nothing. `-Mc` delivers these at once, in a process of its own, whatever their retry
                // times: those count in queue runs only (deliver.c). What somebody has frozen meanwhile it leaves
                // alone, which `-M` does not, and other mail is not tried, which a queue run would.
                let ids = batch.iter().map(|place| place.id.to_string());
                let argv = [program.to_owned(), "-Mc".to_owned()].into_iter().chain(ids).collect();
                steps.push(Step::Start { argv });
            }
        }
    }
    steps
}

/// `XXXXXX-XXXXXX-XX`, or `XXXXXX-XXXXXXXXXXX-XXXX` since 4.97: never an option, never a path.
pub fn is_message_id(id: &QueueId) -> bool {
    let mut parts = id.as_bytes().split(|&byte| byte == b'-');
    let lengths = [(); 4].map(|()| {
        let part = parts.next()?;
        part.iter().all(u8::is_ascii_alphanumeric).then_some(part.len())
    });
    lengths == [Some(6), Some(6), Some(2), None] || lengths == [Some(6), Some(11), Some(4), None]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mail::Server;

    fn places<'a>(ids: impl IntoIterator<Item = &'a str>) -> Vec<Place> {
        let place = |id| Place { server: Server::Exim, instance: b"exim"[..].into(), id };
        ids.into_iter().filter_map(|id| QueueId::new(id.as_bytes())).map(place).collect()
    }

    #[test]
    fn plans_are_as_written() {
        let ids = places([
            "1xWsio-0000000059R-39Pc",
            "1xWsik-00057A-0v",
            "1xWsio-0000000059R-39Pc",
            "1xWsik-00057D-12",
            "4jY2SQ3blzz5bcl",
            "-Mrm",
            "1xWsik-00057D-123",
            "1xWsik-00057D-1_",
            "1xWsik-00057D-12-",
        ]);
        for (verb, golden) in [
            (Verb::Hold, include_str!("../../../tests/golden/plans/exim-hold.txt")),
            (Verb::Release, include_str!("../../../tests/golden/plans/exim-release.txt")),
            (Verb::Delete, include_str!("../../../tests/golden/plans/exim-delete.txt")),
        ] {
            let text: String = plan(verb, &ids, "/usr/sbin/exim4").iter().map(ToString::to_string).collect();
            assert_eq!(text, golden, "{verb:?}");
        }
    }

    #[test]
    fn many_ids_go_in_batches_and_none_is_left_out_or_named_twice() {
        let names: Vec<String> = (0..250).map(|n| format!("1xWsik-{n:06}-0v")).collect();
        let steps = plan(Verb::Release, &places(names.iter().map(String::as_str)), "exim");
        let (mut thawed, mut delivered, mut sizes) = (Vec::new(), Vec::new(), Vec::new());
        for step in steps {
            match step {
                Step::Run(run) => {
                    sizes.push(run.places.len());
                    thawed.extend(run.places.iter().map(|place| place.id.to_string()));
                }
                Step::Start { argv } => delivered.extend(argv.into_iter().skip(2)),
                Step::Ring { .. } | Step::Due { .. } => {}
            }
        }
        assert_eq!((sizes, &thawed, &delivered), (vec![100, 100, 50], &names, &names));
        assert_eq!(plan(Verb::Delete, &[], "exim"), []);
    }
}
