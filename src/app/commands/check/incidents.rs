//! Host incidents that stand, as the agent has written them down last.

use super::Finding;
use crate::engine::rules::incidents::Incidents;
use crate::engine::tracker::RowKind;
use crate::host::clock;
use crate::store::Views;
use std::path::Path;

/// None where there is no store, or none that can be read: another finding says so.
pub fn judge(state_dir: &Path, findings: &mut Vec<Finding>) {
    if !state_dir.join(crate::store::FILE_NAME).exists() {
        return;
    }
    let Ok(rows) = Views::open(state_dir).and_then(|views| views.rows(RowKind::Incident.code())) else { return };
    let mut kept = Incidents::default();
    for row in rows {
        kept.restore_row(&row.key, &row.value.unwrap_or_default());
    }
    for incident in kept.standing(clock::now()) {
        findings.push(Finding::warn(
            "incident",
            format!("{}: such failures count against no account", incident.text()),
            "see docs/rules.md, Host incidents; sendwarden status shows when it is over",
        ));
    }
}
