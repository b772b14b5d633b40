"""Landlock's rights by name, with the ABI each came with: landlock(7), <linux/landlock.h>. ABI 7 is Linux 6.15.

A right that the kernel's ABI doesn't know is left out of the bits (asking for it would be EINVAL); ``lacks`` says what
that costs, for the coverage.
"""

from __future__ import annotations

FILES, NETWORK, SCOPE = "files", "network", "scope"

NEWEST_ABI = 7  # it brought logging flags, no right

RIGHTS: tuple[tuple[str, str, int, int, str], ...] = (  # kind, name, bit, since ABI, what it governs
    (FILES, "execute", 1 << 0, 1, "execute a file"),
    (FILES, "write_file", 1 << 1, 1, "open a file for writing"),
    (FILES, "read_file", 1 << 2, 1, "open a file for reading"),
    (FILES, "read_dir", 1 << 3, 1, "list a directory"),
    (FILES, "remove_dir", 1 << 4, 1, "remove or rename a directory"),
    (FILES, "remove_file", 1 << 5, 1, "remove or rename anything else"),
    (FILES, "make_char", 1 << 6, 1, "create a character device or an overlay's whiteout"),
    (FILES, "make_dir", 1 << 7, 1, "create a directory"),
    (FILES, "make_reg", 1 << 8, 1, "create a file, or give one a further name"),
    (FILES, "make_sock", 1 << 9, 1, "bind a Unix socket to a path"),
    (FILES, "make_fifo", 1 << 10, 1, "create a FIFO"),
    (FILES, "make_block", 1 << 11, 1, "create a block device"),
    (FILES, "make_sym", 1 << 12, 1, "create a symbolic link"),
    (FILES, "refer", 1 << 13, 2, "link or rename into another directory"),
    (FILES, "truncate", 1 << 14, 3, "cut a file's length"),
    (FILES, "ioctl_dev", 1 << 15, 5, "ioctl(2) on a device"),
    (NETWORK, "bind_tcp", 1 << 0, 4, "listen on a TCP port"),
    (NETWORK, "connect_tcp", 1 << 1, 4, "connect to a TCP port"),
    (SCOPE, "abstract_unix_socket", 1 << 0, 6, "connect to abstract Unix sockets made outside"),
    (SCOPE, "signal", 1 << 1, 6, "signal processes outside"),
)

READ = ("execute", "read_file", "read_dir")

# Everything but new names, which init makes after looking at them.
WRITE_IN_PLACE = (*READ, "write_file", "truncate", "ioctl_dev", "remove_dir", "remove_file")

FULL = (*WRITE_IN_PLACE, "make_sock", "make_reg", "make_dir", "make_sym", "make_fifo", "make_char", "make_block", "refer")

WRITING = tuple(name for name in FULL if name not in READ)

# Governing these makes the kernel walk every opened file's path, also of one opened for reading, which makes open(2) half
# as slow again. Where there are mounts, these govern them: nothing outside the writable roots can be truncated, and /dev is
# our own.
LEFT_TO_MOUNTS = ("truncate", "ioctl_dev")

ON_FILES = ("execute", "write_file", "read_file", "truncate", "ioctl_dev")  # all that a rule on something not a directory may hold

_LOST: tuple[tuple[int, str], ...] = (  # up to which ABI, what is not stopped
    (0, "nothing at all is stopped: the kernel has no Landlock, or it is switched off"),
    (2, "truncate(2) empties files that may not be written (needs Linux 6.2)"),
    (3, "TCP ports are not governed (needs Linux 6.7)"),
    (4, "ioctl(2) on devices is not governed (needs Linux 6.10)"),
    (5, "signals and abstract Unix sockets reach processes outside (needs Linux 6.12)"),
)
_REFER_LOST = "links and renames between directories always fail, also where they are allowed (needs Linux 5.19)"

_BITS = {name: (kind, bit, since) for kind, name, bit, since, _governs in RIGHTS}


def handled(abi: int) -> tuple[int, int, int]:
    """File, network and scope bits a ruleset should handle on this ABI: all that it knows. Zeros for ABI 0."""
    masks = {FILES: 0, NETWORK: 0, SCOPE: 0}
    for kind, _name, bit, since, _governs in RIGHTS:
        if since <= abi:
            masks[kind] |= bit
    return masks[FILES], masks[NETWORK], masks[SCOPE]


def bits(names: tuple[str, ...], abi: int) -> int:
    """The bits of these file rights, without those the ABI lacks. Raises ``KeyError`` for a name that is no file right."""
    mask = 0
    for name in names:
        kind, bit, since = _BITS[name]
        if kind != FILES:
            raise KeyError(name)
        if since <= abi:
            mask |= bit
    return mask


def to_handle(rules: tuple[tuple[str, tuple[str, ...]], ...], *, mounts: bool) -> tuple[str, ...]:
    """The file rights to govern. What is allowed below ``/`` is allowed everywhere: governing it would cost and stop nothing."""
    everywhere = {name for path, names in rules if path == "/" for name in names} | set(LEFT_TO_MOUNTS if mounts else ())
    return tuple(name for kind, name, *_ in RIGHTS if kind == FILES and name not in everywhere)


def for_init(rules: tuple[tuple[str, tuple[str, ...]], ...]) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """A command's rules as init's own, for a rung without mounts: new names too, which init makes on the command's behalf,
    and still nowhere else. init enters its domain before the command's process is born, whose own is then nested in it.
    """
    return tuple((path, FULL if names == WRITE_IN_PLACE else names) for path, names in rules)


def lacks(abi: int) -> tuple[str, ...]:
    """What an ABI leaves unstopped or forbids too much, in words; empty from ABI 6 on."""
    if abi <= 0:
        return (_LOST[0][1],)
    refer = (_REFER_LOST,) if abi < 2 else ()
    return (*refer, *(lost for until, lost in _LOST if abi <= until))
