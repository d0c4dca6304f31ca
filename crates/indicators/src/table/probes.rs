//! Asking for several values at once.
//!
//! A filter lies outside of the near caches, and asking it waits for memory. So the keys of several values are made
//! first and then looked up behind each other, when none of them waits for another.

use std::net::IpAddr;

use jiff::Timestamp;
use xorf::Filter;

use super::format::{self, Kind, key};
use super::{IndicatorMatch, IndicatorTable, TableError, v4_bytes, with_parents};
use crate::value::{Canonical, MAX_VALUE_BYTES, Observable, masked};

/// Keys that wait together.
const WAITING: usize = 16;

/// Values that [`IndicatorTable::lookup_many`] takes together.
const TOGETHER: usize = 16;

/// Values of which the table may have some. Allocates nothing.
#[derive(Debug)]
pub struct Probes<'t> {
    table: &'t IndicatorTable,
    waiting: [Probe; WAITING],
    length: usize,
    maybe: u64,
}

#[derive(Debug, Clone, Copy)]
struct Probe {
    key: u64,
    /// Which filter it is for.
    group: u8,
    place: u8,
}

impl IndicatorTable {
    /// Nothing asked yet.
    pub fn probes(&self) -> Probes<'_> {
        let none = Probe { key: 0, group: 0, place: 0 };
        Probes { table: self, waiting: [none; WAITING], length: 0, maybe: 0 }
    }

    /// As [`Self::lookup`], for several values: `found` gets the place of each that has a match.
    ///
    /// # Errors
    /// As there; the other values are looked up all the same.
    pub fn lookup_many(
        &self,
        seen: &[Observable<'_>],
        now: Timestamp,
        mut found: impl FnMut(usize, IndicatorMatch),
    ) -> Result<(), TableError> {
        let mut failed = None;
        for (piece, together) in seen.chunks(TOGETHER).enumerate() {
            let mut probes = self.probes();
            for (place, one) in (0_u8..).zip(together) {
                probes.ask(place, *one);
            }
            let mut maybe = probes.maybe();
            while maybe != 0 {
                let place = maybe.trailing_zeros() as usize;
                maybe &= maybe - 1;
                match together.get(place).map(|one| self.lookup(*one, now)) {
                    Some(Ok(Some(matched))) => found(piece * TOGETHER + place, matched),
                    Some(Err(error)) => failed = failed.or(Some(error)),
                    Some(Ok(None)) | None => {}
                }
            }
        }
        failed.map_or(Ok(()), Err)
    }
}

impl Probes<'_> {
    /// Asks for a value; `place` below 64 is its bit in the answer, several values may share one.
    pub fn ask(&mut self, place: u8, seen: Observable<'_>) {
        match seen {
            Observable::Md5(hash) => self.put(place, Kind::Md5, hash),
            Observable::Sha1(hash) => self.put(place, Kind::Sha1, hash),
            Observable::Sha256(hash) => self.put(place, Kind::Sha256, hash),
            Observable::Ip(address) => match address.to_canonical() {
                IpAddr::V4(address) => {
                    for (prefix, masked) in self.table.v4_networks(address.to_bits()) {
                        self.put(place, Kind::V4, &v4_bytes(prefix, masked));
                    }
                }
                address @ IpAddr::V6(_) => {
                    for prefix in self.table.v6_prefixes() {
                        let (bytes, length) = format::network_bytes(masked(address, prefix), prefix);
                        self.put(place, Kind::V6, &bytes[..length]);
                    }
                }
            },
            Observable::Domain(name) => {
                let mut buffer = Canonical::<256>::new();
                let names = buffer.domain(name).into_iter().flat_map(with_parents);
                names.for_each(|name| self.put(place, Kind::Domain, name));
            }
            // Few are longer, and room costs time to clear.
            Observable::Url(url) if url.len() < 250 => self.put_url::<256>(place, url),
            Observable::Url(url) => self.put_url::<MAX_VALUE_BYTES>(place, url),
            Observable::Path(path) if path.len() < 250 => self.put_path::<256>(place, path),
            Observable::Path(path) => self.put_path::<MAX_VALUE_BYTES>(place, path),
        }
    }

    /// The places of which the table may have a value, one bit for each: all that it has, and one in some hundred
    /// that it has not.
    pub fn maybe(mut self) -> u64 {
        self.look();
        self.maybe
    }

    fn put_url<const ROOM: usize>(&mut self, place: u8, url: &str) {
        if let Some(url) = Canonical::<ROOM>::new().url(url) {
            self.put(place, Kind::Url, url);
        }
    }

    fn put_path<const ROOM: usize>(&mut self, place: u8, path: &str) {
        if let Some(path) = Canonical::<ROOM>::new().path(path) {
            self.put(place, Kind::Path, path);
        }
    }

    #[inline]
    fn put(&mut self, place: u8, kind: Kind, bytes: &[u8]) {
        let group = kind.group();
        if self.table.filters[group].is_none() {
            return;
        }
        if self.length == WAITING {
            self.look();
        }
        // There are five groups.
        let group = u8::try_from(group).unwrap_or(u8::MAX);
        self.waiting[self.length] = Probe { key: key(kind, bytes, self.table.header.seed), group, place };
        self.length += 1;
    }

    fn look(&mut self) {
        for Probe { key, group, place } in &self.waiting[..self.length] {
            if let Some(Some(filter)) = self.table.filters.get(usize::from(*group)) {
                self.maybe |= u64::from(filter.contains(key)) << (place & 63);
            }
        }
        self.length = 0;
    }
}
