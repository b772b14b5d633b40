"""What every probe needs: raw system calls by name, and one way to say how it ended.

A probe is a function that raises OSError when the kernel refuses. ``main`` runs it by name and prints ``probe: NAME``,
then DONE or the errno. Standard library only; it runs as ``python -S -B``.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import sys
from collections.abc import Callable, Mapping

LIBC = ctypes.CDLL(None, use_errno=True)

_X86 = {
    "mknodat": 259, "linkat": 265, "renameat2": 316, "openat2": 437, "open": 2, "creat": 85, "mkdir": 83, "link": 86, "symlink": 88,
    "rename": 82, "mknod": 133, "ioctl": 16, "memfd_create": 319, "pidfd_open": 434, "pidfd_getfd": 438, "pidfd_send_signal": 424,
    "ptrace": 101, "process_vm_readv": 310, "process_vm_writev": 311, "io_uring_setup": 425, "keyctl": 250, "add_key": 248,
    "request_key": 249, "bpf": 321, "userfaultfd": 323, "perf_event_open": 298, "fanotify_init": 300, "mount": 165, "umount2": 166,
    "fsopen": 430, "open_tree": 428, "mount_setattr": 442, "move_mount": 429, "fspick": 433, "unshare": 272, "clone": 56, "clone3": 435,
    "setns": 308, "shmget": 29, "shmat": 30, "msgget": 68, "msgrcv": 70, "semget": 64, "semctl": 66, "mq_open": 240, "mq_timedreceive": 243,
    "pivot_root": 155, "chroot": 161, "swapon": 167, "reboot": 169, "kexec_load": 246, "init_module": 175, "finit_module": 313,
    "delete_module": 176, "iopl": 172, "ioperm": 173, "syslog": 103, "acct": 163, "quotactl": 179, "lookup_dcookie": 212,
    "open_by_handle_at": 304, "name_to_handle_at": 303, "kcmp": 312, "fchmodat2": 452, "fallocate": 285, "settimeofday": 164,
    "sethostname": 170, "setdomainname": 171, "clock_settime": 227, "adjtimex": 159, "modify_ldt": 154, "fchmodat": 268, "utimensat": 280,
    "landlock_create_ruleset": 444, "seccomp": 317, "process_madvise": 440, "migrate_pages": 256, "move_pages": 279, "personality": 135,
    "sendto": 44, "sendmsg": 46, "sendmmsg": 307, "connect": 42, "inotify_init1": 294, "memfd_secret": 447, "setxattrat": 463,
    "copy_file_range": 326, "splice": 275, "pwritev2": 328, "statmount": 457, "listmount": 458, "getpid": 39, "pidfd_spawn": 0,
}  # fmt: skip
_ARM = {
    "mknodat": 33, "linkat": 37, "renameat2": 276, "openat2": 437, "ioctl": 29, "memfd_create": 279, "pidfd_open": 434,
    "pidfd_getfd": 438, "pidfd_send_signal": 424, "ptrace": 117, "process_vm_readv": 270, "process_vm_writev": 271,
    "io_uring_setup": 425, "keyctl": 219, "add_key": 217, "request_key": 218, "bpf": 280, "userfaultfd": 282, "perf_event_open": 241,
    "fanotify_init": 262, "mount": 40, "umount2": 39, "fsopen": 430, "open_tree": 428, "mount_setattr": 442, "move_mount": 429,
    "fspick": 433, "unshare": 97, "clone": 220, "clone3": 435, "setns": 268, "shmget": 194, "shmat": 196, "msgget": 186, "msgrcv": 188,
    "semget": 190, "semctl": 191, "mq_open": 180, "mq_timedreceive": 183, "pivot_root": 41, "chroot": 51, "swapon": 224, "reboot": 142,
    "kexec_load": 104, "init_module": 105, "finit_module": 273, "delete_module": 106, "syslog": 116, "acct": 89, "quotactl": 60,
    "open_by_handle_at": 265, "name_to_handle_at": 264, "kcmp": 272, "fchmodat2": 452, "fallocate": 47, "settimeofday": 170,
    "sethostname": 161, "setdomainname": 162, "clock_settime": 112, "adjtimex": 171, "fchmodat": 53, "utimensat": 88,
    "seccomp": 277, "process_madvise": 440, "migrate_pages": 238, "move_pages": 239, "personality": 92, "sendto": 206, "sendmsg": 211,
    "sendmmsg": 269, "connect": 203, "memfd_secret": 447, "setxattrat": 463, "copy_file_range": 285, "getpid": 172,
}  # fmt: skip
NUMBERS = _X86 if platform.machine() == "x86_64" else _ARM

AT_FDCWD, AT_EMPTY_PATH, AT_SYMLINK_FOLLOW = -100, 0x1000, 0x400
RENAME_NOREPLACE, RENAME_EXCHANGE, RENAME_WHITEOUT = 1, 2, 4
O_PATH, O_TMPFILE = os.O_PATH, os.O_TMPFILE


def refused(where: str = "") -> OSError:
    code = ctypes.get_errno()
    return OSError(code, os.strerror(code), where)


def call(name: str | int, *arguments: int | bytes | ctypes.Array[ctypes.c_char] | None) -> int:
    """syscall(2). Integers are passed as longs, bytes as pointers. Raises OSError."""
    number = name if isinstance(name, int) else NUMBERS.get(name, -1)
    if number < 0:
        raise OSError(errno.ENOSYS, "no such call on this machine", str(name))
    words = [ctypes.c_long(word) if isinstance(word, int) else word for word in arguments]
    LIBC.syscall.restype = ctypes.c_long
    result = LIBC.syscall(ctypes.c_long(number), *words)
    if result < 0:
        raise refused(str(name))
    return int(result)


def say(text: str) -> None:
    os.write(1, text.encode(errors="surrogateescape") + b"\n")


def show(data: bytes | str) -> None:
    """Print what was read, so that the runner can look for the token in it."""
    say(data if isinstance(data, str) else data.decode("latin-1"))


def wait_for_host() -> None:
    """Let the host act now."""
    say("READY")
    os.read(0, 100)


def first_that_works(*ways: Callable[[], object]) -> None:
    """Try several ways to the same end; only when all are refused is the probe refused."""
    last: OSError | None = None
    for way in ways:
        try:
            way()
        except OSError as error:
            last = error
        else:
            return
    assert last
    raise last


def main(names: Mapping[str, object]) -> None:
    name, *arguments = sys.argv[1:]
    say(f"probe: {name}")
    probe = names[name]
    assert callable(probe)
    try:
        probe(*arguments)
    except OSError as error:
        say(f"refused: {errno.errorcode.get(error.errno or 0, str(error.errno))} {error}")
        sys.exit(1)
    say("DONE")


def listed(names: Mapping[str, object], module: str) -> list[str]:
    """Names of the probes of a module: its own public functions, in their order."""
    return [
        name
        for name, value in names.items()
        if callable(value) and not name.startswith("_") and getattr(value, "__module__", "") == module and not isinstance(value, type)
    ]
