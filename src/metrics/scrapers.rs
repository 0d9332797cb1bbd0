//! Who scrapes: so that a series which is new to a scraper can be shown to it once with 0.
//!
//! Prometheus takes the first value of a series as its starting point: a counter that appears with 1 has lost that 1.

/// Scrapers remembered; the one that was longest away is forgotten first.
const MOST: usize = 16;

#[derive(Debug)]
struct Scraper {
    who: String,
    seen: u64,
}

/// The scrapers of late, the latest last.
#[derive(Debug, Default)]
pub(super) struct Scrapers {
    known: Vec<Scraper>,
}

impl Scrapers {
    /// Notes a scrape that shows all series up to number `seq`. Returns the number up to which this scraper may see
    /// true values: everything for a new one, for its first values are its starting points anyway.
    pub fn scrape(&mut self, who: &str, seq: u64) -> u64 {
        let who: String = who.chars().take(160).collect();
        let since = match self.known.iter().position(|scraper| scraper.who == who) {
            Some(at) => self.known.remove(at).seen,
            None => {
                if self.known.len() >= MOST {
                    self.known.remove(0);
                }
                u64::MAX
            }
        };
        self.known.push(Scraper { who, seen: seq });
        since
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn remembers_the_latest_sixteen() {
        let mut scrapers = Scrapers::default();
        assert_eq!(scrapers.scrape("a", 5), u64::MAX);
        assert_eq!(scrapers.scrape("a", 9), 5);
        for n in 0..MOST {
            assert_eq!(scrapers.scrape(&format!("s{n}"), 9), u64::MAX);
        }
        assert_eq!(scrapers.scrape("a", 9), u64::MAX);
        assert!(scrapers.known.len() <= MOST);
    }
}
