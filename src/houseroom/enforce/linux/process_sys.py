"""Processes: clone(2), setns(2), prctl(2), capset(2), pidfd_open(2), pidfd_getfd(2), close_range(2)."""

from __future__ import annotations

import sys

assert sys.platform == "linux"  # type checkers for other systems stop reading here

import os
from _struct import pack, unpack

from houseroom.enforce.linux.libc_sys import Buffer, c_char_p, c_int, c_uint, c_ulong, c_void_p, fork_call, function, interpreter, syscall

CLONE_NEWNS, CLONE_NEWCGROUP, CLONE_NEWUTS, CLONE_NEWIPC = 0x00020000, 0x02000000, 0x04000000, 0x08000000
CLONE_NEWUSER, CLONE_NEWPID, CLONE_NEWNET = 0x10000000, 0x20000000, 0x40000000
_SIGCHLD, _NS_GET_USERNS = 17, 0xB701

PR_SET_PDEATHSIG, PR_SET_DUMPABLE, PR_CAPBSET_DROP = 1, 4, 24
PR_SET_SECUREBITS, PR_SET_CHILD_SUBREAPER, PR_SET_NO_NEW_PRIVS, PR_CAP_AMBIENT = 28, 36, 38, 47
PR_CAP_AMBIENT_CLEAR_ALL = 4

# capabilities(7): noroot, no_setuid_fixup, no_cap_ambient_raise, each with its lock; keep_caps locked in its off position.
SECUREBITS_LOCKED = 0x01 | 0x02 | 0x04 | 0x08 | 0x20 | 0x40 | 0x80
CAP_SETPCAP, CAP_SYS_PTRACE, CAP_SYS_ADMIN = 8, 19, 21
_CAPABILITY_VERSION_3 = 0x20080522

_clone = fork_call("clone", c_ulong, c_ulong, c_ulong, c_ulong, c_ulong)
_before_fork, _after_in_parent, _after_in_child = map(interpreter, ("PyOS_BeforeFork", "PyOS_AfterFork_Parent", "PyOS_AfterFork_Child"))
_prctl = function("prctl", c_int, c_ulong, c_ulong, c_ulong, c_ulong)
_capset = syscall("capset", c_char_p, c_char_p)
_capget = syscall("capget", c_char_p, c_void_p)
_getcpu = function("sched_getcpu")
_unshare = function("unshare", c_int)
_setns = function("setns", c_int, c_int)
_pidfd_open = syscall("pidfd_open", c_int, c_uint)
_pidfd_getfd = syscall("pidfd_getfd", c_int, c_int, c_uint)
_close_range = syscall("close_range", c_uint, c_uint, c_uint)


def clone(flags: int) -> int:
    """clone(2) like fork(2), with new namespaces: 0 in the child, the child's pid in the parent.

    The interpreter is told as by os.fork (https://docs.python.org/3/c-api/sys.html#c.PyOS_BeforeFork), the C library is not: call it
    only from a process with one thread. The child keeps that one.
    """
    _before_fork()
    pid = -1
    try:
        pid = _clone(flags | _SIGCHLD, 0, 0, 0, 0)
    finally:
        if pid:
            _after_in_parent()
        else:
            _after_in_child()
    return pid


def move_away(pid: int) -> None:
    """Have a new process, our child, begin at once on another processor than ours.

    Linux leaves one in two behind its parent on machines with few processors, until that waits or the next tick comes: two
    milliseconds, a tenth of a start. It may run everywhere afterwards (sched_setaffinity(2)).
    """
    try:
        allowed = os.sched_getaffinity(0)
        others = allowed - {_getcpu()}
        if others:
            os.sched_setaffinity(pid, others)
            os.sched_setaffinity(pid, allowed)
    except OSError:
        return  # refused to us, or it has ended


def unshare(flags: int) -> None:
    """unshare(2): new namespaces for the calling process."""
    _unshare(flags)


def enter_network(network: int) -> None:
    """Join a network namespace by its descriptor, and the user namespace that owns it (setns(2), ioctl_ns(2)).

    Whoever made that user namespace may. The calling process has one thread, and there every capability.
    """
    from fcntl import ioctl

    owner = ioctl(network, _NS_GET_USERNS)
    try:
        _setns(owner, CLONE_NEWUSER)
    finally:
        os.close(owner)
    _setns(network, CLONE_NEWNET)


def prctl(option: int, value: int = 0, more: int = 0) -> int:
    """prctl(2) with up to two arguments."""
    return _prctl(option, value, more, 0, 0)


def capset(capabilities: int) -> None:
    """Set the calling thread's permitted and effective capabilities to this bit set, inheritable to none."""
    low, high = capabilities & 0xFFFFFFFF, capabilities >> 32
    _capset(pack("Ii", _CAPABILITY_VERSION_3, 0), pack("6I", low, low, 0, high, high, 0))


def permitted() -> int:
    """The calling thread's permitted capabilities as a bit set."""
    data = Buffer(bytes(24))
    _capget(pack("Ii", _CAPABILITY_VERSION_3, 0), data.address)
    words: tuple[int, ...] = unpack("6I", data.bytes)
    return words[1] | words[4] << 32


def drop_bounding_set() -> None:
    """Take every capability out of the bounding set: execve(2) gives none from then on. The kernel ends the list with EINVAL."""
    for capability in range(64):
        try:
            prctl(PR_CAPBSET_DROP, capability)
        except OSError:
            if capability < 38:  # CAP_BPF and CHECKPOINT_RESTORE came with Linux 5.8 and 5.9; all before must exist
                raise
            return


def pidfd_open(pid: int) -> int:
    """A descriptor of a process (Linux 5.3). pid 0 is refused by the kernel with EINVAL."""
    return _pidfd_open(pid, 0)


def pidfd_getfd(pidfd: int, fd: int) -> int:
    """A copy of another process's descriptor (Linux 5.6); needs ptrace access to it. The copy is close-on-exec."""
    return _pidfd_getfd(pidfd, fd, 0)


def close_from(first: int) -> None:
    """Close every descriptor from ``first`` on (close_range(2), Linux 5.9)."""
    _close_range(first, 0xFFFFFFFF, 0)


def reap(pid: int) -> None:
    """Wait for the end of a child. Whoever ignores SIGCHLD, or waits for all children in another thread, has none to wait for."""
    try:
        os.waitpid(pid, 0)
    except ChildProcessError:
        return


def empty_streams() -> None:
    """The standard streams become empty ones: nobody outside waits for their end."""
    empty = os.open("/dev/null", os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(empty, stream)


def map_identity(uid: int, gid: int) -> None:
    """In a new user namespace: our ids stand for themselves, no other id exists, groups can't be changed."""
    for name, text in (("setgroups", "deny"), ("uid_map", f"{uid} {uid} 1"), ("gid_map", f"{gid} {gid} 1")):
        fd = os.open(f"/proc/self/{name}", os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.write(fd, text.encode())
        finally:
            os.close(fd)


def close_except(first: int, *kept: int) -> None:
    """Close every descriptor from ``first`` on but these."""
    for fd in sorted(kept):
        if fd > first:
            _close_range(first, fd - 1, 0)
        first = max(first, fd + 1)
    _close_range(first, 0xFFFFFFFF, 0)
