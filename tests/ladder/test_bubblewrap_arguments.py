"""A plan as bwrap's arguments, word by word."""

from __future__ import annotations

from houseroom.plan import bubblewrap
from houseroom.plan.steps import Area, Bind, Devices, Lock, Loopback, Mask, Namespaces, Private, Proc, Root, Scratch, Step

ONE_OF_EACH: tuple[Step, ...] = (
    Namespaces(network=True, pid=True, why=""),
    Root("host", ""),
    Area(0, ""),
    Loopback(""),
    Devices(""),
    Proc(fresh=True, read_only=("sys", "fs"), masked=("keys", "sched_debug"), why=""),
    Private("/tmp", 0o1777, ""),
    Scratch("/home/me/.cache", ""),
    Bind("/home/me/project", write=True, why=""),
    Bind("/home/me/project/.git", write=False, why=""),
    Bind("/home/me/project/link", write=False, why="", link=True),
    Mask("/home/me/.ssh", "dir", ""),
    Mask("/home/me/.netrc", "file", ""),
    Mask("/home/me/.config", "dir", "", hollow=True),
    Bind("/home/me/.config/tool", write=False, why="", covered=True),
    Lock({}, ""),
)

EXPECTED = """
--die-with-parent --as-pid-1 --cap-drop ALL
--unshare-user --unshare-ipc --unshare-pid --unshare-uts --unshare-cgroup --unshare-net
--ro-bind / /
--dev /dev
--proc /proc
--ro-bind-try /proc/fs /proc/fs
--perms 0000 --ro-bind-data 6 /proc/keys
--perms 1777 --tmpfs /tmp
--perms 0755 --tmpfs /home/me/.cache
--bind /home/me/project /home/me/project
--ro-bind /home/me/project/.git /home/me/project/.git
--perms 0000 --tmpfs /home/me/.ssh --remount-ro /home/me/.ssh
--perms 0000 --ro-bind-data 7 /home/me/.netrc
--perms 0711 --tmpfs /home/me/.config
--ro-bind /home/me/.config/tool /home/me/.config/tool
--remount-ro /home/me/.config
--chdir /
"""


def test_each_step_has_its_options() -> None:
    made = bubblewrap.arguments(ONE_OF_EACH, first=6, absent={"sched_debug"})
    assert made == tuple(EXPECTED.split())
    assert list(bubblewrap.descriptors(made)) == [6, 7]


def test_the_hosts_network_is_shared_only_when_the_plan_says_so() -> None:
    assert "--unshare-net" not in bubblewrap.arguments((Namespaces(network=False, pid=True, why=""),), first=6)


def test_an_empty_root_is_bwraps_own_and_sealed_last() -> None:
    made = bubblewrap.arguments((Root("empty", ""), Bind("/usr", write=False, why="", covered=True)), first=6)
    assert made[4:] == ("--ro-bind", "/usr", "/usr", "--remount-ro", "/", "--chdir", "/")


def test_a_limit_goes_with_every_private_directory() -> None:
    made = bubblewrap.arguments((Area(4096, ""), Private("/tmp", 0o700, ""), Scratch("/c", "")), first=6)
    assert made[4:-2] == ("--perms", "0700", "--size", "4096", "--tmpfs", "/tmp", "--perms", "0755", "--size", "4096", "--tmpfs", "/c")


def test_paths_are_words_whatever_they_hold() -> None:
    made = bubblewrap.arguments((Bind("/a --bind / /", write=False, why=""),), first=6)
    assert "/a --bind / /" in made
