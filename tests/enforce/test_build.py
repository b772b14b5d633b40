"""What is mounted is mounted where the plan says, also when that is thousands of names in one directory: a link put in the way of a
mount stops the start instead of leading it elsewhere. The twin of each refusal is the same plan with nothing in its way.

And what comes up between the plan and the moment at which init hears of it is found when init begins to listen."""

from __future__ import annotations

import json

import pytest
from runner import Bench

pytestmark = pytest.mark.needs("userns")

ENTER = """
import errno, json, os, sys
from houseroom.enforce.linux import process_sys
from houseroom.enforce.linux.build import Build
from houseroom.errors import SetupFailed
from houseroom.plan.siblings import gather
from houseroom.plan.steps import Area, Bind, Devices, Mask, Proc, Root, Siblings, Watch

workspace = sys.argv[1]
uid, gid = os.getuid(), os.getgid()
process_sys.unshare(process_sys.CLONE_NEWUSER | process_sys.CLONE_NEWNS)
process_sys.map_identity(uid, gid)
"""

# Builds a sandbox around the directory in argv and tells what shows there. Without chroot(2) names are mounted one by one.
BUILD = (
    ENTER
    + """
chroot, names = sys.argv[2] == "chroot", json.loads(sys.argv[3])
CAP_SYS_CHROOT = 18
if not chroot:
    process_sys.capset(process_sys.permitted() & ~(1 << CAP_SYS_CHROOT))
masks = [Mask(f"{workspace}/many/{name}", kind, "") for name, kind in names.items() if kind != "kept"]
binds = [Bind(f"{workspace}/many/{name}", False, "") for name, kind in names.items() if kind == "kept"]
steps = list(gather([Root("host", ""), Area(0, ""), Devices(""), Proc(False, (), (), ""), Bind(workspace, True, ""), *binds, *masks]))
assert any(isinstance(step, Siblings) for step in steps)
try:
    Build(steps).run()
except SetupFailed as failure:
    print(json.dumps([failure.doing, os.path.relpath(failure.subject, workspace), errno.errorcode[failure.errno]]))
    sys.exit()


def write(path):
    try:
        open(path, "a").close()
    except OSError as error:
        return errno.errorcode[error.errno]
    return "written"


def content(path):
    try:
        return sorted(os.listdir(path)) if os.path.isdir(path) else open(path).read()
    except OSError as error:
        return ""


os.chdir(f"{workspace}/many")
print(json.dumps({name: [bool(content(name)), write(name) if os.path.isfile(name) else ""] for name in [*names, "other"]}))
"""
)

# The host's hand is a descriptor of its own view of the workspace.
LISTEN = (
    ENTER
    + """
from houseroom.enforce.linux.watch import Watcher

host = os.open(workspace, os.O_RDONLY | os.O_DIRECTORY)
secret = os.stat(".env", dir_fd=host)
watch = Watch((workspace,), (((f"{workspace}/**/.env", "hide"),),), (), ((secret.st_dev, secret.st_ino),), "")
mask = Mask(f"{workspace}/.env", "file", "")
build = Build([Root("host", ""), Area(0, ""), Devices(""), Proc(False, (), (), ""), Bind(workspace, True, ""), mask, watch])
build.run()
watcher = Watcher(watch, build, set())
os.link(".env", "directory/innocent", src_dir_fd=host, dst_dir_fd=host)
os.mkfifo("directory/fifo", dir_fd=host)
os.mkdir("fresh", dir_fd=host)
os.link(".env", "fresh/.env", src_dir_fd=host, dst_dir_fd=host)


def shown():
    os.chdir(workspace)
    out = []
    for name in (".env", "directory/innocent", "fresh/.env"):
        try:
            out.append(bool(open(name).read()))
        except PermissionError:
            out.append(False)
    return [*out, oct(os.lstat("directory/fifo").st_mode & 0o170000)]


print(json.dumps(shown()))
while watcher.behind:
    watcher.walk()
print(json.dumps(shown()))
"""
)

NAMES = {**{f"secret-{number}": "file" for number in range(12)}, "keys": "dir", **{f"kept-{number}": "kept" for number in range(12)}}


def build(bench: Bench, *, chroot: bool = True) -> object:
    argv = [bench.identity.python, "-c", BUILD, str(bench.stage.workspace), "chroot" if chroot else "", json.dumps(NAMES)]
    outcome = bench.run(argv, inside=False, env={"PYTHONPATH": str(bench.identity.base / "src")})
    assert outcome.status == 0, outcome
    return json.loads(outcome.out)


@pytest.fixture
def many(bench: Bench) -> Bench:
    """A directory with all of them, with content."""
    for name, kind in (*NAMES.items(), ("other", "")):
        bench.stage.plant(bench.stage.workspace / "many" / (f"{name}/key" if kind == "dir" else name), "content\n")
    return bench


@pytest.mark.parametrize("chroot", [True, False])
def test_each_name_is_what_the_plan_says(many: Bench, chroot: bool) -> None:
    said = build(many, chroot=chroot)
    assert isinstance(said, dict)
    assert said.pop("other") == [True, "written"]
    assert said.pop("keys") == [False, ""]
    assert {name: shown for name, shown in said.items() if NAMES[name] == "file"} == {f"secret-{n}": [False, "EROFS"] for n in range(12)}
    assert {name: shown for name, shown in said.items() if NAMES[name] == "kept"} == {f"kept-{n}": [True, "EROFS"] for n in range(12)}


@pytest.mark.parametrize("chroot", [True, False])
@pytest.mark.parametrize(("name", "doing"), [("secret-3", "mask"), ("keys", "mask"), ("kept-3", "bind")])
def test_a_name_that_became_a_link_stops_the_start(many: Bench, name: str, doing: str, chroot: bool) -> None:
    path = many.stage.workspace / "many" / name
    path.rename(many.stage.workspace / "aside")
    path.symlink_to("../aside")
    assert build(many, chroot=chroot) == [doing, f"many/{name}", "ELOOP"]


@pytest.mark.parametrize("chroot", [True, False])
def test_a_directory_that_became_a_link_stops_the_start(many: Bench, chroot: bool) -> None:
    path = many.stage.workspace / "many"
    path.rename(many.stage.workspace / "aside")
    path.symlink_to("aside")
    doing, _subject, code = build(many, chroot=chroot)  # type: ignore[misc]
    assert (doing, code) == ("mask", "ELOOP")


@pytest.mark.parametrize("chroot", [True, False])
@pytest.mark.parametrize(("name", "doing"), [("secret-3", "mask"), ("kept-3", "bind")])
def test_a_name_that_is_gone_stops_the_start(many: Bench, name: str, doing: str, chroot: bool) -> None:
    """Another sandbox may have moved it: where it is now, it would show."""
    (many.stage.workspace / "many" / name).unlink()
    assert build(many, chroot=chroot) == [doing, f"many/{name}", "ENOENT"]


def test_what_came_before_init_listened_is_found(bench: Bench) -> None:
    """A further name of a hidden file, a FIFO and a hidden file made by the host after it was asked: in sight, then no more."""
    argv = [bench.identity.python, "-c", LISTEN, str(bench.stage.workspace)]
    outcome = bench.run(argv, inside=False, env={"PYTHONPATH": str(bench.identity.base / "src")})
    assert outcome.status == 0, outcome
    before, after = map(json.loads, outcome.out.splitlines())
    assert before == [False, True, True, "0o10000"]
    assert after == [False, False, False, "0o100000"]
