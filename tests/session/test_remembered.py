"""A remembered plan is the plan that would be made, and it is used only where all that made it is still the same.

Whether a start was remembered is told by what it imported: one that decides anew reads the policy.
"""

from __future__ import annotations

import marshal
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from houseroom.enforce.linux import wire
from houseroom.enforce.linux.launch import Cradle
from houseroom.plan.compile import compile_plan
from houseroom.policy.model import Places
from houseroom.session import remembered, sandbox
from houseroom.session.environment import Choice
from houseroom.session.sandbox import Again, Prepared, Wish

pytestmark = pytest.mark.needs("linux", "userns")

START = (sys.executable, "-I", "-S", "-X", "importtime", str(Path(__file__).parents[2] / "src" / "houseroom" / "__main__.py"), "run")
POLICY_READER = "houseroom.session.policy_files"


class Run:
    """How one start through the command line went: whether it was remembered, and what the command said."""

    def __init__(self, done: subprocess.CompletedProcess[str]):
        modules = [line.rpartition("|")[2].strip() for line in done.stderr.splitlines() if line.startswith("import time:")]
        assert "houseroom.session.remembered" in modules, done.stderr
        self.remembered = POLICY_READER not in modules
        self.status, self.out = done.returncode, done.stdout
        self.err = "\n".join(line for line in done.stderr.splitlines() if not line.startswith("import time:"))


@pytest.fixture(autouse=True)
def _state(home: Path) -> None:
    """The state directory is there: that it appears at the very first start is a change of the host like any other."""
    (home / ".local/state/houseroom/plans").mkdir(parents=True)
    for path in (home / ".local/state/houseroom", home / ".local/state/houseroom/plans"):
        path.chmod(0o700)


@pytest.fixture
def run(home: Path) -> Callable[..., Run]:
    def call(*arguments: str, **environment: str) -> Run:
        words = arguments or ("--", "true")
        return Run(
            subprocess.run(
                [*START, *words],
                cwd=home / "project",
                env={"PATH": os.defpath, "HOME": str(home), "LC_ALL": "C.UTF-8", **environment},
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=60,
                check=False,
            )
        )

    return call


def write(path: Path, text: str, mode: int = 0o600) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(mode)
    return path


def memories(home: Path) -> list[Path]:
    plans = home / ".local" / "state" / "houseroom" / "plans"
    return sorted(plans.iterdir()) if plans.exists() else []


def test_the_second_start_is_remembered(run: Callable[..., Run], home: Path) -> None:
    assert not run().remembered
    (kept,) = memories(home)
    assert kept.stat().st_mode & 0o777 == 0o600
    assert kept.parent.stat().st_mode & 0o777 == 0o700
    again = run()
    assert again.remembered
    assert (again.status, again.err) == (0, "")


# What changes between two starts; each is told of the home directory.
CHANGES: dict[str, Callable[[Path], object]] = {
    "the user's policy appears": lambda home: write(home / ".config/houseroom/policy.toml", '[files]\nhide = ["~/notes"]\n'),
    "the project's policy appears": lambda home: write(home / "project/.houseroom/policy.toml", '[files]\nhide = ["notes"]\n'),
    "a profile appears": lambda home: write(home / ".config/houseroom/profiles/mine.toml", '[files]\nhide = ["~/notes"]\n'),
    "a hidden file appears in the workspace": lambda home: write(home / "project/.env", "A=1\n"),
    "a hidden file appears deep in the workspace": lambda home: write(home / "project/a/b/.env", "A=1\n"),
    "a hidden file appears in the home directory": lambda home: write(home / ".netrc", "machine a\n"),
    "a protected directory appears": lambda home: (home / "project/.git").mkdir(),
    "a cache appears": lambda home: (home / ".cache").mkdir(),
    "a record of trust appears": lambda home: write(home / ".local/state/houseroom/trust.json", "{}"),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_change_is_decided_anew(run: Callable[..., Run], home: Path, change: Callable[[Path], object]) -> None:
    run()
    assert run().remembered
    change(home)
    assert not run().remembered
    assert run().remembered  # and is known from then on


def test_a_policy_that_changes_is_read_anew(run: Callable[..., Run], home: Path) -> None:
    policy = write(home / ".config/houseroom/policy.toml", '[files]\nhide = ["~/notes"]\n')
    write(home / "notes", "note\n")
    assert run("--", "cat", str(home / "notes")).out == ""
    assert run("--", "cat", str(home / "notes")).remembered
    status = policy.stat()
    policy.write_text('[files]\nhide = ["~/nodes"]\n')  # as long as it was
    os.utime(policy, ns=(status.st_atime_ns, status.st_mtime_ns))  # and as old
    anew = run("--", "cat", str(home / "notes"))
    assert not anew.remembered
    assert anew.out == "note\n"


def test_a_policy_that_must_not_be_relied_on_is_not_relied_on_from_memory(run: Callable[..., Run], home: Path) -> None:
    policy = write(home / ".config/houseroom/policy.toml", '[files]\nhide = ["~/notes"]\n')
    run()
    assert run().remembered
    policy.chmod(0o666)
    refused = run()
    assert (refused.remembered, refused.status) == (False, 123)


@pytest.mark.parametrize(
    "options",
    [
        ["--write", "/var/tmp"],
        ["--hide", "/etc/hostname"],
        ["--net", "open"],
        ["--publish", "41234"],
        ["--time", "1h"],
        ["--profile", "read-only"],
        ["--pass", "A"],
    ],
    ids=" ".join,
)
def test_other_flags_are_another_question(run: Callable[..., Run], options: list[str]) -> None:
    run()
    assert run().remembered
    assert not run(*options, "--", "true").remembered
    assert run(*options, "--", "true").remembered
    assert run().remembered


def test_another_workspace_is_another_question(run: Callable[..., Run], home: Path) -> None:
    (home / "other").mkdir()
    run()
    assert not run("--workspace", str(home / "other"), "--", "true").remembered


def test_a_variable_that_the_policy_was_not_asked_about(run: Callable[..., Run]) -> None:
    run()
    assert run().remembered
    anew = run("--", "env", MY_TOKEN="hush", EDITOR="vi")
    assert not anew.remembered
    assert "EDITOR=vi" in anew.out
    assert "hush" not in anew.out


def test_a_value_that_turned_into_a_secret_is_withheld_from_memory_too(run: Callable[..., Run]) -> None:
    token = "ghp_" + "a1B2" * 9
    assert "ODD=plain" in run("--", "env", ODD="plain").out
    again = run("--", "env", ODD=token)
    assert again.remembered
    assert token not in again.out


def test_a_remembered_start_masks_what_is_there_now(run: Callable[..., Run], home: Path) -> None:
    """The same walls as when they were first built, and a hidden file that came in between is behind them."""
    secret = home / "project" / ".env"
    show = ("--", "cat", str(secret))
    run(*show)
    assert run(*show).remembered
    write(secret, "KEY=1\n")
    assert secret.read_text() == "KEY=1\n"
    assert run(*show).out == ""
    masked = run(*show)
    assert masked.remembered
    assert masked.out == ""


def test_nothing_runs_under_a_plan_that_is_out_of_date(run: Callable[..., Run], home: Path) -> None:
    """The sandbox of the remembered plan is being built while the host is asked; its command must never begin."""
    script = ("--", "sh", "-c", "cat .env >> marks 2> /dev/null; echo ran >> marks")
    for _ in range(5):
        (home / "project" / ".env").unlink(missing_ok=True)
        run(*script)
        assert run(*script).remembered
        (home / "project" / "marks").unlink()
        write(home / "project" / ".env", "KEY=1\n")
        assert not run(*script).remembered
        assert (home / "project" / "marks").read_text() == "ran\n"


WALLS = """
for act in "cat ../.netrc" "touch ../made" "mkdir .git" "touch .mcp.json" "cat .env"; do $act > /dev/null 2>&1 && echo "$act"; done
touch allowed && echo ran
"""


def test_a_remembered_start_enforces_the_same(run: Callable[..., Run], home: Path) -> None:
    write(home / ".netrc", "machine a\n")
    write(home / "project" / ".env", "KEY=1\n")
    first = run("--", "sh", "-c", WALLS)
    again = run("--", "sh", "-c", WALLS)
    assert (first.remembered, again.remembered) == (False, True)
    assert first.out == again.out == "ran\n"
    assert not (home / "made").exists()
    bare = subprocess.run(["sh", "-c", WALLS], cwd=home / "project", capture_output=True, text=True, check=False)
    assert len(bare.stdout.splitlines()) == 6  # each act works without a sandbox


# -- the file itself ------------------------------------------------------------------------------------------------------


def garbage(kept: Path) -> None:
    kept.write_bytes(b"\xff" * 64)


def truncation(kept: Path) -> None:
    kept.write_bytes(kept.read_bytes()[:-7])


def nothing(kept: Path) -> None:
    kept.write_bytes(b"")


def a_plain_value(kept: Path) -> None:
    kept.write_bytes(marshal.dumps("a plan"))


def parts_of_another_kind(kept: Path) -> None:
    wanted = marshal.loads(kept.read_bytes())[0]
    kept.write_bytes(marshal.dumps((wanted, None, (1, 2), "no choice")))


def answers_of_another_kind(kept: Path) -> None:
    *rest, _answers = marshal.loads(kept.read_bytes())
    kept.write_bytes(marshal.dumps((*rest, marshal.dumps(((1, 2), "no answers")))))


def answers_cut_short(kept: Path) -> None:
    *rest, answers = marshal.loads(kept.read_bytes())
    kept.write_bytes(marshal.dumps((*rest, answers[:-7])))


def another_key(kept: Path) -> None:
    _, *rest = marshal.loads(kept.read_bytes())
    kept.write_bytes(marshal.dumps((("another",), *rest)))


def open_mode(kept: Path) -> None:
    kept.chmod(0o620)


def readable_mode(kept: Path) -> None:
    kept.chmod(0o604)


def a_link(kept: Path) -> None:
    kept.rename(kept.parent.parent / "elsewhere")
    kept.symlink_to("../elsewhere")


def a_fifo(kept: Path) -> None:
    kept.unlink()
    os.mkfifo(kept, 0o600)


def a_directory(kept: Path) -> None:
    kept.unlink()
    kept.mkdir()


ODD = [
    garbage,
    truncation,
    nothing,
    a_plain_value,
    parts_of_another_kind,
    answers_of_another_kind,
    answers_cut_short,
    another_key,
    open_mode,
    readable_mode,
    a_link,
    a_fifo,
    a_directory,
]


@pytest.mark.parametrize("spoil", ODD, ids=lambda spoil: spoil.__name__)
def test_an_odd_memory_is_a_miss(run: Callable[..., Run], home: Path, spoil: Callable[[Path], None]) -> None:
    run()
    assert run().remembered
    (kept,) = memories(home)
    spoil(kept)
    anew = run("--", "echo", "ran")
    assert (anew.remembered, anew.status, anew.out, anew.err) == (False, 0, "ran\n", "")


@pytest.mark.needs("root")
def test_a_memory_of_somebody_else_is_a_miss(run: Callable[..., Run], home: Path) -> None:
    run()
    (kept,) = memories(home)
    os.chown(kept, 12345, -1)
    assert not run().remembered


def test_where_nothing_can_be_kept_it_runs_all_the_same(run: Callable[..., Run], home: Path) -> None:
    shutil.rmtree(home / ".local")
    write(home / ".local", "a file where the directory would be")
    for _ in range(2):
        anew = run("--", "echo", "ran")
        assert (anew.remembered, anew.status, anew.out) == (False, 0, "ran\n")


# -- what is kept ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def places(home: Path) -> Places:
    return Places(str(home / "project"), str(home), "/tmp", os.getuid())


@pytest.fixture
def ready(places: Places) -> Iterator[Callable[[], Prepared | Again]]:
    made: list[Prepared | Again] = []

    def call() -> Prepared | Again:
        command = sandbox.Command(("true",), places.workspace)
        made.append(sandbox.ready(places, Wish(), {b"PATH": b"/bin", b"A_TOKEN": b"hush"}, Cradle(), command))
        return made[-1]

    yield call
    for start in made:
        start.cradle.end()


def kept(places: Places) -> remembered.Memory:
    memory = remembered.recall(places, remembered.key(places, Wish().plain()))
    assert memory is not None
    return memory


def unpacked(packed: dict[str, object]) -> tuple[object, object]:
    steps = packed["steps"]
    assert isinstance(steps, bytes)
    return wire.unpack_steps(steps), packed["filters"]


def test_what_is_remembered_is_the_packed_plan(ready: Callable[[], Prepared | Again], places: Places) -> None:
    (Path(places.workspace) / ".git").mkdir()
    write(Path(places.workspace) / ".env", "A=1\n")
    first = ready()
    assert isinstance(first, Prepared)
    memory, machine = kept(places), first.facts.host.machine
    assert unpacked(memory.packed) == unpacked(wire.pack(first.plan.steps, machine))
    assert unpacked(memory.packed) == unpacked(wire.pack(compile_plan(first.placed, first.facts).steps, machine))
    assert memory.expected() == (first.questions, remembered.plain_facts(first.facts))
    again = ready()
    assert isinstance(again, Again)
    assert (again.withheld, again.limits) == (first.withheld, first.limits) == (("A_TOKEN",), first.limits)


def test_facts_that_differ_do_not_fit(ready: Callable[[], Prepared | Again], places: Places) -> None:
    first = ready()
    assert isinstance(first, Prepared)
    expected, facts = kept(places).expected(), first.facts
    assert expected is not None
    tree, host = facts.tree, facts.host
    assert remembered.plain_facts(facts.with_(tree=tree.with_(), host=host.with_())) == expected[1]
    for other in (
        facts.with_(host=host.with_(landlock_abi=host.landlock_abi + 1)),
        facts.with_(host=host.with_(overlay="no such device")),
        facts.with_(tree=tree.with_(named={})),
        facts.with_(tree=tree.with_(found=(*tree.found, *tree.named.values()))),
        facts.with_(tree=tree.with_(named={path: entry.with_(kind="odd") for path, entry in tree.named.items()})),
        facts.with_(tree=tree.with_(named={path: entry.with_(real="/odd") for path, entry in tree.named.items()})),
        facts.with_(tree=tree.with_(watched=(*tree.watched, "/new"))),
        facts.with_(tree=tree.with_(fifos=("/fifo",))),
        facts.with_(tree=tree.with_(gitfiles=("/file",))),
        facts.with_(tree=tree.with_(incomplete=("/closed",))),
        facts.with_(tree=tree.with_(secrets=((1, 2),))),
        facts.with_(tree=tree.with_(aliases={("a",): (("b",),)})),
    ):
        assert remembered.plain_facts(other) != expected[1], other


def test_memories_do_not_pile_up(places: Places) -> None:
    plans = Path(places.home) / ".local/state/houseroom/plans"
    memory = remembered.Memory({}, Choice({}), {}, b"")
    for number in range(70):
        remembered.remember(places, ("wish", number), memory)
        if number == 0:
            (oldest,) = plans.iterdir()
            os.utime(oldest, (1, 1))
    assert len(list(plans.iterdir())) == 64
    assert not oldest.exists()
    assert remembered.recall(places, ("wish", 69)) == memory
    assert remembered.recall(places, ("wish", 0)) is None
