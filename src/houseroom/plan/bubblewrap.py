"""A plan's surroundings and mounts as arguments of bwrap(1): for hosts that allow namespaces to it and not to everybody.

Pure. Ubuntu's AppArmor profile for bwrap takes every capability from what bwrap starts, so all mounts are bwrap's and init
does the rest: mediation, Landlock, system call filters. Options are those of bubblewrap 0.8 (``--size``).

Every source path is resolved in the host's own root, so nothing here can cover the source of something later.
"""

from __future__ import annotations

from houseroom.plan import steps as plan

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

# ``--proc`` makes these read-only by itself.
_COVERED_BY_BWRAP = frozenset({"sys", "sysrq-trigger", "irq", "bus"})

# The steps that init and its supervisor still carry out; the others are bwrap's.
LEFT_TO_INIT = (plan.Cgroup, plan.Namespaces, plan.Tally, plan.Mediate, plan.Lock, plan.Landlock, plan.Seccomp)


_ONLY_ITS_OWN = ("--die-with-parent", "--as-pid-1", "--cap-drop", "ALL")
_NAMESPACES = ("--unshare-user", "--unshare-ipc", "--unshare-pid", "--unshare-uts", "--unshare-cgroup")
_EMPTY = "\0"  # stands for the number of a descriptor: an argument of a program never holds this character


def arguments(steps: Sequence[plan.Step], *, first: int, absent: Collection[str] = ()) -> tuple[str, ...]:
    """Options for bwrap, without the command. A masked file is the copy of an empty one, read from a descriptor of its own:
    ``first``, ``first`` + 1 and so on, ``descriptors`` of them. ``absent`` names what is not in this kernel's /proc.
    """
    out = [*_ONLY_ITS_OWN]
    size = next((("--size", str(step.size)) for step in steps if isinstance(step, plan.Area) and step.size), ())
    for step in steps:
        out += _surroundings(step, absent) or _mount(step, size)
    sealed = ["/" for step in steps if isinstance(step, plan.Root) and step.base == "empty"]
    sealed += [step.path for step in steps if isinstance(step, plan.Mask) and step.kind == "dir" and step.hollow]
    for path in reversed(sealed):
        out += ("--remount-ro", path)
    numbers = iter(range(first, first + len(out)))
    return (*(str(next(numbers)) if word == _EMPTY else word for word in out), "--chdir", "/")


def _surroundings(step: plan.Step, absent: Collection[str]) -> tuple[str, ...]:
    match step:
        case plan.Namespaces(network=network):
            return (*_NAMESPACES, "--unshare-net") if network else _NAMESPACES
        case plan.Root(base="host"):
            return ("--ro-bind", "/", "/")
        case plan.Devices():
            return ("--dev", "/dev")
        case plan.Proc(read_only=read_only, masked=masked):
            left = [name for name in read_only if name not in _COVERED_BY_BWRAP]
            kept = [word for name in left for word in ("--ro-bind-try", f"/proc/{name}", f"/proc/{name}")]
            hidden = [
                word for name in masked if name not in absent for word in ("--perms", "0000", "--ro-bind-data", _EMPTY, f"/proc/{name}")
            ]
            return ("--proc", "/proc", *kept, *hidden)
    return ()


def _mount(step: plan.Step, size: tuple[str, ...]) -> tuple[str, ...]:
    match step:
        case plan.Private(path=path, mode=mode):
            return ("--perms", f"{mode:04o}", *size, "--tmpfs", path)
        case plan.Scratch(path=path):
            return ("--perms", "0755", *size, "--tmpfs", path)
        case plan.Bind(link=True):
            return ()  # mount(2), which bwrap uses, follows a symbolic link; coverage says what is lost
        case plan.Bind(path=path, write=write):
            return ("--bind" if write else "--ro-bind", path, path)
        case plan.Mask(path=path, kind="dir", hollow=True):
            return ("--perms", "0711", "--tmpfs", path)
        case plan.Mask(path=path, kind="dir"):
            return ("--perms", "0000", "--tmpfs", path, "--remount-ro", path)
        case plan.Mask(path=path):
            return ("--perms", "0000", "--ro-bind-data", _EMPTY, path)
    return ()


def descriptors(options: Sequence[str]) -> Iterator[int]:
    """The descriptors that such options name, each to be open for reading and empty."""
    return (int(options[at + 1]) for at, option in enumerate(options) if option == "--ro-bind-data")


# One of each: what is started with these once says whether this bwrap and this host will do.
TRIAL: tuple[plan.Step, ...] = (
    plan.Namespaces(network=True, pid=True, why=""),
    plan.Root("host", ""),
    plan.Area(1 << 20, ""),
    plan.Devices(""),
    plan.Proc(fresh=True, read_only=(), masked=(), why=""),
    plan.Private("/tmp", 0o1777, ""),
    plan.Mask("/tmp/file", "file", ""),
    plan.Mask("/tmp/directory", "dir", ""),
)
