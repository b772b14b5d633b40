"""seccomp(2) filters and user notification: seccomp_unotify(2)."""

from __future__ import annotations

import sys

assert sys.platform == "linux"  # type checkers for other systems stop reading here

import os
from _struct import Struct, pack
from fcntl import ioctl

from houseroom.enforce.linux.libc_sys import Buffer, c_char_p, c_uint, syscall
from houseroom.enforce.linux.process_sys import PR_SET_NO_NEW_PRIVS, prctl

_SET_MODE_FILTER = 1
_FLAG_NEW_LISTENER, _FLAG_WAIT_KILLABLE_RECV = 1 << 3, 1 << 5  # the latter since Linux 5.19
_IOCTL_RECV, _IOCTL_SEND, _IOCTL_ID_VALID = 0xC0502100, 0xC0182101, 0x40082102
_IOCTL_ADDFD, _IOCTL_SET_FLAGS = 0x40182103, 0x40082104
_ADDFD_FLAG_SEND, _RESPONSE_CONTINUE, _SYNC_WAKE_UP = 1 << 1, 1, 1
_EMPTY_NOTIFICATION = bytes(80)
_NOTIFICATION, _RESPONSE, _ADDFD, _ID = Struct("<QIIiIQ6Q"), Struct("<QqiI"), Struct("<QIIII"), Struct("<Q")

_seccomp = syscall("seccomp", c_uint, c_uint, c_char_p)
_PR_GET_SECCOMP = 21
_ALLOW_ALL = pack("<HBBI", 0x06, 0, 0, 0x7FFF0000)
_EBUSY, _EFAULT = 16, 14


def install(program: bytes) -> None:
    """Filter the calling thread's system calls from now on, its children's too. Needs no_new_privs."""
    _install(program, 0)


def install_with_listener(program: bytes) -> int:
    """The same, and a close-on-exec descriptor on which the notified calls arrive."""
    try:
        return _install(program, _FLAG_NEW_LISTENER | _FLAG_WAIT_KILLABLE_RECV)
    except OSError as error:
        if error.errno != 22:
            raise
        return _install(program, _FLAG_NEW_LISTENER)


def _install(program: bytes, flags: int) -> int:
    instructions = Buffer(program)
    return _seccomp(_SET_MODE_FILTER, flags, pack("HxxxxxxQ", len(program) // 8, instructions.address))


def refusals() -> tuple[str, str]:
    """Why filters, and why filters with a listener, can't be installed here; "" where they can.

    A call without a program fails with EFAULT where its flags are known and let through, which installs nothing. Where a
    filter is in force already it may hold the one listener a process can have (seccomp_unotify(2)): then it is tried in
    a child, for a millisecond.
    """
    return _refusal(0), _refusal(_FLAG_NEW_LISTENER) or ("" if prctl(_PR_GET_SECCOMP) == 0 else _refusal_in_child())


def _refusal(flags: int) -> str:
    try:
        _seccomp(_SET_MODE_FILTER, flags, None)
    except OSError as error:
        return "" if error.errno == _EFAULT else error.strerror or str(error)
    return "answered without doing it"


def _refusal_in_child() -> str:
    pid = os.fork()
    if pid == 0:
        try:
            prctl(PR_SET_NO_NEW_PRIVS, 1)
            install_with_listener(_ALLOW_ALL)
        except OSError as error:
            os._exit(error.errno or 1)
        os._exit(0)
    errno = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if errno == _EBUSY:
        return "another supervisor listens to this process's system calls, and there can be only one"
    return os.strerror(errno) if errno > 0 else "the kernel killed a process that asked for it" if errno else ""


def wake_on_same_cpu(listener: int) -> None:
    """Hand the processor straight over between caller and listener (Linux 6.6): an order of magnitude faster."""
    try:
        ioctl(listener, _IOCTL_SET_FLAGS, _SYNC_WAKE_UP)
    except OSError:
        return  # only slower


def receive(listener: int) -> tuple[int, ...]:
    """The next notification: id, pid, flags, call number, architecture, instruction pointer, six arguments."""
    return _NOTIFICATION.unpack(ioctl(listener, _IOCTL_RECV, _EMPTY_NOTIFICATION))


def still_waiting(listener: int, notification: int) -> bool:
    """Whether the caller still waits; only then does its pid still mean that caller."""
    try:
        ioctl(listener, _IOCTL_ID_VALID, _ID.pack(notification))
    except OSError:
        return False
    return True


def answer(listener: int, notification: int, *, errno: int = 0, value: int = 0) -> None:
    """Return from the call with an errno, or with a value."""
    _send(listener, _RESPONSE.pack(notification, value, -errno, 0))


def let_continue(listener: int, notification: int) -> None:
    """Let the kernel carry out the call. Not a permission: the caller may change its arguments in memory meanwhile."""
    _send(listener, _RESPONSE.pack(notification, 0, 0, _RESPONSE_CONTINUE))


def answer_with_descriptor(listener: int, notification: int, fd: int, *, flags: int) -> None:
    """Return from the call with a copy of our descriptor (Linux 5.14 for doing both at once)."""
    try:
        ioctl(listener, _IOCTL_ADDFD, _ADDFD.pack(notification, _ADDFD_FLAG_SEND, fd, 0, flags))
    except OSError as error:
        if error.errno != 2:  # ENOENT: the caller is gone
            answer(listener, notification, errno=error.errno or 5)


def _send(listener: int, response: bytes) -> None:
    try:
        ioctl(listener, _IOCTL_SEND, response)
    except OSError as error:
        if error.errno != 2:
            raise
