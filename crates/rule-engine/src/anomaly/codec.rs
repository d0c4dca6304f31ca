//! What was learnt, as bytes. Whoever keeps them adds the checksum; here only the form is looked at.

use super::memory::{Entry, Memory, RateEntry, Rates};

/// Changes with the form.
const VERSION: u8 = 1;

/// Bytes that are no state of a detector.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum AnomalyStateError {
    /// Made by another version.
    #[error("the learnt state has version {0}, this version reads {VERSION}")]
    Version(u8),
    /// They end too early, go on too long, or say more than a table holds.
    #[error("the learnt state is cut or malformed at byte {0}")]
    Malformed(usize),
}

pub(super) fn encode(memory: &Memory) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(64 + memory.entries() * 24);
    bytes.push(VERSION);
    bytes.extend_from_slice(&memory.seed.to_le_bytes());
    bytes.extend_from_slice(&memory.minutes.to_le_bytes());
    bytes.extend_from_slice(&memory.last_minute.to_le_bytes());
    for table in memory.tables() {
        put_count(&mut bytes, table.entries.len());
        for (key, entry) in &table.entries {
            bytes.extend_from_slice(&key.to_le_bytes());
            bytes.extend_from_slice(&entry.count.to_le_bytes());
            bytes.extend_from_slice(&entry.minute.to_le_bytes());
            bytes.push(u8::from(entry.told));
        }
    }
    put_count(&mut bytes, memory.rates.entries.len());
    for (key, entry) in &memory.rates.entries {
        bytes.extend_from_slice(&key.to_le_bytes());
        for number in [entry.minute, entry.count, entry.peak, entry.silent_until] {
            bytes.extend_from_slice(&number.to_le_bytes());
        }
    }
    bytes
}

fn put_count(bytes: &mut Vec<u8>, count: usize) {
    // No table holds as many as that.
    bytes.extend_from_slice(&u32::try_from(count).unwrap_or(u32::MAX).to_le_bytes());
}

pub(super) fn decode(bytes: &[u8]) -> Result<Memory, AnomalyStateError> {
    let mut reader = Reader { bytes, at: 0 };
    let [version] = reader.take()?;
    if version != VERSION {
        return Err(AnomalyStateError::Version(version));
    }
    let mut memory = Memory::new(u64::from_le_bytes(reader.take()?));
    memory.minutes = reader.number()?;
    memory.last_minute = reader.number()?;
    for table in memory.tables_mut() {
        for _ in 0..reader.count(table.limit)? {
            let key = u64::from_le_bytes(reader.take()?);
            let (count, minute) = (reader.number()?, reader.number()?);
            let [told] = reader.take()?;
            table.entries.insert(key, Entry { count, minute, told: told != 0 });
        }
    }
    for _ in 0..reader.count(Rates::LIMIT)? {
        let key = u64::from_le_bytes(reader.take()?);
        let (minute, count) = (reader.number()?, reader.number()?);
        let (peak, silent_until) = (reader.number()?, reader.number()?);
        memory.rates.entries.insert(key, RateEntry { minute, count, peak, silent_until });
    }
    if reader.at != bytes.len() {
        return Err(AnomalyStateError::Malformed(reader.at));
    }
    Ok(memory)
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Reader<'_> {
    fn take<const N: usize>(&mut self) -> Result<[u8; N], AnomalyStateError> {
        let part = self.bytes.get(self.at..self.at + N).and_then(|part| part.try_into().ok());
        let part = part.ok_or(AnomalyStateError::Malformed(self.at))?;
        self.at += N;
        Ok(part)
    }

    fn number(&mut self) -> Result<u32, AnomalyStateError> {
        self.take().map(u32::from_le_bytes)
    }

    /// How many follow; no more than the table holds.
    fn count(&mut self, limit: usize) -> Result<usize, AnomalyStateError> {
        let count = self.number()? as usize;
        if count > limit { Err(AnomalyStateError::Malformed(self.at)) } else { Ok(count) }
    }
}
