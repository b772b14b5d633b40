"""Nothing outside the writable roots changes: no byte, no name, no metadata."""

from __future__ import annotations

import ctypes
import os
import struct
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import attack_write
import pytest
from probe_kit import listed
from runner import Bench, When, describe, walk

pytestmark = pytest.mark.needs("userns")

WITH_DESCRIPTOR = {"inherited_directory", "inherited_file"}
WITH_STDIN = {name for name in listed(vars(attack_write), "attack_write") if name.startswith("standard_input")}
# The control needs a privilege; for others only the inside half is judged.
ROOT_ONLY = {"by_file_handle", "working_directory_escape", "rename_whiteout"}
METADATA = {"chmod", "chown", "utime", "xattr", "inode_flags", "fchmod", "fchown", "lchown", "futimens"}  # see test_metadata.py
PLAIN = [
    name
    for name in listed(vars(attack_write), "attack_write")
    if name not in WITH_DESCRIPTOR | WITH_STDIN and not any(word in name for word in METADATA)
]


def control(bench: Bench, name: str) -> bool | str:
    return True if name not in ROOT_ONLY or bench.identity.uid == 0 else "needs a capability on the host"


@pytest.mark.parametrize("attack", PLAIN)
def test_outside_stays_as_it_is(bench: Bench, attack: str) -> None:
    bench.twin(bench.probe("attack_write", attack), bench.outside(), control=control(bench, attack))


@pytest.mark.parametrize("attack", sorted(WITH_STDIN))
def test_standard_input_opens_no_door(bench: Bench, attack: str) -> None:
    """A file or directory the caller passes read-only as standard input does not become writable."""
    target = bench.stage.outside if attack in ("standard_input_directory", "standard_input_parent") else bench.stage.outside / "victim"
    if attack == "standard_input_parent":
        target = bench.stage.outside / "directory"
    for_both: list[int] = []

    def prepare() -> None:
        for_both.append(os.open(target, os.O_RDONLY))

    def run(inside: bool) -> None:
        effect = bench.outside()
        bench.stage.restore()
        prepare()
        effect.arm()
        argv = bench.probe("attack_write", attack)
        if target.is_dir():
            argv = ["sh", "-c", 'exec 9<&0 < /dev/null; exec "$@"', "sh", *argv]
        outcome = bench.run(argv, inside=inside, stdin=for_both[-1])
        reached = effect.happened(outcome)
        # Python can't start with a directory as standard input, so neither can houseroom: nothing was started then
        assert f"probe: {attack}" in outcome.out or (inside and "is a directory" in outcome.err), outcome
        assert bool(reached) != inside, f"{'ESCAPE' if inside else 'no control'}: {reached}\n{outcome}"

    try:
        run(False)
        run(True)
    finally:
        for descriptor in for_both:
            os.close(descriptor)


@pytest.mark.parametrize("attack", sorted(WITH_DESCRIPTOR))
def test_inherited_descriptors_are_closed(bench: Bench, attack: str) -> None:
    """Descriptors that the caller left open by mistake never reach the command."""
    opened: list[int] = []
    try:
        for inside in (False, True):
            bench.stage.restore()
            path = bench.stage.outside if attack == "inherited_directory" else bench.stage.outside / "victim"
            flags = os.O_RDONLY if attack == "inherited_directory" else os.O_WRONLY | os.O_APPEND
            opened.append(os.open(path, flags))
            effect = bench.outside()
            effect.arm()
            outcome = bench.run(bench.probe("attack_write", attack, opened[-1]), inside=inside, pass_fds=opened[-1:])
            reached = effect.happened(outcome)
            assert f"probe: {attack}" in outcome.out, outcome
            assert bool(reached) != inside, f"{'ESCAPE' if inside else 'no control'}: {reached}\n{outcome}"
    finally:
        for descriptor in opened:
            os.close(descriptor)


SHARED_PLACES = ["/tmp", "/var/tmp", "/dev/shm", "/run/lock"]


@pytest.mark.parametrize("place", SHARED_PLACES)
def test_shared_directories_of_the_host(bench: Bench, place: str) -> None:
    """Everybody may write there; a sandbox has its own or none."""
    name = Path(place) / f"hrprobe-{bench.identity.login}"
    if not os.access(place, os.W_OK):
        pytest.skip(f"this host has no writable {place}")
    try:
        bench.twin(
            ["sh", "-c", f"echo probe: shared; echo x > {name}"],
            When(lambda: f"{name} exists" if name.exists() else ""),
            prepare=lambda: name.unlink(missing_ok=True),
        )
    finally:
        name.unlink(missing_ok=True)


@pytest.fixture(params=["/tmp", "/dev/shm"])
def in_tmp(bench: Bench, request: pytest.FixtureRequest) -> Iterator[Path]:
    """A workspace in a place that is private, beside a file that is not granted."""
    place = Path(request.param) / f"hrprobe-ws-{bench.identity.login}"
    subprocess.run(["rm", "-rf", str(place)], check=True)
    for directory in (place, place / "project", place / "project/.git"):
        directory.mkdir()
        bench.stage.give(directory)
    for file in (place / "beside", place / "project/file", place / "project/.git/config"):
        file.write_text("before\n")
        bench.stage.give(file)
    yield place
    subprocess.run(["rm", "-rf", str(place)], check=True)


def test_workspace_below_tmp(bench: Bench, in_tmp: Path) -> None:
    """The private /tmp or /dev/shm does not hide a workspace that lies below it, and the rest of the host's stays untouched."""
    script = "echo probe: tmp; echo x > ../beside; echo x > .git/config; echo x > ../new; cat file; echo made > made"

    def look() -> str:
        changed = [name for name in ("beside", "project/.git/config") if (in_tmp / name).read_text() != "before\n"]
        return " ".join(changed + ["new"] * (in_tmp / "new").exists())

    def prepare() -> None:
        for name in ("beside", "project/.git/config"):
            (in_tmp / name).write_text("before\n")
        for name in ("new", "project/made"):
            (in_tmp / name).unlink(missing_ok=True)

    outcome = bench.twin(["sh", "-c", script], When(look), prepare=prepare, cwd=in_tmp / "project")
    assert "before" in outcome.out
    assert (in_tmp / "project/made").read_text() == "made\n"


def test_workspace_is_writable(bench: Bench) -> None:
    """Create, rename and delete arrive on the host, with the caller's ownership."""
    script = "set -e; echo a > new; mkdir -p a/b; mv file a/b/moved; rm -r src; ln -s new link; ln new hard; chmod 600 new"
    for inside in (False, True):
        bench.stage.restore()
        outcome = bench.run(["sh", "-c", script], inside=inside)
        assert outcome.status == 0, outcome
        workspace = bench.stage.workspace
        assert (workspace / "a/b/moved").exists() and not (workspace / "file").exists() and not (workspace / "src").exists()
        assert (workspace / "link").is_symlink() and (workspace / "hard").stat().st_nlink == 2
        found = (workspace / "new").stat()
        assert (found.st_uid, found.st_gid, found.st_mode & 0o777) == (bench.identity.uid, bench.identity.gid, 0o600)


def test_null_is_writable_and_dev_is_minimal(bench: Bench) -> None:
    outcome = bench.run(["sh", "-c", "echo x > /dev/null && ls /dev"], inside=True)
    assert outcome.status == 0, outcome
    expected = {"null", "zero", "full", "random", "urandom", "tty", "pts", "ptmx", "shm", "fd", "stdin", "stdout", "stderr"}
    assert set(outcome.out.split()) <= expected | {"console", "mqueue", "core"}


def test_the_file_system_itself_is_what_was_looked_at(bench: Bench) -> None:
    """The digest of this suite sees metadata: guards the guard."""
    before = {path: describe(path) for path in walk(bench.stage.outside)}
    os.utime(bench.stage.outside / "victim", (1, 1))
    assert {path: describe(path) for path in walk(bench.stage.outside)} != before


def seen_by_the_host(directory: Path, act: Callable[[], object]) -> list[tuple[int, bytes]]:
    """What a watcher of a directory hears meanwhile: the kind of each event and its name (inotify(7))."""
    libc = ctypes.CDLL(None, use_errno=True)
    queue = libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
    with open(queue, "rb", buffering=0) as events:
        assert libc.inotify_add_watch(queue, os.fsencode(directory), 0xFFF) > 0
        act()
        data, found = events.read(1 << 16) or b"", []
    while data:
        _watch, kind, _cookie, length = struct.unpack_from("iIII", data)
        found.append((kind, data[16 : 16 + length].rstrip(b"\0")))
        data = data[16 + length :]
    return found


@pytest.mark.parametrize("way", [": > new", "echo text > new", "echo text >> new", "set -C; echo text > new", "umask 277; echo text > new"])
def test_the_host_sees_a_new_file_made_once(bench: Bench, way: str) -> None:
    """Made, opened and written as without a sandbox: a file that is cut to nothing when it is new goes to the disk at once."""
    said = []
    for inside in (False, True):
        bench.stage.restore()
        said.append(seen_by_the_host(bench.stage.workspace, lambda inside=inside: bench.run(["sh", "-c", way], inside=inside)))
        assert (bench.stage.workspace / "new").exists()
    bare, inner = ([event for event in events if event[1] == b"new"] for events in said)
    assert bare == inner != []
