//! Reader of a BPF ring buffer, on the mapped memory itself.
//!
//! The kernel's own position of the consumer says what it may overwrite; libbpf
//! moves it while reading. Here reading has a position of its own, and the kernel's
//! moves on [`commit`](RingReader::commit) only, so that a record stays in the ring
//! until it is stored elsewhere.
//!
//! Memory: one page with the consumer's position (writable), then one page with the
//! producer's and the data. The kernel would map the data twice in a row, so that a record
//! that wraps around lies in one piece; each page would count twice as resident then.
//! Here it is mapped once, and the few records that wrap around are put together.
//! A record is an 8-byte header (length with two flag bits, page offset) and its bytes,
//! rounded up to 8.

#![allow(unsafe_code, reason = "the ring is memory that the kernel writes")]

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use rustix::event::{Timespec, epoll};
use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};

const BUSY: u32 = 1 << 31;
const DISCARD: u32 = 1 << 30;
const HEADER: u64 = 8;

/// What lies at the reading position.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Next<'a> {
    /// A record; the position behind it.
    Record(&'a [u8], u64),
    /// Nothing yet.
    Empty,
    /// The header can't be true; all that was in the ring was skipped.
    Damaged,
}

/// A mapping that ends with its value.
struct Mapping {
    start: NonNull<u8>,
    length: usize,
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the range was mapped by us and nothing borrows from it any more,
        // as all borrows go through the reader that owns this value.
        let unmapped = unsafe { munmap(self.start.as_ptr().cast(), self.length) };
        if let Err(error) = unmapped {
            tracing::warn!(%error, "could not unmap the ring");
        }
    }
}

/// Reader of one ring.
pub(crate) struct RingReader {
    consumer: Mapping,
    producer: Mapping,
    page: usize,
    size: u64,
    read_to: u64,
    /// The last record that wrapped around.
    joined: Vec<u8>,
    wake_up: WakeUp,
}

/// The kernel's wake-ups of a ring's reader; any thread may wait for one.
#[derive(Clone)]
pub(crate) struct WakeUp {
    epoll: Arc<OwnedFd>,
}

impl WakeUp {
    /// Of the ring behind a map's descriptor.
    fn of(map: impl AsFd) -> io::Result<Self> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        // Edge-triggered: uncommitted records keep the ring "readable" all the time.
        let flags = epoll::EventFlags::IN | epoll::EventFlags::ET;
        epoll::add(&epoll, &map, epoll::EventData::new_u64(0), flags)?;
        Ok(Self { epoll: Arc::new(epoll) })
    }

    /// From now on, what is readable wakes as well, again and again.
    pub(crate) fn comes_from(&self, other: impl AsFd) -> io::Result<()> {
        Ok(epoll::add(&*self.epoll, &other, epoll::EventData::new_u64(1), epoll::EventFlags::IN)?)
    }

    /// Waits for it, at most as long as given. Records may be there without one.
    pub(crate) fn wait(&self, timeout: Option<Duration>) -> io::Result<()> {
        let timeout = timeout.map(|timeout| Timespec {
            tv_sec: timeout.as_secs().cast_signed(),
            tv_nsec: timeout.subsec_nanos().into(),
        });
        let mut events =
            [epoll::Event { flags: epoll::EventFlags::empty(), data: epoll::EventData::new_u64(0) }];
        match epoll::wait(&*self.epoll, &mut events, timeout.as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

// SAFETY: the mappings belong to this value alone and are valid in every thread.
unsafe impl Send for RingReader {}

impl RingReader {
    /// Maps the ring behind a map's descriptor; `size` is its `max_entries`.
    pub(crate) fn new(map: impl AsFd, size: u32) -> io::Result<Self> {
        let page = rustix::param::page_size();
        let data = usize::try_from(size).map_err(io::Error::other)?;
        if !data.is_power_of_two() || data % page != 0 {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, format!("{size} is no size of a ring")));
        }
        let consumer = map_ring(&map, page, ProtFlags::READ | ProtFlags::WRITE, 0)?;
        let producer = map_ring(&map, page + data, ProtFlags::READ, page as u64)?;
        let wake_up = WakeUp::of(&map)?;
        let mut reader =
            Self { consumer, producer, page, size: u64::from(size), read_to: 0, joined: Vec::new(), wake_up };
        reader.read_to = reader.committed();
        Ok(reader)
    }

    /// Where reading stands.
    pub(crate) fn read_to(&self) -> u64 {
        self.read_to
    }

    /// Where the kernel writes next.
    pub(crate) fn produced(&self) -> u64 {
        self.producer_position().load(Ordering::Acquire)
    }

    /// Whether something lies behind the reading position, be it still being written.
    pub(crate) fn has_more(&self) -> bool {
        self.produced() > self.read_to
    }

    /// What the kernel may overwrite.
    pub(crate) fn committed(&self) -> u64 {
        self.consumer_position().load(Ordering::Acquire)
    }

    /// Skips to a position that was reached before; one that can't be is ignored.
    pub(crate) fn skip_to(&mut self, position: u64) {
        let position = position & !7;
        if position >= self.committed() && position <= self.produced() {
            self.read_to = position;
        }
    }

    /// Gives the kernel all before a position that was read.
    pub(crate) fn commit(&mut self, position: u64) {
        let position = (position & !7).min(self.read_to);
        if position > self.committed() {
            self.consumer_position().store(position, Ordering::Release);
        }
    }

    /// The kernel's wake-ups.
    pub(crate) fn wake_up(&self) -> &WakeUp {
        &self.wake_up
    }

    /// Reads the next record that is whole.
    pub(crate) fn next(&mut self) -> Next<'_> {
        loop {
            let produced = self.produced();
            let there = produced.saturating_sub(self.read_to);
            if there == 0 {
                return Next::Empty;
            }
            let word = self.header(self.read_to).load(Ordering::Acquire);
            if word & BUSY != 0 {
                return Next::Empty;
            }
            let length = u64::from(word & !(BUSY | DISCARD));
            let whole = (length + HEADER).next_multiple_of(8);
            if there > self.size || whole > there {
                self.read_to = produced;
                return Next::Damaged;
            }
            let data_at = self.read_to + HEADER;
            self.read_to += whole;
            if word & DISCARD == 0 {
                let end = self.read_to;
                return Next::Record(self.data(data_at, length), end);
            }
        }
    }

    fn consumer_position(&self) -> &AtomicU64 {
        // SAFETY: the page is mapped for reading and writing as long as `self` lives,
        // and its first word is the position, which the kernel accesses atomically.
        unsafe { self.consumer.start.cast().as_ref() }
    }

    fn producer_position(&self) -> &AtomicU64 {
        // SAFETY: as for the consumer's; the page is mapped read-only and only loaded.
        unsafe { self.producer.start.cast().as_ref() }
    }

    fn header(&self, position: u64) -> &AtomicU32 {
        let offset = self.page + (position & (self.size - 1)) as usize;
        // SAFETY: positions are multiples of 8 and the offset is below the size of the
        // ring, so the word is aligned and inside the mapping; it is only loaded.
        unsafe { self.producer.start.add(offset).cast().as_ref() }
    }

    fn data(&mut self, position: u64, length: u64) -> &[u8] {
        let start = position & (self.size - 1);
        let before_end = length.min(self.size - start);
        if before_end == length {
            return self.piece(start, length);
        }
        let mut joined = std::mem::take(&mut self.joined);
        joined.clear();
        joined.extend_from_slice(self.piece(start, before_end));
        joined.extend_from_slice(self.piece(0, length - before_end));
        self.joined = joined;
        &self.joined
    }

    /// Bytes of the data from `start`, which is below the size, up to its end at most.
    fn piece(&self, start: u64, length: u64) -> &[u8] {
        let length = length.min(self.size - start);
        let offset = self.page + start as usize;
        // SAFETY: the piece lies inside the data, which is mapped as long as `self` lives. The kernel
        // writes there again only after the consumer's position has passed it, which takes `&mut self`.
        unsafe { std::slice::from_raw_parts(self.producer.start.add(offset).as_ptr(), length as usize) }
    }
}

fn map_ring(map: impl AsFd, length: usize, protection: ProtFlags, offset: u64) -> io::Result<Mapping> {
    // SAFETY: a new mapping at an address of the kernel's choice touches no memory of ours.
    let start = unsafe { mmap(std::ptr::null_mut(), length, protection, MapFlags::SHARED, map, offset) }?;
    let start =
        NonNull::new(start.cast()).ok_or_else(|| io::Error::other("the ring was mapped at address 0"))?;
    Ok(Mapping { start, length })
}
