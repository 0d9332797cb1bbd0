//! Records that views hand out, ready to be serialised. Times become whole seconds since the epoch.

use serde::{Serialize, Serializer};

use super::batch::HistoryCounts;
use crate::mail::script::MAX_PATH;
use crate::mail::{ScriptClaim, Time, text};

/// One hour of one owner.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct HourRecord {
    /// UTC hours since the epoch.
    pub hour: i64,
    #[serde(flatten)]
    pub counts: HistoryCounts,
}

/// One local day of one owner.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct DayRecord {
    /// The owner's local date, as days since the epoch.
    pub day: i32,
    #[serde(flatten)]
    pub counts: HistoryCounts,
}

/// A recipient in error. Texts are clean and capped.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ErrorRecord {
    /// Grows with every error; the cursor for paging.
    pub id: i64,
    #[serde(serialize_with = "secs")]
    pub at: Time,
    pub owner: u32,
    /// `mail::Outcome::name`.
    pub outcome: String,
    /// Reported after the recipient had been counted as sent.
    pub late: bool,
    pub queue_id: String,
    pub sender: String,
    pub recipient: String,
    pub relay: String,
    /// Enhanced status code; empty when there was none.
    pub dsn: String,
    /// `mail::ReplyClass::name`.
    pub class: String,
    /// The address of this host that the receiver names; empty when it names none.
    pub own_address: String,
    pub reply: String,
    pub script: Option<ScriptRecord>,
}

/// Which script is said to have made a message. Texts are clean and capped; what was not told is empty (line: 0).
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ScriptRecord {
    pub path: String,
    pub line: u32,
    pub directory: String,
}

impl From<&ScriptClaim> for ScriptRecord {
    fn from(claim: &ScriptClaim) -> ScriptRecord {
        let shown = |bytes: &[u8]| text::clean(bytes, MAX_PATH);
        ScriptRecord { path: shown(&claim.path), line: claim.line, directory: shown(&claim.directory) }
    }
}

pub(super) fn secs<S: Serializer>(time: &Time, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_i64(time.secs())
}

pub(super) fn maybe_secs<S: Serializer>(time: &Option<Time>, serializer: S) -> Result<S::Ok, S::Error> {
    time.map(Time::secs).serialize(serializer)
}
