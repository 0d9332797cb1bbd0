//! `sendwarden history`: an account's days as bars.

use super::ask::{Question, Source};
use super::{counted, grouped, items, number, pretty, say, words};
use crate::app::Exit;
use crate::app::cli::{Format, HistoryArgs};
use serde_json::Value;

/// Width of the longest bar.
const WIDTH: u64 = 50;

pub fn run(args: &HistoryArgs) -> Exit {
    let answer = || -> Result<Exit, Exit> {
        let question = Question::History { account: args.account.clone(), days: args.days };
        let view = Source::new(&args.ask)?.ask(&question)?;
        Ok(say(&if args.ask.format == Format::Json { pretty(&view) } else { chart(&view) }))
    };
    answer().unwrap_or_else(|exit| exit)
}

/// One line a day: sent as full blocks, errors as `x`; the longest bar fills the width.
fn chart(view: &Value) -> String {
    let points = items(view, "points");
    let errors = |point: &Value| number(point, "bounced") + number(point, "expired");
    let most = points.iter().map(|point| number(point, "sent") + errors(point)).max().unwrap_or(0).max(1);
    let mut out = format!("{}: recipients per day (█ sent, x in error)\n\n", words(view, "account"));
    let (mut sent, mut failed) = (0, 0);
    for point in points {
        let (good, bad) = (number(point, "sent"), errors(point));
        sent += good;
        failed += bad;
        let scaled = |n: u64| if n == 0 { 0 } else { (n * WIDTH).div_ceil(most) as usize };
        let bar = format!("{}{}", "█".repeat(scaled(good)), "x".repeat(scaled(bad)));
        let told = match (good, bad) {
            (0, 0) => String::new(),
            (good, 0) => format!("{} sent", grouped(good)),
            (good, bad) => format!("{} sent, {} in error", grouped(good), grouped(bad)),
        };
        out.push_str(format!("{}  {bar} {told}", words(point, "day")).trim_end());
        out.push('\n');
    }
    let days = counted(points.len() as u64, "day", "days");
    out.push_str(&format!("\n{days}: {} sent, {} in error\n", grouped(sent), grouped(failed)));
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn bars_are_in_proportion_and_small_days_are_seen() {
        let view = json!({"account": "web1", "points": [
            {"day": "2026-11-21", "sent": 1000}, {"day": "2026-11-22"}, {"day": "2026-11-23", "sent": 1, "bounced": 500},
        ]});
        let chart = chart(&view);
        let lines: Vec<&str> = chart.lines().collect();
        assert_eq!(lines[2].matches('█').count(), 50);
        assert_eq!(lines[3], "2026-11-22");
        assert_eq!((lines[4].matches('█').count(), lines[4].matches('x').count()), (1, 25));
        assert!(chart.contains("\n3 days: 1 001 sent, 500 in error"), "{chart}");
        let day = json!({"account": "web1", "points": [{"day": "2026-11-23", "sent": 2, "bounced": 1}]});
        let chart = super::chart(&day);
        assert!(chart.contains("x 2 sent, 1 in error\n\n1 day: 2 sent, 1 in error\n"), "{chart}");
    }
}
