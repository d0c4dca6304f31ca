//! What a rule asks for, as orders; and what became of an order, as a rule's receipt.

use event_model::{ActionKind, Field, FieldSource, ReceiptState, ValueRef};
use response::{
    Action, AddressTarget, EvidenceRequest, FileTarget, Isolation, OrderState, ProcessTarget, Target,
};

use super::Numbered;

/// What a rule's word means for this event.
pub(super) fn action_of(kind: ActionKind, event: &Numbered<'_>, target: &Target) -> Result<Action, String> {
    let text = |field: Field| match event.value(field) {
        Some(ValueRef::Text(text)) if !text.is_empty() => Some(text.to_string()),
        _ => None,
    };
    let process = ProcessTarget {
        entity_id: target.entity_id,
        executable: Some(target.executable.clone()),
        image: target.image,
    };
    match kind {
        ActionKind::KillTree => Ok(Action::KillTree(process)),
        // Only where a person is asked: else it is done at once, without the thread.
        ActionKind::TerminateProcess => Ok(Action::TerminateProcess(process)),
        // The file that the event is about, else the program that acted.
        ActionKind::QuarantineFile => Ok(Action::QuarantineFile(match text(Field::FilePath) {
            Some(path) => event_file(event, path, text(Field::FileSha256))?,
            None => FileTarget { path: target.executable.clone(), sha256: None, file: target.image },
        })),
        ActionKind::BlockConnection => {
            // The other side: of a connection that came in, that is where it came from.
            let comes_in = text(Field::NetworkDirection).is_some_and(|direction| direction == "ingress");
            let field = if comes_in { Field::SourceAddress } else { Field::DestinationAddress };
            let address = text(field).ok_or("the event has no address to block")?;
            let address = address.parse().map_err(|error: response::NotANetwork| error.to_string())?;
            Ok(Action::BlockAddress(AddressTarget { address, ttl_seconds: 3_600 }))
        }
        ActionKind::IsolateHost => Ok(Action::IsolateHost(Isolation {
            ttl_seconds: 24 * 3_600,
            keep: Vec::new(),
            release_hash: None,
        })),
        ActionKind::CollectEvidence => {
            let files = [Some(target.executable.clone()), text(Field::FilePath)];
            Ok(Action::CollectEvidence(evidence_of(target.entity_id.pid(), files.into_iter().flatten())))
        }
        ActionKind::Alert | ActionKind::Log => Err(format!("`{kind}` is no order")),
    }
}

/// With the files that an order can name: whoever has no path gives his name, and another host's files are not asked
/// for. One that can't be named would have the whole order refused.
fn evidence_of(pid: u32, files: impl Iterator<Item = String>) -> EvidenceRequest {
    EvidenceRequest {
        processes: vec![pid],
        files: files.filter(|path| response::is_path(path)).collect(),
        memory: None,
    }
}

/// The file that the event is about, by device and inode where the sensor told them. Without them a path
/// that a container gave would mean the host's own file of that name.
fn event_file(event: &Numbered<'_>, path: String, sha256: Option<String>) -> Result<FileTarget, String> {
    let number = |field: Field| match event.value(field) {
        Some(ValueRef::Integer(number)) => Some(number.cast_unsigned()),
        _ => None,
    };
    let file = number(Field::FileDevice).zip(number(Field::FileInode));
    if file.is_none() && sha256.is_none() && event.value(Field::ContainerId).is_some() {
        return Err(format!(
            "{} is a path within a container, and the event does not tell which file it is; hint: act on it there",
            path.escape_debug()
        ));
    }
    Ok(FileTarget { path, sha256, file })
}

/// Bytes of what a person is asked for. Paths are the longest of it.
pub(super) const MOST_ASKED: usize = 16 << 10;

/// An order's receipt in the words of a detection's.
pub(super) fn told(receipt: &response::Receipt) -> (ReceiptState, String) {
    let state = match receipt.state {
        OrderState::Sent => ReceiptState::Sent,
        OrderState::Applied => ReceiptState::Applied,
        OrderState::Verified => ReceiptState::Verified,
        OrderState::Failed => ReceiptState::Failed,
        OrderState::ApprovalNeeded => ReceiptState::ApprovalNeeded,
        OrderState::Planned | OrderState::Refused | OrderState::Cancelled => ReceiptState::Refused,
    };
    (state, receipt.reason.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn evidence_has_the_files_of_every_system_and_none_that_has_the_order_refused() {
        let files =
            [r"C:\Users\eve\x.exe", "/tmp/x", "System", r"\\203.0.113.9\share\x.exe", "/memfd:x (deleted)"];
        let request = evidence_of(7, files.map(str::to_owned).into_iter());
        assert_eq!(request.files, [r"C:\Users\eve\x.exe", "/tmp/x", "/memfd:x (deleted)"]);
        assert_eq!(Action::CollectEvidence(request).check(), Ok(()));
    }
}
