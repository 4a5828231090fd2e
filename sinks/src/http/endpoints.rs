//! Several endpoints in turn, each with a circuit breaker.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use reqwest::Url;
use tokio::time::Instant;

/// For how long an endpoint that failed is left alone: doubled with each further failure in a row.
const MIN_REST: Duration = Duration::from_secs(1);
/// The longest.
const MAX_REST: Duration = Duration::from_secs(60);

/// Endpoints in turn. One that failed is left alone for a while, and then tried by one request before others follow: it costs
/// few requests while it is down, and is found again when it is back.
pub(super) struct Endpoints {
    list: Vec<Endpoint>,
    turn: AtomicUsize,
}

/// One endpoint.
pub(super) struct Endpoint {
    /// Without user, password and the last slash.
    pub url: String,
    breaker: Mutex<Breaker>,
}

#[derive(Default)]
struct Breaker {
    /// Failures in a row.
    failures: u32,
    /// After a failure: not before this.
    rests_until: Option<Instant>,
    /// Whether a request is under way that tries whether it is back.
    probed: bool,
}

impl Endpoints {
    pub fn new(urls: Vec<Url>) -> Endpoints {
        let endpoint = |url: Url| Endpoint { url: url.as_str().trim_end_matches('/').to_owned(), breaker: Mutex::default() };
        Endpoints { list: urls.into_iter().map(endpoint).collect(), turn: AtomicUsize::new(0) }
    }

    /// The next one that works as far as is known; where none does the next one, since when to try is the delivery's to say.
    pub fn next(&self, now: Instant) -> Attempt<'_> {
        let first = self.turn.fetch_add(1, Ordering::Relaxed);
        let in_turn = |offset: usize| &self.list[(first + offset) % self.list.len()];
        let endpoint = (0..self.list.len()).map(in_turn).find(|endpoint| endpoint.lock().lets_through(now));
        Attempt { endpoint: endpoint.unwrap_or_else(|| in_turn(0)), is_over: false }
    }
}

impl Endpoint {
    fn lock(&self) -> MutexGuard<'_, Breaker> {
        self.breaker.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Breaker {
    fn lets_through(&mut self, now: Instant) -> bool {
        match self.rests_until {
            None => true,
            Some(until) if until <= now && !self.probed => {
                self.probed = true;
                true
            }
            Some(_) => false,
        }
    }

    fn failed(&mut self, now: Instant) {
        // Requests that were under way together meet the same failure: one rest.
        if self.rests_until.is_none_or(|until| until <= now) {
            let rest = MIN_REST.saturating_mul(1 << self.failures.min(16)).min(MAX_REST);
            self.failures += 1;
            self.rests_until = Some(now + rest);
        }
        self.probed = false;
    }
}

/// A request to an endpoint. One that is given up, for want of an answer in time, has failed.
pub(super) struct Attempt<'a> {
    pub endpoint: &'a Endpoint,
    is_over: bool,
}

impl Attempt<'_> {
    /// How it ended.
    pub fn end(mut self, works: bool, now: Instant) {
        self.is_over = true;
        let mut breaker = self.endpoint.lock();
        if works {
            *breaker = Breaker::default();
        } else {
            breaker.failed(now);
        }
    }
}

impl Drop for Attempt<'_> {
    fn drop(&mut self) {
        if !self.is_over {
            self.endpoint.lock().failed(Instant::now());
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn endpoints() -> Endpoints {
        Endpoints::new(["http://a", "http://b/"].map(|url| Url::parse(url).unwrap()).into())
    }

    /// Which endpoint the next request goes to, if `works` says of it that it does.
    fn ask(endpoints: &Endpoints, now: Instant, works: impl Fn(&str) -> bool) -> String {
        let attempt = endpoints.next(now);
        let url = attempt.endpoint.url.clone();
        attempt.end(works(&url), now);
        url
    }

    #[test]
    fn one_that_fails_is_left_alone_for_longer_and_longer_and_found_again() {
        let endpoints = endpoints();
        let start = Instant::now();
        let mut asked = Vec::new();
        for second in 0..200 {
            let now = start + Duration::from_secs(second);
            for _ in 0..4 {
                if ask(&endpoints, now, |url| url != "http://a" || second >= 150) == "http://a" {
                    asked.push(second);
                }
            }
        }
        // Tried after 1, 2, 4 … seconds, at most a minute.
        assert_eq!(asked[..7], [0, 1, 3, 7, 15, 31, 63]);
        assert_eq!(asked[7], 123);
        let back = asked.iter().position(|second| *second >= 150).unwrap();
        assert_eq!(asked[back], 183);
        assert_eq!(asked[back..].len(), 2 * 17, "it has its turns again");
    }

    #[test]
    fn one_request_tries_whether_it_is_back() {
        let endpoints = endpoints();
        let start = Instant::now();
        for _ in 0..2 {
            ask(&endpoints, start, |url| url != "http://a");
        }
        let later = start + Duration::from_secs(5);
        let attempts: Vec<_> = (0..6).map(|_| endpoints.next(later)).collect();
        assert_eq!(attempts.iter().filter(|attempt| attempt.endpoint.url == "http://a").count(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_that_was_given_up_has_failed() {
        let endpoints = endpoints();
        drop(endpoints.next(Instant::now()));
        let asked: Vec<String> = (0..4).map(|_| ask(&endpoints, Instant::now(), |_| true)).collect();
        assert_eq!(asked, ["http://b"; 4]);
        tokio::time::advance(Duration::from_secs(1)).await;
        let asked: Vec<String> = (0..4).map(|_| ask(&endpoints, Instant::now(), |_| true)).collect();
        assert!(asked.contains(&"http://a".to_owned()));
    }

    #[test]
    fn where_all_fail_they_are_tried_in_turn() {
        let endpoints = endpoints();
        let now = Instant::now();
        let asked: Vec<String> = (0..6).map(|_| ask(&endpoints, now, |_| false)).collect();
        assert_eq!(asked, ["http://a", "http://b", "http://a", "http://b", "http://a", "http://b"]);
    }
}
