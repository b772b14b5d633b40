"""System call filters as tables, one reason per row, and their translation to BPF.

A row is ``(call, conditions, action, reason)``. A condition ``(argument, mask, inside, values)`` holds when
``(argument & mask in values) == inside``; a row applies when all of its conditions hold; of a call's rows the first that
applies decides; a call without an applying row is allowed. An action is an errno for the caller, or NOTIFY.

Most arguments are declared ``int`` in the kernel, which ignores their upper half, so masks have 32 bits. A mask of 64
bits is for pointers and can only be compared with zero.

Errnos are chosen so that programs fall back to something older as they do on a kernel without the feature: ENOSYS for
calls that a kernel may lack, the errno of an unprivileged user for the others. The values are Linux's, whatever this runs on.

Whole classes, decided before the tables:

- A foreign architecture (32-bit entries) ends the process. A 64-bit program doesn't get there by accident, and a 32-bit one
  that finds ENOSYS even for exit_group(2) may spin for ever.
- Numbers above the newest call we have looked at, x32 (bit 30) and -1 (a debugger's "skip this call") return ENOSYS: new calls
  have gone round filters before (openat2, io_uring, open_tree), and what an older kernel says is what programs expect.
"""

from __future__ import annotations

from houseroom.plan import bpf
from houseroom.plan.syscalls import ARCHITECTURES, NEWEST, numbers

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    Condition = tuple[int, int, bool, tuple[int, ...]]
    Row = tuple[str, tuple[Condition, ...], int, str]
    Label = str | int

COMMAND, INIT = "command", "init"
PROGRAMS = (COMMAND, INIT)
NETWORKS = ("none", "open", "refused")

EPERM, EACCES, ENOTTY, ENOSYS = 1, 13, 25, 38
EPROTONOSUPPORT, ESOCKTNOSUPPORT, EOPNOTSUPP, EAFNOSUPPORT = 93, 94, 95, 97

NOTIFY = -1  # ask init: seccomp user notification

# What init takes note of: nothing; what is refused of the calls that it carries out anyway; programs that start and every attempt to
# change something; all that is opened. Each level holds the one before it. What they cost: docs/observe.md.
OFF, DENIALS, EXECUTIONS, ALL = "off", "denials", "executions", "all"
LEVELS = (OFF, DENIALS, EXECUTIONS, ALL)

RET_KILL_PROCESS, RET_ERRNO, RET_USER_NOTIF, RET_ALLOW = 0x80000000, 0x00050000, 0x7FC00000, 0x7FFF0000

INT, POINTER = 0xFFFFFFFF, 0xFFFFFFFFFFFFFFFF
ALWAYS: tuple[Condition, ...] = ()
# The same on both machines. O_TMPFILE, which makes no name, doesn't contain O_CREAT.
_O_CREAT, _O_ACCMODE = 0o100, 0o3
_UNIX, _INET, _INET6, _NETLINK = 1, 2, 10, 16
_STREAM, _DGRAM, _RAW, _SEQPACKET = 1, 2, 3, 5
_NEW_NAMESPACE = 0x7E020000  # CLONE_NEWNS | NEWCGROUP | NEWUTS | NEWIPC | NEWUSER | NEWPID | NEWNET
_NEW_TIME = 0x80  # CLONE_NEWTIME: in clone(2) these bits are the exit signal

NEVER: tuple[Row, ...] = (  # in both programs
    ("io_uring_setup", ALWAYS, ENOSYS, "its operations never pass a system call filter"),
    ("io_uring_enter", ALWAYS, ENOSYS, "submits to a ring that was inherited"),
    ("io_uring_register", ALWAYS, ENOSYS, "steers a ring that was inherited"),
    ("clone3", ALWAYS, ENOSYS, "its flags lie in memory, out of a filter's sight; libc falls back to clone"),
    ("clone", ((0, _NEW_NAMESPACE, False, (0,)),), EPERM, "a new user namespace grants all capabilities inside it"),
    ("unshare", ((0, _NEW_NAMESPACE | _NEW_TIME, False, (0,)),), EPERM, "a new user namespace grants all capabilities inside it"),
    ("setns", ALWAYS, EPERM, "enters other namespaces"),
    ("pivot_root", ALWAYS, EPERM, "replaces the root that was built"),
    ("chroot", ALWAYS, EPERM, "makes a path mean something else to the mediator than to the caller"),
    ("open_by_handle_at", ALWAYS, EPERM, "opens a file by number, past every directory on the way"),
    ("bpf", ALWAYS, EPERM, "loads programs into the kernel"),
    ("perf_event_open", ALWAYS, EACCES, "large attack surface, sees other programs' timing; EACCES is perf_event_paranoid's answer"),
    ("userfaultfd", ALWAYS, EPERM, "stops the kernel in the middle of a copy, the tool for winning races"),
    ("fanotify_init", ALWAYS, EPERM, "reports what others do to files; inotify remains"),
    ("add_key", ALWAYS, ENOSYS, "keyrings are the user's on the host, not the sandbox's"),
    ("request_key", ALWAYS, ENOSYS, "keyrings are the user's on the host, and the kernel starts a program to answer"),
    ("keyctl", ALWAYS, ENOSYS, "keyrings are the user's on the host, not the sandbox's"),
    ("init_module", ALWAYS, EPERM, "loads a kernel module"),
    ("finit_module", ALWAYS, EPERM, "loads a kernel module"),
    ("delete_module", ALWAYS, EPERM, "unloads a kernel module"),
    ("kexec_load", ALWAYS, EPERM, "replaces the kernel"),
    ("kexec_file_load", ALWAYS, EPERM, "replaces the kernel"),
    ("reboot", ALWAYS, EPERM, "stops the machine"),
    ("swapon", ALWAYS, EPERM, "changes the whole machine's memory"),
    ("swapoff", ALWAYS, EPERM, "changes the whole machine's memory"),
    ("acct", ALWAYS, EPERM, "writes a record of every process into a file"),
    ("quotactl", ALWAYS, EPERM, "changes or reads others' quotas"),
    ("quotactl_fd", ALWAYS, EPERM, "changes or reads others' quotas"),
    ("syslog", ALWAYS, EPERM, "reads the kernel's log, with addresses in it"),
    ("settimeofday", ALWAYS, EPERM, "sets the machine's clock"),
    ("clock_settime", ALWAYS, EPERM, "sets the machine's clock"),
    ("adjtimex", ALWAYS, EPERM, "bends the machine's clock"),
    ("clock_adjtime", ALWAYS, EPERM, "bends the machine's clock"),
    ("vhangup", ALWAYS, EPERM, "hangs up the user's terminal"),
    ("iopl", ALWAYS, EPERM, "hardware ports"),
    ("ioperm", ALWAYS, EPERM, "hardware ports"),
    ("modify_ldt", ALWAYS, ENOSYS, "16-bit segments: a source of kernel bugs that nothing of today needs"),
    ("lsm_set_self_attr", ALWAYS, EOPNOTSUPP, "changes the process's security label"),
    ("uselib", ALWAYS, ENOSYS, "obsolete"),
    ("_sysctl", ALWAYS, ENOSYS, "obsolete"),
    ("nfsservctl", ALWAYS, ENOSYS, "obsolete"),
    ("lookup_dcookie", ALWAYS, ENOSYS, "obsolete; turns numbers into paths"),
    (
        "personality",  # PER_LINUX, PER_LINUX32, UNAME26 and gdb's ADDR_NO_RANDOMIZE remain, and the question 0xffffffff
        ((0, INT, False, (0xFFFFFFFF,)), (0, INT & ~(0x8 | 0x20000 | 0x40000), False, (0,))),
        EPERM,
        "READ_IMPLIES_EXEC, MMAP_PAGE_ZERO and foreign systems' habits weaken the process and reach rarely tested code",
    ),
)

COMMAND_ONLY: tuple[Row, ...] = (
    ("mount", ALWAYS, EPERM, "changes the view that was built"),
    ("umount2", ALWAYS, EPERM, "takes a mask away"),
    ("open_tree", ALWAYS, EPERM, "copies a mount without what is mounted inside it"),
    ("open_tree_attr", ALWAYS, EPERM, "copies a mount and changes its flags"),
    ("move_mount", ALWAYS, EPERM, "changes the view that was built"),
    ("fsopen", ALWAYS, EPERM, "begins a new mount"),
    ("fsconfig", ALWAYS, EPERM, "parses a file system's options and image in the kernel"),
    ("fsmount", ALWAYS, EPERM, "makes a new mount"),
    ("fspick", ALWAYS, EPERM, "reconfigures a mount"),
    ("mount_setattr", ALWAYS, EPERM, "makes a read-only mount writable"),
    ("chmod", ((1, 0o4000, False, (0,)),), EPERM, "a set-user-id file stays on the host and runs there as the user, or as root"),
    ("fchmod", ((1, 0o4000, False, (0,)),), EPERM, "a set-user-id file stays on the host and runs there as the user, or as root"),
    ("fchmodat", ((2, 0o4000, False, (0,)),), EPERM, "a set-user-id file stays on the host and runs there as the user, or as root"),
    ("fchmodat2", ((2, 0o4000, False, (0,)),), EPERM, "a set-user-id file stays on the host and runs there as the user, or as root"),
    ("prlimit64", ((0, INT, False, (0,)),), EPERM, "init runs as the same user: with fewer descriptors it could not mediate"),
    ("sched_setscheduler", ((0, INT, True, (1,)),), EPERM, "init runs as the same user and must be quick to answer"),
    ("sched_setparam", ((0, INT, True, (1,)),), EPERM, "init runs as the same user and must be quick to answer"),
    ("sched_setattr", ((0, INT, True, (1,)),), EPERM, "init runs as the same user and must be quick to answer"),
    ("sched_setaffinity", ((0, INT, True, (1,)),), EPERM, "init runs as the same user and must be quick to answer"),
    ("setpriority", ((1, INT, True, (1,)),), EPERM, "init runs as the same user and must be quick to answer"),
    ("ioprio_set", ((1, INT, True, (1,)),), EPERM, "init runs as the same user and must be quick to answer"),
    ("setpriority", ((0, INT, False, (0,)),), EPERM, "a group's or the user's: what starts the next command would keep it"),
    ("ioprio_set", ((0, INT, False, (1,)),), EPERM, "a group's or the user's: what starts the next command would keep it"),
    ("renameat2", ((4, 0x4, False, (0,)),), EPERM, "RENAME_WHITEOUT leaves a device node behind"),
    ("ioctl", ((1, INT, True, (0x5412,)),), EPERM, "TIOCSTI types into the user's terminal"),
    ("ioctl", ((1, INT, True, (0x541C,)),), EPERM, "TIOCLINUX pastes into the console"),
    ("ioctl", ((1, INT, True, (0x541D,)),), EPERM, "TIOCCONS takes over the console's output"),
    ("ioctl", ((1, INT, True, (0x5423,)),), EPERM, "TIOCSETD loads a line discipline, rarely tested kernel code"),
    ("ioctl", ((1, INT, True, (0x5000940E, 0x50009418)),), EPERM, "BTRFS_IOC_SUBVOL_CREATE makes a directory without mkdir"),
    ("ioctl", ((1, INT, True, (0x50009401, 0x50009417)),), EPERM, "BTRFS_IOC_SNAP_CREATE makes a directory without mkdir"),
    ("ioctl", ((1, INT, True, (0x5000940F, 0x5000943F)),), EPERM, "BTRFS_IOC_SNAP_DESTROY removes a tree without rmdir"),
    ("ioctl", ((1, INT, True, (0x4020BC10, 0x4020BC11)),), EPERM, "BCH_IOCTL_SUBVOLUME_CREATE and _DESTROY: the same on bcachefs"),
    ("ioctl", ((1, INT, True, (0x40186F04,)),), EPERM, "OCFS2_IOC_REFLINK makes a file without open"),
    ("ioctl", ((1, INT, True, (0xAA00,)),), EPERM, "USERFAULTFD_IOC_NEW is userfaultfd(2) by another name"),
    ("ioctl", ((1, 0xFFFFFF00, True, (0x4B00,)),), ENOTTY, "KD…: a console's keymap, fonts and mode: changes what the next user types"),
    ("ioctl", ((1, 0xFFFFFF00, True, (0x5600,)),), ENOTTY, "VT_…: switches, resizes and locks consoles"),
)

INIT_ONLY: tuple[Row, ...] = (  # init answers to untrusted callers; it starts nothing and steers no other process
    ("execve", ALWAYS, EPERM, "init starts no program once the command runs"),
    ("execveat", ALWAYS, EPERM, "init starts no program once the command runs"),
    ("ptrace", ALWAYS, EPERM, "init reads its callers' memory and steers nobody"),
    ("process_vm_writev", ALWAYS, EPERM, "init reads its callers' memory and writes to nobody's"),
)

NOTIFIED: tuple[Row, ...] = (  # carried out by init on the caller's behalf
    ("open", ((1, _O_CREAT, False, (0,)),), NOTIFY, "may create a file"),
    ("openat", ((2, _O_CREAT, False, (0,)),), NOTIFY, "may create a file"),
    ("openat2", ALWAYS, NOTIFY, "may create a file; its flags lie in memory"),
    ("creat", ALWAYS, NOTIFY, "creates a file"),
    ("mkdir", ALWAYS, NOTIFY, "creates a directory"),
    ("mkdirat", ALWAYS, NOTIFY, "creates a directory"),
    ("mknod", ALWAYS, NOTIFY, "creates a FIFO, a socket, a device or a file"),
    ("mknodat", ALWAYS, NOTIFY, "creates a FIFO, a socket, a device or a file"),
    ("symlink", ALWAYS, NOTIFY, "creates a symbolic link"),
    ("symlinkat", ALWAYS, NOTIFY, "creates a symbolic link"),
    ("link", ALWAYS, NOTIFY, "gives a file a second name"),
    ("linkat", ALWAYS, NOTIFY, "gives a file a second name, or an O_TMPFILE its first"),
    ("rename", ALWAYS, NOTIFY, "gives a file or a whole tree another name"),
    ("renameat", ALWAYS, NOTIFY, "gives a file or a whole tree another name"),
    ("renameat2", ALWAYS, NOTIFY, "gives a file or a whole tree another name"),
    ("umask", ALWAYS, NOTIFY, "init creates files with the caller's mask and must know that it changed"),
    ("bind", ALWAYS, NOTIFY, "gives a Unix socket a name in a directory"),
    ("connect", ALWAYS, NOTIFY, "reaches a Unix socket by its path"),
    ("sendto", ((4, POINTER, False, (0,)),), NOTIFY, "an address reaches a socket without connect"),
)

# What follows init notes and lets continue: what may be done is decided by other walls. Each costs its caller some 20 µs, a new
# process a tenth of its start.
OBSERVED_CHANGING: tuple[Row, ...] = (  # added at the level "executions"
    ("execve", ALWAYS, NOTIFY, "starts a program"),
    ("execveat", ALWAYS, NOTIFY, "starts a program"),
    ("open", ((1, _O_ACCMODE, False, (0,)),), NOTIFY, "may change a file that exists"),
    ("openat", ((2, _O_ACCMODE, False, (0,)),), NOTIFY, "may change a file that exists"),
    ("truncate", ALWAYS, NOTIFY, "cuts a file"),
    ("unlink", ALWAYS, NOTIFY, "removes a file"),
    ("unlinkat", ALWAYS, NOTIFY, "removes a file or a directory"),
    ("rmdir", ALWAYS, NOTIFY, "removes a directory"),
    ("chmod", ALWAYS, NOTIFY, "changes a file's mode"),
    ("fchmodat", ALWAYS, NOTIFY, "changes a file's mode"),
    ("fchmodat2", ALWAYS, NOTIFY, "changes a file's mode"),
    ("chown", ALWAYS, NOTIFY, "changes a file's owner"),
    ("lchown", ALWAYS, NOTIFY, "changes a file's owner"),
    ("fchownat", ALWAYS, NOTIFY, "changes a file's owner"),
    ("utimes", ALWAYS, NOTIFY, "changes a file's times"),
    ("utimensat", ((1, POINTER, False, (0,)),), NOTIFY, "changes a file's times; without a path it is about an open one"),
    ("setxattr", ALWAYS, NOTIFY, "changes a file's attributes"),
    ("lsetxattr", ALWAYS, NOTIFY, "changes a file's attributes"),
)

OBSERVED_READING: tuple[Row, ...] = (  # added at the level "all"
    ("open", ALWAYS, NOTIFY, "reads a file or a directory"),
    ("openat", ALWAYS, NOTIFY, "reads a file or a directory"),
)

_FAMILY_REASON = "rare families are rarely tested kernel code; AF_VSOCK and AF_ALG know no network namespace, AF_PACKET and AF_XDP no ports"
_TYPE_REASON = "only TCP, UDP and raw (which the kernel refuses itself): no SCTP, DCCP, nor packet sockets under their old name"
_PROTOCOL_REASON = "only TCP, UDP and ICMP: MPTCP goes round port rules, and SMC, SCTP, UDP-Lite and L2TP load kernel modules"
_DATAGRAM_REASON = "a Unix datagram goes to any path with sendmsg, whose address lies in memory; stream and seqpacket must connect first"
_NETLINK_REASON = (
    "libc needs routes and interfaces; the others are wide kernel interfaces. libaudit takes this errno for a kernel without audit"
)


def sockets(program: str, network: str) -> tuple[Row, ...]:
    """Rows for socket(2) and socketpair(2). ``network`` "refused" is for a host without network namespaces."""
    inet = (0, INT, True, (_INET, _INET6))
    netlink = (0, 4) if program == INIT else (0,)  # NETLINK_ROUTE; NETLINK_SOCK_DIAG tells init where a socket was made
    internet: tuple[Row, ...] = (
        ("socket", (inet, (1, 0xF, False, (_STREAM, _DGRAM, _RAW))), ESOCKTNOSUPPORT, _TYPE_REASON),
        ("socket", (inet, (2, INT, False, (0, 1, 6, 17, 58))), EPROTONOSUPPORT, _PROTOCOL_REASON),
    )
    if network == "refused":
        internet = (("socket", (inet,), EACCES, "the network is not granted, and there is no network namespace to be alone in"),)
    return (
        ("socket", ((0, INT, False, (_UNIX, _INET, _INET6, _NETLINK)),), EAFNOSUPPORT, _FAMILY_REASON),
        ("socket", ((0, INT, True, (_UNIX,)), (1, 0xF, False, (_STREAM, _SEQPACKET))), ESOCKTNOSUPPORT, _DATAGRAM_REASON),
        ("socket", ((0, INT, True, (_NETLINK,)), (2, INT, False, netlink)), EPROTONOSUPPORT, _NETLINK_REASON),
        *internet,
        ("socketpair", ((0, INT, False, (_UNIX,)),), EAFNOSUPPORT, _FAMILY_REASON),
        ("socketpair", ((1, 0xF, False, (_STREAM, _SEQPACKET)),), ESOCKTNOSUPPORT, _DATAGRAM_REASON),
    )


def observed(level: str) -> tuple[Row, ...]:
    """Rows for what init only takes note of. Raises ``ValueError`` for an unknown level."""
    if level not in LEVELS:
        raise ValueError(f"there is no level {level!r} of observing")
    added = ((), (), OBSERVED_CHANGING, OBSERVED_READING)
    return tuple(row for rows in added[: LEVELS.index(level) + 1] for row in rows)


def table(program: str, *, mediated: bool, network: str, observe: str = OFF) -> tuple[Row, ...]:
    """All rows of a program in the order in which they are looked at.

    Raises ``ValueError`` for an unknown program, network or level, and for observing where nobody listens.
    """
    if program not in PROGRAMS or network not in NETWORKS:
        raise ValueError(f"there is no filter {program!r} with network {network!r}")
    notes = observed(observe)
    if observe != OFF and (program != COMMAND or not mediated):
        raise ValueError("only a command's calls are observed, and only where init listens to them")
    if program == INIT:
        return (*NEVER, *INIT_ONLY, *sockets(program, network))
    return (*NEVER, *COMMAND_ONLY, *(NOTIFIED if mediated else ()), *notes, *sockets(program, network))


def assemble(program: str, machine: str, *, mediated: bool, network: str, observe: str = OFF) -> bytes:
    """The filter as an array of ``struct sock_filter``, 8 bytes each. About 0.3 ms.

    ``program``: "command" or "init"; ``machine``: as uname(2) says; ``mediated``: NOTIFIED calls go to the listener instead of
    being allowed; ``network``: "none", "open" or "refused"; ``observe``: one of ``LEVELS``. Raises ``ValueError`` or ``KeyError``
    for other words.
    """
    return translate(table(program, mediated=mediated, network=network, observe=observe), machine)


def translate(rows_in_order: Iterable[Row], machine: str) -> bytes:
    """Any rows as a filter. Calls that the machine lacks are left out."""
    known = numbers(machine)
    calls: dict[int, list[Row]] = {}
    for row in rows_in_order:
        number = known.get(row[0])
        if number is not None:
            calls.setdefault(number, []).append(row)
    leaves: dict[int, Label] = {}
    blocks: list[bpf.Item] = []
    for number, rows in calls.items():
        if rows[0][1] == ALWAYS:
            leaves[number] = _verdict(rows[0][2])
        else:
            leaves[number] = rows[0][0]
            blocks.append((bpf.LABEL, rows[0][0], None, None))
            _rows(rows, blocks)
    items: list[bpf.Item] = [
        (bpf.LD_ABS, 4, None, None),
        (bpf.JEQ, ARCHITECTURES[machine], None, RET_KILL_PROCESS),
        (bpf.LD_ABS, 0, None, None),
    ]
    _search(_ranges(leaves), items)
    items += blocks
    verdicts = {_verdict(row[2]) for rows in calls.values() for row in rows}
    for value in sorted({RET_ALLOW, RET_KILL_PROCESS, _verdict(ENOSYS), *verdicts}):
        items += ((bpf.LABEL, value, None, None), (bpf.RET, value, None, None))
    return bpf.assemble(items)


def _verdict(action: int) -> int:
    """The value a filter returns for an action; it is also the label of the instruction that returns it."""
    return RET_USER_NOTIF if action == NOTIFY else RET_ERRNO | action


def _ranges(leaves: dict[int, Label]) -> list[tuple[int, Label]]:
    """Where each stretch of call numbers with the same leaf begins."""
    ranges: list[tuple[int, Label]] = [(0, RET_ALLOW)]
    for number in sorted(leaves):
        start = ranges[-1][0]
        if start == number:
            ranges.pop()  # it was allowed only up to here
        if start != number or not ranges or ranges[-1][1] != leaves[number]:
            ranges.append((number, leaves[number]))
        ranges.append((number + 1, RET_ALLOW))
    if ranges[-1][0] > NEWEST:
        ranges.pop()
    ranges.append((NEWEST + 1, _verdict(ENOSYS)))
    return ranges


def _search(ranges: list[tuple[int, Label]], items: list[bpf.Item]) -> None:
    """A binary search. The kernel runs it once per number to learn which calls are always allowed (Linux 5.11)."""
    if len(ranges) == 1:
        items.append((bpf.JA, 0, ranges[0][1], None))
        return
    middle = len(ranges) // 2
    low, high = ranges[:middle], ranges[middle:]
    start = high[0][0]
    above: Label = high[0][1] if len(high) == 1 else -start  # negative: no verdict and no call has such a label
    if len(low) == 1:
        items.append((bpf.JGE, start, above, low[0][1]))
    else:
        items.append((bpf.JGE, start, above, None))
        _search(low, items)
    if len(high) > 1:
        items.append((bpf.LABEL, above, None, None))
        _search(high, items)


def _rows(rows: list[Row], items: list[bpf.Item]) -> None:
    """The rows of one call, in order; the call is allowed when none applies."""
    loaded: tuple[int, int] | None = None  # argument and mask that the accumulator surely holds
    for index, (call, conditions, action, _reason) in enumerate(rows, 1):
        next_row: Label = f"{call} {index}" if index < len(rows) else RET_ALLOW
        last = len(conditions) - 1
        if last < 0:
            items.append((bpf.JA, 0, _verdict(action), None))
            return
        for place, condition in enumerate(conditions):
            met = _verdict(action) if place == last else f"{call} {index} {place}"
            loaded = _condition(condition, met, next_row, loaded, items)
            if place < last:
                items.append((bpf.LABEL, met, None, None))
        if last > 0:
            loaded = None  # the next row is reached from each condition, after different loads
        if next_row != RET_ALLOW:
            items.append((bpf.LABEL, next_row, None, None))


def _condition(
    condition: Condition, met: Label, unmet: Label, loaded: tuple[int, int] | None, items: list[bpf.Item]
) -> tuple[int, int] | None:
    """One comparison of an argument; returns the argument and mask that the accumulator holds behind it, if one."""
    argument, mask, inside, values = condition
    offset = 16 + 8 * argument
    any_bit = not inside and values == (0,)
    if mask == POINTER:
        if not any_bit:
            raise ValueError("64 bits can only be compared with zero")
        items += (
            (bpf.LD_ABS, offset, None, None),
            (bpf.JEQ, 0, None, met),
            (bpf.LD_ABS, offset + 4, None, None),
            (bpf.JEQ, 0, unmet, met),
        )
        return None
    if any_bit:
        if loaded != (argument, INT):
            items.append((bpf.LD_ABS, offset, None, None))
        items.append((bpf.JSET, mask, met, unmet))
        return argument, INT
    if loaded != (argument, mask):
        if loaded != (argument, INT):
            items.append((bpf.LD_ABS, offset, None, None))
        if mask != INT:
            items.append((bpf.AND, mask, None, None))
    hit, miss = (met, unmet) if inside else (unmet, met)
    items += [(bpf.JEQ, value, hit, None) for value in values[:-1]]
    items.append((bpf.JEQ, values[-1], hit, miss))
    return argument, mask
