//! What came in and what was refused, counted since the start.

use std::sync::atomic::{AtomicU64, Ordering};

macro_rules! counters {
    ($($(#[$doc:meta])* $variant:ident $field:ident,)*) => {
        /// What is counted.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Counter {
            $($(#[$doc])* $variant,)*
        }

        /// The counters.
        #[derive(Debug, Default)]
        pub struct Counters {
            $($field: AtomicU64,)*
        }

        impl Counters {
            /// Counts one.
            pub fn count(&self, counter: Counter) {
                self.add(counter, 1);
            }

            /// Counts several.
            pub fn add(&self, counter: Counter, count: u64) {
                match counter {
                    $(Counter::$variant => self.$field.fetch_add(count, Ordering::Relaxed),)*
                };
            }

            /// The count so far.
            pub fn value(&self, counter: Counter) -> u64 {
                match counter {
                    $(Counter::$variant => self.$field.load(Ordering::Relaxed),)*
                }
            }
        }
    };
}

counters! {
    /// Batches that were stored.
    Batches batches,
    /// Records that were stored.
    Records records,
    /// Batches that were there already.
    DuplicateBatches duplicate_batches,
    /// The seal did not open.
    BadEnvelope bad_envelope,
    /// Opened, but not a batch; or a record of it that is malformed.
    Malformed malformed,
    /// Batches and records larger than allowed.
    Oversize oversize,
    /// For another host than the certificate's.
    WrongAgent wrong_agent,
    /// Enrolment with a token that is not good.
    BadToken bad_token,
    /// Handshakes with a certificate that is not good.
    BadCertificate bad_certificate,
    /// Agents whose host is revoked or unknown.
    Revoked revoked,
    /// Connections that did not speak TLS.
    GarbageConnections garbage_connections,
    /// Connections past the limit.
    TooManyConnections too_many_connections,
    /// Batches that could not be stored.
    StoreFailures store_failures,
}
