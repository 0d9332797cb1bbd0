//! Points at which a test has the process die, as if it were killed there: between any two things that an order brings.
//!
//! Nothing happens at them unless the environment variable [`FILE`] named a file when the process began, and then only
//! at the point whose name is in that file. `tests/kill_points.rs` takes the points from here and dies at each of them.

use crate::mail::Step;
use std::path::PathBuf;
use std::sync::OnceLock;

/// The variable; it is read once. The file may come and go.
pub const FILE: &str = "SENDWARDEN_KILL_POINT";

macro_rules! points {
    ($($(#[$said:meta])* $point:ident = $name:literal,)*) => {
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Point { $($(#[$said])* $point,)* }

        impl Point {
            pub const ALL: &[Point] = &[$(Point::$point,)*];

            pub const fn name(self) -> &'static str {
                match self { $(Point::$point => $name,)* }
            }
        }
    };
}

points! {
    /// An order is accepted in memory, and in no file yet.
    OrderTaken = "order-taken",
    /// It is in the store; the gate, the flags and who gave it know nothing of it.
    OrderKept = "order-kept",
    /// What slowly leaves is chosen in memory, and in no file yet.
    DueChosen = "due-chosen",
    /// The gate and the flags know who is held; no work is given out.
    GateTold = "gate-told",
    /// The hands have the work and have done nothing.
    WorkBegun = "work-begun",
    /// The helper is about to be asked.
    HelperAsked = "helper-asked",
    /// The helper has read what it is to do.
    HelperHeard = "helper-heard",
    BeforeRun = "before-run",
    /// A program has ended; what it said is not read.
    AfterRun = "after-run",
    BeforeDue = "before-due",
    AfterDue = "after-due",
    BeforeRing = "before-ring",
    AfterRing = "after-ring",
    BeforeStart = "before-start",
    AfterStart = "after-start",
    /// The helper has done it, and has not answered.
    HelperDone = "helper-done",
    /// The helper's answer is here; nothing is made of it.
    HelperAnswered = "helper-answered",
    /// All steps are done; the pump does not know.
    WorkDone = "work-done",
    /// The pump knows, and has settled nothing.
    WorkReported = "work-reported",
    /// It is settled in memory, and in no file yet.
    WorkSettled = "work-settled",
    /// That is in the store; nothing has followed from it.
    SettledKept = "settled-kept",
}

impl Point {
    /// Each kind of step has a point before it.
    pub const fn before(step: &Step) -> Point {
        match step {
            Step::Run(_) => Point::BeforeRun,
            Step::Start { .. } => Point::BeforeStart,
            Step::Due { .. } => Point::BeforeDue,
            Step::Ring { .. } => Point::BeforeRing,
        }
    }

    /// And one after it.
    pub const fn after(step: &Step) -> Point {
        match step {
            Step::Run(_) => Point::AfterRun,
            Step::Start { .. } => Point::AfterStart,
            Step::Due { .. } => Point::AfterDue,
            Step::Ring { .. } => Point::AfterRing,
        }
    }
}

/// Goes on, unless a test wants the process to die here.
pub fn pass(point: Point) {
    static WANTED: OnceLock<Option<PathBuf>> = OnceLock::new();
    let Some(file) = WANTED.get_or_init(|| std::env::var_os(FILE).map(PathBuf::from)) else { return };
    if std::fs::read_to_string(file).is_ok_and(|name| name == point.name()) {
        let killed = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
        tracing::error!("cannot die at {}: {killed:?}", point.name());
        // Nobody comes here: a signal to one's own process is delivered before the call returns (POSIX, kill()).
        std::process::abort();
    }
}
