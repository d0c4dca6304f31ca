//! What matches nothing costs no allocation.

#![allow(unsafe_code, reason = "an allocator that counts")]
#![allow(clippy::unwrap_used, reason = "a failed expectation is the report")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use indicators::{IndicatorDefaults, IndicatorTable, Observable, TableBuilder, read_indicators};
use jiff::Timestamp;

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

struct Counting;

// SAFETY: everything is passed on to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let _ = ALLOCATIONS.try_with(|count| count.set(count.get() + 1));
        // SAFETY: the caller's promises are those that the system's allocator asks for.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

#[test]
fn what_matches_nothing_allocates_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let mut builder = TableBuilder::new(1);
    let list = "evil.example\n198.51.100.0/24\n2001:db8::/32\nhttp://evil.example/a\n/tmp/x\n\
                d41d8cd98f00b204e9800998ecf8427e\n";
    let mut add = |indicator| builder.add(&indicator).unwrap();
    read_indicators("list", list.as_bytes(), None, &IndicatorDefaults::of_source("list"), &mut add);
    builder.write(&dir.path().join("table")).unwrap();
    let table = IndicatorTable::open(&dir.path().join("table")).unwrap();
    let now = Timestamp::now();
    let long = format!("http://a.example/{}", "x".repeat(1_500));
    let names: Vec<String> = (0..5_000).map(|nth| format!("host{nth}.sub.good.example")).collect();

    let before = ALLOCATIONS.get();
    let mut found = 0;
    for name in &names {
        let all = [
            Observable::Domain(name),
            Observable::Url(name),
            Observable::Url(&long),
            Observable::Path(name),
            Observable::Ip("203.0.113.1".parse().unwrap()),
            Observable::Ip("2001:db9::1".parse().unwrap()),
            Observable::Sha256(&[7; 32]),
        ];
        for seen in all {
            found += usize::from(table.lookup(seen, now).unwrap().is_some());
        }
        table.lookup_many(&all, now, |_, _| found += 1).unwrap();
    }
    assert_eq!((found, ALLOCATIONS.get() - before), (0, 0));
    assert!(table.lookup(Observable::Domain("a.evil.example"), now).unwrap().is_some());
    assert!(ALLOCATIONS.get() > before, "the counter counts");
}
