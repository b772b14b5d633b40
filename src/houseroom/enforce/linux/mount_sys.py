"""Mounts, by descriptor: open_tree(2), move_mount(2), mount_setattr(2), fsopen(2) (Linux 5.2 and 5.12), pivot_root(2)."""

from __future__ import annotations

import sys

assert sys.platform == "linux"  # type checkers for other systems stop reading here

import os
from _struct import pack

from houseroom.enforce.linux.libc_sys import c_char_p, c_int, c_long, c_uint, c_ulong, function, syscall

AT_FDCWD = -100
AT_SYMLINK_NOFOLLOW, AT_EMPTY_PATH, AT_RECURSIVE = 0x100, 0x1000, 0x8000
_OPEN_TREE_CLONE, _OPEN_TREE_CLOEXEC = 1, 0o2000000
_MOVE_F_EMPTY, _MOVE_T_EMPTY = 0x04, 0x40
_FSCONFIG_SET_FLAG, _FSCONFIG_SET_STRING, _FSCONFIG_CMD_CREATE = 0, 1, 6
_FSOPEN_CLOEXEC = _FSMOUNT_CLOEXEC = 1
_MS_BIND, _MS_REC, _MS_PRIVATE, _MNT_DETACH = 0x1000, 0x4000, 0x40000, 2
_NO_SYMLINKS = 0x04  # openat2(2), RESOLVE_NO_SYMLINKS

RDONLY, NOSUID, NODEV, NOEXEC = 0x1, 0x2, 0x4, 0x8

_open_tree = syscall("open_tree", c_int, c_char_p, c_uint)
_move_mount = syscall("move_mount", c_int, c_char_p, c_int, c_char_p, c_uint)
_mount_setattr = syscall("mount_setattr", c_int, c_char_p, c_uint, c_char_p, c_long)
_fsopen = syscall("fsopen", c_char_p, c_uint)
_fsconfig = syscall("fsconfig", c_int, c_uint, c_char_p, c_char_p, c_int)
_fsmount = syscall("fsmount", c_int, c_uint, c_uint)
_pivot_root = syscall("pivot_root", c_char_p, c_char_p)
_umount2 = function("umount2", c_char_p, c_int)
_renameat2 = function("renameat2", c_int, c_char_p, c_int, c_char_p, c_uint)
_openat2 = syscall("openat2", c_int, c_char_p, c_char_p, c_ulong)
_mount = function("mount", c_char_p, c_char_p, c_char_p, c_ulong, c_char_p)


def open_tree(path: bytes, *, recursive: bool = True, follow: bool = True) -> int:
    """A detached clone of the mounts at a path. ``follow`` False clones a symbolic link itself."""
    flags = _OPEN_TREE_CLONE | _OPEN_TREE_CLOEXEC | (AT_RECURSIVE if recursive else 0) | (0 if follow else AT_SYMLINK_NOFOLLOW)
    return _open_tree(AT_FDCWD, path, flags)


def open_tree_at(directory: int, name: bytes = b"", *, recursive: bool = False) -> int:
    """The same at a name in a directory held by descriptor, or at what the descriptor itself holds. No link is followed."""
    flags = _OPEN_TREE_CLONE | _OPEN_TREE_CLOEXEC | AT_SYMLINK_NOFOLLOW | (AT_RECURSIVE if recursive else 0)
    return _open_tree(directory, name, flags if name else flags | AT_EMPTY_PATH)


def open_path(path: bytes, *, link: bool = False) -> int:
    """What is at a path, by descriptor. A symbolic link on the way or at its end is ELOOP; ``link`` True holds one at its end."""
    return openat2(AT_FDCWD, path, os.O_PATH | os.O_CLOEXEC | (os.O_NOFOLLOW if link else 0), _NO_SYMLINKS)


def clone(path: bytes, *, link: bool = False) -> int:
    """A detached clone of the mounts at a path; see ``open_path`` for links."""
    found = open_path(path, link=link)
    try:
        return open_tree_at(found, recursive=True)
    finally:
        os.close(found)


def move_mount(tree: int, path: bytes, *, link: bool = False) -> None:
    """Attach a detached mount over a path; see ``open_path`` for links."""
    target = open_path(path, link=link)
    try:
        attach(tree, target)
    finally:
        os.close(target)


def attach(tree: int, target: int, name: bytes = b"") -> None:
    """Attach a detached mount over what a descriptor holds, or over a name in it, which is no symbolic link."""
    _move_mount(tree, b"", target, name, _MOVE_F_EMPTY if name else _MOVE_F_EMPTY | _MOVE_T_EMPTY)


def bind(source: bytes, target: bytes) -> None:
    """One mount, with all that is mounted inside it and with its attributes, again at another path: mount(2), MS_BIND.

    One call where a detached clone takes three, so thousands are to be had. Both paths follow symbolic links: the caller
    sees to it that these can't lead anywhere.
    """
    _mount(source, target, None, _MS_BIND | _MS_REC, None)


def detach(path: bytes) -> None:
    """Take away the mount at a path and all inside it."""
    _umount2(path, _MNT_DETACH)


def mount_setattr(tree: int, *, on: int = 0, off: int = 0, recursive: bool = True) -> None:
    """Set and clear per-mount attributes of a detached mount."""
    _mount_setattr(tree, b"", AT_EMPTY_PATH | (AT_RECURSIVE if recursive else 0), pack("4Q", on, off, 0, 0), 32)


def fsopen(kind: str) -> int:
    """A context for a new file system; fails where the kernel does not have it or does not give it to us."""
    return _fsopen(kind.encode(), _FSOPEN_CLOEXEC)


def set_read_only(path: bytes) -> None:
    """Make the one mount at a path read-only, not those inside it."""
    _mount_setattr(AT_FDCWD, path, 0, pack("4Q", RDONLY, 0, 0, 0), 32)


def new_mount(kind: str, options: dict[str, str], attributes: int) -> int:
    """A detached mount of a new file system. An empty option value is a flag."""
    context = fsopen(kind)
    try:
        for name, value in options.items():
            _fsconfig(
                context, _FSCONFIG_SET_STRING if value else _FSCONFIG_SET_FLAG, name.encode(), os.fsencode(value) if value else None, 0
            )
        _fsconfig(context, _FSCONFIG_CMD_CREATE, None, None, 0)
        return _fsmount(context, _FSMOUNT_CLOEXEC, attributes)
    finally:
        os.close(context)


def make_private() -> None:
    """Nothing that is mounted here reaches the host, and nothing mounted there later reaches us."""
    _mount(None, b"/", None, _MS_REC | _MS_PRIVATE, None)


def pivot_into_cwd() -> None:
    """The current directory becomes ``/`` and the old root is detached (pivot_root(2), last example)."""
    _pivot_root(b".", b".")
    _umount2(b".", _MNT_DETACH)


def renameat2(old_parent: int, old: bytes, new_parent: int, new: bytes, flags: int) -> None:
    """renameat2(2): rename with RENAME_NOREPLACE or RENAME_EXCHANGE."""
    _renameat2(old_parent, old, new_parent, new, flags)


def openat2(directory: int, path: bytes, flags: int, resolve: int) -> int:
    """openat2(2): open a path below a directory with restrictions on how it is resolved (Linux 5.6)."""
    return _openat2(directory, path, pack("3Q", flags, 0, resolve), 24)
