"""A file system of a program, with one file in it: mounted where the argument says, until the parent ends."""
import ctypes
import os
import struct
import sys

libc = ctypes.CDLL(None, use_errno=True)
libc.prctl(1, 9)  # PR_SET_PDEATHSIG, SIGKILL
fuse = os.open("/dev/fuse", os.O_RDWR)
options = f"fd={fuse},rootmode=40000,user_id=0,group_id=0,allow_other".encode()
if libc.mount(b"rampart-test", os.fsencode(sys.argv[1]), b"fuse", 0, options) != 0:
    sys.exit(f"mount: {os.strerror(ctypes.get_errno())}")

FOLDER, FILE = 1, 2
LOOKUP, FORGET, GETATTR, STATFS, INIT, OPENDIR, RELEASEDIR, BATCH_FORGET = 1, 2, 3, 17, 26, 27, 29, 42


def attributes(node):
    mode = 0o040755 if node == FOLDER else 0o100644
    return struct.pack("=6Q10I", node, 5, 1, 0, 0, 0, 0, 0, 0, mode, 1, 0, 0, 0, 4096, 0)


def answer(kind, node, body):
    if kind == INIT:
        return struct.pack("=4I2H2I2HI28x", 7, 31, 0, 0, 1, 1, 4096, 1, 1, 0, 0)
    if kind == GETATTR:
        return struct.pack("=QII", 60, 0, 0) + attributes(node)
    if kind == LOOKUP and body.rstrip(b"\0") == b"file":
        return struct.pack("=4Q2I", FILE, 0, 60, 60, 0, 0) + attributes(FILE)
    if kind == STATFS:
        return struct.pack("=5Q4I24x", 1, 1, 1, 1, 1, 4096, 255, 4096, 0)
    if kind == OPENDIR:
        return struct.pack("=QII", 0, 0, 0)
    return b"" if kind == RELEASEDIR else None


while True:
    try:
        request = os.read(fuse, 1 << 17)
    except OSError:
        break
    _, kind, unique, node = struct.unpack_from("=IIQQ", request)
    if kind in (FORGET, BATCH_FORGET):
        continue
    said = answer(kind, node, request[40:])
    missing = -2 if kind == LOOKUP else -38  # ENOENT, ENOSYS
    head = struct.pack("=IiQ", 16 + len(said or b""), 0 if said is not None else missing, unique)
    os.write(fuse, head + (said or b""))
