use std::path::PathBuf;

use super::*;

const MACHINE: &str = "0123456789abcdef0123456789abcdef";

/// Writes a journal file as systemd's description of the format has it.
struct Writer {
    path: PathBuf,
    bytes: Vec<u8>,
    compact: bool,
    data: HashMap<Vec<u8>, u64>,
    /// Offset of the last array, its capacity, and how many of its items are used.
    array: (u64, u64, u64),
    entries: u64,
}

impl Writer {
    fn new(root: &Path, name: &str, id: u8, compact: bool) -> Self {
        let folder = root.join("var/log/journal").join(MACHINE);
        fs::create_dir_all(&folder).unwrap();
        fs::create_dir_all(root.join("etc")).unwrap();
        fs::write(root.join("etc/machine-id"), format!("{MACHINE}\n")).unwrap();
        let mut bytes = vec![0; 272];
        bytes[..8].copy_from_slice(b"LPKSHHRH");
        bytes[12] = if compact { 16 | 8 } else { 8 };
        bytes[16] = 1;
        bytes[24..40].fill(id);
        Self { path: folder.join(name), bytes, compact, data: HashMap::new(), array: (0, 0, 0), entries: 0 }
    }

    fn object(&mut self, kind: u8, flags: u8, body: &[u8]) -> u64 {
        while !self.bytes.len().is_multiple_of(8) {
            self.bytes.push(0);
        }
        let offset = self.bytes.len() as u64;
        self.bytes.extend([kind, flags, 0, 0, 0, 0, 0, 0]);
        self.bytes.extend((16 + body.len() as u64).to_le_bytes());
        self.bytes.extend(body);
        offset
    }

    fn put(&mut self, at: u64, number: u64) {
        let at = usize::try_from(at).unwrap();
        self.bytes[at..at + 8].copy_from_slice(&number.to_le_bytes());
    }

    fn field(&mut self, text: &[u8], packed: bool) -> u64 {
        if let Some(offset) = self.data.get(text) {
            return *offset;
        }
        let mut body = vec![0; if self.compact { 56 } else { 48 }];
        if packed {
            body.extend(zstd::bulk::compress(text, 3).unwrap());
        } else {
            body.extend(text);
        }
        let offset = self.object(1, if packed { 4 } else { 0 }, &body);
        self.data.insert(text.to_vec(), offset);
        offset
    }

    fn entry(&mut self, at_us: u64, fields: &[&str]) {
        let offsets: Vec<u64> =
            fields.iter().map(|field| self.field(field.as_bytes(), field.len() > 512)).collect();
        let mut body = vec![0; 48];
        body[8..16].copy_from_slice(&at_us.to_le_bytes());
        for offset in offsets {
            if self.compact {
                body.extend(u32::try_from(offset).unwrap().to_le_bytes());
            } else {
                body.extend(offset.to_le_bytes());
                body.extend([0; 8]);
            }
        }
        let entry = self.object(3, 0, &body);
        let item = if self.compact { 4 } else { 8 };
        if self.array.1 == self.array.2 {
            let capacity = (self.array.1 * 2).max(2);
            let array = self.object(6, 0, &vec![0; usize::try_from(8 + capacity * item).unwrap()]);
            let link = if self.entries == 0 { 176 } else { self.array.0 + 16 };
            self.put(link, array);
            self.array = (array, capacity, 0);
        }
        let at = usize::try_from(self.array.0 + 24 + self.array.2 * item).unwrap();
        self.bytes[at..at + usize::try_from(item).unwrap()]
            .copy_from_slice(&entry.to_le_bytes()[..usize::try_from(item).unwrap()]);
        self.array.2 += 1;
        self.entries += 1;
        self.put(152, self.entries);
        self.put(192, at_us);
    }

    fn sshd(&mut self, at_us: u64, message: &str) {
        let message = format!("MESSAGE={message}");
        self.entry(
            at_us,
            &[
                "_HOSTNAME=h",
                &message,
                "SYSLOG_FACILITY=10",
                "SYSLOG_IDENTIFIER=sshd",
                "_PID=812",
                "_UID=0",
                "_COMM=sshd",
            ],
        );
    }

    /// journald writes into the file in place, so the inode stays.
    fn write(&self) {
        fs::write(&self.path, &self.bytes).unwrap();
    }
}

fn messages(journal: &mut Journal) -> Vec<String> {
    journal.look().unwrap();
    let mut all = Vec::new();
    while journal.read(&mut |entry| all.push(entry.message)) {}
    all
}

#[test]
fn new_entries_of_the_right_facilities_are_read_in_both_forms() {
    for compact in [false, true] {
        let root = tempfile::tempdir().unwrap();
        let mut writer = Writer::new(root.path(), "system.journal", 1, compact);
        writer.sshd(1_000, "old");
        writer.write();
        let mut journal = Journal::new(root.path(), None);
        assert!(messages(&mut journal).is_empty(), "what was there is not news");
        for number in 0..20 {
            writer.sshd(2_000 + number, &format!("m{number}"));
            writer.entry(2_000 + number, &["MESSAGE=no", "SYSLOG_FACILITY=3", "SYSLOG_IDENTIFIER=x"]);
            writer.entry(2_000 + number, &["MESSAGE=nor this", "PRIORITY=6"]);
        }
        let long = "y".repeat(2_000);
        writer.sshd(3_000, &long);
        writer.write();
        let mut entries = Vec::new();
        while journal.read(&mut |entry| entries.push(entry)) {}
        assert_eq!(entries.len(), 21);
        assert_eq!(entries[20].message, long, "packed with zstd");
        let first = Entry {
            at_ns: 2_000_000,
            program: "sshd".into(),
            message: "m0".into(),
            pid: Some(812),
            uid: Some(0),
            command_name: Some("sshd".into()),
            incomplete: None,
        };
        assert_eq!(entries[0], first);
        assert!(messages(&mut journal).is_empty());
    }
}

#[test]
fn rotation_and_restart_lose_and_double_nothing() {
    let root = tempfile::tempdir().unwrap();
    let mut first = Writer::new(root.path(), "system.journal", 1, true);
    first.sshd(1_000, "before");
    first.write();
    let mut journal = Journal::new(root.path(), None);
    assert!(messages(&mut journal).is_empty());
    first.sshd(2_000, "one");
    first.write();
    assert_eq!(messages(&mut journal), ["one"]);
    let place = journal.place();

    // While nobody reads: one more entry, then journald begins a new file.
    first.sshd(3_000, "two");
    first.bytes[16] = 2;
    first.write();
    fs::rename(&first.path, first.path.with_file_name("system@0001.journal")).unwrap();
    let mut old = Writer::new(root.path(), "system@0000.journal", 9, true);
    old.sshd(500, "from long ago");
    old.bytes[16] = 2;
    old.write();
    let mut second = Writer::new(root.path(), "system.journal", 2, true);
    second.sshd(4_000, "three");
    second.write();
    let bytes = serde_json::to_vec(&place).unwrap();
    let mut resumed = Journal::new(root.path(), Some(serde_json::from_slice(&bytes).unwrap()));
    let mut all = messages(&mut resumed);
    all.sort();
    assert_eq!(all, ["three", "two"]);

    let mut live = messages(&mut journal);
    live.sort();
    assert_eq!(live, ["three", "two"], "one that kept running finds the same");
    second.sshd(5_000, "four");
    second.write();
    assert_eq!(messages(&mut journal), ["four"]);
    assert_eq!(messages(&mut resumed), ["four"]);
}

#[test]
fn damage_never_panics_nor_hangs() {
    let root = tempfile::tempdir().unwrap();
    let mut writer = Writer::new(root.path(), "system.journal", 1, false);
    for number in 0..5 {
        writer.sshd(1_000 + number, "m");
    }
    let good = writer.bytes.clone();
    for at in (0..good.len()).filter(|at| !(40..152).contains(at) && !(200..272).contains(at)).step_by(3) {
        for value in [0, 0x7f, 0xff] {
            writer.bytes.clone_from(&good);
            writer.bytes[at] = value;
            writer.write();
            let mut journal = Journal::new(root.path(), Some(Place::default()));
            journal.look().unwrap();
            let mut looks = 0;
            while journal.read(&mut |_| {}) && looks < 5 {
                looks += 1;
            }
        }
    }
    for length in (0..good.len()).step_by(7) {
        writer.bytes = good[..length].to_vec();
        writer.write();
        let mut journal = Journal::new(root.path(), Some(Place::default()));
        messages(&mut journal);
    }
}
