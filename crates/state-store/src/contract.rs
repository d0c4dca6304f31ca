//! What every state store must do, as a suite that each implementation runs.
