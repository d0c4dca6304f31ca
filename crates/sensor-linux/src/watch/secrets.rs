//! Account files without what is secret in them.
//!
//! Hashes of passwords are replaced, as the file is read, by a digest under a key
//! that only this host has. It tells whether a password was changed and can't be
//! tried against a list of passwords without the key. Neither stands in any event.

use aws_lc_rs::hmac::{self, HMAC_SHA256};
use aws_lc_rs::rand;

/// Length of the host's key in bytes.
pub(super) const KEY_BYTES: usize = 32;

/// The host's own random key.
#[derive(Clone)]
pub(super) struct HostKey {
    bytes: [u8; KEY_BYTES],
    key: hmac::Key,
}

impl std::fmt::Debug for HostKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("HostKey")
    }
}

impl HostKey {
    pub(super) fn from_bytes(bytes: [u8; KEY_BYTES]) -> Self {
        Self { bytes, key: hmac::Key::new(HMAC_SHA256, &bytes) }
    }

    /// A new one; an error only if the system has no randomness.
    pub(super) fn random() -> std::io::Result<Self> {
        let mut bytes = [0; KEY_BYTES];
        rand::fill(&mut bytes).map_err(|_| std::io::Error::other("the system gives no random bytes"))?;
        Ok(Self::from_bytes(bytes))
    }

    pub(super) fn bytes(&self) -> &[u8; KEY_BYTES] {
        &self.bytes
    }

    /// The tag of some bytes.
    pub(super) fn tag(&self, parts: &[&[u8]]) -> [u8; 32] {
        let mut context = hmac::Context::with_key(&self.key);
        for part in parts {
            // With its length, so that no two lists of parts run together the same way.
            context.update(&(part.len() as u64).to_le_bytes());
            context.update(part);
        }
        let mut tag = [0; 32];
        tag.copy_from_slice(context.sign().as_ref());
        tag
    }
}

/// What a password field may say without being secret: none, elsewhere, no login.
const NO_SECRET: [&[u8]; 8] = [b"", b"x", b"*", b"!", b"!!", b"!*", b"*LK*", b"*NP*"];

/// The text of passwd, shadow, group or gshadow with each secret in its second
/// field replaced by `#` and a digest; a lock (`!` before it) stays.
pub(super) fn without_secrets(key: &HostKey, file: &[u8], text: &[u8]) -> Vec<u8> {
    let mut clean = Vec::with_capacity(text.len());
    for line in text.split_inclusive(|byte| *byte == b'\n') {
        let (line, end) = line.strip_suffix(b"\n").map_or((line, &b""[..]), |line| (line, &b"\n"[..]));
        let mut fields = line.splitn(3, |byte| *byte == b':');
        let name = fields.next().unwrap_or_default();
        clean.extend_from_slice(name);
        if let Some(field) = fields.next() {
            clean.push(b':');
            if NO_SECRET.contains(&field) {
                clean.extend_from_slice(field);
            } else {
                let secret = field.trim_ascii_start();
                let locks = secret.iter().take_while(|byte| **byte == b'!').count();
                let tag = key.tag(&[file, name, &secret[locks..]]);
                clean.extend_from_slice(&secret[..locks.min(1)]);
                clean.push(b'#');
                for byte in &tag[..16] {
                    clean.extend_from_slice(format!("{byte:02x}").as_bytes());
                }
            }
        }
        if let Some(rest) = fields.next() {
            clean.push(b':');
            clean.extend_from_slice(rest);
        }
        clean.extend_from_slice(end);
    }
    clean
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_hash_of_a_password_stays() {
        let key = HostKey::from_bytes([7; KEY_BYTES]);
        let text =
            b"root:$6$salt$hash:1:0:9:7:::\nbin:*:1::::::\nnew::1::::::\nno:!:2\nlocked:!$y$abc:3:\nodd\n";
        let clean = without_secrets(&key, b"shadow", text);
        let clean = String::from_utf8(clean).unwrap();
        assert!(!clean.contains("$6$") && !clean.contains("$y$") && !clean.contains("hash"), "{clean}");
        let lines: Vec<&str> = clean.lines().collect();
        assert!(lines[0].starts_with("root:#") && lines[0].ends_with(":1:0:9:7:::"), "{clean}");
        assert_eq!(&lines[1..4], ["bin:*:1::::::", "new::1::::::", "no:!:2"]);
        assert!(lines[4].starts_with("locked:!#"), "{clean}");
        assert_eq!(lines[5], "odd");

        let unlocked = without_secrets(&key, b"shadow", b"locked:$y$abc:3:\n");
        assert_eq!(
            lines[4].trim_start_matches("locked:!"),
            str::from_utf8(&unlocked).unwrap().trim_end().trim_start_matches("locked:"),
            "a lock leaves the password"
        );
        let other = HostKey::from_bytes([8; KEY_BYTES]);
        assert_ne!(without_secrets(&other, b"shadow", text), clean.as_bytes(), "each host has its own");
        assert_ne!(
            without_secrets(&key, b"shadow", b"a:$1$x:"),
            without_secrets(&key, b"shadow", b"b:$1$x:"),
            "two accounts with one hash don't look alike"
        );
    }
}
