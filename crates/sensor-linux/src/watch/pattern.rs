//! Names with `*` in them.

/// Whether the name fits the pattern, in which `*` stands for any bytes, none too.
pub(super) fn matches(pattern: &[u8], name: &[u8]) -> bool {
    // Where the last star stood, and how much of the name it has taken so far.
    let mut star: Option<(usize, usize)> = None;
    let (mut at, mut in_name) = (0, 0);
    while in_name < name.len() {
        match (pattern.get(at), star) {
            (Some(b'*'), _) => {
                star = Some((at + 1, in_name));
                at += 1;
            }
            (Some(byte), _) if *byte == name[in_name] => {
                at += 1;
                in_name += 1;
            }
            (_, Some((after, taken))) => {
                star = Some((after, taken + 1));
                at = after;
                in_name = taken + 1;
            }
            (_, None) => return false,
        }
    }
    pattern[at..].iter().all(|byte| *byte == b'*')
}

/// Whether the name fits one of the patterns. As in a shell, a lone `*` leaves out names
/// that begin with a dot: what reads such directories (cron, run-parts, systemd, udev,
/// kmod) leaves them out too, and editors make them.
pub(super) fn matches_any(patterns: &[&str], name: &[u8]) -> bool {
    patterns.iter().any(|pattern| match pattern.as_bytes() {
        b"*" => !name.starts_with(b"."),
        pattern => matches(pattern, name),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stars_stand_for_anything() {
        for (pattern, name, fits) in [
            ("*", "", true),
            ("*", "x", true),
            ("", "", true),
            ("", "x", false),
            ("*.ko", "a.ko", true),
            ("*.ko", "a.ko.xz", false),
            ("*.ko.*", "a.ko.xz", true),
            ("rc*.d", "rc3.d", true),
            ("rc*.d", "rc.d", true),
            ("rc*.d", "rc3.dd", false),
            ("a*b*c", "aXbYbZc", true),
            ("a*b*c", "aXbYbZ", false),
            ("*.ko", ".ko.ko", true),
            ("passwd", "passwd-", false),
        ] {
            assert_eq!(matches(pattern.as_bytes(), name.as_bytes()), fits, "{pattern} {name}");
        }
        assert!(matches(b"*.service", b"\xff.service"));
        assert!(matches_any(&["*"], b"x") && !matches_any(&["*"], b".x.swp"));
        assert!(matches_any(&["x", "*.ko"], b".hidden.ko"));
    }
}
