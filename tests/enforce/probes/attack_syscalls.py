"""Kernel surface that a developer's command has no use for. DONE means the call was carried out. First argument: the stage's root."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import pty
import socket
import struct
import threading

from probe_kit import AT_FDCWD, LIBC, NUMBERS, call, main, refused, show

NEWUSER, NEWNS, NEWPID, NEWNET, NEWIPC, NEWUTS, NEWCGROUP, NEWTIME = (
    0x10000000, 0x20000, 0x20000000, 0x40000000, 0x8000000, 0x4000000, 0x2000000, 0x80,
)  # fmt: skip


def _terminal() -> int:
    """A pseudo-terminal of our own as controlling terminal: TIOCSTI works on it wherever it works at all."""
    master, slave = pty.openpty()
    globals()["_kept"] = master
    os.setsid() if os.getpid() != os.getsid(0) else None
    fcntl.ioctl(slave, 0x540E, 0)  # TIOCSCTTY
    return slave


def _in_child(act: str, *arguments: int) -> None:
    """Run in a child, so that it can become a session leader and be killed by a filter without ending the probe."""
    child = os.fork()
    if child == 0:
        try:
            slave = _terminal()
            globals()[act](slave, *arguments)
        except OSError as error:
            os._exit(error.errno or 255)
        os._exit(0)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if status:
        raise OSError(abs(status), os.strerror(abs(status)))


def _ioctl(slave: int, request: int) -> None:
    if LIBC.ioctl(slave, ctypes.c_ulong(request), b"x") < 0:
        raise refused("ioctl")


def _raw_ioctl(slave: int, request: int) -> None:
    call("ioctl", slave, request, ctypes.create_string_buffer(b"x"))


def terminal_input(root: str) -> None:
    _in_child("_ioctl", 0x5412)


def terminal_input_high_bits(root: str) -> None:
    """The kernel looks at the low 32 bits of the request only."""
    _in_child("_raw_ioctl", 0x5412 | 1 << 32)


def terminal_input_all_high_bits(root: str) -> None:
    _in_child("_raw_ioctl", 0x5412 | 0x7FFFFFFF << 32)


def console_paste(root: str) -> None:
    """TIOCLINUX: on a pseudo-terminal the kernel answers ENOTTY, on a console it pastes; both mean that it was asked."""
    try:
        _in_child("_raw_ioctl", 0x541C)
    except OSError as error:
        if error.errno != errno.ENOTTY:
            raise


def console_paste_high_bits(root: str) -> None:
    try:
        _in_child("_raw_ioctl", 0x541C | 1 << 32)
    except OSError as error:
        if error.errno != errno.ENOTTY:
            raise


def io_uring_setup(root: str) -> None:
    call("io_uring_setup", 4, ctypes.create_string_buffer(120))


def _family(number: int, kind: int = socket.SOCK_DGRAM, protocol: int = 0) -> None:
    socket.socket(number, kind, protocol).close()


def family_crypto(root: str) -> None:
    _family(38, socket.SOCK_SEQPACKET)


def family_vsock(root: str) -> None:
    _family(40, socket.SOCK_STREAM)


def family_packet(root: str) -> None:
    _family(17, socket.SOCK_RAW, 0x0300)


def family_netlink_route(root: str) -> None:
    _family(16, socket.SOCK_RAW, 0)


def family_netlink_audit(root: str) -> None:
    _family(16, socket.SOCK_RAW, 9)


def family_netlink_netfilter(root: str) -> None:
    _family(16, socket.SOCK_RAW, 12)


def family_netlink_kobject(root: str) -> None:
    _family(16, socket.SOCK_RAW, 15)


def family_xdp(root: str) -> None:
    _family(44, socket.SOCK_RAW)


def family_bluetooth(root: str) -> None:
    _family(31, socket.SOCK_RAW, 1)


def raw_internet(root: str) -> None:
    _family(2, socket.SOCK_RAW, 1)


def add_key(root: str) -> None:
    call("add_key", b"user", b"houseroom-probe-added", b"x", 1, -2)  # process keyring: gone with the process


def keyctl_session(root: str) -> None:
    call("keyctl", 0, -3, 1)  # KEYCTL_GET_KEYRING_ID of the session keyring


def read_host_key(root: str, name: str) -> None:
    """The user keyring is shared by all processes of one user id, namespaces or not."""
    key = call("keyctl", 10, -4, b"user", name.encode(), 0)  # KEYCTL_SEARCH in KEY_SPEC_USER_KEYRING
    buffer = ctypes.create_string_buffer(256)
    size = call("keyctl", 11, key, buffer, 256)  # KEYCTL_READ
    show(buffer.raw[:size])


def read_host_key_by_id(root: str, name: str, key: str) -> None:
    buffer = ctypes.create_string_buffer(256)
    size = call("keyctl", 11, int(key), buffer, 256)
    show(buffer.raw[:size])


def request_key(root: str, name: str) -> None:
    key = call("request_key", b"user", name.encode(), None, 0)
    buffer = ctypes.create_string_buffer(256)
    show(buffer.raw[: call("keyctl", 11, key, buffer, 256)])


def list_keys(root: str) -> None:
    show(open("/proc/keys").read())


def bpf(root: str) -> None:
    attributes = ctypes.create_string_buffer(struct.pack("IIII", 2, 4, 4, 1) + bytes(112))  # an array map
    call("bpf", 0, attributes, 128)


def userfaultfd(root: str) -> None:
    call("userfaultfd", 1)  # UFFD_USER_MODE_ONLY: needs no privilege


def perf_event_open(root: str) -> None:
    attributes = bytearray(128)
    struct.pack_into("IIQ", attributes, 0, 1, 128, 1)  # software, task clock
    struct.pack_into("Q", attributes, 40, 1 << 5 | 1 << 6)  # exclude the kernel and the hypervisor
    call("perf_event_open", bytes(attributes), 0, -1, -1, 0)


def fanotify(root: str) -> None:
    call("fanotify_init", 0x200, 0)  # FAN_REPORT_FID: open to every user since Linux 5.13


def new_user_namespace(root: str) -> None:
    call("unshare", NEWUSER)


def new_user_namespace_clone(root: str) -> None:
    child = call("clone", NEWUSER | 17, 0, 0, 0, 0)
    if child == 0:
        os._exit(0)
    os.waitpid(child, 0)


def new_user_namespace_clone3(root: str) -> None:
    arguments = ctypes.create_string_buffer(struct.pack("QQQQQQQQ", NEWUSER, 0, 0, 0, 17, 0, 0, 0))
    child = call("clone3", arguments, 64)
    if child == 0:
        os._exit(0)
    os.waitpid(child, 0)


def new_user_namespace_in_thread_group(root: str) -> None:
    call("unshare", NEWUSER | NEWNS | NEWPID | NEWNET | NEWIPC | NEWUTS | NEWCGROUP)


def new_mount_namespace(root: str) -> None:
    call("unshare", NEWNS)


def new_network_namespace(root: str) -> None:
    call("unshare", NEWNET)


def new_time_namespace(root: str) -> None:
    call("unshare", NEWTIME)


def enter_own_namespace(root: str) -> None:
    call("setns", os.open("/proc/self/ns/uts", os.O_RDONLY), NEWUTS)


def mount_tmpfs(root: str) -> None:
    os.mkdir("mnt")
    call("mount", b"probe", b"mnt", b"tmpfs", 0, None)
    call("umount2", b"mnt", 2)


def mount_bind(root: str) -> None:
    os.mkdir("mnt")
    call("mount", b"directory", b"mnt", None, 4096, None)
    call("umount2", b"mnt", 2)


def remount_writable(root: str) -> None:
    """Clear the read-only flag of the root. Bare it has none: MS_REMOUNT|MS_BIND needs the privilege all the same."""
    os.mkdir("mnt")
    call("mount", b"directory", b"mnt", None, 4096, None)
    call("mount", None, b"mnt", None, 4096 | 32, None)
    call("umount2", b"mnt", 2)


def fsopen(root: str) -> None:
    call("fsopen", b"tmpfs", 0)


def open_tree_clone(root: str) -> None:
    call("open_tree", AT_FDCWD, b".", 1)


def open_tree_plain(root: str) -> None:
    call("open_tree", AT_FDCWD, b".", 0)


def mount_setattr(root: str) -> None:
    tree = call("open_tree", AT_FDCWD, b".", 1)
    call("mount_setattr", tree, b"", 0x1000, bytes(32), 32)


def fspick(root: str) -> None:
    call("fspick", AT_FDCWD, b"/", 0)


def change_root(root: str) -> None:
    child = os.fork()
    if child == 0:
        try:
            os.chroot(".")
        except OSError as error:
            os._exit(error.errno or 255)
        os._exit(0)
    if status := os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]):
        raise OSError(abs(status), "chroot")


def x32_entry(root: str) -> None:
    call(0x40000000 | NUMBERS["getpid"])


def host_name(root: str) -> None:
    name = os.uname().nodename.encode()
    call("sethostname", name, len(name))  # the same name again: harmless where it is allowed


def clock(root: str) -> None:
    """adjtimex(2) with a mode that sets the tick to its present value."""
    buffer = ctypes.create_string_buffer(256)
    call("adjtimex", buffer)
    struct.pack_into("I", buffer, 0, 0x4000)
    call("adjtimex", buffer)


def kernel_log(root: str) -> None:
    buffer = ctypes.create_string_buffer(4096)
    call("syslog", 3, buffer, 4096)


def kernel_log_device(root: str) -> None:
    os.read(os.open("/dev/kmsg", os.O_RDONLY | os.O_NONBLOCK), 8192)


def accounting(root: str) -> None:
    call("acct", None)


def modules(root: str) -> None:
    """An empty image: a permitted caller is told ENOEXEC, others EPERM before it is looked at."""
    try:
        call("init_module", bytes(8), 8, b"")
    except OSError as error:
        if error.errno != errno.ENOEXEC:
            raise


def port_access(root: str) -> None:
    call("ioperm", 0x80, 1, 1)


def local_descriptor_table(root: str) -> None:
    call("modify_ldt", 0, ctypes.create_string_buffer(16), 16)


def compare_processes(root: str, pid: str) -> None:
    call("kcmp", os.getpid(), int(pid), 0, 0, 0)


def secret_memory(root: str) -> None:
    os.close(call("memfd_secret", 0))


def swap(root: str) -> None:
    """EINVAL says that the caller was permitted and only the file is no swap area."""
    try:
        call("swapon", b"file", 0)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise


def quota(root: str) -> None:
    try:
        call("quotactl", 0x800001 << 8, b"/dev/null", 0, None)
    except OSError as error:
        if error.errno == errno.EPERM:
            raise


def shared_memory_read(root: str, segment: str) -> None:
    LIBC.shmat.restype = ctypes.c_void_p
    address = LIBC.shmat(int(segment), None, 0o10000)
    if address in (None, ctypes.c_void_p(-1).value):
        raise refused("shmat")
    show(ctypes.string_at(address, 64))


def shared_memory_write(root: str, segment: str) -> None:
    LIBC.shmat.restype = ctypes.c_void_p
    address = LIBC.shmat(int(segment), None, 0)
    if address in (None, ctypes.c_void_p(-1).value):
        raise refused("shmat")
    ctypes.memmove(address + 128, b"attack", 6)


def shared_memory_by_key(root: str, key: str) -> None:
    identifier = call("shmget", int(key), 0, 0)
    shared_memory_read(root, str(identifier))


def shared_memory_remove(root: str, segment: str) -> None:
    if LIBC.shmctl(int(segment), 0, None) < 0:
        raise refused("shmctl")


def message_queue_read(root: str, queue: str) -> None:
    buffer = ctypes.create_string_buffer(264)
    call("msgrcv", int(queue), buffer, 256, 0, 0o4000)
    show(buffer.raw[8:])


def posix_queue_read(root: str, name: str) -> None:
    queue = call("mq_open", name.encode(), os.O_RDONLY | os.O_NONBLOCK, 0, None)  # the kernel reads all four
    buffer = ctypes.create_string_buffer(8192)
    size = call("mq_timedreceive", queue, buffer, 8192, None, None)
    show(buffer.raw[:size])


def host_shared_memory_file(root: str, name: str) -> None:
    show(open(f"/dev/shm/{name}", "rb").read())


def second_thread_unfiltered(root: str) -> None:
    """A filter must hold in every thread, also in those started before the next exec."""
    got: list[OSError | None] = []

    def attempt() -> None:
        try:
            call("io_uring_setup", 4, ctypes.create_string_buffer(120))
            got.append(None)
        except OSError as error:
            got.append(error)

    thread = threading.Thread(target=attempt)
    thread.start()
    thread.join()
    if got[0]:
        raise got[0]


if __name__ == "__main__":
    main(globals())
