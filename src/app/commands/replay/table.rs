//! The text of `replay`: a row per owner. The books can be checked by eye: recipients = sent + bounced + expired +
//! deleted + unaccounted + queued.

use crate::app::commands::fitted;
use crate::mail::Counts;

const NAME: usize = 32;

struct Column {
    title: &'static str,
    width: usize,
    figure: fn(&Counts) -> u64,
    /// Left out where nobody has any: the table stays narrow on the usual log.
    rare: bool,
}

const fn column(title: &'static str, width: usize, figure: fn(&Counts) -> u64) -> Column {
    Column { title, width, figure, rare: false }
}

const fn rare(title: &'static str, width: usize, figure: fn(&Counts) -> u64) -> Column {
    Column { title, width, figure, rare: true }
}

const COLUMNS: [Column; 11] = [
    column("messages", 9, |c| c.messages),
    column("recipients", 10, |c| c.recipients),
    column("sent", 10, |c| c.sent),
    column("bounced", 8, |c| c.bounced),
    column("expired", 8, |c| c.expired),
    column("deleted", 8, |c| c.deleted),
    rare("unaccounted", 11, |c| c.unaccounted),
    column("deferred", 8, |c| c.deferred),
    column("queued", 7, |c| c.queued),
    rare("held", 7, |c| c.held),
    rare("late errors", 11, |c| c.late_errors),
];

/// The columns that a table with this total needs.
pub struct Table {
    columns: Vec<&'static Column>,
    pub text: String,
}

impl Table {
    pub fn new(total: &Counts) -> Table {
        let needed = COLUMNS.iter().filter(|column| !column.rare || (column.figure)(total) > 0);
        let mut table = Table { columns: needed.collect(), text: String::new() };
        table.line("account", |column| column.title.to_owned());
        table
    }

    pub fn row(&mut self, name: &str, counts: &Counts) {
        self.line(name, |column| (column.figure)(counts).to_string());
    }

    fn line(&mut self, name: &str, cell: impl Fn(&Column) -> String) {
        let shown = fitted(name, NAME);
        self.text.push_str(&format!("{shown:<NAME$}"));
        for column in &self.columns {
            self.text.push_str(&format!(" {:>width$}", cell(column), width = column.width));
        }
        self.text.push('\n');
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Titles and figures of the last row, read back.
    fn shown(total: &Counts) -> (Vec<String>, Vec<u64>) {
        let mut table = Table::new(total);
        table.row("total", total);
        let [titles, figures] = [0, 1].map(|line| table.text.lines().nth(line).unwrap().to_owned());
        assert_eq!(titles.chars().count(), figures.chars().count(), "columns stand below each other");
        let titles = titles.split("  ").map(str::trim).filter(|title| !title.is_empty() && *title != "account");
        let titles = titles.flat_map(|t| if t == "late errors" { vec![t] } else { t.split(' ').collect() });
        let titles = titles.map(str::to_owned).collect();
        (titles, figures.split_whitespace().skip(1).map(|figure| figure.parse().unwrap()).collect())
    }

    #[test]
    fn every_figure_that_is_not_zero_is_seen_and_the_books_balance_by_eye() {
        let usual = Counts { messages: 1, recipients: 2, sent: 1, queued: 1, ..Counts::default() };
        let (titles, figures) = shown(&usual);
        assert_eq!(
            titles.join(" "),
            "messages recipients sent bounced expired deleted deferred queued",
            "rare figures that are zero are left out"
        );
        assert_eq!(figures, [1, 2, 1, 0, 0, 0, 0, 1]);
        let all = Counts {
            messages: 11,
            recipients: 27,
            sent: 2,
            bounced: 3,
            expired: 4,
            deleted: 5,
            unaccounted: 6,
            deferred: 8,
            queued: 7,
            held: 1,
            late_errors: 9,
        };
        assert!(all.balance());
        let (titles, figures) = shown(&all);
        assert_eq!(figures, [11, 27, 2, 3, 4, 5, 6, 8, 7, 1, 9]);
        let of = |title: &str| figures[titles.iter().position(|t| t == title).unwrap()];
        let parts = ["sent", "bounced", "expired", "deleted", "unaccounted", "queued"].map(of);
        assert_eq!(of("recipients"), parts.iter().sum::<u64>());
    }
}
