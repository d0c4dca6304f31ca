//! Connections that could be missed: whose descriptor is gone or another's when their call
//! ends, whose call ends before they begin, that begin in no call of theirs, and that end
//! before they are known.

use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsRawFd as _, FromRawFd as _, RawFd};
use std::os::unix::thread::JoinHandleExt as _;
use std::path::Path;
use std::thread::{self, JoinHandle};
use std::time::Instant;

use event_model::{EventType, Field};
use libbpf_rs::Link;
use libbpf_rs::query::LinkInfoIter;
use sensor_api::contract::read_until;
use sensor_api::{Observation, Observed, ObservedActivity};
use sensor_linux::LinuxSensorOptions;

use crate::connections::{opens_with_data, reset};
use crate::io_uring::Ring;
use crate::rights::{PinDir, ebpf};
use crate::stage::{HERE, PATIENCE, Told, act, ids, is_complete, number, of, sockaddr, start, text, value};

/// Connections of the role "many ends".
const MANY: usize = 300;
/// TCP over several paths (linux/in.h).
const IPPROTO_MPTCP: i32 = 262;
/// Data with the first packet, to whomever (linux/tcp.h).
const TCP_FASTOPEN_NO_COOKIE: i32 = 34;

/// Plays a role; false where it is none of these.
pub(crate) fn perform(name: &str, argument: &str) -> bool {
    match name {
        "closed while it connects" => hidden(|socket| {
            // SAFETY: it is this role's, and nobody uses it any more.
            assert_eq!(unsafe { libc::close(socket) }, 0);
        }),
        "exchanged while it connects" => hidden(|socket| {
            let null = File::open("/dev/null").unwrap();
            // SAFETY: as above.
            assert_eq!(unsafe { libc::dup2(null.as_raw_fd(), socket) }, socket);
        }),
        "begun before" => begun_before(|_| {}),
        "begun before and closed" => begun_before(|socket| {
            // SAFETY: as above.
            assert_eq!(unsafe { libc::close(socket) }, 0);
        }),
        "interrupted" => interrupted(),
        "asked again" => asked_again(),
        "ring" => {
            let listener = TcpListener::bind((HERE, 0)).unwrap();
            let client = stream_socket(0).unwrap();
            let mut ring = Ring::new(listener.local_addr().unwrap()).unwrap();
            ring.connect(client);
            ring.finish();
            // SAFETY: it is this role's.
            let client = unsafe { TcpStream::from_raw_fd(client) };
            drop((client, listener.accept().unwrap()));
        }
        "ring within a call" => ring_within_a_call(),
        "several paths" => several_paths(),
        "many ends" => many_ends(),
        "sent unanswered" => sent_unanswered(),
        "watch" => {
            drop(ebpf(LinuxSensorOptions {
                pin_dir: Some(argument.into()),
                ..LinuxSensorOptions::default()
            }));
        }
        _ => return false,
    }
    true
}

/// One that lets nobody in yet: the only place is taken.
struct FullListener {
    listener: TcpListener,
    _first: TcpStream,
}

impl FullListener {
    fn new() -> Self {
        let listener = TcpListener::bind((HERE, 0)).unwrap();
        // SAFETY: it sets how many may wait, which is one more.
        assert_eq!(unsafe { libc::listen(listener.as_raw_fd(), 0) }, 0);
        let first = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        Self { listener, _first: first }
    }

    fn address(&self) -> SocketAddr {
        self.listener.local_addr().unwrap()
    }

    /// Another thread that asks it for a connection: when this returns, it has asked.
    fn ask(&self, socket: RawFd) -> JoinHandle<io::Result<()>> {
        let to = self.address();
        let asking = thread::spawn(move || connect(socket, to));
        self.wait_until_asked();
        asking
    }

    fn wait_until_asked(&self) {
        let deadline = Instant::now() + PATIENCE;
        let port = format!(":{:04X}", self.address().port());
        // Columns: number, own end, other end, state; 02 is SYN_SENT.
        let asks = |line: &str| {
            let mut columns = line.split_whitespace().skip(2);
            columns.next().is_some_and(|other| other.ends_with(&port)) && columns.next() == Some("02")
        };
        while !std::fs::read_to_string("/proc/self/net/tcp").unwrap().lines().any(asks) {
            assert!(Instant::now() < deadline, "nobody asked");
            thread::yield_now();
        }
    }

    /// Lets in whoever took the place, and then whoever asked.
    fn let_in(&self) -> TcpStream {
        drop(self.listener.accept().unwrap());
        self.listener.accept().unwrap().0
    }
}

fn stream_socket(protocol: i32) -> io::Result<RawFd> {
    // SAFETY: it makes a socket.
    let socket = unsafe { libc::socket(libc::AF_INET, libc::SOCK_STREAM | libc::SOCK_CLOEXEC, protocol) };
    if socket < 0 { Err(io::Error::last_os_error()) } else { Ok(socket) }
}

/// connect(2), once and on whatever the descriptor stands for.
fn connect(socket: RawFd, to: SocketAddr) -> io::Result<()> {
    let to = sockaddr(to);
    let length = size_of::<libc::sockaddr_in>() as libc::socklen_t;
    // SAFETY: the address is as long as said and lives through the call.
    let result = unsafe { libc::connect(socket, (&raw const to).cast(), length) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Connects, and has its descriptor taken away while it waits for the other end.
fn hidden(take_away: impl FnOnce(RawFd)) {
    let full = FullListener::new();
    let socket = stream_socket(0).unwrap();
    let asking = full.ask(socket);
    take_away(socket);
    let server = full.let_in();
    asking.join().unwrap().unwrap();
    drop(server);
}

/// Connects, and is let in once a line on standard input says so.
fn begun_before(take_away: impl FnOnce(RawFd)) {
    let full = FullListener::new();
    let socket = stream_socket(0).unwrap();
    let asking = full.ask(socket);
    take_away(socket);
    println!("\nasked");
    io::stdout().flush().unwrap();
    io::stdin().read_line(&mut String::new()).unwrap();
    let server = full.let_in();
    asking.join().unwrap().unwrap();
    drop(server);
}

extern "C" fn do_nothing(_: libc::c_int) {}

/// Connects, and is told by a signal to wait no longer; the kernel goes on.
fn interrupted() {
    let full = FullListener::new();
    let socket = stream_socket(0).unwrap();
    // SAFETY: the handler does nothing; without SA_RESTART the call ends.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = do_nothing as extern "C" fn(libc::c_int) as usize;
        assert_eq!(libc::sigaction(libc::SIGUSR1, &raw const action, std::ptr::null_mut()), 0);
    }
    let asking = full.ask(socket);
    // SAFETY: the thread is joined below, so it is there.
    assert_eq!(unsafe { libc::pthread_kill(asking.as_pthread_t(), libc::SIGUSR1) }, 0);
    assert_eq!(asking.join().unwrap().unwrap_err().kind(), io::ErrorKind::Interrupted);
    let server = full.let_in();
    // SAFETY: it is this role's.
    drop((unsafe { TcpStream::from_raw_fd(socket) }, server));
}

/// Connects without waiting, and asks with a second call how that went.
fn asked_again() {
    let full = FullListener::new();
    // SAFETY: it is this role's.
    let client = unsafe { TcpStream::from_raw_fd(stream_socket(0).unwrap()) };
    client.set_nonblocking(true).unwrap();
    let begun = connect(client.as_raw_fd(), full.address());
    assert_eq!(begun.unwrap_err().raw_os_error(), Some(libc::EINPROGRESS));
    let server = full.let_in();
    client.set_nonblocking(false).unwrap();
    connect(client.as_raw_fd(), full.address()).unwrap();
    drop((client, server));
}

/// A thread waits in connect(2) for one connection; its io_uring begins another one in the
/// middle of that, for which the kernel ends the call and has it made again.
fn ring_within_a_call() {
    let full = FullListener::new();
    let listener = TcpListener::bind((HERE, 0)).unwrap();
    println!("\nport={}", listener.local_addr().unwrap().port());
    let (start, mut started) = io::pipe().unwrap();
    let (from_call, from_ring) = (stream_socket(0).unwrap(), stream_socket(0).unwrap());
    let (to_call, to_ring) = (full.address(), listener.local_addr().unwrap());
    let asking = thread::spawn(move || {
        let mut ring = Ring::new(to_ring).unwrap();
        ring.connect_after(start.as_raw_fd(), from_ring);
        connect(from_call, to_call).unwrap();
        ring.finish();
    });
    full.wait_until_asked();
    started.write_all(b"x").unwrap();
    let ring_server = listener.accept().unwrap();
    let server = full.let_in();
    asking.join().unwrap();
    // SAFETY: they are this role's.
    let clients = unsafe { [from_call, from_ring].map(|client| TcpStream::from_raw_fd(client)) };
    drop((clients, ring_server, server));
}

/// A listener for several paths, which both kinds of clients connect to.
fn several_paths() {
    let place = TcpListener::bind((HERE, 0)).unwrap().local_addr().unwrap();
    let listening = stream_socket(IPPROTO_MPTCP).unwrap();
    let at = sockaddr(place);
    // SAFETY: the address is as long as said and lives through the call; the socket is this role's.
    let listener = unsafe {
        let length = size_of::<libc::sockaddr_in>() as libc::socklen_t;
        assert_eq!(libc::bind(listening, (&raw const at).cast(), length), 0);
        assert_eq!(libc::listen(listening, 5), 0);
        TcpListener::from_raw_fd(listening)
    };
    let several = stream_socket(IPPROTO_MPTCP).unwrap();
    connect(several, place).unwrap();
    // SAFETY: it is this role's.
    let several = unsafe { TcpStream::from_raw_fd(several) };
    for mut client in [several, TcpStream::connect(place).unwrap()] {
        let (mut server, _) = listener.accept().unwrap();
        client.write_all(&[7; 300]).unwrap();
        server.read_exact(&mut [0; 300]).unwrap();
        server.write_all(&[8; 50]).unwrap();
        client.read_exact(&mut [0; 50]).unwrap();
    }
}

/// Sends data with the first packet to one that does not answer, and goes.
fn sent_unanswered() {
    let full = FullListener::new();
    let socket = stream_socket(0).unwrap();
    let on = 1_i32;
    for option in [libc::TCP_FASTOPEN_CONNECT, TCP_FASTOPEN_NO_COOKIE] {
        let length = size_of::<i32>() as libc::socklen_t;
        // SAFETY: the option is as long as said and lives through the call.
        let set =
            unsafe { libc::setsockopt(socket, libc::IPPROTO_TCP, option, (&raw const on).cast(), length) };
        assert_eq!(set, 0);
    }
    connect(socket, full.address()).unwrap();
    // SAFETY: it is this role's.
    let mut client = unsafe { TcpStream::from_raw_fd(socket) };
    client.set_nonblocking(true).unwrap();
    client.write_all(b"gone").unwrap();
}

/// Connections that one side or the other ends as soon as it can, in both ways.
fn many_ends() {
    let listener = TcpListener::bind((HERE, 0)).unwrap();
    let to = listener.local_addr().unwrap();
    let server = thread::spawn(move || {
        for index in 0..MANY {
            let (server, _) = listener.accept().unwrap();
            if index % 3 == 1 {
                reset(server);
            }
        }
    });
    for index in 0..MANY {
        // The other end may be so quick that the call finds it over.
        let mut client = match TcpStream::connect(to) {
            Ok(client) => client,
            Err(error) if index % 3 == 1 && error.kind() == io::ErrorKind::ConnectionReset => continue,
            Err(error) => panic!("{error}"),
        };
        match index % 3 {
            0 => reset(client),
            // Until the other end's end, however that comes.
            1 => drop(client.read(&mut [0])),
            _ => {}
        }
    }
    server.join().unwrap();
}

/// Every connection has one end that was told, and no end is without its connection.
fn assert_ends(begun: &[ObservedActivity], closes: &[ObservedActivity]) {
    let mut of_begun = ids(begun);
    of_begun.dedup();
    assert_eq!(of_begun, ids(closes));
    for close in closes {
        is_complete(close);
        let id = number(close, Field::NetworkConnectionId);
        // What is told when it asks may not know its own port yet.
        let knows_ports = |one: &&ObservedActivity| {
            number(one, Field::NetworkConnectionId) == id && value(one, Field::SourcePort).is_some()
        };
        let Some(own) = begun.iter().rfind(knows_ports) else { continue };
        for field in [Field::SourcePort, Field::DestinationPort] {
            assert_eq!(number(close, field), number(own, field), "{own:?} {close:?}");
        }
    }
}

fn is_told_with_its_end(role: &str) {
    // Both ends of what took the place and of what waited for it.
    let Some(told) = Told::until_closed(role, 4) else { return };
    let listen = told.only(EventType::NetworkListen);
    let connects = told.all(EventType::NetworkConnect);
    assert_eq!(connects.len(), 2, "{connects:#?}");
    for connect in &connects {
        is_complete(connect);
        assert_eq!(text(connect, Field::EventOutcome), "success");
        assert_eq!(text(connect, Field::SourceAddress), Ipv4Addr::LOCALHOST.to_string());
        assert!(number(connect, Field::SourcePort) > 0);
        assert_eq!(text(connect, Field::DestinationAddress), HERE.to_string());
        assert_eq!(number(connect, Field::DestinationPort), number(&listen, Field::SourcePort));
    }
    assert_ends(&[connects, told.all(EventType::NetworkAccept)].concat(), &told.all(EventType::NetworkClose));
}

#[test]
fn a_connection_whose_descriptor_is_closed_while_it_is_asked_for_is_told() {
    is_told_with_its_end("closed while it connects");
}

#[test]
fn a_connection_whose_descriptor_is_exchanged_while_it_is_asked_for_is_told() {
    is_told_with_its_end("exchanged while it connects");
}

/// What is told of a call of which the sensor sees the end alone, as it does where too many
/// wait at once.
fn told_of_the_end(role: &str, is_enough: impl Fn(u32, &[Observed]) -> bool) -> Option<(u32, Vec<Observed>)> {
    let mut child = start(role);
    let pid = child.id();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
    assert!(lines.any(|line| line == "asked"));
    let sensor = ebpf(LinuxSensorOptions::default());
    child.stdin.take().unwrap().write_all(b"\n").unwrap();
    // It has more to say than that.
    lines.for_each(drop);
    assert!(child.wait().unwrap().success());
    let mut seen = Vec::new();
    read_until(&mut sensor?, &mut seen, "the end of the call", |seen| is_enough(pid, seen));
    Some((pid, seen))
}

#[test]
fn a_connection_of_whose_call_the_end_alone_is_seen_is_told() {
    // The one that waited, and both that were accepted.
    let told = told_of_the_end("begun before", |pid, seen| of(pid, EventType::NetworkClose, seen).len() >= 3);
    let Some((pid, seen)) = told else { return };
    let connects = of(pid, EventType::NetworkConnect, &seen);
    assert_eq!(connects.len(), 1, "{connects:#?}");
    is_complete(&connects[0]);
    assert_eq!(text(&connects[0], Field::EventOutcome), "success");
    assert_eq!(text(&connects[0], Field::DestinationAddress), HERE.to_string());
    assert_ends(
        &[connects, of(pid, EventType::NetworkAccept, &seen)].concat(),
        &of(pid, EventType::NetworkClose, &seen),
    );
}

/// Takes a program of a pinned sensor away, and waits until the kernel has done so.
fn take_away(program: &Path) {
    let id = Link::open(program).unwrap().info().unwrap().id;
    std::fs::remove_file(program).unwrap();
    let deadline = Instant::now() + PATIENCE;
    while LinkInfoIter::default().any(|link| link.id == id) {
        assert!(Instant::now() < deadline, "{} is attached still", program.display());
        thread::yield_now();
    }
}

/// The kernel skips a program in an interrupt of itself, and so the state in which a connection
/// ends; here that program is gone altogether.
#[test]
fn an_end_whose_state_is_not_seen_is_told_when_the_socket_goes() {
    let pins = PinDir::new("unseen-ends");
    // Whoever attached a program keeps it attached, so that is a process that has ended.
    act(&format!("watch: {}", pins.path().display()));
    let Some(mut sensor) = ebpf(pins.options()) else { return };
    let mut child = start("begun before");
    let pid = child.id();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
    assert!(lines.any(|line| line == "asked"));
    take_away(&pins.path().join("on_tcp_state"));
    child.stdin.take().unwrap().write_all(b"\n").unwrap();
    lines.for_each(drop);
    assert!(child.wait().unwrap().success());
    let mut seen = Vec::new();
    read_until(&mut sensor, &mut seen, "the ends", |seen| of(pid, EventType::NetworkClose, seen).len() >= 4);
    let begun =
        [of(pid, EventType::NetworkConnect, &seen), of(pid, EventType::NetworkAccept, &seen)].concat();
    assert_ends(&begun, &of(pid, EventType::NetworkClose, &seen));
}

#[test]
fn a_connection_that_can_t_be_found_any_more_counts_as_lost() {
    let told = told_of_the_end("begun before and closed", |_, seen| {
        seen.iter().any(
            |observed| matches!(&observed.what, Observation::Lost(loss) if loss.what == "network_connect"),
        )
    });
    let Some((pid, seen)) = told else { return };
    assert_eq!(of(pid, EventType::NetworkConnect, &seen), []);
}

#[test]
fn a_connection_that_outlives_its_call_is_told_with_its_end() {
    let Some(told) = Told::until_closed("interrupted", 4) else { return };
    let connects = told.all(EventType::NetworkConnect);
    let outcomes: Vec<_> = connects.iter().map(|one| text(one, Field::EventOutcome)).collect();
    assert_eq!(outcomes, ["success", "unknown"]);
    assert_ends(&[connects, told.all(EventType::NetworkAccept)].concat(), &told.all(EventType::NetworkClose));
}

#[test]
fn a_connection_that_is_asked_about_again_stays_the_same() {
    let Some(told) = Told::until_closed("asked again", 4) else { return };
    let connects = told.all(EventType::NetworkConnect);
    let outcomes: Vec<_> = connects.iter().map(|one| text(one, Field::EventOutcome)).collect();
    assert_eq!(outcomes, ["success", "unknown", "success"]);
    assert_eq!(
        number(&connects[1], Field::NetworkConnectionId),
        number(&connects[2], Field::NetworkConnectionId)
    );
    assert_ends(&[connects, told.all(EventType::NetworkAccept)].concat(), &told.all(EventType::NetworkClose));
}

/// False, said aloud, where this host lets nobody use io_uring.
fn has_io_uring() -> bool {
    match Ring::new((HERE, 9).into()) {
        Ok(_) => true,
        Err(error) => {
            println!("skipped: no io_uring here: {error}");
            false
        }
    }
}

#[test]
fn a_connection_through_io_uring_is_told_with_its_process_and_its_end() {
    if !has_io_uring() {
        return;
    }
    let Some(told) = Told::until_closed("ring", 2) else { return };
    let listen = told.only(EventType::NetworkListen);
    let connect = told.only(EventType::NetworkConnect);
    assert_eq!(text(&connect, Field::DestinationAddress), HERE.to_string());
    assert_eq!(number(&connect, Field::DestinationPort), number(&listen, Field::SourcePort));
    assert_ends(&[connect, told.only(EventType::NetworkAccept)], &told.all(EventType::NetworkClose));
}

#[test]
fn a_connection_through_io_uring_is_not_taken_for_that_of_the_call_around_it() {
    if !has_io_uring() {
        return;
    }
    let Some(told) = Told::until_closed("ring within a call", 6) else { return };
    let port = told.said("port");
    let connects = told.all(EventType::NetworkConnect);
    let (of_ring, others): (Vec<_>, Vec<_>) =
        connects.iter().partition(|one| number(one, Field::DestinationPort) == port);
    assert_eq!(of_ring.len(), 1, "{connects:#?}");
    // The first took the place; the call that waited for it was made again.
    let outcomes: Vec<_> = others.iter().map(|one| text(one, Field::EventOutcome)).collect();
    assert_eq!(outcomes, ["success", "unknown", "success"]);
    assert_ends(&[connects, told.all(EventType::NetworkAccept)].concat(), &told.all(EventType::NetworkClose));
}

#[test]
fn a_connection_over_several_paths_has_an_end() {
    match stream_socket(IPPROTO_MPTCP) {
        // SAFETY: it is new and nobody else's.
        Ok(socket) => drop(unsafe { TcpStream::from_raw_fd(socket) }),
        Err(error) => return println!("skipped: no MPTCP here: {error}"),
    }
    let Some(told) = Told::until_closed("several paths", 4) else { return };
    let (connects, accepts) = (told.all(EventType::NetworkConnect), told.all(EventType::NetworkAccept));
    assert_eq!((connects.len(), accepts.len()), (2, 2), "{connects:#?} {accepts:#?}");
    let closes = told.all(EventType::NetworkClose);
    for close in &closes {
        assert_eq!((number(close, Field::SourceBytes), number(close, Field::DestinationBytes)), (300, 50));
    }
    assert_ends(&[connects, accepts].concat(), &closes);
}

#[test]
fn every_connection_that_begins_ends_once() {
    let Some(told) = Told::until_closed("many ends", 2 * MANY) else { return };
    let (connects, accepts) = (told.all(EventType::NetworkConnect), told.all(EventType::NetworkAccept));
    assert_eq!((connects.len(), accepts.len()), (MANY, MANY));
    assert_ends(&[connects, accepts].concat(), &told.all(EventType::NetworkClose));
}

#[test]
fn what_went_with_the_first_packet_is_told_with_its_end() {
    if !opens_with_data() {
        return;
    }
    // What took the place as well, which nobody accepted.
    let Some(told) = Told::until_closed("sent unanswered", 2) else { return };
    let connects = told.all(EventType::NetworkConnect);
    assert_eq!(connects.len(), 2, "{connects:#?}");
    let closes = told.all(EventType::NetworkClose);
    assert_ends(&connects, &closes);
    let sent: Vec<_> = closes.iter().map(|close| number(close, Field::SourceBytes)).collect();
    assert!(sent.contains(&4), "{sent:?}");
}
