"""The filters: every row on every machine, what isn't in the tables, and a kernel that takes them."""

from __future__ import annotations

import errno
import itertools
import platform
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from houseroom.plan import bpf, seccomp
from houseroom.plan.syscalls import ARCHITECTURES, CALLS, NEWEST, numbers

sys.path.insert(0, str(Path(__file__).resolve().parent))

from bpf_simulator import run, seccomp_data  # found through the line above

X86_64, AARCH64 = "x86_64", "aarch64"
ALLOW, KILL, NOTIFY = 0x7FFF0000, 0x80000000, 0x7FC00000
GARBAGE = 0xDEADBEEF << 32  # what a caller may leave in the upper half of an int argument

FILTERS = [
    (program, machine, mediated, network)
    for program in seccomp.PROGRAMS
    for machine in (X86_64, AARCH64)
    for mediated in (True, False)
    for network in seccomp.NETWORKS
]
every_filter = pytest.mark.parametrize(("program", "machine", "mediated", "network"), FILTERS)


def refused(number: int) -> int:
    return 0x00050000 | number


def naive(rows: tuple[seccomp.Row, ...], name: str, arguments: tuple[int, ...]) -> int:
    """What the table says about a call, read as its docstring says."""
    for call, conditions, action, _reason in rows:
        if call == name and all((arguments[arg] & mask in values) == inside for arg, mask, inside, values in conditions):
            return NOTIFY if action == seccomp.NOTIFY else refused(action)
    return ALLOW


def telling(rows: tuple[seccomp.Row, ...], name: str) -> Iterator[tuple[int, ...]]:
    """Arguments at and beside every value that the rows of a call compare with, with clean and dirty upper halves."""
    candidates: list[set[int]] = [{0} for _ in range(6)]
    for call, conditions, _action, _reason in rows:
        if call != name:
            continue
        for argument, mask, _inside, values in conditions:
            found = {v + d for v in values for d in (-1, 0, 1)}
            if mask != seccomp.INT:
                found |= {mask, *(1 << bit for bit in range(0, 64, 3) if mask >> bit & 1)}
            candidates[argument] |= {v % 2**64 for v in found} | {GARBAGE | (v % 2**32) for v in found}
    return itertools.product(*(sorted(c) for c in candidates))


def filtered(program: str, machine: str, *, mediated: bool = True, network: str = "none", observe: str = "off") -> Callable[..., int]:
    """A function that says what the filter returns for a call by name."""
    code = seccomp.assemble(program, machine, mediated=mediated, network=network, observe=observe)
    known = numbers(machine)
    return lambda name, *arguments: run(code, seccomp_data(known[name], ARCHITECTURES[machine], *arguments))


@every_filter
def test_each_row_decides_as_it_says(program: str, machine: str, mediated: bool, network: str) -> None:
    decides(program, machine, mediated=mediated, network=network, observe="off")


@pytest.mark.parametrize("observe", seccomp.LEVELS)
@pytest.mark.parametrize("machine", [X86_64, AARCH64])
def test_each_row_for_observing_decides_as_it_says(machine: str, observe: str) -> None:
    decides("command", machine, mediated=True, network="none", observe=observe)


def decides(program: str, machine: str, *, mediated: bool, network: str, observe: str) -> None:
    """Every row of a filter's table decides some call, as it says."""
    rows = seccomp.table(program, mediated=mediated, network=network, observe=observe)
    code = seccomp.assemble(program, machine, mediated=mediated, network=network, observe=observe)
    bpf.check(code)
    known = numbers(machine)
    unused = {row for row in rows if row[0] in known}
    for name in dict.fromkeys(row[0] for row in rows if row[0] in known):
        mine = tuple(row for row in rows if row[0] == name)
        for arguments in telling(mine, name):
            expected = naive(mine, name, arguments)
            assert run(code, seccomp_data(known[name], ARCHITECTURES[machine], *arguments)) == expected, (name, arguments)
            for row in mine:
                if naive((row,), name, arguments) != ALLOW:
                    unused.discard(row)
                    break
    assert not unused, "no call is decided by these rows"


@every_filter
def test_a_call_outside_the_table_is_allowed(program: str, machine: str, mediated: bool, network: str) -> None:
    code = seccomp.assemble(program, machine, mediated=mediated, network=network)
    known = numbers(machine)
    spoken_of = {known[row[0]] for row in seccomp.table(program, mediated=mediated, network=network) if row[0] in known}
    for number in set(range(NEWEST + 1)) - spoken_of:
        assert run(code, seccomp_data(number, ARCHITECTURES[machine], *([2**64 - 1] * 6))) == ALLOW, number


@every_filter
@pytest.mark.parametrize("number", [NEWEST + 1, 512, 547, 0x40000000, 0x40000000 | 101, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF])
def test_unknown_x32_and_skipped_calls_say_enosys(program: str, machine: str, mediated: bool, network: str, number: int) -> None:
    code = seccomp.assemble(program, machine, mediated=mediated, network=network)
    assert run(code, seccomp_data(number, ARCHITECTURES[machine])) == refused(errno.ENOSYS)


@every_filter
@pytest.mark.parametrize("architecture", [0x40000003, 0x40000028, 0xC0000015, 0])  # i386, arm, ppc64le
def test_a_foreign_architecture_ends_the_process(program: str, machine: str, mediated: bool, network: str, architecture: int) -> None:
    code = seccomp.assemble(program, machine, mediated=mediated, network=network)
    other = ARCHITECTURES[AARCH64 if machine == X86_64 else X86_64]
    for number in range(0, 500, 7):
        assert run(code, seccomp_data(number, architecture)) == KILL
        assert run(code, seccomp_data(number, other)) == KILL


@given(
    st.sampled_from(FILTERS),
    st.sampled_from([row[0] for row in CALLS]),
    st.lists(st.integers(0, 2**64 - 1) | st.integers(0, 300) | st.sampled_from([0x5412, 0x4B47, 0x10000000, 0x40]), min_size=6, max_size=6),
)
def test_filter_and_table_agree(chosen: tuple[str, str, bool, str], name: str, arguments: list[int]) -> None:
    program, machine, mediated, network = chosen
    number = numbers(machine).get(name)
    if number is None:
        return
    code = CODE[chosen]
    expected = naive(seccomp.table(program, mediated=mediated, network=network), name, tuple(arguments))
    assert run(code, seccomp_data(number, ARCHITECTURES[machine], *arguments)) == expected


CODE = {chosen: seccomp.assemble(chosen[0], chosen[1], mediated=chosen[2], network=chosen[3]) for chosen in FILTERS}

# Few calls, arguments, masks and values, so that rows meet each other often.
values = st.just((0,)) | st.lists(st.integers(0, 3), min_size=1, max_size=2).map(tuple)
conditions = st.tuples(st.integers(0, 1), st.sampled_from([seccomp.INT, 2, 3]), st.booleans(), values) | st.tuples(
    st.integers(0, 1), st.just(seccomp.POINTER), st.just(value=False), st.just((0,))
)
tables = st.lists(
    st.tuples(
        st.sampled_from(["ioctl", "ioctl", "ioctl", "openat"]),
        st.lists(conditions, min_size=1, max_size=2).map(tuple) | st.just(()),
        st.sampled_from([seccomp.NOTIFY, 1, 13]),
        st.just("generated"),
    ),
    min_size=1,
    max_size=8,
).map(tuple)
ARGUMENTS = tuple(itertools.product((0, 1, 2, 3, 4, 1 << 32, GARBAGE | 3), repeat=2))


def row(*conditions: seccomp.Condition) -> seccomp.Row:
    return ("ioctl", conditions, 1, "an example")


@settings(max_examples=500, deadline=None)
@example((row((0, 3, False, (0,))), row((0, 3, True, (0,)))), X86_64)  # a bit test leaves the whole word loaded
@example((row((0, 3, True, (1,))), row((0, seccomp.INT, True, (4,)))), X86_64)  # a masked comparison doesn't
@example((row((0, 3, True, (1,)), (1, 3, True, (1,))), row((1, 3, True, (0,)))), X86_64)  # reached after two different loads
@given(tables, st.sampled_from([X86_64, AARCH64]))
def test_any_table_is_translated_rightly(rows: tuple[seccomp.Row, ...], machine: str) -> None:
    code = seccomp.translate(rows, machine)
    bpf.check(code)
    known = numbers(machine)
    for name in ("ioctl", "openat", "bpf"):
        for arguments in ARGUMENTS if name != "bpf" else ((0, 0),):
            expected = naive(rows, name, (*arguments, 0, 0, 0, 0))
            assert run(code, seccomp_data(known[name], ARCHITECTURES[machine], *arguments)) == expected, (name, arguments)


# What follows is written out by hand: a table that lost a row would still agree with its own filter.

COMMAND_REFUSED = """
    io_uring_setup io_uring_enter io_uring_register clone3 setns pivot_root chroot open_by_handle_at bpf perf_event_open userfaultfd
    fanotify_init add_key request_key keyctl init_module finit_module delete_module kexec_load kexec_file_load reboot swapon swapoff
    acct quotactl quotactl_fd syslog settimeofday clock_settime adjtimex clock_adjtime vhangup mount umount2 open_tree open_tree_attr
    move_mount fsopen fsconfig fsmount fspick mount_setattr lsm_set_self_attr
""".split()
NOTIFIED_ALWAYS = "openat2 mkdirat mknodat symlinkat linkat renameat renameat2 umask bind connect".split()
NOTIFIED_X86_64 = "creat mkdir mknod symlink link rename".split()
COMMAND_ALLOWED = """
    ptrace process_vm_readv process_vm_writev kcmp pidfd_getfd pidfd_open pidfd_send_signal seccomp prctl landlock_create_ruleset
    landlock_add_rule landlock_restrict_self execve execveat memfd_create sendmsg sendmmsg getppid statmount listmount
""".split()
INIT_ALLOWED = """
    open_tree open_tree_attr move_mount mount_setattr fsopen fsmount fsconfig umount2 openat openat2 mkdirat renameat renameat2 linkat
    symlinkat mknodat ioctl pidfd_open pidfd_getfd pidfd_send_signal process_vm_readv sendmsg sendto connect bind umask prctl
""".split()
INIT_REFUSED = """
    execve execveat ptrace process_vm_writev bpf keyctl add_key request_key perf_event_open userfaultfd io_uring_setup init_module
    finit_module setns kexec_load reboot clone3 pivot_root chroot
""".split()
TIOCSTI, TIOCLINUX, TIOCSCTTY, TIOCGWINSZ, TCGETS = 0x5412, 0x541C, 0x540E, 0x5413, 0x5401
UNIX, INET, INET6, NETLINK, PACKET, ALG, VSOCK, XDP = 1, 2, 10, 16, 17, 38, 40, 44
STREAM, DGRAM, RAW, SEQPACKET, CLOEXEC_NONBLOCK = 1, 2, 3, 5, 0o2004000

machines = pytest.mark.parametrize("machine", [X86_64, AARCH64])


@machines
def test_what_commands_are_refused_asked_and_allowed(machine: str) -> None:
    command = filtered("command", machine)
    for name in COMMAND_REFUSED:
        assert command(name) & 0xFFFF0000 == 0x00050000, name
    for name in NOTIFIED_ALWAYS + (NOTIFIED_X86_64 if machine == X86_64 else []):
        assert command(name) == NOTIFY, name
        assert filtered("command", machine, mediated=False)(name) == ALLOW, name
    for name in COMMAND_ALLOWED:
        assert command(name) == ALLOW, name


@machines
def test_commands_make_no_set_user_id_file(machine: str) -> None:
    command = filtered("command", machine)
    known = numbers(machine)
    modes = {"chmod": (0,), "fchmod": (3,), "fchmodat": (3, 0), "fchmodat2": (3, 0)}
    assert {"fchmod", "fchmodat", "fchmodat2"} <= set(known)
    for name in modes.keys() & known.keys():
        for mode in (0o4755, 0o4000, 0o6711, 0o7777, GARBAGE | 0o4755):
            assert command(name, *modes[name], mode) == refused(errno.EPERM), (name, mode)
        for mode in (0o755, 0o2755, 0o1777, 0o3777, GARBAGE | 0o755):  # set-group-id on a directory is ordinary work
            assert command(name, *modes[name], mode) == ALLOW, (name, mode)
        assert filtered("init", machine)(name, *modes[name], 0o4755) == ALLOW, name


@machines
def test_commands_do_not_steer_init(machine: str) -> None:
    """Process 1 runs as the same user: its limits and its place in the queue are not theirs to change."""
    command = filtered("command", machine)
    scheduling = ("sched_setscheduler", "sched_setparam", "sched_setattr", "sched_setaffinity")
    for name in scheduling:
        assert command(name, 1) == command(name, GARBAGE | 1) == refused(errno.EPERM), name
        assert command(name, 0) == command(name, 2) == command(name, 4711) == ALLOW, name
    for name, one in (("setpriority", 0), ("ioprio_set", 1)):
        for which in (0, 1, 2, 3):
            assert command(name, which, 1) == command(name, which, GARBAGE | 1) == refused(errno.EPERM), name
            others = ALLOW if which == one else refused(errno.EPERM)  # a group's, the user's: starters would keep it
            assert command(name, which, 0) == command(name, which, 4711) == others, name
    assert command("prlimit64", 1) == command("prlimit64", 4711) == refused(errno.EPERM)
    assert command("prlimit64", 0) == command("prlimit64", GARBAGE) == ALLOW  # one's own
    init = filtered("init", machine)
    for name in (*scheduling, "setpriority", "ioprio_set", "prlimit64"):
        assert init(name, 1, 1) == ALLOW, name


@machines
def test_what_init_is_refused_and_allowed(machine: str) -> None:
    init = filtered("init", machine)
    for name in INIT_REFUSED:
        assert init(name) & 0xFFFF0000 == 0x00050000, name
    for name in INIT_ALLOWED:
        assert init(name, *([2**64 - 1] * 6)) == ALLOW, name
    assert init("socket", NETLINK, RAW, 4) == ALLOW  # NETLINK_SOCK_DIAG: where a socket was made
    assert init("socket", NETLINK, RAW, 0) == ALLOW
    assert init("socket", VSOCK, STREAM, 0) == refused(errno.EAFNOSUPPORT)


@machines
@pytest.mark.parametrize("upper", [0, 1 << 32, GARBAGE])
def test_terminal_calls_are_compared_on_32_bits(machine: str, upper: int) -> None:
    command = filtered("command", machine)
    for request in (TIOCSTI, TIOCLINUX, 0x541D, 0x5423, 0x5000940E, 0x50009418, 0x50009401, 0x50009417, 0x5000940F, 0x5000943F):
        assert command("ioctl", 0, upper | request) == refused(errno.EPERM), hex(request)
    for request in (0x4B47, 0x4B49, 0x4B4B, 0x4BFB, 0x4B4D, 0x4B61, 0x4B72, 0x5606, 0x560B):  # keymap, fonts, VT_ACTIVATE, VT_LOCKSWITCH
        assert command("ioctl", 0, upper | request) == refused(errno.ENOTTY), hex(request)
    for request in (TIOCSCTTY, TIOCGWINSZ, TCGETS, 0x541B, 0x80045430, 0x40049409, 0xC0044B01):  # FIONREAD, TIOCGPTN, FICLONE
        assert command("ioctl", 0, upper | request) == ALLOW, hex(request)


@machines
def test_only_new_namespaces_are_refused(machine: str) -> None:
    for program in seccomp.PROGRAMS:
        answer = filtered(program, machine)
        for flag in (0x20000, 0x02000000, 0x04000000, 0x08000000, 0x10000000, 0x20000000, 0x40000000):
            assert answer("clone", flag | 17) == refused(errno.EPERM)
            assert answer("unshare", flag) == refused(errno.EPERM)
        assert answer("unshare", 0x80) == refused(errno.EPERM)  # CLONE_NEWTIME
        assert answer("unshare", 0x400) == ALLOW  # CLONE_FILES
        assert answer("clone", 17) == ALLOW  # fork
        assert answer("clone", 0x3D0F00) == ALLOW  # pthread_create
        assert answer("clone", 0x4111) == ALLOW  # vfork
        assert answer("clone3") == refused(errno.ENOSYS)


@machines
def test_opening_is_asked_about_only_when_it_may_create(machine: str) -> None:
    command = filtered("command", machine)
    creat, rewrite, tmpfile = 0o100, 0o1001, 0o20200000
    assert command("openat", 3, 0, creat | 1) == NOTIFY
    assert command("openat", 3, 0, GARBAGE | creat) == NOTIFY
    assert command("openat", 3, 0, rewrite) == ALLOW
    assert command("openat", 3, 0, tmpfile | 2) == ALLOW
    if machine == X86_64:
        assert command("open", 0, creat | 1) == NOTIFY
        assert command("open", 0, rewrite) == ALLOW


NO_NAME_COMES_OF_IT = "truncate unlinkat fchmodat fchmodat2 fchownat utimensat setxattr lsetxattr".split()
NO_NAME_COMES_OF_IT_X86_64 = "unlink rmdir chmod chown lchown utimes".split()


@machines
def test_what_is_only_observed(machine: str) -> None:
    """Written out by hand, level by level: what init is shown beyond what it carries out."""
    read, copy_over, in_place, creat = 0, 0o1001, 0o2, 0o101
    # flags of an open → the level from which on it is shown
    opens = {read: "all", in_place: "executions", copy_over: "executions", creat: "off", GARBAGE | read: "all"}
    names = ["execve", "execveat", *NO_NAME_COMES_OF_IT, *(NO_NAME_COMES_OF_IT_X86_64 if machine == X86_64 else [])]
    calls = dict.fromkeys(names, "executions")
    assert seccomp.LEVELS == ("off", "denials", "executions", "all")
    for level in seccomp.LEVELS:
        command = filtered("command", machine, observe=level)

        def expected(first: str, level: str = level) -> int:
            return NOTIFY if seccomp.LEVELS.index(first) <= seccomp.LEVELS.index(level) else ALLOW

        for flags, first in opens.items():
            assert command("openat", 3, 0, flags) == expected(first), (level, flags)
            if machine == X86_64:
                assert command("open", 0, flags) == expected(first), (level, flags)
        for name, first in calls.items():
            assert command(name, 1, 1, 1) == expected(first), (level, name)
        assert seccomp.observed("denials") == (), "what is on by default asks for nothing more"
        assert command("utimensat", 3, 0) == ALLOW, "without a path it is about a file that is open"
        for name in ("read", "stat", "getppid"):
            assert name not in {row[0] for row in seccomp.observed(level)}


@machines
def test_observing_takes_nothing_away_and_allows_nothing(machine: str) -> None:
    """What is refused stays refused, and only what was allowed is asked about: asking is answered with going on."""
    plain = filtered("command", machine)
    known = numbers(machine)
    for level in seccomp.LEVELS[1:]:
        command = filtered("command", machine, observe=level)
        for name in known:
            for arguments in ((0, 0, 0), (1, 0o4755, 0o4755), (0x10000000, 1, 0o101), (3, 0x5412, 0o1001)):
                before, after = plain(name, *arguments), command(name, *arguments)
                assert after == before or (before, after) == (ALLOW, NOTIFY), (level, name, arguments)


def test_only_commands_that_init_listens_to_are_observed() -> None:
    for program, mediated in (("init", False), ("init", True), ("command", False)):
        with pytest.raises(ValueError, match="observed"):
            seccomp.assemble(program, X86_64, mediated=mediated, network="none", observe="denials")
    with pytest.raises(ValueError, match="'some'"):
        seccomp.assemble("command", X86_64, mediated=True, network="none", observe="some")


@machines
def test_sending_is_asked_about_only_with_an_address(machine: str) -> None:
    command = filtered("command", machine)
    assert command("sendto", 3, 0, 0, 0, 0, 0) == ALLOW
    assert command("sendto", 3, 0, 0, 0, 0x7FFC00001000, 16) == NOTIFY
    assert command("sendto", 3, 0, 0, 0, 1 << 32, 16) == NOTIFY  # the low half alone is zero
    assert command("sendto", 3, 0, 0, 0, 1, 16) == NOTIFY


@machines
def test_a_whiteout_is_refused_before_anybody_is_asked(machine: str) -> None:
    for mediated, otherwise in ((True, NOTIFY), (False, ALLOW)):
        command = filtered("command", machine, mediated=mediated)
        assert command("renameat2", 3, 0, 3, 0, 4) == refused(errno.EPERM)
        assert command("renameat2", 3, 0, 3, 0, GARBAGE | 5) == refused(errno.EPERM)
        assert command("renameat2", 3, 0, 3, 0, 1) == otherwise  # RENAME_NOREPLACE


@machines
@pytest.mark.parametrize("upper", [0, GARBAGE])
def test_sockets(machine: str, upper: int) -> None:
    command = filtered("command", machine)

    def made(family: int, kind: int, protocol: int = 0, call: str = "socket") -> int:
        return command(call, upper | family, upper | kind | CLOEXEC_NONBLOCK, upper | protocol)

    for family, kind, protocol in [
        (INET, STREAM, 0),
        (INET, STREAM, 6),
        (INET, DGRAM, 17),
        (INET, DGRAM, 1),
        (INET6, DGRAM, 58),
        (INET, RAW, 1),
    ]:
        assert made(family, kind, protocol) == ALLOW
    for call in ("socket", "socketpair"):
        assert made(UNIX, STREAM, call=call) == ALLOW
        assert made(UNIX, SEQPACKET, call=call) == ALLOW
        assert made(UNIX, DGRAM, call=call) == refused(errno.ESOCKTNOSUPPORT)
        assert made(UNIX, RAW, call=call) == refused(errno.ESOCKTNOSUPPORT)  # Linux makes a datagram socket of it
    for family in set(range(64)) - {UNIX, INET, INET6, NETLINK}:
        assert made(family, STREAM) == refused(errno.EAFNOSUPPORT), family
        assert made(family, STREAM, call="socketpair") == refused(errno.EAFNOSUPPORT), family
    for family in (INET, INET6):
        assert made(family, STREAM, 262) == refused(errno.EPROTONOSUPPORT)  # MPTCP
        assert made(family, STREAM, 132) == refused(errno.EPROTONOSUPPORT)  # SCTP
        assert made(family, STREAM, 256) == refused(errno.EPROTONOSUPPORT)  # SMC
        assert made(family, SEQPACKET) == refused(errno.ESOCKTNOSUPPORT)  # SCTP by its type
        assert made(family, 6) == refused(errno.ESOCKTNOSUPPORT)  # DCCP
        assert made(family, 10) == refused(errno.ESOCKTNOSUPPORT)  # SOCK_PACKET
    assert made(NETLINK, RAW, 0) == ALLOW
    for protocol in set(range(24)) - {0}:
        assert made(NETLINK, RAW, protocol) == refused(errno.EPROTONOSUPPORT)


@machines
def test_without_a_network_namespace_internet_sockets_are_refused_and_unix_sockets_are_not(machine: str) -> None:
    command = filtered("command", machine, network="refused")
    assert command("socket", INET, STREAM, 0) == refused(errno.EACCES)
    assert command("socket", INET6, DGRAM, 0) == refused(errno.EACCES)
    assert command("socket", UNIX, STREAM, 0) == ALLOW
    assert command("socket", NETLINK, RAW, 0) == ALLOW
    for network in ("none", "open"):
        assert filtered("command", machine, network=network)("socket", INET, STREAM, 0) == ALLOW


@machines
def test_harmless_personalities_remain(machine: str) -> None:
    command = filtered("command", machine)
    for persona in (0, 0x8, 0x40000, 0x20000, 0x20008, 0x40008, 0xFFFFFFFF, GARBAGE):
        assert command("personality", persona) == ALLOW, hex(persona)
    for persona in (0x400000, 0x100000, 0x440000, 0x6, 0xFFFFFFFE, 0x200000, 0x80000000):
        assert command("personality", persona) == refused(errno.EPERM), hex(persona)


def test_unknown_words_are_refused() -> None:
    with pytest.raises(ValueError, match="'shell'"):
        seccomp.assemble("shell", X86_64, mediated=True, network="none")
    with pytest.raises(ValueError, match="'listed'"):
        seccomp.assemble("command", X86_64, mediated=True, network="listed")
    with pytest.raises(KeyError, match="riscv64"):
        seccomp.assemble("command", "riscv64", mediated=True, network="none")


def test_each_row_has_a_reason_and_a_number() -> None:
    known = {row[0] for row in CALLS}
    tables = [seccomp.table(program, mediated=mediated, network=network) for program, _machine, mediated, network in FILTERS]
    for name, _conditions, action, reason in (row for table in (*tables, seccomp.observed("all")) for row in table):
        assert name in known
        assert reason
        assert action == seccomp.NOTIFY or errno.errorcode[action]


def header_numbers(machine: str) -> dict[str, int]:
    """Call numbers of the system's kernel headers, read by the C preprocessor."""
    compiler = shutil.which("gcc") or pytest.skip("no C preprocessor")
    wanted = "".join(f"#define {name}\n" for name in ("__ARCH_WANT_RENAMEAT", "__ARCH_WANT_SYS_CLONE3", "__BITS_PER_LONG 64"))
    generic = f"{wanted}#include <asm-generic/unistd.h>\n"  # arch/arm64 wants the same
    text = "#include <asm/unistd_64.h>" if machine == X86_64 else generic
    if machine == X86_64 and platform.machine() != X86_64:
        pytest.skip("the header of another machine")
    done = subprocess.run([compiler, "-E", "-dM", "-xc", "-"], input=text, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip("no kernel headers")
    defined = dict(re.findall(r"^#define __NR_(\w+) (\S+)$", done.stdout, re.MULTILINE))
    aliases = dict(re.findall(r"^#define (__NR\w+) (\d+)$", done.stdout, re.MULTILINE))
    values = {name: aliases.get(value, value) for name, value in defined.items()}
    return {name: int(value) for name, value in values.items() if value.isdigit()}


@machines
def test_numbers_are_the_kernels(machine: str) -> None:
    header = header_numbers(machine)
    mine = numbers(machine)
    assert {name: number for name, number in mine.items() if name in header and header[name] != number} == {}
    newest = max(header.values())
    assert {name for name, number in mine.items() if number <= newest and name not in header} == set()
    assert {row[0] for row in CALLS} & set(header) <= set(mine), "the machine has calls that the table says it lacks"


HERE = platform.machine()
REAL = {  # acts of loaded_filter_sys: what the filter makes of them; NOTIFY without a listener is ENOSYS
    "ask_for_a_keyring": errno.ENOSYS,
    "set_personality": errno.EPERM,
    "copy_a_mount_point": errno.EPERM,
    "make_a_datagram_pair": errno.ESOCKTNOSUPPORT,
    "make_an_mptcp_socket": errno.EPROTONOSUPPORT,
    "make_a_directory": errno.ENOSYS,
    "create_a_file": errno.ENOSYS,
    "type_into_own_terminal": errno.EPERM,
    "type_into_own_terminal_with_bit_32": errno.EPERM,
    "call_as_a_32_bit_program": -signal.SIGSYS,
    "start_a_thread": 0,
    "start_a_program": 0,
    "read_a_file": 0,
    "make_a_stream_pair": 0,
}


@pytest.mark.needs("linux")
@pytest.mark.skipif(HERE not in ARCHITECTURES, reason=f"no table for {HERE}")
@pytest.mark.parametrize("name", REAL)
def test_the_kernel_takes_the_filter_and_does_as_it_says(name: str, tmp_path: Path) -> None:
    import loaded_filter_sys as kernel

    act = getattr(kernel, name)
    bare = kernel.outcome(act, tmp_path / "bare", None)
    if bare != 0:
        pytest.skip(f"this host refuses the act itself ({bare}), so the filter can't be shown to")
    code = seccomp.assemble("command", HERE, mediated=True, network="none")
    assert kernel.outcome(act, tmp_path / "filtered", code) == REAL[name]


@pytest.mark.needs("linux")
@pytest.mark.skipif(HERE not in ARCHITECTURES, reason=f"no table for {HERE}")
def test_the_kernel_takes_every_filter_of_this_machine(tmp_path: Path) -> None:
    import loaded_filter_sys as kernel

    for (_program, machine, _mediated, _network), code in CODE.items():
        if machine == HERE:
            assert kernel.outcome(kernel.read_a_file, tmp_path, code) == 0
