//! What several threads have to say, in the order of the files.

use std::collections::BTreeMap;
use std::io::{self, Write as _};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// What waits for files before it, all threads together, in bytes. Past it a thread waits.
const WAITING_LIMIT: usize = 64 << 20;

/// Text for stdout and for stderr.
#[derive(Debug, Default)]
pub(super) struct Text {
    pub(super) out: Vec<u8>,
    pub(super) err: Vec<u8>,
}

impl Text {
    pub(super) fn len(&self) -> usize {
        self.out.len() + self.err.len()
    }

    fn write(&mut self) -> io::Result<()> {
        if !self.err.is_empty() {
            // A closed stderr leaves nobody to tell.
            let _ = io::stderr().write_all(&self.err);
        }
        let written = if self.out.is_empty() { Ok(()) } else { io::stdout().write_all(&self.out) };
        self.out.clear();
        self.err.clear();
        written
    }
}

#[derive(Debug, Default)]
struct State {
    /// The file whose turn it is.
    turn: usize,
    waiting: BTreeMap<usize, Text>,
    waiting_bytes: usize,
    error: Option<io::Error>,
}

/// Writes the outputs of files in the files' order, whichever is finished first.
#[derive(Debug)]
pub(super) struct OrderedOutput {
    state: Mutex<State>,
    turn_came: Condvar,
    is_closed: AtomicBool,
    is_silent: bool,
}

impl OrderedOutput {
    pub(super) fn new() -> Self {
        let is_closed = AtomicBool::new(false);
        Self { state: Mutex::default(), turn_came: Condvar::new(), is_closed, is_silent: false }
    }

    /// Writes problems only.
    pub(super) fn without_detections() -> Self {
        Self { is_silent: true, ..Self::new() }
    }

    /// True when nobody reads any more (`edr replay … | head`).
    pub(super) fn is_closed(&self) -> bool {
        self.is_closed.load(Ordering::Relaxed)
    }

    /// Writes a part of a file's output; waits for the file's turn. That comes: files are begun
    /// in their order, and the first of them waits for nobody.
    pub(super) fn part(&self, file: usize, text: &mut Text) {
        let mut state = self.wait_for_turn(file);
        self.write(&mut state, text);
    }

    /// The file has no more to say.
    pub(super) fn end(&self, file: usize, text: Text) {
        let mut state = self.lock();
        if state.turn != file && state.waiting_bytes + text.len() <= WAITING_LIMIT {
            state.waiting_bytes += text.len();
            state.waiting.insert(file, text);
            return;
        }
        drop(state);
        let mut state = self.wait_for_turn(file);
        let mut text = text;
        self.write(&mut state, &mut text);
        state.turn += 1;
        while let Some(mut text) = {
            let turn = state.turn;
            state.waiting.remove(&turn)
        } {
            state.waiting_bytes -= text.len();
            self.write(&mut state, &mut text);
            state.turn += 1;
        }
        self.turn_came.notify_all();
    }

    /// How writing went; a reader that went away is no error.
    pub(super) fn result(self) -> io::Result<()> {
        let state = self.state.into_inner().unwrap_or_else(PoisonError::into_inner);
        match state.error {
            Some(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error),
            _ => Ok(()),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait_for_turn(&self, file: usize) -> MutexGuard<'_, State> {
        let not_yet = |state: &mut State| state.turn != file;
        self.turn_came.wait_while(self.lock(), not_yet).unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self, state: &mut State, text: &mut Text) {
        if self.is_silent || state.error.is_some() {
            text.out.clear();
        }
        if let Err(error) = text.write() {
            state.error = Some(error);
            self.is_closed.store(true, Ordering::Relaxed);
        }
    }
}
