//! What every process sensor must do, as checks that each sensor's tests run.
