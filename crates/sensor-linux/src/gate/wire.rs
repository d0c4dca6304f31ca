//! What the keeper and the agent tell each other: short messages over a `SOCK_SEQPACKET` pair.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, recvmsg, sendmsg,
};

const ASK: u8 = 1;
const STATE: u8 = 2;
const FAILED: u8 = 3;
const REFUSED: u8 = 6;
const ANSWER: u8 = 4;
const WATCH: u8 = 5;

/// Longest text of a failure.
const MOST_TEXT: usize = 500;
const MOST: usize = 1 + MOST_TEXT;

/// How a keeper is, and what it has counted since it began.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct State {
    /// Programs that ran because no verdict came in time.
    pub(super) late: u64,
    /// Programs that the kernel refused because it could not open them for the keeper.
    pub(super) unopened: u64,
    /// Times that the kernel had no room for questions.
    pub(super) overflows: u64,
    /// Nobody is asked for a while.
    pub(super) suspended: bool,
}

/// From the keeper.
#[derive(Debug)]
pub(super) enum FromKeeper {
    /// A thread executes this file.
    Ask { id: u64, thread: u32, file: OwnedFd },
    /// Said at least every half second.
    State(State),
    /// The keeper can't watch a place, or at all.
    Failed(String),
    /// What became of a «no»: whether the kernel took it, or it came too late.
    Refused { id: u64, in_time: bool },
}

/// To the keeper.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ToKeeper {
    /// The verdict on a question.
    Answer { id: u64, deny: bool },
    /// Whether there is anything to judge by.
    Watch(bool),
}

/// Sends a question. Never waits.
pub(super) fn ask(socket: BorrowedFd<'_>, id: u64, thread: u32, file: BorrowedFd<'_>) -> io::Result<()> {
    let mut bytes = vec![ASK];
    bytes.extend_from_slice(&id.to_ne_bytes());
    bytes.extend_from_slice(&thread.to_ne_bytes());
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    let files = [file];
    ancillary.push(SendAncillaryMessage::ScmRights(&files));
    let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
    sendmsg(socket, &[IoSlice::new(&bytes)], &mut ancillary, flags)?;
    Ok(())
}

/// Says how the keeper is. Never waits.
pub(super) fn say_state(socket: BorrowedFd<'_>, state: State) -> io::Result<()> {
    let mut bytes = vec![STATE, u8::from(state.suspended)];
    for count in [state.late, state.unopened, state.overflows] {
        bytes.extend_from_slice(&count.to_ne_bytes());
    }
    send(socket, &bytes)
}

/// Says what became of a «no». Never waits.
pub(super) fn say_refused(socket: BorrowedFd<'_>, id: u64, in_time: bool) -> io::Result<()> {
    let mut bytes = vec![REFUSED, u8::from(in_time)];
    bytes.extend_from_slice(&id.to_ne_bytes());
    send(socket, &bytes)
}

/// Says what does not work. Never waits.
pub(super) fn say_failure(socket: BorrowedFd<'_>, text: &str) -> io::Result<()> {
    let mut bytes = vec![FAILED];
    bytes.extend_from_slice(&text.as_bytes()[..text.floor_char_boundary(MOST_TEXT)]);
    send(socket, &bytes)
}

/// Tells the keeper something. Never waits.
pub(super) fn tell(socket: BorrowedFd<'_>, message: ToKeeper) -> io::Result<()> {
    match message {
        ToKeeper::Answer { id, deny } => {
            let mut bytes = vec![ANSWER, u8::from(deny)];
            bytes.extend_from_slice(&id.to_ne_bytes());
            send(socket, &bytes)
        }
        ToKeeper::Watch(on) => send(socket, &[WATCH, u8::from(on)]),
    }
}

fn send(socket: BorrowedFd<'_>, bytes: &[u8]) -> io::Result<()> {
    rustix::net::send(socket, bytes, SendFlags::DONTWAIT | SendFlags::NOSIGNAL)?;
    Ok(())
}

/// The next message of the keeper; `None` once it is gone. Waits for one.
pub(super) fn of_keeper(socket: impl AsFd) -> io::Result<Option<FromKeeper>> {
    let mut bytes = [0; MOST];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let mut parts = [IoSliceMut::new(&mut bytes)];
    let received = recvmsg(socket, &mut parts, &mut ancillary, RecvFlags::CMSG_CLOEXEC)?;
    let file = ancillary.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut files) => files.next(),
        _ => None,
    });
    let Some(message) = bytes.get(..received.bytes).filter(|message| !message.is_empty()) else {
        return Ok(None);
    };
    let unreadable =
        || io::Error::new(io::ErrorKind::InvalidData, "a message of the gate's keeper can't be read");
    let number = |at: usize| message.get(at..at + 8)?.try_into().ok().map(u64::from_ne_bytes);
    Ok(Some(match (message[0], file) {
        (ASK, Some(file)) => FromKeeper::Ask {
            id: number(1).ok_or_else(unreadable)?,
            thread: message
                .get(9..13)
                .and_then(|bytes| bytes.try_into().ok())
                .map(u32::from_ne_bytes)
                .ok_or_else(unreadable)?,
            file,
        },
        (STATE, None) => FromKeeper::State(State {
            late: number(2).ok_or_else(unreadable)?,
            unopened: number(10).ok_or_else(unreadable)?,
            overflows: number(18).ok_or_else(unreadable)?,
            suspended: message[1] != 0,
        }),
        (REFUSED, None) => {
            FromKeeper::Refused { id: number(2).ok_or_else(unreadable)?, in_time: message[1] != 0 }
        }
        (FAILED, None) => FromKeeper::Failed(String::from_utf8_lossy(&message[1..]).into_owned()),
        _ => return Err(unreadable()),
    }))
}

/// The next message of the agent, if there is one; `Err` of kind `UnexpectedEof` once it is gone.
pub(super) fn of_agent(socket: impl AsFd) -> io::Result<Option<ToKeeper>> {
    let mut bytes = [0; MOST];
    let length = match rustix::net::recv(socket, &mut bytes, RecvFlags::DONTWAIT) {
        Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => return Ok(None),
        result => result?.0,
    };
    let message = &bytes[..length];
    match message {
        [] => Err(io::ErrorKind::UnexpectedEof.into()),
        [ANSWER, deny, id @ ..] => match id.try_into() {
            Ok(id) => Ok(Some(ToKeeper::Answer { id: u64::from_ne_bytes(id), deny: *deny != 0 })),
            Err(_) => Err(io::ErrorKind::InvalidData.into()),
        },
        [WATCH, on] => Ok(Some(ToKeeper::Watch(*on != 0))),
        _ => Err(io::ErrorKind::InvalidData.into()),
    }
}

#[cfg(test)]
mod tests {
    use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};

    use super::*;

    #[test]
    fn what_is_said_is_what_is_heard() {
        let pair =
            || socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).unwrap();
        let (keeper, agent) = pair();
        let file = std::fs::File::open("/proc/self/status").unwrap();
        ask(keeper.as_fd(), 7, 4711, file.as_fd()).unwrap();
        let state = State { late: 3, unopened: 4, overflows: 5, suspended: true };
        say_state(keeper.as_fd(), state).unwrap();
        say_refused(keeper.as_fd(), 5, true).unwrap();
        say_failure(keeper.as_fd(), "no").unwrap();
        let heard = of_keeper(&agent).unwrap().unwrap();
        let FromKeeper::Ask { id: 7, thread: 4711, file } = heard else { panic!("{heard:?}") };
        assert!(io::read_to_string(std::fs::File::from(file)).unwrap().contains("Name:"));
        assert!(matches!(of_keeper(&agent), Ok(Some(FromKeeper::State(heard))) if heard == state));
        assert!(matches!(of_keeper(&agent), Ok(Some(FromKeeper::Refused { id: 5, in_time: true }))));
        assert!(matches!(of_keeper(&agent), Ok(Some(FromKeeper::Failed(text))) if text == "no"));

        assert_eq!(of_agent(&keeper).unwrap(), None);
        for message in [ToKeeper::Answer { id: 9, deny: true }, ToKeeper::Watch(false)] {
            tell(agent.as_fd(), message).unwrap();
            assert_eq!(of_agent(&keeper).unwrap(), Some(message));
        }
        send(agent.as_fd(), &[99]).unwrap();
        assert!(of_agent(&keeper).is_err());
        drop(agent);
        assert_eq!(of_agent(&keeper).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
        let (keeper, agent) = pair();
        drop(keeper);
        assert!(of_keeper(&agent).unwrap().is_none());
    }
}
