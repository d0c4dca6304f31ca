//! How often rules may act.
//!
//! A rule that ends sixty different programs in a minute is more likely wrong than
//! right, and so is one that ends the same program sixty times. What counts against
//! the host is a rule with an image, not each process: otherwise a user could
//! start one decoy again and again until nothing is left for the real thing.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::time::{Duration, Instant};

use event_model::RuleId;

/// Actions of one rule on processes of one image, and images on which one rule
/// acts, in any minute. Past it a breaker refuses.
pub const MAX_AUTOMATIC_PER_MINUTE: usize = 60;

/// Images on which all rules of a host together act in any minute.
pub const MAX_IMAGES_ON_HOST_PER_MINUTE: usize = 600;

const MINUTE: Duration = Duration::from_secs(60);

/// Device and inode of an image, where they are known.
type Image = Option<(u64, u64)>;

/// Which limit was reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Limit {
    /// One rule on processes of one image.
    SameImage,
    /// One rule on different images.
    Rule,
    /// All rules together on different images.
    Host,
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let each = MAX_AUTOMATIC_PER_MINUTE;
        match self {
            Self::SameImage => write!(f, "{each} automatic actions of one rule on the same image"),
            Self::Rule => write!(f, "automatic actions of one rule on {each} different images"),
            Self::Host => {
                write!(
                    f,
                    "automatic actions of all rules on {MAX_IMAGES_ON_HOST_PER_MINUTE} different images on this host"
                )
            }
        }
    }
}

/// The actions of the last minute. Bounded by the limits themselves: what is
/// refused leaves nothing behind.
#[derive(Debug, Default)]
pub(crate) struct Breaker {
    recent: HashMap<(RuleId, Image), VecDeque<Instant>>,
}

impl Breaker {
    /// Counts one action, or says which limit forbids it.
    pub(crate) fn admit(&mut self, rule: &RuleId, image: Image, now: Instant) -> Result<(), Limit> {
        self.recent.retain(|_, actions| {
            while actions.front().is_some_and(|at| now.duration_since(*at) >= MINUTE) {
                actions.pop_front();
            }
            !actions.is_empty()
        });
        let place = (rule.clone(), image);
        if let Some(actions) = self.recent.get_mut(&place) {
            if actions.len() >= MAX_AUTOMATIC_PER_MINUTE {
                return Err(Limit::SameImage);
            }
            actions.push_back(now);
            return Ok(());
        }
        if self.recent.len() >= MAX_IMAGES_ON_HOST_PER_MINUTE {
            return Err(Limit::Host);
        }
        if self.recent.keys().filter(|(other, _)| other == rule).count() >= MAX_AUTOMATIC_PER_MINUTE {
            return Err(Limit::Rule);
        }
        self.recent.insert(place, VecDeque::from([now]));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decoys_of_one_image_leave_room_for_other_images_and_rules() {
        let (mut breaker, now) = (Breaker::default(), Instant::now());
        let (rule, other) = (RuleId::new("1"), RuleId::new("2"));
        let decoy = Some((1, 1));
        for _ in 0..MAX_AUTOMATIC_PER_MINUTE {
            assert_eq!(breaker.admit(&rule, decoy, now), Ok(()));
        }
        assert_eq!(breaker.admit(&rule, decoy, now), Err(Limit::SameImage));
        assert_eq!(breaker.admit(&rule, Some((1, 2)), now), Ok(()), "the real thing");
        assert_eq!(breaker.admit(&other, decoy, now), Ok(()));

        for inode in 3..=MAX_AUTOMATIC_PER_MINUTE as u64 {
            assert_eq!(breaker.admit(&rule, Some((1, inode)), now), Ok(()));
        }
        assert_eq!(breaker.admit(&rule, Some((1, 1_000)), now), Err(Limit::Rule));
        assert_eq!(breaker.admit(&other, Some((1, 1_000)), now), Ok(()), "one rule's limit is not another's");
        assert_eq!(breaker.admit(&rule, Some((1, 1_000)), now + MINUTE), Ok(()), "a minute later");
    }

    #[test]
    fn the_host_has_a_limit_and_the_memory_too() {
        let (mut breaker, now) = (Breaker::default(), Instant::now());
        let mut admitted = 0;
        for rule in 0..30 {
            for inode in 0..50 {
                admitted +=
                    usize::from(breaker.admit(&RuleId::new(rule.to_string()), Some((1, inode)), now).is_ok());
            }
        }
        assert_eq!(admitted, MAX_IMAGES_ON_HOST_PER_MINUTE);
        assert_eq!(breaker.admit(&RuleId::new("31"), None, now), Err(Limit::Host));
        assert_eq!(breaker.recent.len(), MAX_IMAGES_ON_HOST_PER_MINUTE);
        assert!(breaker.admit(&RuleId::new("31"), None, now + MINUTE).is_ok());
        assert_eq!(breaker.recent.len(), 1);
    }
}
