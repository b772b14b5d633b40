"""The bundle: what is imported is what the sources say, whatever the file holds, and nothing but a missing one is ever an error."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
NOBODY = 65534

# As the installed command does it: the bundle's own module by its file, all else through it. `word` is what one module holds.
START = """
import sys
if len(sys.argv) > 2 and sys.argv[2] == "as nobody":
    import __future__, os  # the interpreter may lie where only root gets to
    os.setgroups([]), os.setgid(65534), os.setuid(65534)
import _frozen_importlib as machinery
import _frozen_importlib_external as files
bundle = machinery._load(files.spec_from_file_location("houseroom.bundle", sys.argv[1] + "/bundle.py"))
served = bundle.serve()
"""
LOOK = """
import houseroom.policy.decide, houseroom.frontends.cli.commands, houseroom.word
ours = {name: module for name, module in sys.modules.items() if name.partition(".")[0] == "houseroom" and name != "houseroom.bundle"}
print(houseroom.word.WORD, sorted({module.__spec__.loader.__class__.__module__ for module in ours.values()}), len(ours) > 8, served.missed)
if served.missed:
    from houseroom.bundling import renew
    print("renewed", renew())
"""
SERVED = "one ['houseroom.bundle'] True False\n"
IMPORTED = "one ['_frozen_importlib_external'] True True\n"


class Stage:
    """A copy of the package, to be spoilt. ``look`` starts a process with it and tells what it imported, and from where."""

    def __init__(self, where: Path):
        self.package = where / "src" / "houseroom"
        shutil.copytree(ROOT / "src/houseroom", self.package, ignore=shutil.ignore_patterns("__pycache__", ".*"))
        self.say("one")

    @property
    def bundle(self) -> Path:
        return self.package / f"__pycache__/houseroom.{sys.implementation.cache_tag}.bundle"

    def say(self, word: str) -> None:
        for path in self.package.glob("__pycache__/word.*"):
            path.unlink()  # Python's own files tell seconds and sizes, and would hide a quick change
        (self.package / "word.py").write_text(f"WORD = {word!r}\n")

    def run(self, program: str, *argv: str, **more: object) -> subprocess.CompletedProcess[str]:
        line = [sys.executable, "-I", "-S", "-c", START + program, str(self.package), *argv]
        return subprocess.run(line, capture_output=True, text=True, check=False, **more)  # type: ignore[call-overload, no-any-return]

    def look(self, *argv: str, **more: object) -> str:
        done = self.run(LOOK, *argv, **more)
        assert done.returncode == 0 and not done.stderr, done.stderr
        return done.stdout


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    return Stage(tmp_path)


@pytest.fixture
def warm(stage: Stage) -> Stage:
    """With a bundle, as the first start has left it."""
    assert stage.look() == IMPORTED + "renewed True\n"
    assert stage.look() == SERVED
    return stage


def test_the_first_start_writes_it_and_the_next_is_served(warm: Stage) -> None:
    assert [path.name for path in warm.bundle.parent.iterdir() if not path.name.endswith(".pyc")] == [warm.bundle.name]


def test_the_installed_command_uses_it(stage: Stage) -> None:
    command = stage.package.parents[1] / "scripts/houseroom"
    command.parent.mkdir()
    shutil.copy(ROOT / "scripts/houseroom", command)
    subprocess.run([command, "--version"], check=True, capture_output=True)
    before = stage.bundle.read_bytes()
    for path in stage.package.rglob("*.pyc"):
        path.unlink()
    subprocess.run([command, "help"], check=True, capture_output=True)
    assert {path.name.partition(".")[0] for path in stage.package.rglob("*.pyc")} == {"bundle"}, "imports without the bundle leave these"
    assert stage.bundle.read_bytes() == before


def test_a_changed_source_is_what_runs(warm: Stage) -> None:
    warm.say("two")
    assert warm.look() == "two ['_frozen_importlib_external', 'houseroom.bundle'] True True\nrenewed True\n"
    assert warm.look() == SERVED.replace("one", "two")


def test_so_is_one_of_the_same_length_a_moment_later(warm: Stage) -> None:
    status = (warm.package / "word.py").stat()
    warm.say("uno")
    os.utime(warm.package / "word.py", ns=(status.st_mtime_ns, status.st_mtime_ns + 1))
    assert warm.look().startswith("uno ")


def test_a_module_that_came_later_is_found(warm: Stage) -> None:
    (warm.package / "later.py").write_text("")
    assert warm.run("import houseroom.later; print(served.missed)").stdout == "True\n"


def flip(at: float) -> Callable[[Path], object]:
    """One bit is wrong at this part of the file."""

    def spoil(path: Path) -> None:
        content = bytearray(path.read_bytes())
        content[int(at * (len(content) - 1))] ^= 4
        path.write_bytes(content)

    return spoil


def cut(part: float) -> Callable[[Path], object]:
    return lambda path: os.truncate(path, int(part * path.stat().st_size))


SPOILERS: dict[str, Callable[[Path], object]] = {
    **{f"a bit at {at}": flip(at) for at in (0, 0.00001, 0.00002, 0.00003, 0.001, 0.005)},
    **{f"cut at {part}": cut(part) for part in (0, 0.000001, 0.00002, 0.005)},
    "of another interpreter": lambda path: path.write_bytes(path.read_bytes().replace(b"houseroom 1 0 ", b"houseroom 1 1 ", 1)),
    "a text": lambda path: path.write_text("not a bundle\n" * 1000),
    "others may write it": lambda path: path.chmod(0o666),
    "its group may write it": lambda path: path.chmod(0o664),
    "a link": lambda path: (path.rename(path.with_suffix(".moved")), path.symlink_to(path.with_suffix(".moved"))),
    "a FIFO": lambda path: (path.unlink(), os.mkfifo(path)),
}


@pytest.mark.parametrize("spoiler", SPOILERS)
def test_an_odd_file_is_not_used_and_soon_replaced(warm: Stage, spoiler: str) -> None:
    SPOILERS[spoiler](warm.bundle)
    assert warm.look() == IMPORTED + "renewed True\n"
    assert warm.look() == SERVED


def test_a_directory_in_its_place_is_left_alone(warm: Stage) -> None:
    warm.bundle.unlink()
    warm.bundle.mkdir()
    assert warm.look() == IMPORTED + "renewed False\n"
    assert warm.bundle.is_dir() and not list(warm.bundle.parent.glob("*.bundle.*"))


ALL = """
from houseroom.bundling import modules
from houseroom.session import extra
extra.let_in(extra.find())  # which one module imports
for name, _ in modules():
    if name != "houseroom.__main__" and "_sys" not in name:
        __import__(name)
ours = [module for name, module in sys.modules.items() if name[:9] == "houseroom"]
print(len([module for module in ours if type(module.__spec__.loader) is files.SourceFileLoader]), served.missed)
"""


@pytest.mark.parametrize("at", [0.02, 0.1, 0.37, 0.5, 0.73, 0.999])
def test_code_that_went_bad_is_not_run(warm: Stage, at: float) -> None:
    """Beyond the index a bit belongs to one module, and only that one is imported as if there were no bundle."""
    flip(at)(warm.bundle)
    done = warm.run(ALL)
    assert done.returncode == 0, done.stderr
    assert done.stdout in ("1 False\n", "2 True\n"), "houseroom.bundle itself, and the one whose code is bad"


@pytest.mark.parametrize("part", [0.02, 0.5, 0.9999])
def test_nor_is_code_that_is_cut_off(warm: Stage, part: float) -> None:
    cut(part)(warm.bundle)
    done = warm.run(ALL)
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith(" True\n")


@pytest.mark.needs("root")
def test_a_strangers_file_is_not_used(warm: Stage) -> None:
    os.chown(warm.bundle, NOBODY, NOBODY)
    assert warm.look() == IMPORTED + "renewed True\n"


@pytest.mark.needs("root")
def test_a_package_of_its_user_is_served_by_that_users_file(warm: Stage) -> None:
    for path in (warm.bundle, warm.package):
        os.chown(path, NOBODY, NOBODY)
    assert warm.look() == SERVED


@pytest.mark.needs("root")
def test_who_may_not_write_is_only_slower(stage: Stage) -> None:
    for path in stage.package.parents:
        if path.stat().st_mode & 0o077 == 0:
            path.chmod(0o711)  # pytest keeps its directories to their owner
    assert stage.look("as nobody") == IMPORTED + "renewed False\n"
    assert not stage.bundle.exists()
    stage.bundle.parent.mkdir(mode=0o777)
    stage.bundle.parent.chmod(0o777)
    assert stage.look("as nobody") == IMPORTED + "renewed False\n", "a file of theirs would not be taken"
    assert stage.look() == IMPORTED + "renewed True\n"
    assert stage.look("as nobody") == SERVED


def test_no_variable_says_where_it_is(warm: Stage, tmp_path: Path) -> None:
    """A bundle with other words, wherever a variable could lead to; the twin shows that Python itself would follow one."""
    other = Stage(tmp_path / "other")
    other.say("evil")
    other.look()
    evil = tmp_path / "evil"
    shutil.copytree(other.package / "__pycache__", evil / str(warm.package).lstrip("/"))
    shutil.copytree(other.package / "__pycache__", evil / "__pycache__")
    names = ("PYTHONPYCACHEPREFIX", "HOME", "TMPDIR", "XDG_CACHE_HOME", "XDG_STATE_HOME", "PYTHONPATH")
    environment = {**os.environ, **dict.fromkeys(names, str(evil))}
    prefix = subprocess.run(
        [sys.executable, "-c", "import sys; print(sys.pycache_prefix)"], env=environment, capture_output=True, text=True, check=True
    )
    assert prefix.stdout == f"{evil}\n"
    assert warm.look(env=environment) == SERVED
    warm.bundle.unlink()
    assert warm.look(env=environment) == IMPORTED + "renewed True\n"


def test_no_bundle_where_python_is_told_to_write_none(stage: Stage) -> None:
    command = stage.package.parents[1] / "houseroom-0/bin/houseroom"
    command.parent.mkdir(parents=True)
    shutil.copy(ROOT / "scripts/houseroom", command)
    (command.parents[1] / "src").symlink_to(stage.package.parent)
    for option, written in (("-B", False), ("-I", True)):
        subprocess.run([sys.executable, "-I", "-S", option, command, "--version"], check=True, capture_output=True)
        assert stage.bundle.exists() == written


def test_it_can_be_written_by_hand(stage: Stage) -> None:
    """For whoever installs for others: as root, or into an image."""
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}  # of no account for what is asked for by its name
    subprocess.run([sys.executable, "-m", "houseroom.bundling"], cwd=stage.package.parent, env=environment, check=True)
    assert stage.look() == SERVED


def test_a_module_knows_its_source(warm: Stage) -> None:
    program = """
import houseroom.policy.pattern as module
import inspect, linecache, traceback
print(module.__file__ == sys.argv[1] + "/policy/pattern.py", module.__package__, houseroom.policy.__path__ == [sys.argv[1] + "/policy"])
print(inspect.getsource(module.join).splitlines()[0], module.__spec__.loader.get_source(module.__name__) == open(module.__file__).read())
print(module.__spec__.loader.get_code(module.__name__).co_filename == module.__file__)
try:
    module.components(None)
except AttributeError:
    print("components(path)" in traceback.format_exc() or "path.split" in traceback.format_exc())
"""
    done = warm.run("import houseroom.policy\n" + program)
    assert done.stdout == "True houseroom.policy True\ndef join(parts: tuple[str, ...]) -> str: True\nTrue\nTrue\n", done.stderr


def test_the_package_may_be_moved_with_it(warm: Stage, tmp_path: Path) -> None:
    shutil.copytree(warm.package, tmp_path / "moved/houseroom")  # with all times
    warm.package = tmp_path / "moved/houseroom"
    done = warm.run("import houseroom.word, houseroom.errors as e; print(served.missed, e.PolicyError.__init__.__code__.co_filename)")
    assert done.stdout == f"False {warm.package}/errors.py\n"


HOLD = """
import os
from houseroom.bundle import hold
if sys.argv[2] == "hold":
    hold(["houseroom.policy", "houseroom.policy.record", "houseroom.errors", "houseroom.policy.pattern"])
descriptors = len(os.listdir("/proc/self/fd"))
os.rename(sys.argv[1], sys.argv[1] + ".gone")
try:
    import houseroom.policy.pattern
    print(houseroom.policy.pattern.join(("a", "b")), descriptors)
except ModuleNotFoundError as error:
    print(error)
"""


@pytest.mark.parametrize("bundled", [True, False])
def test_what_is_held_needs_no_file(warm: Stage, bundled: bool) -> None:
    if not bundled:
        warm.bundle.unlink()
    done = warm.run("import houseroom\n" + HOLD, "hold")
    # The three standard streams, the listing of descriptors itself, and the bundle.
    assert done.stdout == f"/a/b {5 if bundled else 4}\n", done.stderr
    os.rename(f"{warm.package}.gone", warm.package)
    if not bundled:
        assert "No module named" in warm.run("import houseroom\n" + HOLD, "no").stdout


def test_holding_works_without_serving(warm: Stage) -> None:
    line = [
        sys.executable,
        "-c",
        "import sys; sys.path.insert(0, sys.argv[1] + '/..'); import houseroom\n" + HOLD,
        str(warm.package),
        "hold",
    ]
    assert subprocess.run(line, capture_output=True, text=True, check=True).stdout == "/a/b 4\n"


def test_what_is_not_there_can_not_be_held(warm: Stage) -> None:
    done = warm.run("import houseroom; from houseroom.bundle import hold; hold(['houseroom.nothing'])")
    assert "FileNotFoundError" in done.stderr


USED = """
import marshal
import houseroom.plan.compile, houseroom.policy.pattern
from houseroom.bundle import unchanged, used
states = used()
assert unchanged(states) and {"houseroom", "houseroom.plan", "houseroom.policy.pattern"} <= {state[0] for state in states}
sys.stdout.buffer.write(marshal.dumps(states))
"""
UNCHANGED = """
import marshal, houseroom
from houseroom.bundle import unchanged
print(unchanged(marshal.loads(bytes.fromhex(sys.argv[2]))))
"""


@pytest.mark.parametrize("bundled", [True, False])
def test_what_was_used_is_told_from_what_has_changed(warm: Stage, bundled: bool) -> None:
    """``unchanged`` is asked by a process that has imported little of it, as a start with a remembered plan is."""
    if not bundled:
        warm.bundle.unlink()
    line = [sys.executable, "-I", "-S", "-c", START + USED, str(warm.package)]
    states = subprocess.run(line, capture_output=True, check=True).stdout

    def unchanged() -> str:
        return warm.run(UNCHANGED, states.hex()).stdout

    assert unchanged() == "True\n"
    beside = warm.package / "frontends/cli/doctor.py"
    os.utime(beside, ns=(0, 0))
    assert unchanged() == "True\n", "it took no part"
    path = warm.package / "plan/compile.py"
    was = path.stat()
    os.utime(path, ns=(was.st_atime_ns, was.st_mtime_ns + 1))
    assert unchanged() == "False\n"
    os.utime(path, ns=(was.st_atime_ns, was.st_mtime_ns))
    assert unchanged() == "True\n"
    path.unlink()
    assert unchanged() == "False\n"


def test_what_has_no_source_is_never_unchanged(warm: Stage) -> None:
    program = "import houseroom; print(bundle.unchanged([('houseroom.nothing', False, 0, -1)]), bundle.unchanged([]))"
    assert warm.run(program).stdout == "False True\n"


def test_once_sealed_no_file_is_looked_for(warm: Stage) -> None:
    program = """
import houseroom
from houseroom.bundle import hold, seal
hold(["houseroom.policy", "houseroom.policy.record"])
seal()
import houseroom.policy.record, errno
for name in ("houseroom.policy.model", "json"):
    try:
        __import__(name)
    except ModuleNotFoundError as error:
        print(error)
"""
    done = warm.run(program)
    assert done.stdout == "No module named 'houseroom.policy.model'\nNo module named 'json'\n", done.stderr
