//! Commands of the server: verified, handed over as orders, and answered.

use event_model::{HostId, Timestamp};
use protocol::command::verify_command;
use protocol::link::{CommandReceipt, SignedCommand};
use response::{Action, Approval, Consent, Order, OrderState, Origin, Receipt};
use tokio::sync::mpsc;
use uuid::Uuid;

/// Bytes of a receipt; a list of processes is the largest. The server takes 16 MiB.
const MOST_BYTES: usize = 8 << 20;

/// A command that was not taken.
pub(super) struct NotTaken {
    pub(super) reason: String,
    /// For the server, where the command was its own.
    pub(super) receipt: Option<Box<Receipt>>,
}

/// The order that the command is, if it is the server's and this host's.
pub(super) fn order_of(signed: &SignedCommand, command_key: &[u8], host: HostId) -> Result<Order, NotTaken> {
    let (id, command) = verify_command(signed, command_key, host)
        .map_err(|refusal| NotTaken { receipt: None, reason: refusal.to_string() })?;
    let action: Action = serde_json::from_str(&command.action).map_err(|error| {
        let reason = format!(
            "the action is not known to this agent: {error}; hint: is the agent older than the server?"
        );
        NotTaken { receipt: Some(refused(id, reason.clone())), reason }
    })?;
    let approvals = command.approvals.into_iter();
    let approvals = approvals.map(|one| Approval { by: one.by, at: Timestamp::from_nanos(one.at_ns) });
    let consent = Consent { approvals: approvals.take(16).collect(), fleet_hosts: command.fleet_hosts };
    Ok(Order {
        id,
        action,
        origin: Origin::Command { user: command.user, consent },
        dry_run: command.dry_run,
        expires_at: Timestamp::from_nanos(command.expires_at_ns),
    })
}

fn refused(id: Uuid, reason: String) -> Box<Receipt> {
    Box::new(Receipt {
        id,
        action: String::new(),
        state: OrderState::Refused,
        reason,
        plan: Vec::new(),
        steps: Vec::new(),
        undo: None,
        result: serde_json::Value::Null,
    })
}

/// Receipts on their way up. As many as there are orders at work: their queue is bounded.
pub(super) struct Receipts {
    sender: mpsc::UnboundedSender<CommandReceipt>,
    receiver: mpsc::UnboundedReceiver<CommandReceipt>,
}

impl Default for Receipts {
    fn default() -> Self {
        let (sender, receiver) = mpsc::unbounded_channel();
        Self { sender, receiver }
    }
}

impl Receipts {
    pub(super) fn sender(&self) -> ReceiptSender {
        ReceiptSender(self.sender.clone())
    }

    /// The next one. Never ends by itself: this value keeps a sender.
    pub(super) async fn next(&mut self) -> CommandReceipt {
        match self.receiver.recv().await {
            Some(receipt) => receipt,
            None => std::future::pending().await,
        }
    }
}

pub(super) struct ReceiptSender(mpsc::UnboundedSender<CommandReceipt>);

impl ReceiptSender {
    pub(super) fn send(&self, receipt: &Receipt) {
        let text = serde_json::to_string(receipt).unwrap_or_default();
        let text = if text.len() <= MOST_BYTES {
            text
        } else {
            let mut without = receipt.clone();
            without.result = serde_json::Value::Null;
            without.reason.push_str("; the result is larger than 8 MiB and was left out");
            serde_json::to_string(&without).unwrap_or_default()
        };
        let wire = CommandReceipt {
            id: receipt.id.as_bytes().to_vec(),
            state: receipt.state.as_str().to_owned(),
            receipt: text,
        };
        // The link is gone: the server asks again on the next.
        let _ = self.0.send(wire);
    }
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::signature::Ed25519KeyPair;
    use protocol::bundle::public_command_key;
    use protocol::command::sign_command;
    use protocol::link::Command;

    use super::*;

    #[test]
    fn only_the_servers_command_for_this_host_becomes_an_order() {
        let (key, stranger) = (Ed25519KeyPair::generate().unwrap(), Ed25519KeyPair::generate().unwrap());
        let public = public_command_key(&key);
        let host = HostId::from_uuid(Uuid::from_u128(7));
        let command = Command {
            id: Uuid::from_u128(1).as_bytes().to_vec(),
            host_id: host.as_bytes().to_vec(),
            expires_at_ns: 100,
            user: "eve".to_owned(),
            action: r#"{"action":"release_host","parameters":{}}"#.to_owned(),
            ..Command::default()
        };
        let order = order_of(&sign_command(&command, &key), &public, host).ok().unwrap();
        assert_eq!(
            (order.id, order.action, order.dry_run),
            (Uuid::from_u128(1), Action::ReleaseHost {}, false)
        );
        // An expired one is an order too: the guard rails answer it, so that the server hears why.
        assert_eq!(order.expires_at, Timestamp::from_nanos(100));

        // What is not the server's own gets no answer: it becomes an event.
        let other = HostId::from_uuid(Uuid::from_u128(8));
        let foreign = Command { host_id: other.as_bytes().to_vec(), ..command.clone() };
        for (what, signed) in [
            ("forged", sign_command(&command, &stranger)),
            ("of another host", sign_command(&foreign, &key)),
            ("without a signature", SignedCommand { command: Vec::new(), signature: Vec::new() }),
        ] {
            let refusal = order_of(&signed, &public, host).err().unwrap();
            assert!(refusal.receipt.is_none() && !refusal.reason.is_empty(), "{what}: {}", refusal.reason);
        }
        // What this agent does not know is the server's all the same, and is answered.
        let unknown = Command { action: r#"{"action":"format_disk"}"#.to_owned(), ..command };
        let refusal = order_of(&sign_command(&unknown, &key), &public, host).err().unwrap();
        let receipt = refusal.receipt.unwrap();
        assert_eq!((receipt.id, receipt.state), (Uuid::from_u128(1), OrderState::Refused));
        assert!(receipt.reason.contains("not known to this agent"), "{}", receipt.reason);
    }
}
