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

# The steps that init still carries out; the others are bwrap's.
LEFT_TO_INIT = (plan.Namespaces, plan.Mediate, plan.Lock, plan.Landlock, plan.Seccomp)


def arguments(steps: Sequence[plan.Step], *, first: int, absent: Collection[str] = ()) -> tuple[str, ...]:
    """Options for bwrap, without the command. A masked file is the copy of an empty one, read from a descriptor of its own:
    ``first``, ``first`` + 1 and so on, ``descriptors`` of them. ``absent`` names what is not in this kernel's /proc.
    """
    out: list[str] = ["--die-with-parent", "--as-pid-1", "--cap-drop", "ALL"]
    sealed: list[str] = []
    size: tuple[str, ...] = ()
    number = first
    for step in steps:
        match step:
            case plan.Namespaces(network=network):
                out += ("--unshare-user", "--unshare-ipc", "--unshare-pid", "--unshare-uts", "--unshare-cgroup")
                out += ("--unshare-net",) if network else ()
            case plan.Root(base="host"):
                out += ("--ro-bind", "/", "/")
            case plan.Root():
                sealed.append("/")
            case plan.Area(size=limit):
                size = ("--size", str(limit)) if limit else ()
            case plan.Devices():
                out += ("--dev", "/dev")
            case plan.Proc():
                out += ("--proc", "/proc")
                for name in step.read_only:
                    out += () if name in _COVERED_BY_BWRAP else ("--ro-bind-try", f"/proc/{name}", f"/proc/{name}")
                for name in step.masked:
                    if name not in absent:
                        out += ("--perms", "0000", "--ro-bind-data", str(number), f"/proc/{name}")
                        number += 1
            case plan.Private(path=path, mode=mode):
                out += ("--perms", f"{mode:04o}", *size, "--tmpfs", path)
            case plan.Scratch(path=path):
                out += ("--perms", "0755", *size, "--tmpfs", path)
            case plan.Bind(link=True):
                pass  # mount(2), which bwrap uses, follows a symbolic link; coverage says what is lost
            case plan.Bind(path=path, write=write):
                out += ("--bind" if write else "--ro-bind", path, path)
            case plan.Mask(path=path, kind="dir", hollow=True):
                out += ("--perms", "0711", "--tmpfs", path)
                sealed.append(path)
            case plan.Mask(path=path, kind="dir"):
                out += ("--perms", "0000", "--tmpfs", path, "--remount-ro", path)
            case plan.Mask(path=path):
                out += ("--perms", "0000", "--ro-bind-data", str(number), path)
                number += 1
    for path in reversed(sealed):
        out += ("--remount-ro", path)
    return (*out, "--chdir", "/")


def descriptors(options: Sequence[str]) -> Iterator[int]:
    """The descriptors that such options name, each to be open for reading and empty."""
    return (int(options[at + 1]) for at, option in enumerate(options) if option == "--ro-bind-data")


# One of each: what is started with these once says whether this bwrap and this host will do.
TRIAL: tuple[plan.Step, ...] = (
    plan.Namespaces(True, True, ""),
    plan.Root("host", ""),
    plan.Area(1 << 20, ""),
    plan.Devices(""),
    plan.Proc(True, (), (), ""),
    plan.Private("/tmp", 0o1777, ""),
    plan.Mask("/tmp/file", "file", ""),
    plan.Mask("/tmp/directory", "dir", ""),
)
