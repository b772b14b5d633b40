"""Control groups by themselves: where one is looked for, what is made, and what happens to those that nobody owns any more."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from runner import eventually, lacking

from houseroom.enforce.linux import cgroup
from houseroom.enforce.linux.cgroup import Mount

V2 = "30 23 0:26 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate\n"
V1 = """\
31 30 0:27 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory
32 30 0:28 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct
33 30 0:29 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,xattr,name=systemd
34 30 0:30 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw
"""
DOCKER = "40 39 0:27 /docker/abc /sys/fs/cgroup/memory ro,nosuid - cgroup cgroup rw,memory\n"
OTHERS = """\
20 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
21 1 0:27 / /mnt/cg rw - cgroup2 cgroup2 rw
22 1 0:9 / /sys/fs/cgroupy rw - cgroup2 x rw
"""


@pytest.mark.parametrize(
    ("mountinfo", "groups", "expected"),
    [
        (V2, "0::/user.slice/a.scope\n", {"": ("/sys/fs/cgroup/user.slice/a.scope", "/sys/fs/cgroup")}),
        (V2, "0::/\n", {"": ("/sys/fs/cgroup", "/sys/fs/cgroup")}),
        (V2, "0::/../b\n", {}),  # seen from inside another cgroup namespace
        (
            V1,
            "4:memory:/x\n3:cpu,cpuacct:/\n2:name=systemd:/y\n0::/z\n",
            {
                "memory": ("/sys/fs/cgroup/memory/x", "/sys/fs/cgroup/memory"),
                "cpu": ("/sys/fs/cgroup/cpu,cpuacct", "/sys/fs/cgroup/cpu,cpuacct"),
                "cpuacct": ("/sys/fs/cgroup/cpu,cpuacct", "/sys/fs/cgroup/cpu,cpuacct"),
                "name=systemd": ("/sys/fs/cgroup/systemd/y", "/sys/fs/cgroup/systemd"),
                "": ("/sys/fs/cgroup/unified/z", "/sys/fs/cgroup/unified"),
            },
        ),
        (DOCKER, "4:memory:/docker/abc/d\n", {"memory": ("/sys/fs/cgroup/memory/d", "/sys/fs/cgroup/memory")}),
        (DOCKER, "4:memory:/docker/abcd\n", {}),
        (OTHERS, "0::/a\n", {}),
    ],
)
def test_our_own_group_is_found_in_what_is_mounted(mountinfo: str, groups: str, expected: dict[str, tuple[str, str]]) -> None:
    assert cgroup.own_groups(groups, cgroup.mounts(mountinfo)) == expected


def test_only_what_is_mounted_below_one_directory_counts() -> None:
    """A policy may let a sandbox write anywhere else."""
    assert cgroup.mounts(OTHERS) == []
    assert cgroup.mounts(V2) == [Mount("/", "/sys/fs/cgroup", "v2", frozenset())]


def group(path: Path, *, controllers: str = "", processes: str = "", first: bool = False) -> Path:
    """A directory with the files that version 2 would have in it."""
    path.mkdir()
    files = {"cgroup.controllers": controllers, "cgroup.subtree_control": controllers, "cgroup.procs": processes}
    for name, text in {**files, **({} if first else {"cgroup.type": "domain\n"})}.items():
        (path / name).write_text(text)
    return path


@pytest.mark.parametrize(
    ("where", "processes", "expected"),
    [
        ("top/slice/scope", "", "top/slice"),  # beside our own, which has us in it
        ("top/slice/scope", "17\n", ""),  # somebody is there too: nothing can be handed down
        ("top/slice", "", "top"),  # the first group of all may have processes and hand down
        ("top", "", "top"),
    ],
)
def test_a_group_of_version_2_is_made_where_controllers_are_handed_down(tmp_path: Path, where: str, processes: str, expected: str) -> None:
    top = group(tmp_path / "top", controllers="memory pids\n", processes="1\n", first=True)
    group(group(top / "slice", controllers="memory pids\n", processes=processes) / "scope", processes="42\n")
    place, offered = cgroup._modern((str(tmp_path / where), str(top)))
    assert (place.directory if place else "") == (str(tmp_path / expected) if expected else "")
    assert offered == ["memory", "pids"]


def test_what_is_above_the_mounted_group_is_out_of_reach(tmp_path: Path) -> None:
    """As in a container, whose own first group has a type."""
    mounted = group(group(tmp_path / "host", controllers="memory pids\n") / "container", processes="1\n")
    assert cgroup._modern((str(mounted), str(mounted)))[0] is None
    assert cgroup._modern((str(mounted), str(tmp_path / "host")))[0] is not None  # the twin: it is the mount that ends there


@pytest.fixture
def ours() -> Iterator[None]:
    """Where root may make groups; whatever a test leaves is removed."""
    if os.geteuid() != 0:
        pytest.skip("a user has no control groups here")
    facts = cgroup.ask(memory=64 << 20, processes=20)
    if not facts["cgroup_memory"] or not facts["cgroup_pids"]:
        lacking(f"control groups: {facts['cgroup']}")
    yield
    with cgroup.make(64 << 20, 20):
        pass


def waiting() -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-S", "-c", "import sys; sys.stdin.read()"], stdin=subprocess.PIPE)


@pytest.mark.usefixtures("ours")
def test_asking_leaves_nothing() -> None:
    before = set(Path("/sys/fs/cgroup").glob("**/houseroom-*"))
    cgroup.ask(memory=64 << 20, processes=20)
    assert set(Path("/sys/fs/cgroup").glob("**/houseroom-*")) == before


@pytest.mark.usefixtures("ours")
def test_what_is_in_a_group_ends_with_it() -> None:
    group = cgroup.make(64 << 20, 20)
    paths = [path for path, _ in group.directories.values()]
    inside, outside = waiting(), waiting()
    try:
        group.place(inside.pid)
        assert all(str(inside.pid) in (Path(path) / "cgroup.procs").read_text().split() for path in paths)
        group.remove()
        assert inside.wait(20) == -signal.SIGKILL
        assert outside.poll() is None, "it was not in the group"
        assert not any(map(os.path.exists, paths))
    finally:
        for process in (inside, outside):
            process.kill()
            process.communicate()


@pytest.mark.usefixtures("ours")
def test_a_group_whose_owner_is_gone_is_swept_and_no_other() -> None:
    abandoned, kept = cgroup.make(64 << 20, 20), cgroup.make(64 << 20, 20)
    paths, others = ([path for path, _ in group.directories.values()] for group in (abandoned, kept))
    busy = cgroup.make(64 << 20, 20)
    populated = [path for path, _ in busy.directories.values()]
    process = waiting()
    try:
        busy.place(process.pid)
        for group in (abandoned, busy):  # as when its holder is killed
            for _, descriptor in group.directories.values():
                os.close(descriptor)
        with cgroup.make(64 << 20, 20):
            assert not any(map(os.path.exists, paths))
            assert all(map(os.path.exists, others))
            assert all(map(os.path.exists, populated)), "somebody is in it"
    finally:
        process.kill()
        process.communicate()
        kept.remove()
        for path in populated:
            assert eventually(lambda path=path: not Path(path, "cgroup.procs").read_text())  # type: ignore[misc]
            os.rmdir(path)


@pytest.mark.usefixtures("ours")
def test_what_another_user_made_under_our_name_stays() -> None:
    with cgroup.make(64 << 20, 20) as group:
        parent = next(iter(group.directories))
    stranger = Path(parent) / f"houseroom-{os.urandom(8).hex()}"
    stranger.mkdir()
    os.chown(stranger, 65534, 65534)
    try:
        with cgroup.make(64 << 20, 20):
            assert stranger.exists()
        os.chown(stranger, 0, 0)
        with cgroup.make(64 << 20, 20):
            assert not stranger.exists()  # the twin: as ours it goes
    finally:
        if stranger.exists():
            stranger.rmdir()


@pytest.mark.usefixtures("ours")
def test_forks_refused_by_the_group_are_counted() -> None:
    script = """
import os
os.read(0, 1)
made = 0
try:
    while made < 60:
        if os.fork() == 0:
            os.read(0, 1)
            os._exit(0)
        made += 1
except OSError:
    pass
print(made)
"""
    with cgroup.make(0, 20) as group:
        process = subprocess.Popen([sys.executable, "-S", "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        group.place(process.pid)
        out, _ = process.communicate(b"g", timeout=30)
        assert (int(out), group.hits()[("limits.processes", "refused")]) == (19, 1)
        assert set(group.hits()) == {("limits.processes", "refused")}
    assert group.hits()[("limits.processes", "refused")] == 1  # also after the end


def test_who_may_write_no_group_is_told_so() -> None:
    """As an ordinary user; the twin is root above."""
    script = f"""
import os, sys
sys.path.append({str(Path(cgroup.__file__).parents[3])!r})
from houseroom.enforce.linux import cgroup
if not os.getuid():
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)
print(cgroup.ask(memory=1 << 27, processes=9))
try:
    cgroup.make(1 << 27, 9)
except OSError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-S", "-c", script], capture_output=True, text=True, check=True)
    if "'cgroup': ''" in done.stdout:
        pytest.skip("this user has control groups")
    assert "'cgroup_memory': '', 'cgroup_pids': ''" in done.stdout
    assert "can't make a control group: " in done.stdout


def test_a_controller_that_is_nowhere_is_named() -> None:
    found, reason = cgroup.find(["no-such-controller"])
    assert (found, reason) == ({}, "no hierarchy of control groups that is mounted below /sys/fs/cgroup has no-such-controller")
