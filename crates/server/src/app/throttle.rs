//! How often something may fail: token buckets by key, bounded in number.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Keys that are kept; past them those that are full again are forgotten, and if
/// there are none, all are: an attacker with that many addresses is not stopped
/// here, but must not take memory either.
const KEPT_KEYS: usize = 20_000;

/// A bucket for each key.
#[derive(Debug)]
pub(crate) struct Throttle<K> {
    burst: f64,
    refill: Duration,
    buckets: Mutex<HashMap<K, Bucket>>,
}

#[derive(Debug, Clone, Copy)]
struct Bucket {
    tokens: f64,
    at: Instant,
}

impl<K: Eq + Hash + Clone> Throttle<K> {
    /// `burst` attempts at once, then one each `refill`.
    pub(crate) fn new(burst: u32, refill: Duration) -> Self {
        Self { burst: f64::from(burst), refill, buckets: Mutex::default() }
    }

    /// Takes an attempt, or says how long to wait for one.
    pub(crate) fn take(&self, key: &K, now: Instant) -> Result<(), Duration> {
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        if buckets.len() >= KEPT_KEYS && !buckets.contains_key(key) {
            buckets.retain(|_, bucket| self.filled(*bucket, now).tokens < self.burst);
            if buckets.len() >= KEPT_KEYS {
                buckets.clear();
            }
        }
        let bucket = buckets.entry(key.clone()).or_insert(Bucket { tokens: self.burst, at: now });
        *bucket = self.filled(*bucket, now);
        if bucket.tokens < 1.0 {
            return Err(self.refill.mul_f64(1.0 - bucket.tokens));
        }
        bucket.tokens -= 1.0;
        Ok(())
    }

    /// Gives an attempt back: it was no failure.
    pub(crate) fn give_back(&self, key: &K) {
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(bucket) = buckets.get_mut(key) {
            bucket.tokens = (bucket.tokens + 1.0).min(self.burst);
        }
    }

    fn filled(&self, bucket: Bucket, now: Instant) -> Bucket {
        let elapsed = now.saturating_duration_since(bucket.at);
        let tokens = bucket.tokens + elapsed.as_secs_f64() / self.refill.as_secs_f64();
        Bucket { tokens: tokens.min(self.burst), at: now }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_then_one_each_refill_for_each_key_alone() {
        let throttle = Throttle::new(2, Duration::from_secs(10));
        let start = Instant::now();
        assert_eq!(throttle.take(&"a", start), Ok(()));
        assert_eq!(throttle.take(&"a", start), Ok(()));
        assert_eq!(throttle.take(&"a", start), Err(Duration::from_secs(10)));
        assert_eq!(throttle.take(&"b", start), Ok(()));
        let later = start + Duration::from_secs(10);
        assert_eq!(throttle.take(&"a", later), Ok(()));
        assert!(throttle.take(&"a", later).is_err());
        throttle.give_back(&"a");
        assert_eq!(throttle.take(&"a", later), Ok(()));
    }
}
