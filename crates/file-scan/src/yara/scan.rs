//! Scanning bytes and files within limits.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::time::{Duration, Instant};

use boreal::Scanner;
use boreal::scanner::{FragmentedScanMode, ScanCallbackResult, ScanError, ScanEvent, ScanParams};

use super::compile::{EXTERNALS, YaraRules};
use super::matched::YaraMatch;
use crate::content_reading::ContentUnread;
use crate::regular_file::RegularFile;
use crate::system::{ProcessMemory, ReadProgress};

/// Matches of one string that are counted, as in YARA itself. Conditions that ask for
/// more (`#a > 2000`) never hold.
const MAX_MATCHES_OF_STRING: u32 = 1_000;

/// Larger content is not scanned with the rules that have a string without a fixed
/// part. At 7 ns a byte, measured, 100 matches that each go through 1 MiB take 0.7 s.
pub(super) const MAX_SLOW_BYTES: usize = 1 << 20;

/// Matches of one string that are counted of such rules.
pub(super) const MAX_SLOW_MATCHES: u32 = 100;

/// What a scan may cost. Memory: the scanned bytes, and for each match of a string
/// about 100 bytes and [`ScanLimits::max_data`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScanLimits {
    /// Largest file that is scanned, and most bytes of a process's memory, in bytes.
    pub max_bytes: u64,
    /// When a scan is given up. Looked at while candidates are checked, so a scan may
    /// pass it by as long as one search through a region takes.
    pub timeout: Duration,
    /// Matching rules that are reported.
    pub max_matches: usize,
    /// Matched strings that are reported of one rule.
    pub max_strings: usize,
    /// Bytes that are reported of one matched string.
    pub max_data: usize,
}

impl Default for ScanLimits {
    fn default() -> Self {
        Self {
            max_bytes: 32 << 20,
            timeout: Duration::from_secs(10),
            max_matches: 100,
            max_strings: 16,
            max_data: 64,
        }
    }
}

/// What is scanned, for rules that ask for names.
#[derive(Debug, Clone, Copy, Default)]
pub struct ScanSubject<'a> {
    /// Path of the file, for `filename`, `filepath` and `extension`.
    pub path: Option<&'a Path>,
    /// Word of its type, for `filetype`.
    pub file_type: &'a str,
    /// MD5 in lower-case hex, for `md5`.
    pub md5: &'a str,
    /// Name of its owner, for `owner`.
    pub owner: &'a str,
}

/// Why a scan may have missed something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum YaraIncomplete {
    /// It took longer than [`ScanLimits::timeout`].
    TimedOut,
    /// More rules matched than are reported.
    TooManyMatches,
    /// The scanner failed on this content.
    ScannerFailed,
    /// Rules with a string that has no fixed part were left out: the content is too
    /// large for them, or it is memory.
    SlowRulesSkipped,
    /// Of a process's memory, so many bytes were not read: beyond the limit, or not readable.
    MemoryUnread {
        /// Bytes.
        bytes: u64,
    },
}

impl YaraIncomplete {
    /// The word that events carry.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::TimedOut => "timed_out",
            Self::TooManyMatches => "too_many_matches",
            Self::ScannerFailed => "scanner_failed",
            Self::SlowRulesSkipped => "slow_rules_skipped",
            Self::MemoryUnread { .. } => "memory_unread",
        }
    }
}

/// What a scan found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct YaraScan {
    /// The rules that matched.
    pub matches: Vec<YaraMatch>,
    /// Why others may have been missed; `None` where the scan is complete.
    pub incomplete: Option<YaraIncomplete>,
}

impl YaraRules {
    /// Scans bytes. The caller bounds them; [`ScanLimits::max_bytes`] is not looked at.
    pub fn scan_bytes(&self, bytes: &[u8], subject: ScanSubject<'_>, limits: &ScanLimits) -> YaraScan {
        let mut found = Found { limits, matches: Vec::new(), overflow: false };
        let scanner = prepared(&self.scanner, subject, limits, MAX_MATCHES_OF_STRING);
        let mut incomplete =
            found.run(|found| scanner.scan_mem_with_callback(bytes, |event| found.take(&scanner, event)));
        if let Some(slow) = &self.slow
            && !found.overflow
        {
            let slow = prepared(slow, subject, limits, MAX_SLOW_MATCHES);
            let missed = if bytes.len() > MAX_SLOW_BYTES {
                Some(YaraIncomplete::SlowRulesSkipped)
            } else {
                found.run(|found| slow.scan_mem_with_callback(bytes, |event| found.take(&slow, event)))
            };
            incomplete = incomplete.or(missed);
        }
        YaraScan { matches: found.matches, incomplete }
    }

    /// Reads an open file and scans it.
    ///
    /// # Errors
    /// The reason why the file was not scanned.
    pub fn scan_file(
        &self,
        file: &RegularFile,
        subject: ScanSubject<'_>,
        limits: &ScanLimits,
    ) -> Result<YaraScan, ContentUnread> {
        let bytes = file.read_all(limits.max_bytes)?;
        Ok(self.scan_bytes(&bytes, subject, limits))
    }

    /// Scans what was chosen of a process's memory, region by region, each read once.
    /// The process runs on meanwhile. A string that goes over the border of two
    /// regions, or of two 16 MiB parts of one, is not found. `filesize` is undefined,
    /// and so is whatever asks for bytes at an offset.
    pub fn scan_process(&self, memory: ProcessMemory, limits: &ScanLimits) -> YaraScan {
        let progress = ReadProgress::default();
        let regions = memory.into_regions(Instant::now() + limits.timeout, &progress);
        let mut scanner = prepared(&self.scanner, ScanSubject::default(), limits, MAX_MATCHES_OF_STRING);
        let params = scanner.scan_params().clone().process_memory(true);
        // Each region is read once, whatever a rule asks for.
        scanner.set_scan_params(params.fragmented_scan_mode(FragmentedScanMode::single_pass()));
        let mut found = Found { limits, matches: Vec::new(), overflow: false };
        let incomplete = found
            .run(|found| scanner.scan_fragmented_with_callback(regions, |event| found.take(&scanner, event)));
        let skipped = self.slow.as_ref().map(|_| YaraIncomplete::SlowRulesSkipped);
        let incomplete = incomplete.or_else(|| progress.incomplete()).or(skipped);
        YaraScan { matches: found.matches, incomplete }
    }
}

/// A scanner with the parameters and names of one scan; it shares the rules.
fn prepared(
    rules: &Scanner,
    subject: ScanSubject<'_>,
    limits: &ScanLimits,
    matches_of_string: u32,
) -> Scanner {
    let mut scanner = rules.clone();
    scanner.set_scan_params(
        ScanParams::default()
            // Also where the verdict is clear without them: they are the evidence.
            .compute_full_matches(true)
            .match_max_length(limits.max_data)
            .string_max_nb_matches(matches_of_string)
            .timeout_duration(Some(limits.timeout)),
    );
    let part = |part: Option<&std::ffi::OsStr>| part.map(|part| part.to_string_lossy().into_owned());
    let path = subject.path;
    let extension = part(path.and_then(Path::extension)).map(|end| format!(".{end}"));
    let values = [
        part(path.and_then(Path::file_name)).unwrap_or_default(),
        // The folder, as the rules that use it expect.
        part(path.and_then(Path::parent).map(Path::as_os_str)).unwrap_or_default(),
        extension.unwrap_or_default(),
        subject.file_type.to_owned(),
        subject.md5.to_owned(),
        subject.owner.to_owned(),
    ];
    for (name, value) in EXTERNALS.into_iter().zip(values) {
        // All are declared as texts when the rules are compiled.
        let _ = scanner.define_symbol(name, value);
    }
    scanner
}

/// Takes matches until there are enough.
struct Found<'a> {
    limits: &'a ScanLimits,
    matches: Vec<YaraMatch>,
    overflow: bool,
}

impl Found<'_> {
    fn take(&mut self, scanner: &Scanner, event: ScanEvent<'_, '_>) -> ScanCallbackResult {
        let ScanEvent::RuleMatch(rule) = event else { return ScanCallbackResult::Continue };
        if self.matches.len() >= self.limits.max_matches {
            self.overflow = true;
            return ScanCallbackResult::Abort;
        }
        self.matches.push(YaraMatch::new(scanner, &rule, self.limits));
        ScanCallbackResult::Continue
    }

    /// Runs a scan, and says why it is incomplete.
    fn run(&mut self, scan: impl FnOnce(&mut Self) -> Result<(), ScanError>) -> Option<YaraIncomplete> {
        // The parsers behind the modules (PE, ELF, …) are not ours and read what an attacker
        // wrote. A panic there costs this scan, not the agent; nothing of it is used again.
        let result = catch_unwind(AssertUnwindSafe(|| scan(self)));
        match result {
            Ok(Ok(())) => None,
            Ok(Err(_)) if self.overflow => Some(YaraIncomplete::TooManyMatches),
            Ok(Err(ScanError::Timeout)) => Some(YaraIncomplete::TimedOut),
            Ok(Err(_)) | Err(_) => Some(YaraIncomplete::ScannerFailed),
        }
    }
}
