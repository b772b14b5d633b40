"""Acts that any user may do, each in a child of its own, with a filter loaded or without."""

from __future__ import annotations

import ctypes
import fcntl
import mmap
import os
import socket
import struct
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path

from houseroom.plan.syscalls import numbers

LIBC = ctypes.CDLL(None, use_errno=True)
LIBC.syscall.restype = ctypes.c_long
PR_SET_NO_NEW_PRIVS, PR_SET_SECCOMP, SECCOMP_MODE_FILTER = 38, 22, 2
DONE, BROKEN = 0, 255


def call(name: str, *arguments: int) -> None:
    """syscall(2) with 64-bit arguments; raises OSError."""
    number = numbers(os.uname().machine)[name]
    if LIBC.syscall(ctypes.c_long(number), *(ctypes.c_ulong(a) for a in arguments)) == -1:
        raise OSError(ctypes.get_errno(), name)


def ask_for_a_keyring(_directory: Path) -> None:
    join_session_keyring = 1
    call("keyctl", join_session_keyring, 0)


def set_personality(_directory: Path) -> None:
    read_implies_exec = 0x400000
    call("personality", read_implies_exec)


def copy_a_mount_point(_directory: Path) -> None:
    root = ctypes.create_string_buffer(b"/")
    call("open_tree", 0, ctypes.addressof(root), 0)


def make_a_datagram_pair(_directory: Path) -> None:
    socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)


def make_a_stream_pair(_directory: Path) -> None:
    socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)


def make_an_mptcp_socket(_directory: Path) -> None:
    socket.socket(socket.AF_INET, socket.SOCK_STREAM, 262)


def make_a_directory(directory: Path) -> None:
    directory.mkdir()


def create_a_file(directory: Path) -> None:
    directory.with_suffix(".file").touch()


def read_a_file(_directory: Path) -> None:
    Path("/proc/self/status").read_text(encoding="utf-8")


def start_a_thread(_directory: Path) -> None:
    thread = threading.Thread(target=lambda: None)
    thread.start()
    thread.join()


def start_a_program(_directory: Path) -> None:
    subprocess.run(["true"], check=True)


def type_into_own_terminal(_directory: Path, request: int = 0x5412) -> None:
    """TIOCSTI on a new pseudo-terminal that this process is in control of."""
    _outer, inner = os.openpty()
    os.setsid()
    fcntl.ioctl(inner, 0x540E, 0)  # TIOCSCTTY
    letter = ctypes.create_string_buffer(b"x")
    call("ioctl", inner, request, ctypes.addressof(letter))


def type_into_own_terminal_with_bit_32(directory: Path) -> None:
    type_into_own_terminal(directory, 1 << 32 | 0x5412)


def call_as_a_32_bit_program(_directory: Path) -> None:
    """getpid(2) through ``int $0x80``. A signal ends the process where the kernel has no such entry."""
    if os.uname().machine != "x86_64":
        raise OSError(38, "another processor's instructions")
    code = mmap.mmap(-1, mmap.PAGESIZE, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    code.write(b"\x53\xb8\x14\x00\x00\x00\xcd\x80\x5b\xc3")  # push rbx; mov eax, 20; int 0x80; pop rbx; ret
    entry = ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(code)))
    if entry() != os.getpid():
        raise OSError(38, "no 32-bit calls")


def load(program: bytes) -> None:
    """Filter this process from now on, as any unprivileged process may after no_new_privs."""
    instructions = ctypes.create_string_buffer(program, len(program))
    filter_ = struct.pack("HxxxxxxQ", len(program) // 8, ctypes.addressof(instructions))
    for arguments in ((PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), (PR_SET_SECCOMP, SECCOMP_MODE_FILTER, filter_, 0, 0)):
        if LIBC.prctl(*arguments) != 0:
            raise OSError(ctypes.get_errno(), "the kernel refused the filter")


def outcome(act: Callable[[Path], None], directory: Path, program: bytes | None) -> int:
    """0 when the act succeeds in a child, its errno when the kernel refuses it, -n when signal n ends the child."""
    child = os.fork()
    if child == 0:
        code = BROKEN
        try:
            if program is not None:
                load(program)
            try:
                act(directory)
                code = DONE
            except OSError as error:
                code = error.errno or BROKEN
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
