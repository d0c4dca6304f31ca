//! USB devices that are plugged in and out, as the kernel's uevents tell it.
//!
//! The messages are those that udev acts upon: the act, the path below /sys, and
//! `NAME=value` pairs, each ended by a zero byte.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use event_model::{EventType, Field, GapReason, Value};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::net::netlink::{KOBJECT_UEVENT, SocketAddrNetlink};
use rustix::net::{AddressFamily, RecvFlags, SocketFlags, SocketType, bind, recvfrom, socket_with, sockopt};
use sensor_api::{ObservationSender, ObservedActivity, ObservedLoss, Provision, Source, StopSignal};

use crate::boot_clock::Moment;
use crate::{SourceOptions, escape};

/// The kernel's own multicast group; the other one (2) is udev's.
const KERNEL_GROUP: u32 = 1;

/// The kernel's `UEVENT_BUFFER_SIZE` is 2 KiB.
const MAX_MESSAGE: usize = 8 << 10;
const SOCKET_BUFFER: usize = 256 << 10;

/// What an attribute of a device may be long.
const MAX_ATTRIBUTE: u64 = 512;

/// Devices that may be plugged in at once, as far as their names are kept.
const MOST_DEVICES: usize = 1_024;

/// Devices listed at the start.
const DEVICES: &str = "sys/bus/usb/devices";

/// Tells of USB devices.
#[derive(Debug)]
pub struct UsbSource {
    root: PathBuf,
    socket: Result<OwnedFd, io::Error>,
    devices: HashMap<String, Device>,
}

/// A device, as it describes itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Device {
    vendor_id: Option<String>,
    product_id: Option<String>,
    name: Option<String>,
    serial: Option<String>,
}

/// A message about a device itself; one interface or endpoint of it is none.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Uevent {
    action: String,
    /// Below /sys, with a slash before it.
    path: String,
    vendor_id: Option<String>,
    product_id: Option<String>,
}

impl UsbSource {
    /// Begins to listen.
    pub fn new(options: &SourceOptions) -> Self {
        Self { root: options.root.clone(), socket: listen(), devices: HashMap::new() }
    }

    fn list(&mut self) {
        let Ok(entries) = std::fs::read_dir(self.root.join(DEVICES)) else { return };
        for entry in entries.flatten().take(MOST_DEVICES) {
            let Ok(path) = entry.path().canonicalize() else { continue };
            let Some(path) = path.strip_prefix(self.root.join("sys")).ok().and_then(Path::to_str) else {
                continue;
            };
            let path = format!("/{path}");
            let device = self.read_device(&path);
            if device.vendor_id.is_some() {
                self.devices.insert(path, device);
            }
        }
    }

    fn read_device(&self, path: &str) -> Device {
        let folder = self.root.join("sys").join(path.trim_start_matches('/'));
        let attribute = |name: &str| read_attribute(&folder.join(name));
        let name: Vec<String> = ["manufacturer", "product"].into_iter().filter_map(attribute).collect();
        Device {
            vendor_id: attribute("idVendor"),
            product_id: attribute("idProduct"),
            name: (!name.is_empty()).then(|| name.join(" ")),
            serial: attribute("serial"),
        }
    }

    fn event(&mut self, uevent: Uevent) -> Option<ObservedActivity> {
        let Uevent { action, path, vendor_id, product_id } = uevent;
        let mut device = match action.as_str() {
            "add" => self.read_device(&path),
            // Nothing can be read of it any more.
            "remove" => self.devices.remove(&path).unwrap_or_default(),
            _ => return None,
        };
        device.vendor_id = device.vendor_id.or(vendor_id);
        device.product_id = device.product_id.or(product_id);
        if action == "add" && self.devices.len() < MOST_DEVICES {
            self.devices.insert(path.clone(), device.clone());
        }
        // One that has no name is known by its place.
        let place = path.rsplit('/').next().unwrap_or_default().to_owned();
        let mut fields = vec![
            (Field::EventAction, Value::Text(action)),
            (Field::DeviceName, Value::Text(device.name.unwrap_or(place))),
            (Field::EventProvider, Value::Text("uevent".into())),
        ];
        for (field, text) in [
            (Field::DeviceVendorId, device.vendor_id),
            (Field::DeviceProductId, device.product_id),
            (Field::DeviceSerial, device.serial),
        ] {
            fields.extend(text.map(|text| (field, Value::Text(text))));
        }
        Some(ObservedActivity { event_type: EventType::UsbDevice, actor: None, target: None, fields })
    }
}

impl Source for UsbSource {
    fn name(&self) -> &'static str {
        "usb"
    }

    fn provisions(&self) -> Vec<Provision> {
        let refused = self.socket.as_ref().err();
        let missing = refused.map(|error| format!("the kernel's uevents can't be heard here: {error}"));
        vec![Provision { event_type: EventType::UsbDevice, source: "usb (uevent)".to_owned(), missing }]
    }

    fn run(&mut self, sender: &ObservationSender, stop: &StopSignal) {
        self.list();
        let mut buffer = vec![0; MAX_MESSAGE];
        loop {
            let Ok(socket) = &self.socket else { return };
            let mut fds = [PollFd::new(stop, PollFlags::IN), PollFd::new(socket, PollFlags::IN)];
            let polled = poll(&mut fds, None);
            if polled.is_err() || !fds[0].revents().is_empty() {
                if polled == Err(rustix::io::Errno::INTR) {
                    continue;
                }
                return;
            }
            let moment = Moment::now();
            match recvfrom(socket, &mut buffer[..], RecvFlags::DONTWAIT) {
                Ok((length, _, from)) => {
                    // Only the kernel has the address 0; other processes may send to the group, too.
                    let by_kernel = from
                        .and_then(|from| SocketAddrNetlink::try_from(from).ok())
                        .is_some_and(|from| from.pid() == 0);
                    let uevent = buffer.get(..length).filter(|_| by_kernel).and_then(parse);
                    if let Some(activity) = uevent.and_then(|uevent| self.event(uevent)) {
                        sender.send(moment.boot_ns, activity);
                    }
                }
                Err(rustix::io::Errno::NOBUFS) => sender.lost(ObservedLoss {
                    reason: GapReason::NetlinkOverflow,
                    what: EventType::UsbDevice.as_str(),
                    count: None,
                    from_ns: moment.boot_ns,
                    until_ns: moment.boot_ns,
                }),
                Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => {}
                Err(error) => {
                    tracing::warn!(%error, "USB devices are not told of any more");
                    return;
                }
            }
        }
    }
}

fn listen() -> io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(AddressFamily::NETLINK, SocketType::DGRAM, flags, Some(KOBJECT_UEVENT))?;
    // A host with many devices tells of all of them at once.
    sockopt::set_socket_recv_buffer_size(&socket, SOCKET_BUFFER)?;
    bind(&socket, &SocketAddrNetlink::new(0, KERNEL_GROUP))?;
    Ok(socket)
}

fn parse(message: &[u8]) -> Option<Uevent> {
    let mut parts = message.split(|byte| *byte == 0);
    // `add@/devices/…`; udev's own messages begin with `libudev`.
    if !parts.next()?.contains(&b'@') {
        return None;
    }
    let (mut action, mut path, mut product, mut is_device) = (None, None, None, false);
    for part in parts {
        let Some(equals) = memchr::memchr(b'=', part) else { continue };
        let value = || escape::text(&part[equals + 1..]);
        match &part[..equals] {
            b"ACTION" => action = Some(value()),
            b"DEVPATH" => path = Some(value()),
            b"DEVTYPE" => is_device = &part[equals + 1..] == b"usb_device",
            b"PRODUCT" => product = Some(value()),
            _ => {}
        }
    }
    // `46d/c534/2901`: vendor, product and version in hex without leading zeros.
    let product = product.unwrap_or_default();
    let mut ids = product.split('/').map(|id| u16::from_str_radix(id, 16).ok().map(|id| format!("{id:04x}")));
    let path = path.filter(|path| path.starts_with('/') && !path.split('/').any(|part| part == ".."));
    is_device.then_some(Uevent {
        action: action?,
        path: path?,
        vendor_id: ids.next().flatten(),
        product_id: ids.next().flatten(),
    })
}

fn read_attribute(path: &Path) -> Option<String> {
    let mut bytes = Vec::new();
    File::open(path).ok()?.take(MAX_ATTRIBUTE).read_to_end(&mut bytes).ok()?;
    let text = escape::text(bytes.trim_ascii());
    (!text.is_empty()).then_some(text)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    const ADD: &[u8] = b"add@/devices/pci0000:00/0000:00:14.0/usb1/1-4\0ACTION=add\0DEVPATH=/devices/pci0000:00/0000:00:14.0/usb1/1-4\0SUBSYSTEM=usb\0MAJOR=189\0MINOR=5\0DEVNAME=bus/usb/001/006\0DEVTYPE=usb_device\0PRODUCT=46d/c534/2901\0TYPE=0/0/0\0BUSNUM=001\0DEVNUM=006\0SEQNUM=4711\0";

    fn text(activity: &ObservedActivity, field: Field) -> Option<&str> {
        activity.fields.iter().find_map(|(own, value)| match value {
            Value::Text(text) if *own == field => Some(text.as_str()),
            _ => None,
        })
    }

    #[test]
    fn a_device_is_named_when_it_comes_and_when_it_goes() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("sys/devices/pci0000:00/0000:00:14.0/usb1/1-4");
        fs::create_dir_all(&folder).unwrap();
        for (name, value) in [
            ("idVendor", "046d\n"),
            ("idProduct", "c534\n"),
            ("manufacturer", "Logi\n"),
            ("product", "Re\x1bceiver\n"),
            ("serial", "A1\n"),
        ] {
            fs::write(folder.join(name), value).unwrap();
        }
        let options = SourceOptions { root: root.path().into(), ..SourceOptions::default() };
        let mut source = UsbSource::new(&options);
        let event = source.event(parse(ADD).unwrap()).unwrap();
        for need in EventType::UsbDevice.spec().needs {
            assert!(text(&event, *need).is_some(), "{need:?}");
        }
        assert_eq!(text(&event, Field::EventAction), Some("add"));
        assert_eq!(text(&event, Field::DeviceName), Some("Logi Re\x1bceiver"));
        assert_eq!(text(&event, Field::DeviceSerial), Some("A1"));
        fs::remove_dir_all(root.path().join("sys")).unwrap();
        let remove = String::from_utf8(ADD.to_vec()).unwrap().replace("add", "remove").into_bytes();
        let event = source.event(parse(&remove).unwrap()).unwrap();
        assert_eq!(text(&event, Field::EventAction), Some("remove"));
        assert_eq!(text(&event, Field::DeviceName), Some("Logi Re\x1bceiver"));
        let event = source.event(parse(&remove).unwrap()).unwrap();
        assert_eq!(
            (text(&event, Field::DeviceName), text(&event, Field::DeviceVendorId)),
            (Some("1-4"), Some("046d"))
        );
    }

    #[test]
    fn other_messages_are_passed_over() {
        for message in [
            &b""[..],
            b"libudev\0\xfe\xed\xca\xfe",
            b"add@/devices/x\0ACTION=add\0DEVPATH=/devices/x\0DEVTYPE=usb_interface\0",
            b"add@/x\0ACTION=add\0DEVPATH=/../../etc\0DEVTYPE=usb_device\0",
            b"add@/x\0DEVTYPE=usb_device\0",
            b"\0\0\0=\0@=\0",
        ] {
            assert_eq!(parse(message), None, "{message:?}");
        }
        let odd = parse(b"add@/x\0ACTION=add\0DEVPATH=/x\0DEVTYPE=usb_device\0PRODUCT=zz//\xff\0").unwrap();
        assert_eq!((odd.vendor_id, odd.product_id), (None, None));
    }

    #[test]
    fn it_listens_or_says_why_not() {
        let provision = UsbSource::new(&SourceOptions::default()).provisions().remove(0);
        match listen() {
            Ok(_) => assert_eq!(provision.missing, None),
            Err(_) => assert!(provision.missing.is_some()),
        }
    }
}
