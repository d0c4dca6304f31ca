//! Connections to unix sockets.

use event_model::{EventType, Field, Value};

use super::{Act, text};
use crate::escape;

/// As `bpf/act.h` numbers it.
const ACT_UNIX_CONNECT: u16 = 36;

pub(super) fn fields(act: &Act<'_>) -> Option<(EventType, Vec<(Field, Value)>)> {
    (act.kind == ACT_UNIX_CONNECT).then(|| {
        let path = if act.bytes(1).is_empty() { address(act.bytes(0)) } else { act.path(1) };
        let mut fields = vec![
            (Field::UnixSocketPath, text(path)),
            (Field::NetworkTransport, text("unix")),
            (Field::NetworkDirection, text("egress")),
        ];
        act.outcome(&mut fields);
        (EventType::UnixConnect, fields)
    })
}

/// The bytes of `sun_path`: a path up to its zero byte, or an abstract name behind one.
fn address(bytes: &[u8]) -> String {
    match bytes {
        [0, name @ ..] => format!("@{}", escape::text(name).replace('\0', "\\x00")),
        path => escape::text(path.split(|byte| *byte == 0).next().unwrap_or(path)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_abstract_name_is_marked() {
        assert_eq!(address(b"/run/x.sock\0\0\0"), "/run/x.sock");
        assert_eq!(address(b"\0name\0more"), "@name\\x00more");
        assert_eq!(address(b""), "");
    }
}
