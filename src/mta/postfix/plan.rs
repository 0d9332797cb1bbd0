//! Work on the queue as steps: postsuper(1) with the queue ids on its standard input, and a kick of qmgr(8).
//!
//! It names whole queue ids only, of one instance at a time, and never a queue as a whole: `ALL` on standard input is
//! an id to postsuper, and no message has it. What a step has done is read from what postsuper says of each id; its
//! exit status is 0 also when it found nothing.

use crate::mail::{Place, QueueId, Run, Step, Talk, Verb};

/// One instance: where its tools are, and its directories (postconf(5): `command_directory`, `config_directory`,
/// `queue_directory`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Instance {
    pub tools: String,
    pub config: String,
    pub queue: String,
}

/// Ids for one call: 1,000 take about 50 ms (measured).
pub const BATCH: usize = 1_000;

/// The steps that do `verb` to these places, which are of the instance. Doing them twice is the same as once.
pub fn plan(verb: Verb, places: &[Place], instance: &Instance) -> Vec<Step> {
    let mut places: Vec<&Place> = places.iter().filter(|place| is_queue_id(&place.id)).collect();
    places.sort_unstable();
    places.dedup();
    // Deletes in the hold queue only: what left it is somebody's decision, and a short id may be another message's
    // by now. A message that the milter put on hold is moved there a moment after the answer.
    // A move is done at once; a delete waits for the disk, and several of them do not wait for each other.
    let (flag, queue, says, tries, pause_ms, lanes) = match verb {
        Verb::Hold => ("-h", None, "placed on hold", 2, 200, 1),
        Verb::Release => ("-H", None, "released from hold", 4, 300, 1),
        Verb::Delete => ("-d", Some("hold"), "removed", 4, 300, 4),
    };
    let mut steps = Vec::new();
    for batch in places.chunks(BATCH) {
        let argv = [format!("{}/postsuper", instance.tools), "-c".into(), instance.config.clone(), flag.into()];
        let argv = argv.into_iter().chain(["-".to_owned()]).chain(queue.map(str::to_owned)).collect();
        let places: Vec<Place> = batch.iter().map(|place| (*place).clone()).collect();
        let run = Run { argv, places: places.clone(), talk: Talk::Lines, says, tries, pause_ms, lanes };
        steps.push(Step::Run(run));
        if verb == Verb::Release {
            // `-H` moves to `deferred`. There a message that was put off before waits until its file's time of change
            // (qmgr_active.c: "next retry time"), and all others for the next queue run: `D` (qmgr(8):
            // QMGR_REQ_SCAN_DEFERRED) scans that queue now; what is others' keeps its own retry time.
            steps.push(Step::Due { directory: format!("{}/deferred", instance.queue), places });
            steps.push(kick(instance));
        }
    }
    steps
}

/// The step that has qmgr(8) look at the messages that were put off (`D`: QMGR_REQ_SCAN_DEFERRED).
pub fn kick(instance: &Instance) -> Step {
    Step::Ring { path: format!("{}/public/qmgr", instance.queue), byte: b'D' }
}

/// Letters and digits only: never an option, never a pattern, never `ALL`.
pub fn is_queue_id(id: &QueueId) -> bool {
    let bytes = id.as_bytes();
    bytes.len() >= 5 && bytes.iter().all(u8::is_ascii_alphanumeric)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mail::Server;

    fn instance() -> Instance {
        let here = |dir: &str| dir.to_owned();
        Instance { tools: here("/usr/sbin"), config: here("/etc/postfix-out"), queue: here("/var/spool/postfix-out") }
    }

    fn places<'a>(ids: impl IntoIterator<Item = &'a str>) -> Vec<Place> {
        let place = |id: &str| Place {
            server: Server::Postfix,
            instance: b"postfix-out"[..].into(),
            id: QueueId::new(id.as_bytes()).unwrap(),
        };
        ids.into_iter().map(place).collect()
    }

    #[test]
    fn plans_are_as_written() {
        let ids = places(["4jY2SQ3blzz5bcl", "8C47DB6051", "4jY2SQ3blzz5bcl", "ALL", "-d", "1vNABC-0000000abcd-12Xy"]);
        for (verb, golden) in [
            (Verb::Hold, include_str!("../../../tests/golden/plans/hold.txt")),
            (Verb::Release, include_str!("../../../tests/golden/plans/release.txt")),
            (Verb::Delete, include_str!("../../../tests/golden/plans/delete.txt")),
        ] {
            let text: String = plan(verb, &ids, &instance()).iter().map(ToString::to_string).collect();
            assert_eq!(text, golden, "{verb:?}");
        }
    }

    #[test]
    fn many_ids_go_in_batches_and_none_is_left_out_or_named_twice() {
        let names: Vec<String> = (0..2_500).map(|n| format!("{n:08X}")).collect();
        let steps = plan(Verb::Release, &places(names.iter().map(String::as_str)), &instance());
        let sizes: Vec<usize> = steps
            .iter()
            .map(|step| match step {
                Step::Run(run) => run.places.len(),
                _ => 0,
            })
            .collect();
        assert_eq!(sizes, [1_000, 0, 0, 1_000, 0, 0, 500, 0, 0]);
        let mut named: Vec<String> = steps
            .iter()
            .flat_map(|step| match step {
                Step::Run(run) => run.places.iter().map(|place| place.id.to_string()).collect(),
                _ => Vec::new(),
            })
            .collect();
        named.sort();
        assert_eq!(named, names);
        assert_eq!(plan(Verb::Delete, &[], &instance()), []);
    }
}
