"""Runs a command on a kernel that lacks something: ``without_sys.py WHAT[,WHAT] -- ARGV…``. Standard library only.

What is missing is taken away for real, by a system call filter that answers as such a kernel would, or by a namespace that
looks like a container. Nothing of houseroom is replaced. Made without houseroom's own assembler, which is under test.
"""

from __future__ import annotations

import ctypes
import os
import platform
import struct
import sys

LIBC = ctypes.CDLL(None, use_errno=True)
ARM = platform.machine() == "aarch64"
AUDIT_ARCH = 0xC00000B7 if ARM else 0xC000003E
CLONE, UNSHARE, SECCOMP, SOCKET, PRCTL = (220, 97, 277, 198, 167) if ARM else (56, 272, 317, 41, 157)
CLONE3, OPEN_TREE, MOVE_MOUNT, FSOPEN, FSMOUNT, MOUNT_SETATTR, LANDLOCK_CREATE = 435, 428, 429, 430, 432, 442, 444
EPERM, EINVAL, ENOSYS, EPROTONOSUPPORT, EOPNOTSUPP = 1, 22, 38, 93, 95
NEWUSER, NEWNS, NEWPID = 0x10000000, 0x20000, 0x20000000
SIGCHLD = 17
ALLOW, ERRNO = 0x7FFF0000, 0x00050000
MS_RDONLY, MS_REMOUNT, MS_BIND, MS_REC, MS_PRIVATE = 1, 32, 0x1000, 0x4000, 0x40000

# call, conditions, errno. A condition is (argument, "has", bits) or (argument, "is", value) on the argument's low 32 bits.
Condition = tuple[int, str, int]
FILTERS: dict[str, tuple[tuple[int, tuple[Condition, ...], int], ...]] = {
    # a system administrator's choice, Docker's default profile, AppArmor on Ubuntu; glibc falls back from clone3 to clone
    "user-namespaces": (
        (CLONE, ((0, "has", NEWUSER),), EPERM),
        (UNSHARE, ((0, "has", NEWUSER),), EPERM),
        (CLONE3, (), ENOSYS),
    ),
    # A security module that lets bwrap make user namespaces and not everybody, as on Ubuntu: told apart here by the flags, of
    # which bwrap asks for more in its one call.
    "our-namespaces": tuple((CLONE, ((0, "is", flags | SIGCHLD),), EPERM) for flags in (NEWUSER, NEWUSER | NEWPID)),
    "mount-calls": tuple((call, (), ENOSYS) for call in (OPEN_TREE, MOVE_MOUNT, FSOPEN, FSMOUNT, MOUNT_SETATTR)),  # before 5.2
    "mount-setattr": ((MOUNT_SETATTR, (), ENOSYS),),  # 5.2 to 5.11
    "landlock": ((LANDLOCK_CREATE, (), EOPNOTSUPP),),  # not among the modules of lsm=
    "listeners": ((SECCOMP, ((0, "is", 1), (1, "has", 8)), EINVAL),),  # before 5.0
    "filters": ((SECCOMP, (), ENOSYS), (PRCTL, ((0, "is", 22),), EINVAL)),
    "unix-diag": ((SOCKET, ((0, "is", 16), (2, "is", 4)), EPROTONOSUPPORT),),
}


def must(result: int, what: str) -> int:
    if result == -1:
        code = ctypes.get_errno()
        sys.exit(f"without_sys: {what}: {os.strerror(code)}")
    return result


def program(rows: tuple[tuple[int, tuple[Condition, ...], int], ...]) -> bytes:
    """Classic BPF: every row starts over, a condition that fails leaves the row."""
    load, equal, any_bit, result = 0x20, 0x15, 0x45, 0x06
    out: list[tuple[int, int, int, int]] = [(load, 0, 0, 4), (equal, 1, 0, AUDIT_ARCH), (result, 0, 0, ALLOW)]
    for call, conditions, errno in rows:
        left = 2 * len(conditions) + 1
        out += [(load, 0, 0, 0), (equal, 0, left, call)]
        for at, (argument, how, value) in enumerate(conditions):
            out += [(load, 0, 0, 16 + 8 * argument), (any_bit if how == "has" else equal, 0, left - 2 * (at + 1), value)]
        out.append((result, 0, 0, ERRNO | errno))
    out.append((result, 0, 0, ALLOW))
    return b"".join(struct.pack("<HBBI", code, yes, no, k) for code, yes, no, k in out)


def install(code: bytes, flags: int = 0) -> int:
    must(LIBC.prctl(38, 1, 0, 0, 0), "no_new_privs")
    text = ctypes.create_string_buffer(code, len(code))
    header = struct.pack("HxxxxxxQ", len(code) // 8, ctypes.addressof(text))
    return must(LIBC.syscall(ctypes.c_long(SECCOMP), ctypes.c_ulong(1), ctypes.c_ulong(flags), header), "seccomp")


def listener_busy() -> None:
    """As in a container whose manager answers some calls itself: it holds the only listener there can be."""
    os.set_inheritable(install(struct.pack("<HBBI", 0x06, 0, 0, ALLOW), 8), True)


def masked_proc() -> None:
    """As in a container: namespaces of our own, in whose /proc some files are masked and others are read-only."""
    uid, gid = os.getuid(), os.getgid()
    must(LIBC.unshare(NEWUSER | NEWNS | NEWPID), "unshare")
    for name, text in (("setgroups", "deny"), ("uid_map", f"{uid} {uid} 1"), ("gid_map", f"{gid} {gid} 1")):
        with open(f"/proc/self/{name}", "w") as file:
            file.write(text)
    child = os.fork()
    if child:
        os._exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) & 0xFF)
    must(LIBC.mount(b"none", b"/", None, MS_REC | MS_PRIVATE, None), "make private")
    must(LIBC.mount(b"proc", b"/proc", b"proc", 0, None), "mount /proc")
    for name in filter(os.path.exists, ("/proc/keys", "/proc/timer_list", "/proc/kcore")):
        must(LIBC.mount(b"/dev/null", name.encode(), None, MS_BIND, None), f"mask {name}")
    for name in filter(os.path.exists, ("/proc/sys", "/proc/irq", "/proc/bus")):
        must(LIBC.mount(name.encode(), name.encode(), None, MS_BIND | MS_REC, None), f"bind {name}")
        must(LIBC.mount(None, name.encode(), None, MS_BIND | MS_REMOUNT | MS_RDONLY, None), f"make {name} read-only")


SETTINGS = {"a-free-listener": listener_busy, "a-whole-proc": masked_proc}
EVERYTHING = (*FILTERS, *SETTINGS)


def main() -> None:
    what, dashes, *argv = sys.argv[1:]
    assert dashes == "--"
    missing = what.split(",")
    for name in missing:
        if name in SETTINGS:
            SETTINGS[name]()
    rows = tuple(row for name in missing for row in FILTERS.get(name, ()))
    if rows:
        install(program(rows))
    os.execvp(argv[0], argv)


if __name__ == "__main__":
    main()
