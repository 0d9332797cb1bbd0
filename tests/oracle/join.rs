//! How legs belong together, by what the lines from `k` on show: hops, forwards, requeues, notifications.

use std::collections::HashMap;

use super::{Arrival, Entry, Oracle, What};

/// How the legs belong together, as the lines from `k` on show.
#[derive(Debug, Default)]
pub(super) struct View {
    pub(super) k: usize,
    pub(super) parent: Vec<Option<usize>>,
    pub(super) bounce: Vec<bool>,
    /// Requeued from an id of which nothing is known.
    pub(super) lost: Vec<bool>,
    /// Line → the leg a delivery went on to, or the one that a requeue came from.
    pub(super) onward: HashMap<usize, usize>,
    /// Half a minute of nothing: how long an id that a delivery went on to may be silent.
    pub(super) silent: i64,
}

impl Oracle {
    pub(super) fn name(&mut self) {
        for (leg, this) in self.legs.iter().enumerate() {
            let mut entries = this.lines.iter().filter_map(|&at| self.entries[at].as_ref());
            if let Some(entry) = entries.find(|e| !e.id.is_empty()) {
                self.by_key.entry((entry.host.clone(), entry.id.clone())).or_default().push(leg);
            }
        }
    }

    /// A line from `k` on tells how the leg arrived, or its Message-ID.
    pub(super) fn shows(&self, leg: usize, k: usize, ok: impl Fn(&What) -> bool) -> bool {
        let late = self.legs[leg].lines.iter().filter(|&&at| at >= k).filter_map(|&at| self.entries[at].as_ref());
        late.into_iter().any(|e| ok(&e.what))
    }

    /// Links legs: hops, forwards, requeues and notifications.
    pub(super) fn join(&self, k: usize) -> View {
        let count = self.legs.len();
        let mut view = View {
            k,
            parent: vec![None; count],
            bounce: vec![false; count],
            lost: vec![false; count],
            onward: HashMap::new(),
            silent: 30,
        };
        for at in k..self.entries.len() {
            let Some(entry) = &self.entries[at] else { continue };
            let Some(&leg) = self.about[at].first() else { continue };
            // The latest incarnation of the id that had begun by this line, or else the next to begin.
            let latest = |id: &String, ok: &dyn Fn(usize) -> bool| {
                let family = self.by_key.get(&(entry.host.clone(), id.clone()));
                let all: Vec<usize> = family.into_iter().flatten().copied().filter(|&l| l != leg && ok(l)).collect();
                let begun = all.iter().copied().rfind(|&l| self.legs[l].lines.first().is_some_and(|&f| f <= at));
                (begun, all.iter().copied().find(|&l| self.legs[l].lines.first().is_some_and(|&f| f > at)))
            };
            let made = |l: usize| self.legs[l].arrival == Some(Arrival::Cleanup);
            let arrival = |what: &What| matches!(what, What::Pickup { .. } | What::Client { .. });
            let header = |what: &What| matches!(what, What::MessageId(_));
            match &entry.what {
                What::Pickup { requeued_from: Some(old), .. } => match latest(old, &|_| true).0 {
                    Some(parent) => {
                        view.parent[leg] = Some(parent);
                        view.onward.insert(at, parent);
                    }
                    None => view.lost[leg] = true,
                },
                What::Attempt { queued_as: Some(next), .. } => {
                    let id = self.legs[leg].message_id.clone();
                    // What cannot be compared is believed: the parent's header was before `k`. Then even the child's
                    // arrival may have been; but what arrived from elsewhere since is not from the filter.
                    let blind = !self.shows(leg, k, |what| arrival(what) || header(what));
                    let same = |l: usize| {
                        let child = &self.legs[l];
                        match self.shows(l, k, arrival) {
                            true => {
                                let equal = blind || id.is_none() || child.message_id == id;
                                child.arrival == Some(Arrival::Loopback) && equal
                            }
                            false => blind,
                        }
                    };
                    // A leg continues one other only. Of several incarnations that fit, the filter's lines come in order.
                    let free = |l: usize| view.parent[l].is_none_or(|parent| parent == leg);
                    // One that has no arrival line at all began before the whole log, whenever its first line comes.
                    let begun = |l: usize| {
                        let first = self.legs[l].lines.first().is_some_and(|&first| first <= at);
                        first || blind && self.legs[l].arrival == Some(Arrival::Lost)
                    };
                    let family = self.by_key.get(&(entry.host.clone(), next.clone())).into_iter().flatten().copied();
                    let fits = |&l: &usize| l != leg && begun(l) && free(l) && same(l) && self.speaks(l, at, &view);
                    let child = family.into_iter().find(fits);
                    if let Some(child) = child {
                        view.parent[child] = Some(leg);
                        view.onward.insert(at, child);
                    }
                }
                What::Attempt { forwarded_as: Some(next), .. } => {
                    let (begun, coming) = latest(next, &made);
                    if let Some(child) = begun.or(coming).filter(|&child| self.speaks(child, at, &view)) {
                        view.parent[child] = Some(leg);
                        view.onward.insert(at, child);
                    }
                }
                What::Notified(next) => {
                    let (begun, coming) = latest(next, &made);
                    if let Some(child) = begun.or(coming) {
                        view.bounce[child] = true;
                    }
                }
                _ => {}
            }
        }
        view
    }

    pub(super) fn root(&self, leg: usize, view: &View) -> usize {
        let mut root = leg;
        for _ in 0..self.legs.len() {
            match view.parent[root] {
                Some(parent) => root = parent,
                None => break,
            }
        }
        root
    }

    /// Whether the lines from `k` on tell which queue each of them is about. A delivery agent's tag may be a service's
    /// own (`syslog_name`), so where the same id is open in two instances, and one of them has not shown by a pickup,
    /// cleanup or qmgr line that it has a queue when it first speaks of that id, its lines may belong to either.
    pub fn tellable(&self, k: usize) -> bool {
        let first = |leg: usize| {
            let late = self.legs[leg].lines.iter().filter(|&&at| at >= k);
            late.into_iter().filter_map(|&at| self.entries[at].as_ref()).next()
        };
        self.by_key.values().all(|family| {
            let firsts: Vec<&Entry> = family.iter().filter_map(|&leg| first(leg)).collect();
            let one_instance = firsts.windows(2).all(|pair| pair[0].instance == pair[1].instance);
            // A submission service's own name is not an instance.
            let services = firsts.iter().any(|e| !e.owns_queue);
            one_instance || services || firsts.iter().all(|e| e.names_instance)
        })
    }

    /// From line `k` on, the leg says more than that it ended; and the first of it before line `at`, or soon after.
    /// An id that was last heard of before `k` and is silent for longer has nothing to say that could be waited for.
    fn speaks(&self, leg: usize, at: usize, view: &View) -> bool {
        let Some(now) = self.entries[at].as_ref().map(|e| e.at) else { return false };
        let all_here = self.legs[leg].lines.first().is_some_and(|&first| first >= view.k);
        let late = self.legs[leg].lines.iter().filter(|&&line| line >= view.k);
        let mut said = late.filter_map(|&line| Some((line, self.entries[line].as_ref()?)));
        let speaks = |what: &What| {
            let queued = matches!(what, What::Active { .. } | What::Attempt { .. } | What::Hold);
            queued || matches!(what, What::Requeued | What::Deleted | What::Expired)
        };
        let first = said.find(|(_, e)| speaks(&e.what));
        first.is_some_and(|(line, e)| all_here || line < at || e.at - now <= view.silent)
    }

    pub(super) fn requeue_of(&self, leg: usize, view: &View) -> Option<usize> {
        let line = view.onward.iter().find(|(at, parent)| {
            **parent == leg && matches!(self.entries[**at].as_ref().map(|e| &e.what), Some(What::Pickup { .. }))
        });
        line.and_then(|(at, _)| self.about[*at].first().copied())
    }
}
