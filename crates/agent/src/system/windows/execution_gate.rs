//! There is no gate before executions here: it would take a driver.

use std::path::PathBuf;
use std::process::ExitCode;

use sensor_api::Source;

use crate::gate::GateParts;

/// None; the operator is told with the settings.
pub(crate) fn source(_: &[PathBuf], _: GateParts) -> Option<Box<dyn Source>> {
    None
}

/// No process is started for that.
pub fn keep_if_asked() -> Option<ExitCode> {
    None
}
