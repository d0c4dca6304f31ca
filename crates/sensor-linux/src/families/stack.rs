//! What the programs have on the stack.
//!
//! A kernel takes a program only if all functions that call each other have 512 bytes on the
//! stack at most. Before 6.9 it rounds each of them up to 32 bytes (`check_max_stack_depth` in
//! its `verifier.c`), so that what this kernel loads may be too much for an older one.

use std::collections::{BTreeMap, BTreeSet};

use super::{all_optional, process};

const STACK_MAX: u64 = 512;
/// Left for another compiler, and for what a kernel adds.
const ROOM: u64 = 64;

/// ELF: a table of symbols, of relocations without addend; a symbol that is a function.
const SHT_SYMTAB: u32 = 2;
const SHT_REL: u32 = 9;
const STT_FUNC: u8 = 2;

/// Instructions (`linux/bpf.h`).
const MOVE: u8 = 0xbf;
const ADD_NUMBER: u8 = 0x07;
const CALL: u8 = 0x85;
const LOAD_ADDRESS: u8 = 0x18;
const FRAME: u8 = 10;
const TO_OWN_FUNCTION: u8 = 1;

/// Section and offset there.
type Place = (u64, u64);

struct Section {
    kind: u32,
    offset: u64,
    size: u64,
    link: u64,
    of: u64,
}

#[derive(Debug)]
struct Function {
    name: String,
    frame: u64,
    /// Also those that a helper is given to call.
    calls: Vec<Place>,
}

fn read<const BYTES: usize>(object: &[u8], at: u64) -> [u8; BYTES] {
    let at = usize::try_from(at).unwrap();
    object[at..at + BYTES].try_into().unwrap()
}

fn u16_at(object: &[u8], at: u64) -> u64 {
    u16::from_le_bytes(read(object, at)).into()
}

fn u32_at(object: &[u8], at: u64) -> u32 {
    u32::from_le_bytes(read(object, at))
}

fn u64_at(object: &[u8], at: u64) -> u64 {
    u64::from_le_bytes(read(object, at))
}

fn sections(object: &[u8]) -> Vec<Section> {
    let (table, count) = (u64_at(object, 40), u16_at(object, 60));
    let section = |at| Section {
        kind: u32_at(object, at + 4),
        offset: u64_at(object, at + 24),
        size: u64_at(object, at + 32),
        link: u32_at(object, at + 40).into(),
        of: u32_at(object, at + 44).into(),
    };
    (0..count).map(|index| section(table + 64 * index)).collect()
}

fn functions(object: &[u8]) -> BTreeMap<Place, Function> {
    let sections = sections(object);
    let section = |index: u64| &sections[usize::try_from(index).unwrap()];
    let symbols = sections.iter().find(|section| section.kind == SHT_SYMTAB).unwrap();
    let place = |symbol: u64| (u16_at(object, symbol + 6), u64_at(object, symbol + 8));
    let mut refers: BTreeMap<Place, Place> = BTreeMap::new();
    for table in sections.iter().filter(|section| section.kind == SHT_REL) {
        for at in (table.offset..table.offset + table.size).step_by(16) {
            let symbol = symbols.offset + 24 * u64::from(u32_at(object, at + 12));
            refers.insert((table.of, u64_at(object, at)), place(symbol));
        }
    }
    let mut functions = BTreeMap::new();
    for symbol in (symbols.offset..symbols.offset + symbols.size).step_by(24) {
        if read::<1>(object, symbol + 4)[0] & 15 != STT_FUNC {
            continue;
        }
        let name = section(symbols.link).offset + u64::from(u32_at(object, symbol));
        let name = object[usize::try_from(name).unwrap()..].split(|byte| *byte == 0).next().unwrap();
        let (own, begin) = place(symbol);
        let code = section(own).offset;
        let mut function =
            Function { name: String::from_utf8_lossy(name).into_owned(), frame: 0, calls: Vec::new() };
        let mut addresses = BTreeSet::new();
        for at in (begin..begin + u64_at(object, symbol + 16)).step_by(8) {
            let [operation, registers, ..] = read::<8>(object, code + at);
            let (target, source) = (registers & 15, registers >> 4);
            let offset = i64::from(i16::from_le_bytes(read(object, code + at + 2)));
            let number = i64::from(i32::from_le_bytes(read(object, code + at + 4)));
            let mut below = |offset: i64| {
                function.frame = function.frame.max(u64::try_from(-offset).unwrap_or(0));
            };
            match operation {
                MOVE if source == FRAME => _ = addresses.insert(target),
                ADD_NUMBER if addresses.contains(&target) => below(number),
                _ => {}
            }
            match operation & 7 {
                // Stores, of a number and of a register; loads.
                2 | 3 if target == FRAME => below(offset),
                1 if source == FRAME => below(offset),
                _ => {}
            }
            // The register holds something else now; numbers are added to an address once.
            if matches!(operation & 7, 0 | 1 | 4 | 7) && !(operation == MOVE && source == FRAME) {
                addresses.remove(&target);
            }
            let referred = refers.get(&(own, at)).copied();
            // Relative to the next instruction, in instructions.
            let relative = |from: u64| from.checked_add_signed((number + 1) * 8).unwrap();
            match (operation, referred) {
                // One of the kernel's own functions, which no section holds.
                (CALL, Some((0, _))) => {}
                (CALL, Some((of, from))) if source == TO_OWN_FUNCTION => {
                    function.calls.push((of, relative(from)));
                }
                (CALL, None) if source == TO_OWN_FUNCTION => function.calls.push((own, relative(at))),
                (LOAD_ADDRESS, Some((of, from))) => {
                    function.calls.push((of, from.checked_add_signed(number).unwrap()));
                }
                _ => {}
            }
        }
        functions.insert((own, begin), function);
    }
    functions
}

/// The most that a function and what it calls have, with their names.
fn deepest(functions: &BTreeMap<Place, Function>, at: Place) -> (u64, String) {
    let function = &functions[&at];
    // Addresses that are loaded are mostly of data.
    let called = function.calls.iter().filter(|place| functions.contains_key(place));
    let (below, names) = called.map(|place| deepest(functions, *place)).max().unwrap_or_default();
    let own = function.frame.max(1).next_multiple_of(32);
    (own + below, format!("{} ({}) {names}", function.name, function.frame))
}

#[test]
fn no_program_has_more_on_the_stack_than_older_kernels_take() {
    for family in std::iter::once(process()).chain(all_optional()) {
        let functions = functions(family.object);
        assert!(functions.values().any(|function| function.frame > 0), "{}: {functions:?}", family.name);
        let (most, names) = functions.keys().map(|at| deepest(&functions, *at)).max().unwrap();
        println!("{}: {most} bytes: {names}", family.name);
        assert!(most <= STACK_MAX - ROOM, "{}: {most} bytes: {names}", family.name);
    }
}
