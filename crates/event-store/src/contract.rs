//! What every event store must do, as a suite that each implementation runs.
