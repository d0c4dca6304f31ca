//! What an indicator looks for, in one form for each thing.
//!
//! The form of an indicator and that of what is observed are made by the same code;
//! equal bytes then mean a match.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::defang::refang;

/// Longer URLs and paths are refused, and never match.
pub const MAX_VALUE_BYTES: usize = 2_048;

/// Shorter prefixes are refused: they would match a good part of the Internet.
const SHORTEST_V4_PREFIX: u8 = 8;
const SHORTEST_V6_PREFIX: u8 = 16;

/// What an indicator looks for.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum IndicatorValue {
    /// MD5 of a file.
    Md5([u8; 16]),
    /// SHA-1 of a file.
    Sha1([u8; 20]),
    /// SHA-256 of a file.
    Sha256([u8; 32]),
    /// Addresses with a common prefix; a single one has 32 or 128 bits. The other bits are zero.
    Network {
        /// First address.
        address: IpAddr,
        /// Bits that all have in common.
        prefix: u8,
    },
    /// A domain and all below it, in lower case.
    Domain(String),
    /// A URL without scheme, user and fragment, the host in lower case, without the
    /// scheme's own port.
    Url(String),
    /// A path. Those of Windows in lower case with `\`.
    Path(String),
}

/// What was seen on a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Observable<'a> {
    /// MD5 of a file.
    Md5(&'a [u8; 16]),
    /// SHA-1 of a file.
    Sha1(&'a [u8; 20]),
    /// SHA-256 of a file.
    Sha256(&'a [u8; 32]),
    /// An address.
    Ip(IpAddr),
    /// A name that was looked up.
    Domain(&'a str),
    /// A URL.
    Url(&'a str),
    /// Path of a file.
    Path(&'a str),
}

/// Why a text is no indicator.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ValueError {
    /// Nothing there.
    Empty,
    /// Longer than [`MAX_VALUE_BYTES`].
    TooLong,
    /// Not of the form that its type needs.
    NotOfType(&'static str),
    /// It would match what is everywhere.
    TooWide,
    /// Not like any type.
    Unknown,
}

impl fmt::Display for ValueError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("there is no value"),
            Self::TooLong => write!(f, "the value is longer than {MAX_VALUE_BYTES} bytes"),
            Self::NotOfType(wanted) => write!(f, "this is not {wanted}"),
            Self::TooWide => write!(
                f,
                "this would match too much: a network needs at least {SHORTEST_V4_PREFIX} bits (IPv6 {SHORTEST_V6_PREFIX}), a domain two parts"
            ),
            Self::Unknown => f.write_str(
                "this is not like any indicator: a hash (MD5, SHA-1, SHA-256 in hex), an address or network, a domain, a URL with its scheme, or an absolute path",
            ),
        }
    }
}

impl std::error::Error for ValueError {}

impl IndicatorValue {
    /// The value of a text by what it looks like, also in a defanged form.
    ///
    /// # Errors
    /// Why it is none.
    pub fn detect(text: &str) -> Result<Self, ValueError> {
        let text = refang(text);
        if text.is_empty() {
            return Err(ValueError::Empty);
        }
        if text.len() > MAX_VALUE_BYTES {
            return Err(ValueError::TooLong);
        }
        if text.contains("://") {
            return Self::url(&text);
        }
        if is_path(&text) {
            return Self::path(&text);
        }
        match Self::hash(&text) {
            Err(_) => {}
            hash => return hash,
        }
        match Self::network(&text) {
            Err(ValueError::NotOfType(_)) => {}
            network => return network,
        }
        Self::domain(&text).map_err(|error| match error {
            ValueError::NotOfType(_) => ValueError::Unknown,
            other => other,
        })
    }

    /// A hash in hex; its length says which.
    ///
    /// # Errors
    /// Why it is none.
    pub fn hash(text: &str) -> Result<Self, ValueError> {
        let wanted = ValueError::NotOfType("a hash in hex: MD5 has 32 digits, SHA-1 40, SHA-256 64");
        let text = text.trim();
        match text.len() {
            32 => unhex(text).map(Self::Md5),
            40 => unhex(text).map(Self::Sha1),
            64 => unhex(text).map(Self::Sha256),
            _ => None,
        }
        .ok_or(wanted)
    }

    /// An address or a network (`198.51.100.0/24`).
    ///
    /// # Errors
    /// Why it is none.
    pub fn network(text: &str) -> Result<Self, ValueError> {
        let wanted = ValueError::NotOfType("an address or a network such as 198.51.100.0/24");
        let text = refang(text);
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix.parse::<u8>().map_err(|_| wanted)?)),
            None => (&*text, None),
        };
        let address: IpAddr = address.trim_matches(['[', ']']).parse().map_err(|_| wanted)?;
        let (bits, shortest) = match address {
            IpAddr::V4(_) => (32, SHORTEST_V4_PREFIX),
            IpAddr::V6(_) => (128, SHORTEST_V6_PREFIX),
        };
        let prefix = prefix.unwrap_or(bits);
        if prefix > bits {
            return Err(wanted);
        }
        if prefix < shortest {
            return Err(ValueError::TooWide);
        }
        // `::ffff:198.51.100.7` is an IPv4 address.
        let (address, prefix) = match (address, address.to_canonical()) {
            (IpAddr::V6(_), IpAddr::V4(inner)) if prefix >= 96 => {
                if prefix - 96 < SHORTEST_V4_PREFIX {
                    return Err(ValueError::TooWide);
                }
                (IpAddr::V4(inner), prefix - 96)
            }
            (address, _) => (address, prefix),
        };
        Ok(Self::Network { address: masked(address, prefix), prefix })
    }

    /// A domain; `*.` before it is left out, as all below it match anyway.
    ///
    /// # Errors
    /// Why it is none.
    pub fn domain(text: &str) -> Result<Self, ValueError> {
        let text = refang(text);
        let name =
            text.trim_start_matches("*.").trim_start_matches('.').trim_end_matches('.').to_ascii_lowercase();
        let is_label = |label: &str| {
            (1..=63).contains(&label.len())
                && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
        };
        let labels = name.split('.').count();
        let last_is_number =
            name.rsplit('.').next().is_some_and(|label| label.bytes().all(|byte| byte.is_ascii_digit()));
        if name.len() > 253 || last_is_number || !name.split('.').all(is_label) {
            return Err(ValueError::NotOfType("a domain; names in other scripts are written as xn--…"));
        }
        if labels < 2 {
            return Err(ValueError::TooWide);
        }
        Ok(Self::Domain(name))
    }

    /// A URL, with or without its scheme.
    ///
    /// # Errors
    /// Why it is none.
    pub fn url(text: &str) -> Result<Self, ValueError> {
        let text = refang(text);
        if text.len() > MAX_VALUE_BYTES {
            return Err(ValueError::TooLong);
        }
        let mut buffer = Canonical::<MAX_VALUE_BYTES>::new();
        match buffer.url(&text) {
            Some(url) => Ok(Self::Url(String::from_utf8_lossy(url).into_owned())),
            None => Err(ValueError::NotOfType("a URL with a host")),
        }
    }

    /// An absolute path of either system.
    ///
    /// # Errors
    /// Why it is none.
    pub fn path(text: &str) -> Result<Self, ValueError> {
        let text = text.trim();
        if text.len() > MAX_VALUE_BYTES {
            return Err(ValueError::TooLong);
        }
        let wanted = ValueError::NotOfType("an absolute path without wildcards and variables");
        let variable = !text.starts_with('/') && text.contains('%');
        if !is_path(text) || text.contains(['*', '\0']) || variable {
            return Err(wanted);
        }
        let mut buffer = Canonical::<MAX_VALUE_BYTES>::new();
        match buffer.path(text) {
            Some(path) if path.len() > 1 => Ok(Self::Path(String::from_utf8_lossy(path).into_owned())),
            _ => Err(wanted),
        }
    }
}

impl fmt::Display for IndicatorValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hex = |f: &mut fmt::Formatter<'_>, bytes: &[u8]| {
            bytes.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
        };
        match self {
            Self::Md5(bytes) => hex(f, bytes),
            Self::Sha1(bytes) => hex(f, bytes),
            Self::Sha256(bytes) => hex(f, bytes),
            Self::Network { address, prefix } if *prefix == full_prefix(*address) => write!(f, "{address}"),
            Self::Network { address, prefix } => write!(f, "{address}/{prefix}"),
            Self::Domain(text) | Self::Url(text) | Self::Path(text) => f.write_str(text),
        }
    }
}

pub(crate) fn full_prefix(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

/// The address with all bits behind the prefix zero.
pub(crate) fn masked(address: IpAddr, prefix: u8) -> IpAddr {
    match address {
        IpAddr::V4(address) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(prefix.min(32))).unwrap_or(0);
            Ipv4Addr::from_bits(address.to_bits() & mask).into()
        }
        IpAddr::V6(address) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(prefix.min(128))).unwrap_or(0);
            Ipv6Addr::from_bits(address.to_bits() & mask).into()
        }
    }
}

fn is_path(text: &str) -> bool {
    let bytes = text.as_bytes();
    let drive = bytes.first().is_some_and(u8::is_ascii_alphabetic)
        && bytes.get(1..3).is_some_and(|at| at == b":\\" || at == b":/");
    text.starts_with('/') || text.starts_with("\\\\") || drive
}

fn unhex<const LENGTH: usize>(text: &str) -> Option<[u8; LENGTH]> {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let mut bytes = [0; LENGTH];
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    if pairs.len() != LENGTH || !rest.is_empty() {
        return None;
    }
    for (byte, [high, low]) in bytes.iter_mut().zip(pairs) {
        *byte = digit(*high)? << 4 | digit(*low)?;
    }
    Some(bytes)
}

/// Room for one value, on the stack: what matches nothing must not allocate.
pub(crate) struct Canonical<const ROOM: usize = MAX_VALUE_BYTES> {
    bytes: [u8; ROOM],
    length: usize,
}

impl<const ROOM: usize> Canonical<ROOM> {
    pub(crate) fn new() -> Self {
        Self { bytes: [0; ROOM], length: 0 }
    }

    fn push(&mut self, bytes: &[u8]) -> Option<()> {
        self.bytes.get_mut(self.length..self.length + bytes.len())?.copy_from_slice(bytes);
        self.length += bytes.len();
        Some(())
    }

    fn push_lower(&mut self, text: &str) -> Option<()> {
        let begin = self.length;
        self.push(text.as_bytes())?;
        self.bytes[begin..self.length].make_ascii_lowercase();
        Some(())
    }

    fn written(&self) -> &[u8] {
        &self.bytes[..self.length]
    }

    /// A name as it was looked up; `None` where it is too long to be one.
    pub(crate) fn domain(&mut self, name: &str) -> Option<&[u8]> {
        let name = name.strip_suffix('.').unwrap_or(name);
        if name.len() > 253 {
            return None;
        }
        self.push_lower(name)?;
        Some(self.written())
    }

    /// Host, port and path of a URL; `None` where there is no host.
    pub(crate) fn url(&mut self, url: &str) -> Option<&[u8]> {
        // This is done for each URL that is seen.
        let url = url.trim_ascii();
        let scheme_end = url.bytes().position(|byte| !byte.is_ascii_alphanumeric()).unwrap_or(url.len());
        let (scheme, rest) = match url[scheme_end..].strip_prefix("://") {
            Some(rest) => (&url[..scheme_end], rest),
            None => ("", url),
        };
        let end = memchr::memchr3(b'/', b'?', b'#', rest.as_bytes()).unwrap_or(rest.len());
        let (authority, path) = rest.split_at(end);
        let path = path.split_once('#').map_or(path, |(path, _)| path);
        let user_end = memchr::memrchr(b'@', authority.as_bytes()).map_or(0, |at| at + 1);
        let host = &authority[user_end..];
        let own_port = match scheme {
            _ if scheme.eq_ignore_ascii_case("http") => ":80",
            _ if scheme.eq_ignore_ascii_case("https") => ":443",
            _ => "",
        };
        let host = host.strip_suffix(own_port).unwrap_or(host);
        let host = host.strip_suffix('.').unwrap_or(host);
        // No way out before the end: so it is done for many bytes at once.
        let has_blank = host.bytes().fold(false, |found, byte| found | byte.is_ascii_whitespace());
        if has_blank || memchr::memchr2(b'.', b':', host.as_bytes()).is_none() {
            return None;
        }
        self.push_lower(host)?;
        if !path.starts_with('/') {
            self.push(b"/")?;
        }
        self.push(path.as_bytes())?;
        Some(self.written())
    }

    /// A path; those of Windows are alike in any case.
    pub(crate) fn path(&mut self, path: &str) -> Option<&[u8]> {
        if path.starts_with('/') {
            self.push(path.as_bytes())?;
        } else {
            self.push_lower(path)?;
            let length = self.length;
            self.bytes[..length].iter_mut().filter(|byte| **byte == b'/').for_each(|byte| *byte = b'\\');
        }
        Some(self.written())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_is_known_by_its_form() {
        let shown = |text: &str| IndicatorValue::detect(text).map(|value| value.to_string());
        for (text, form) in [
            ("D41D8CD98F00B204E9800998ECF8427E", "d41d8cd98f00b204e9800998ecf8427e"),
            ("198.51.100.7", "198.51.100.7"),
            ("198.51.100.77/24", "198.51.100.0/24"),
            ("::ffff:198.51.100.7", "198.51.100.7"),
            ("2001:DB8::1/32", "2001:db8::/32"),
            ("*.Evil[.]Example.", "evil.example"),
            ("hxxps://User@Evil.Example:443/A?b#c", "evil.example/A?b"),
            ("http://evil.example", "evil.example/"),
            ("ftp://evil.example:443/x", "evil.example:443/x"),
            ("/tmp/.X11/Xa", "/tmp/.X11/Xa"),
            ("C:/Users/Public\\A.exe", "c:\\users\\public\\a.exe"),
        ] {
            assert_eq!(shown(text).as_deref(), Ok(form), "{text}");
        }
        assert_eq!(shown(" "), Err(ValueError::Empty));
        assert_eq!(shown("com"), Err(ValueError::TooWide));
        assert_eq!(shown("0.0.0.0/0"), Err(ValueError::TooWide));
        assert_eq!(shown("::ffff:0.0.0.0/97"), Err(ValueError::TooWide));
        assert_eq!(shown("not an indicator"), Err(ValueError::Unknown));
        assert_eq!(shown("300.1.2.3"), Err(ValueError::Unknown));
        assert_eq!(shown("bücher.example"), Err(ValueError::Unknown));
        assert_eq!(shown(&"a".repeat(3_000)), Err(ValueError::TooLong));
        assert!(matches!(shown("/tmp/*"), Err(ValueError::NotOfType(_))));
        assert!(matches!(shown("http:///x"), Err(ValueError::NotOfType(_))));
        assert!(matches!(shown("/"), Err(ValueError::NotOfType(_))));
    }

    #[test]
    fn a_url_is_its_host_port_and_path() {
        for (url, form) in [
            (" HTTP://A.Example/X#y#z ", Some("a.example/X")),
            ("https://u:p@q@A.example.:443?x#", Some("a.example/?x")),
            ("https://a.example:80#b", Some("a.example:80/")),
            ("a.example:443", Some("a.example:443/")),
            ("https://[2001:DB8::1]/x", Some("[2001:db8::1]/x")),
            ("http://name:81", Some("name:81/")),
            ("http://name:80/a.b:c", None),
            ("http://name./a", None),
            ("http://a.b@name/c", None),
            ("http://a b.example/", None),
            ("http://a b@c.example/", Some("c.example/")),
            ("http://a.example/b c", Some("a.example/b c")),
            ("http://", None),
            ("", None),
        ] {
            let mut buffer = Canonical::<64>::new();
            let own = buffer.url(url).map(|bytes| String::from_utf8_lossy(bytes).into_owned());
            assert_eq!(own.as_deref(), form, "{url}");
        }
        assert_eq!(Canonical::<8>::new().url("http://a.example/"), None);
    }

    #[test]
    fn masks_of_all_lengths() {
        let v4 = IpAddr::V4(Ipv4Addr::BROADCAST);
        assert_eq!(masked(v4, 0).to_string(), "0.0.0.0");
        assert_eq!(masked(v4, 9).to_string(), "255.128.0.0");
        assert_eq!(masked(v4, 32), v4);
        let v6 = IpAddr::V6(Ipv6Addr::from_bits(u128::MAX));
        assert_eq!(masked(v6, 0).to_string(), "::");
        assert_eq!(masked(v6, 17).to_string(), "ffff:8000::");
        assert_eq!(masked(v6, 128), v6);
    }
}
