"""What the egress proxy gives up, tried outside any sandbox: the same acts before and after, and by another process of the same user."""

from __future__ import annotations

import ctypes
import os
import signal
from collections.abc import Callable

from probe_kit import LIBC, main, refused, say

PR_GET_DUMPABLE = 3


def _capset_none() -> None:
    header, none = (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()
    if LIBC.capset(header, none):
        raise refused("capset")


def _write_acts(place: str) -> dict[str, Callable[[], object]]:
    """Each leaves things as it found them, where it works."""
    file, other = f"{place}/file", f"{place}/other"

    def made() -> None:
        os.close(os.open(other, os.O_WRONLY | os.O_CREAT | os.O_EXCL))
        os.unlink(other)

    def moved() -> None:
        os.rename(file, other)
        os.rename(other, file)

    def directory() -> None:
        os.mkdir(other)
        os.rmdir(other)

    def linked(how: Callable[[str, str], object]) -> None:
        how(file, other)
        os.unlink(other)

    return {
        "write": lambda: os.close(os.open(file, os.O_WRONLY)),
        "append": lambda: os.close(os.open(file, os.O_WRONLY | os.O_APPEND)),
        "truncate": lambda: os.truncate(file, 0),
        "create": made,
        "rename": moved,
        "mkdir": directory,
        "symlink": lambda: linked(os.symlink),
        "link": lambda: linked(os.link),
        "fifo": lambda: linked(lambda _, name: os.mkfifo(name)),
        "terminal": lambda: os.close(os.open("/dev/ptmx", os.O_RDWR | os.O_NOCTTY)),
        "own memory": lambda: os.close(os.open("/proc/self/mem", os.O_RDWR)),
    }


def rights(root: str, place: str) -> None:
    """What ``apart.drop_rights`` takes: an account before, and one after it."""
    from houseroom.session import apart

    for moment in ("before", "after"):
        if moment == "after":
            apart.drop_rights()
        for name, act in _write_acts(place).items():
            try:
                act()
                say(f"{moment} {name}: done")
            except PermissionError:
                say(f"{moment} {name}: refused")
        with open("/proc/self/status") as lines:
            found = dict(line.rstrip("\n").split(":\t", 1) for line in lines if ":\t" in line)
        for name in ("CapInh", "CapPrm", "CapEff", "CapAmb", "NoNewPrivs"):
            say(f"{moment} {name}: {int(found[name], 16)}")
        say(f"{moment} dumpable: {LIBC.prctl(PR_GET_DUMPABLE, 0, 0, 0, 0)}")
        say(f"{moment} reads: {len(open('/etc/passwd').read()) > 0}")


def looked_into(root: str, *pids: str) -> None:
    """What the same user learns of these processes without any capability, and first of an ordinary one that has none either."""
    _capset_none()
    child = os.fork()
    if child == 0:
        signal.pause()
    try:
        for label, pid in (("ordinary", child), *((each, int(each)) for each in pids)):
            for what in ("environ", "maps", "mem"):
                try:
                    os.close(os.open(f"/proc/{pid}/{what}", os.O_RDONLY))
                    say(f"{label} {what}: done")
                except PermissionError:
                    say(f"{label} {what}: refused")
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


if __name__ == "__main__":
    main(globals())
