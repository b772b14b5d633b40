"""inotify(7)."""

from __future__ import annotations

import sys

assert sys.platform == "linux"  # type checkers for other systems stop reading here

import os
from _struct import Struct

from houseroom.enforce.linux.libc_sys import c_char_p, c_int, c_uint, function

CREATE, MOVED_TO, OVERFLOW, IS_DIR = 0x100, 0x80, 0x4000, 0x40000000
_DELETE, _DELETE_SELF, _MOVE_SELF = 0x200, 0x400, 0x800
_ONLYDIR, _DONT_FOLLOW = 0x01000000, 0x02000000
_EVENT = Struct("iIII")

_init1 = function("inotify_init1", c_int)
_add_watch = function("inotify_add_watch", c_int, c_char_p, c_uint)


def open_queue() -> int:
    """A non-blocking, close-on-exec event queue."""
    return _init1(os.O_NONBLOCK | os.O_CLOEXEC)


def add_directory(queue: int, path: bytes) -> int:
    """Hear of names that appear in a directory. Raises OSError, ENOSPC at the user's limit of watches."""
    return _add_watch(queue, path, CREATE | MOVED_TO | _ONLYDIR | _DONT_FOLLOW)


def add_end(queue: int, path: bytes) -> None:
    """Hear when a directory is moved or removed, or anything in it removed. Raises OSError."""
    _add_watch(queue, path, _DELETE | _DELETE_SELF | _MOVE_SELF | _ONLYDIR)


def read_events(queue: int) -> list[tuple[int, int, bytes]]:
    """Waiting events as (watch, mask, name); an empty list when there are none."""
    try:
        data = os.read(queue, 1 << 16)
    except BlockingIOError:
        return []
    events, at = [], 0
    while at < len(data):
        watch, mask, _cookie, length = _EVENT.unpack_from(data, at)
        at += 16
        events.append((watch, mask, data[at : at + length].rstrip(b"\0")))
        at += length
    return events
