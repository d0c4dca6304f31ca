//! EVTX, the file format of the Windows event log: a header of 4 KiB, then chunks of
//! 64 KiB, each of which can be read alone. The `evtx` crate decodes a chunk; which
//! chunks there are and what is wrong with them is found here, so that a damaged or cut
//! file gives what it still holds.

use std::error::Error;
use std::io::{self, Read, Seek, SeekFrom};
use std::ops::ControlFlow;
use std::sync::Arc;

use event_model::Timestamp;
use evtx::{EvtxChunkData, EvtxFileHeader, HeaderFlags, ParserSettings};

use crate::consumer::LogConsumer;
use crate::decoder::LogDecoder;
use crate::json::{RecordPlace, read_evtx_record};
use crate::problem::{Problem, ProblemKind};

const HEADER_BYTES: u64 = 4096;
const CHUNK_BYTES: u64 = 65_536;
const CHUNK_MAGIC: &[u8] = b"ElfChnk\0";

pub(crate) fn read<C: LogConsumer>(
    input: &mut (impl Read + Seek),
    decoder: &mut LogDecoder<C>,
) -> io::Result<ControlFlow<()>> {
    let length = input.seek(SeekFrom::End(0))?;
    let first_chunk = read_header(input, decoder)?;
    let count = length.saturating_sub(first_chunk).div_ceil(CHUNK_BYTES);
    let oldest = oldest_chunk(input, first_chunk, count)?;
    let settings = Arc::new(ParserSettings::new().indent(false));
    let mut room_ahead = Vec::new();
    for number in (oldest..count).chain(0..oldest) {
        let offset = first_chunk + number * CHUNK_BYTES;
        input.seek(SeekFrom::Start(offset))?;
        let mut bytes = std::mem::take(&mut room_ahead);
        bytes.clear();
        bytes.reserve_exact(CHUNK_BYTES as usize);
        input.by_ref().take(CHUNK_BYTES).read_to_end(&mut bytes)?;
        // Windows makes room ahead of what it writes.
        if !bytes.starts_with(CHUNK_MAGIC) && is_all_zeros(&bytes) {
            room_ahead = bytes;
            continue;
        }
        let available = bytes.len() as u64;
        if available < CHUNK_BYTES {
            let reason = format!("the file ends after {} of {CHUNK_BYTES} bytes of a chunk", bytes.len());
            let hint = "the records up to there were read; copy the file again";
            decoder.problem(problem(ProblemKind::Cut, offset + bytes.len() as u64, reason, hint));
            bytes.resize(CHUNK_BYTES as usize, 0);
        }
        if read_chunk(bytes, available, offset, &settings, decoder).is_break() {
            return Ok(ControlFlow::Break(()));
        }
    }
    Ok(ControlFlow::Continue(()))
}

/// By pieces, each without a branch: many logs are mostly room ahead.
fn is_all_zeros(bytes: &[u8]) -> bool {
    bytes.chunks(256).all(|piece| piece.iter().fold(0, |all, byte| all | byte) == 0)
}

fn problem(kind: ProblemKind, byte: u64, reason: String, hint: &'static str) -> Problem {
    Problem { kind, record: None, byte, reason, hint }
}

/// Says what is wrong with the header. Returns where the first chunk stands.
fn read_header<C: LogConsumer>(
    input: &mut (impl Read + Seek),
    decoder: &mut LogDecoder<C>,
) -> io::Result<u64> {
    input.seek(SeekFrom::Start(0))?;
    let mut bytes = Vec::with_capacity(HEADER_BYTES as usize);
    input.by_ref().take(HEADER_BYTES).read_to_end(&mut bytes)?;
    if bytes.starts_with(CHUNK_MAGIC) {
        let reason = "no file header: the file begins with a chunk".to_owned();
        decoder.problem(problem(ProblemKind::Damaged, 0, reason, "its chunks were read"));
        return Ok(0);
    }
    if bytes.len() < HEADER_BYTES as usize {
        let reason = format!("the file ends within its header, after {} bytes", bytes.len());
        decoder.problem(problem(ProblemKind::Cut, bytes.len() as u64, reason, "copy the file again"));
        return Ok(HEADER_BYTES);
    }
    match EvtxFileHeader::from_bytes(&bytes) {
        Err(error) => {
            let reason = format!("the file header is damaged: {}", chain(&error));
            decoder.problem(problem(ProblemKind::Damaged, 0, reason, "the chunks were read"));
        }
        Ok(header) => {
            if !header.validate_checksum() {
                let reason = "the file header does not fit its checksum".to_owned();
                decoder.problem(problem(ProblemKind::Damaged, 0, reason, "the chunks were read"));
            }
            if header.flags.contains(HeaderFlags::DIRTY) {
                let reason = "the log was not closed cleanly (dirty flag)".to_owned();
                let hint = "its last records may be missing; export a live log with `wevtutil epl`";
                decoder.problem(problem(ProblemKind::Dirty, 120, reason, hint));
            }
        }
    }
    Ok(HEADER_BYTES)
}

/// A full log writes over its oldest chunk: reading starts at the chunk with the lowest
/// record id. The file header names it too, but that of a log in use is stale.
fn oldest_chunk(input: &mut (impl Read + Seek), first_chunk: u64, count: u64) -> io::Result<u64> {
    if count < 2 {
        return Ok(0);
    }
    let mut oldest = (u64::MAX, 0);
    for number in 0..count {
        input.seek(SeekFrom::Start(first_chunk + number * CHUNK_BYTES))?;
        let mut head = [0; 40];
        if input.read_exact(&mut head).is_err() {
            break;
        }
        let id = |at: usize| u64::from_le_bytes(std::array::from_fn(|index| head[at + index]));
        let (first, last) = (id(24), id(32));
        if head.starts_with(CHUNK_MAGIC) && first <= last && first < oldest.0 {
            oldest = (first, number);
        }
    }
    Ok(oldest.1)
}

/// `available` bytes of the chunk came from the file; the rest is zeros.
fn read_chunk<C: LogConsumer>(
    bytes: Vec<u8>,
    available: u64,
    offset: u64,
    settings: &Arc<ParserSettings>,
    decoder: &mut LogDecoder<C>,
) -> ControlFlow<()> {
    let damaged = |reason: String, hint| problem(ProblemKind::Damaged, offset, reason, hint);
    let left_out = "its records were left out, the other chunks were read";
    let mut data = match EvtxChunkData::new(bytes, false) {
        Ok(data) => data,
        Err(error) => {
            decoder.problem(damaged(format!("a chunk is damaged: {}", chain(&error)), left_out));
            return ControlFlow::Continue(());
        }
    };
    if available == CHUNK_BYTES && !data.validate_checksum() {
        let reason = "a chunk does not fit its checksum".to_owned();
        decoder.problem(damaged(reason, "what could be decoded of it was read"));
    }
    let mut chunk = match data.parse(Arc::clone(settings)) {
        Ok(chunk) => chunk,
        Err(error) => {
            decoder.problem(damaged(format!("a chunk is damaged: {}", chain(&error)), left_out));
            return ControlFlow::Continue(());
        }
    };
    for record in chunk.iter() {
        let bad = |record, byte, error: &dyn Error| Problem {
            kind: ProblemKind::BadRecord,
            record,
            byte,
            reason: format!("a record can't be decoded: {}", chain(error)),
            hint: "the record was left out",
        };
        let record = match record {
            Ok(record) => record,
            Err(error) => {
                let (id, byte) = place_of(&error, offset);
                decoder.problem(bad(id, byte, &error));
                continue;
            }
        };
        if record.binxml_offset + u64::from(record.binxml_size) > available {
            break;
        }
        let (id, byte) = (record.event_record_id, offset + record.binxml_offset);
        let time = i64::try_from(record.timestamp.as_nanosecond()).map(Timestamp::from_nanos);
        let json = match record.into_json_bytes() {
            Ok(json) => json.data,
            Err(error) => {
                decoder.problem(bad(Some(id), byte, &error));
                continue;
            }
        };
        // A time outside the years 1677 to 2262 is damage; the record itself may still tell.
        let time = time.unwrap_or_default();
        match read_evtx_record(&json, RecordPlace { record: id, byte }, time, decoder) {
            Ok(ControlFlow::Continue(())) => {}
            Ok(ControlFlow::Break(())) => return ControlFlow::Break(()),
            Err(error) => decoder.problem(bad(Some(id), byte, &error)),
        }
    }
    ControlFlow::Continue(())
}

fn place_of(error: &evtx::err::EvtxError, chunk: u64) -> (Option<u64>, u64) {
    match error {
        evtx::err::EvtxError::FailedToParseRecord { record_id, .. } => (Some(*record_id), chunk),
        evtx::err::EvtxError::FailedToReadRecordAt { offset, .. } => (None, chunk + offset),
        _ => (None, chunk),
    }
}

/// The error and what caused it, in one line and not for ever.
fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    for _ in 0..8 {
        let Some(error) = cause else { break };
        let words = error.to_string();
        if !text.contains(&words) {
            text = format!("{text}: {words}");
        }
        cause = error.source();
    }
    let text: String = text.split_whitespace().collect::<Vec<_>>().join(" ");
    text.chars().take(300).collect()
}
