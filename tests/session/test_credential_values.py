"""The values of credentials: read only from where no command can read or write, run only where no command had a say, told in no message."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

if sys.platform != "linux":
    pytest.skip("the egress proxy is Linux's", allow_module_level=True)

from houseroom.errors import PolicyError
from houseroom.policy.credentials import KEY, Swap, credentials
from houseroom.policy.decide import PlacedPolicy
from houseroom.policy.model import Origin, Places, Policy, Rule, Stratum
from houseroom.session import printed
from houseroom.session.credentials import check, read
from houseroom.session.writable import Writable

TOKEN = "ghp_t0ken0fMine12345678901234567890abcd"
OTHER = "ghp_0ther0fMine12345678901234567890abcd"
HERE = Origin("user", "policy.toml", 3, 5)
ENVIRON = {b"PATH": os.defpath.encode(), b"HOME": b"/nowhere"}
Ask = Callable[..., tuple[tuple[Swap, ...], tuple[tuple[str, str], ...]]]


class Place:
    """A home with a workspace, a hidden directory and one that is only read."""

    def __init__(self, base: Path):
        self.home, self.workspace, self.hidden, self.bin = base, base / "work", base / "hidden", base / "bin"
        for each in (self.workspace, self.hidden, self.bin):
            each.mkdir()
        self.environ = {**ENVIRON, b"PATH": f"{self.bin}:/usr/bin:/bin".encode()}

    def policy(self, *texts: str, hidden: tuple[str, ...] = ()) -> PlacedPolicy:
        files = (("files.read", "/"), ("files.write", "{workspace}"), ("files.hide", str(self.hidden)))
        rules = [Rule(key, subject, HERE) for key, subject in (*files, *(("files.hide", path) for path in hidden))]
        rules += [Rule(KEY, text, HERE) for text in texts]
        closed = frozenset({"files.read", "files.write"})
        return PlacedPolicy(Policy("x", (Stratum("x", tuple(rules), {}, closed),)), Places(str(self.workspace), str(self.home)))

    def read(self, *texts: str, hidden: tuple[str, ...] = (), **environ: str) -> tuple[tuple[Swap, ...], tuple[tuple[str, str], ...]]:
        placed = self.policy(*texts, hidden=hidden)
        given = {**self.environ, **{name.encode(): value.encode() for name, value in environ.items()}}
        return read(credentials(placed.policy), placed, given)

    def program(self, text: str, path: Path | None = None) -> Path:
        path = path or self.bin / "teller"
        path.write_text(text)
        path.chmod(0o755)
        return path


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def refused(act: Callable[[], object]) -> str:
    with pytest.raises(PolicyError) as caught:
        act()
    said = str(caught.value)
    assert said.startswith("policy.toml:3:5: ") and TOKEN not in said and OTHER not in said, said
    return said


def only(found: tuple[tuple[Swap, ...], tuple[tuple[str, str], ...]]) -> bytes:
    ((swap,), ((name, shown),)) = found
    assert name == "T" and swap.placeholder == shown.encode() != swap.value
    return swap.value


# -- files ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", [TOKEN, TOKEN + "\n"])
def test_a_hidden_file_with_one_line_end_less(place: Place, text: str) -> None:
    (place.hidden / "token").write_text(text)
    assert only(place.read(f"T x.org from file:{place.hidden}/token")) == TOKEN.encode()
    assert only(place.read("T x.org from file:~/hidden/token")) == TOKEN.encode()


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "has no value: it is empty"),
        (b"\n", "has no value: it is empty"),
        (TOKEN.encode() + b"\n\n", "several lines"),
        (f"{TOKEN}\n{OTHER}\n".encode(), "several lines"),
        (TOKEN.encode() + b"\0", "no field of a request"),
        (TOKEN.encode() + b"\r\n", "no field of a request"),
        (TOKEN.encode() + b" ", "no field of a request"),
        (TOKEN.encode() + b"\xff", "no field of a request"),
        (b"a" * 4096 + b"\n", ""),
        (b"a" * 4097, "has a value of 4097 characters"),
        (b"a" * 5000, "has 5000 bytes, and a credential has 4096 at most"),
    ],
)
def test_what_is_no_value(place: Place, data: bytes, says: str) -> None:
    (place.hidden / "token").write_bytes(data)
    rule = f"T x.org from file:{place.hidden}/token"
    if says:
        assert says in refused(lambda: place.read(rule))
    else:
        assert only(place.read(rule)) == data[:-1]


def test_a_file_that_is_not_there(place: Place) -> None:
    for path in (f"{place.hidden}/token", f"{place.hidden}", "/proc/self/mem"):
        said = refused(lambda path=path: place.read(f"T x.org from file:{path}"))  # type: ignore[misc]
        assert f"T can't come from file:{path}: " in said


def test_a_file_that_commands_may_read_protects_nothing(place: Place) -> None:
    path = place.home / "token"
    path.write_text(TOKEN)
    said = refused(lambda: place.read(f"T x.org from file:{path}"))
    assert f"commands may read {path}" in said and f"--hide {path}" in said
    assert only(place.read(f"T x.org from file:{path}", hidden=(str(path),))) == TOKEN.encode()  # the twin


def test_a_file_where_commands_may_write_also_when_it_is_hidden(place: Place) -> None:
    path = place.workspace / "secrets" / "token"
    path.parent.mkdir()
    path.write_text(TOKEN)
    for hidden in ((), (str(path),), (str(path.parent),)):
        said = refused(lambda hidden=hidden: place.read(f"T x.org from file:{path}", hidden=hidden))  # type: ignore[misc]
        assert f"lies where commands may write ({place.workspace})" in said


def test_no_link_leads_out_of_where_commands_may_write_or_into_it(place: Place) -> None:
    (place.hidden / "token").write_text(TOKEN)
    (place.workspace / "token").write_text(OTHER)
    (place.workspace / "out").symlink_to(place.hidden / "token")
    (place.hidden / "into").symlink_to(place.workspace / "token")
    (place.hidden / "through").symlink_to(place.workspace / "out")
    (place.workspace / "back").symlink_to(place.hidden)
    for path in ("work/out", "hidden/into", "hidden/through", "work/back/token"):
        assert "lies where commands may write" in refused(lambda path=path: place.read(f"T x.org from file:~/{path}"))  # type: ignore[misc]
    (place.home / "link").symlink_to(place.hidden)  # the twin: one that no command can turn
    assert only(place.read("T x.org from file:~/link/token")) == TOKEN.encode()


def test_a_file_that_has_another_name(place: Place) -> None:
    (place.hidden / "token").write_text(TOKEN)
    os.link(place.hidden / "token", place.home / "same")
    assert "has 2 names (hard links)" in refused(lambda: place.read("T x.org from file:~/hidden/token"))
    (place.home / "same").unlink()
    assert only(place.read("T x.org from file:~/hidden/token")) == TOKEN.encode()


@pytest.mark.parametrize(
    ("kind", "says"),
    [(stat.S_IFIFO, "is not a regular file"), (stat.S_IFDIR, "is not a regular file"), (stat.S_IFSOCK, "can't be read: No such device")],
)
def test_only_a_regular_file_is_read(place: Place, kind: int, says: str) -> None:
    path = place.hidden / "odd"
    if kind == stat.S_IFDIR:
        path.mkdir()
    else:
        os.mknod(path, kind | 0o600)
    assert says in refused(lambda: place.read(f"T x.org from file:{path}"))


# -- variables ------------------------------------------------------------------------------------------------------------


def test_a_variable_of_another_name(place: Place) -> None:
    assert only(place.read("T x.org from env:MINE", MINE=TOKEN, T=OTHER)) == TOKEN.encode()
    assert place.read("T x.org from env:MINE", T=OTHER) == ((), ())


def test_one_variable_two_hosts_and_two_values(place: Place) -> None:
    swaps, shown = place.read("T x.org from env:A", "T y.org from env:B", A=TOKEN, B=OTHER)
    assert [(str(swap.where), swap.value.decode()) for swap in swaps] == [("x.org:443", TOKEN), ("y.org:443", OTHER)]
    assert len({swap.placeholder for swap in swaps}) == len(shown) == 1
    said = refused(lambda: place.read("T x.org from env:A", "T x.org:443 from env:B", A=TOKEN, B=OTHER))
    assert "T for x.org:443 comes from env:A (policy.toml:3) and from env:B" in said


# -- programs -------------------------------------------------------------------------------------------------------------

SAYS = f"#!/bin/sh\nprintf '%s\\n' {TOKEN}\n"


def test_what_a_program_prints(place: Place) -> None:
    place.program(SAYS)
    for source in ("command:teller", f"command:{place.bin}/teller", "command:~/bin/teller", f"command:sh -c 'echo {TOKEN}'"):
        assert only(place.read(f"T x.org from {source}")) == TOKEN.encode()


def test_each_source_is_asked_once(place: Place) -> None:
    place.program(f"#!/bin/sh\necho >> {place.home}/asked\necho {TOKEN}\n")
    placed = place.policy("T x.org from command:teller", "T y.org from command:teller")
    check(credentials(placed.policy), placed, place.environ)
    assert not (place.home / "asked").exists()
    swaps, _ = place.read("T x.org from command:teller", "T y.org from command:teller")
    assert len(swaps) == 2 and (place.home / "asked").read_text() == "\n"


@pytest.mark.parametrize(
    ("script", "says"),
    [
        (f"echo {TOKEN}; echo {OTHER}", "several lines"),
        (f"echo; echo {TOKEN}", "several lines"),
        (f"printf '{TOKEN}\\0'", "no field of a request"),
        (f"printf '{TOKEN}\\033[0m'", "no field of a request"),
        ("true", "has no value: it is empty"),
        (f"echo {TOKEN}; exit 3", "it ended with status 3"),
        (f"echo {TOKEN}; kill -9 $$", "it ended with signal 9"),
        (f"echo not me >&2; echo {TOKEN} {OTHER} >&2; echo {TOKEN}; exit 1", "It said: not me\n… …"),
        ("echo ab/cd/ef.gh; echo no ab/cd/ef.gh here >&2; exit 1", "It said: no … here"),
        ("echo '\033[31mred\033[0m' >&2; exit 1", "It said: [31mred [0m"),
        ("head -c 100000 /dev/zero | tr '\\0' a", "printed more than 8192 bytes"),
        ("exec /nowhere/at/all", "it ended with status 127"),
    ],
)
def test_a_program_that_fails(place: Place, script: str, says: str) -> None:
    place.program(f"#!/bin/sh\n{script}\n")
    said = refused(lambda: place.read("T x.org from command:teller"))
    assert says in said and "\033" not in said, said


def test_a_program_that_hangs_is_ended_with_what_it_started(place: Place) -> None:
    path = place.program(f"#!/bin/sh\nsleep 1000 & echo $! $$ > {place.home}/pids; echo waiting >&2; wait\n")
    with pytest.raises(PolicyError, match=r"had not ended after 0\.5 seconds") as caught:
        printed.run((str(path),), place.environ, 0.5)
    assert "It said: waiting" in caught.value.hint
    pids = [int(each) for each in (place.home / "pids").read_text().split()]
    until = time.monotonic() + 20
    while any(alive(pid) for pid in pids) and time.monotonic() < until:
        time.sleep(0.01)
    assert not any(alive(pid) for pid in pids)


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_a_program_ends_with_who_started_it(place: Place) -> None:
    place.program(f"#!/bin/sh\necho $$ > {place.home}/pid\nexec sleep 1000\n")
    act = f"from houseroom.session import printed; printed.run(({str(place.bin / 'teller')!r},), {place.environ!r})"
    source = str(Path(printed.__file__).parents[2])
    with subprocess.Popen([sys.executable, "-c", act], env={"PYTHONPATH": source}) as asking:
        try:
            until = time.monotonic() + 20
            while not (place.home / "pid").exists() or not (place.home / "pid").read_text():
                assert time.monotonic() < until
                time.sleep(0.01)
        finally:
            asking.kill()
    pid = int((place.home / "pid").read_text())
    while alive(pid) and time.monotonic() < until:
        time.sleep(0.01)
    assert not alive(pid)


def test_what_a_program_leaves_running_is_not_waited_for(place: Place) -> None:
    path = place.program(f"#!/bin/sh\nsleep 1000 & echo $! > {place.home}/pid; echo {TOKEN}\n")
    try:
        assert printed.run((str(path),), place.environ, 60) == TOKEN.encode() + b"\n"
    finally:
        os.kill(int((place.home / "pid").read_text()), signal.SIGKILL)


def test_who_ignores_its_children_hears_of_a_failure_too(place: Place) -> None:
    path = place.program(f"#!/bin/sh\necho {TOKEN}; exit 1\n")
    former = signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    try:
        with pytest.raises(PolicyError, match="status 1"):
            printed.run((str(path),), place.environ)
        assert signal.getsignal(signal.SIGCHLD) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGCHLD, former)


def test_a_program_has_no_input_and_the_root_as_its_directory(place: Place) -> None:
    place.program(f'#!/bin/sh\n[ "$(pwd)" = / ] && ! read x && echo {TOKEN}\n')
    assert only(place.read("T x.org from command:teller")) == TOKEN.encode()


def test_a_program_has_no_terminal(place: Place) -> None:
    """Where who asks it has one, as every child of theirs has."""
    place.program("#!/bin/sh\n( : < /dev/tty ) 2> /dev/null && echo terminal || echo none\n")
    act = f"""
import os, pty, subprocess
pid, outer = pty.fork()
if pid:
    print(os.read(outer, 1000).decode())
else:
    from houseroom.session import printed
    argv = ({str(place.bin / "teller")!r},)
    os.write(1, subprocess.run(argv, stdout=subprocess.PIPE).stdout + printed.run(argv, {place.environ!r}))
"""
    source = str(Path(printed.__file__).parents[2])
    done = subprocess.run([sys.executable, "-c", act], env={"PYTHONPATH": source}, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["terminal", "none"]


def test_no_program_that_commands_may_write(place: Place) -> None:
    """By its place, by a link, by what interprets it, by an argument, by the first place of PATH that has one of its name."""
    own = place.workspace / ".venv" / "bin"
    own.mkdir(parents=True)
    place.program(SAYS, own / "teller")
    place.program(SAYS, own / "python3")
    place.program(SAYS, place.bin / "good")
    place.program(f"#!{own}/python3\n", place.bin / "interpreted")
    place.program(f"#!{place.bin}/interpreted\n", place.bin / "twice")
    place.program("#!teller\n", place.bin / "nowhere")
    (place.bin / "link").symlink_to(own / "teller")
    (place.workspace / "turned").symlink_to(place.bin)
    (place.bin / "door").symlink_to(place.workspace)
    place.environ[b"PATH"] = f"{own}:{place.bin}:/usr/bin:/bin".encode()
    for source in (
        "teller",
        f"{own}/teller",
        "link",
        "interpreted",
        "twice",
        f"{place.workspace}/turned/good",
        "~/bin/door/.venv/bin/teller",
    ):
        said = refused(lambda source=source: place.read(f"T x.org from command:{source}"))  # type: ignore[misc]
        assert f"lies where commands may write ({place.workspace})" in said, source
    place.program(f"#!/bin/sh {own}/teller\n", place.bin / "given")
    place.program(f"#!/usr/bin/env -S sh {place.bin}/link\n", place.bin / "given-more")
    for source in ("given", "given-more"):
        said = refused(lambda source=source: place.read(f"T x.org from command:{source}"))  # type: ignore[misc]
        assert "leads where commands may write" in said
    before = "/bin/sh"
    for number in range(5):
        before = str(place.program(f"#!{before}\n", place.bin / f"chain{number}"))
    assert "one after the other" in refused(lambda: place.read(f"T x.org from command:{before}"))
    assert "has an interpreter without a whole path" in refused(lambda: place.read("T x.org from command:nowhere"))
    for argument in (f"{own}/teller", f"-c '. {own}/teller'", f"--config={place.bin}/door/x", f"a:{place.bin}/link"):
        said = refused(lambda argument=argument: place.read(f"T x.org from command:good {argument}"))  # type: ignore[misc]
        assert "its argument" in said and "leads where commands may write" in said
    assert only(place.read("T x.org from command:good")) == TOKEN.encode()  # the twin


def test_what_anybody_may_write_is_not_run(place: Place) -> None:
    place.program(SAYS).chmod(0o777)
    assert "anybody may write" in refused(lambda: place.read("T x.org from command:teller"))


def test_what_is_not_there_is_said_by_name(place: Place) -> None:
    assert "there is no program no-such on the PATH" in refused(lambda: place.read("T x.org from command:no-such"))
    assert "/no/such can't be run: No such file" in refused(lambda: place.read("T x.org from command:/no/such"))
    (place.bin / "data").write_text("x")
    assert "can't be run: Permission denied" in refused(lambda: place.read(f"T x.org from command:{place.bin}/data"))


def test_no_variable_leads_a_program_to_what_commands_wrote(place: Place) -> None:
    """`env python3` of a script finds no interpreter, and Python no module, in the workspace; bare they do."""
    own = place.workspace / "bin"
    own.mkdir()
    place.program(f"#!/bin/sh\necho {OTHER}\n", own / "tell")
    place.program("#!/bin/sh\nexec tell\n", place.bin / "asks")
    place.program(SAYS, place.bin / "tell")
    (place.bin / "door").symlink_to(place.workspace)
    place.environ |= {b"PATH": f"{own}:.:{place.bin}/door/bin:{place.bin}:/usr/bin:/bin".encode()}
    bare = printed.run((str(place.bin / "asks"),), place.environ)
    assert bare == OTHER.encode() + b"\n"
    assert only(place.read("T x.org from command:asks")) == TOKEN.encode()
    kept = printed.variables(
        place.policy(),
        {b"PYTHONPATH": f"/usr/lib:{own}".encode(), b"NODE_OPTIONS": f"--require {own}/x.js".encode(), b"X": b"/usr:relative", b"Y": b"y"}
        | {b"LINK": f"file={place.bin}/door".encode(), b"HOME": str(place.home).encode()},
    )
    assert set(kept) == {b"X", b"Y", b"HOME"}


def test_a_place_counts_by_its_whole_name(place: Place) -> None:
    writable = Writable(place.policy())
    relative = str(place.workspace)[1:]  # from the root, in which programs are run
    for text in (
        f"{place.workspace}",
        f"-I{place.workspace}/x",
        f"x={place.workspace}:y",
        f"'{place.workspace}'",
        f"{place.home}/./work",
        relative,
        f"usr/lib:{relative}/src",
    ):
        assert writable.named_in(text), text
    for text in (f"{place.workspace}shop", f"{place.workspace}-2/x", f"{place.workspace}.bak", str(place.home), "work", ""):
        assert not writable.named_in(text), text


def test_where_everything_may_be_written_no_program_is_run(place: Place) -> None:
    rules = (Rule("files.write", "/", HERE), Rule(KEY, "T x.org from command:sh -c true", HERE))
    stratum = Stratum("x", rules, {}, frozenset({"files.read", "files.write"}))
    placed = PlacedPolicy(Policy("x", (stratum,)), Places(str(place.workspace), str(place.home)))
    assert Writable(placed).on_way_to("/bin/sh") == "/"
    with pytest.raises(PolicyError, match="lies where commands may write"):
        check(credentials(placed.policy), placed, place.environ)


# -- the keyring ----------------------------------------------------------------------------------------------------------


def test_the_keyring_is_asked_by_secret_tool(place: Place) -> None:
    place.program(f'#!/bin/sh\n[ "$*" = "lookup service https://x.org username ann" ] && printf %s {TOKEN}\n', place.bin / "secret-tool")
    assert only(place.read("T x.org from keyring:https://x.org/ann")) == TOKEN.encode()
    said = refused(lambda: place.read("T x.org from keyring:https://x.org/bob"))
    assert "it ended with status 1" in said and "secret-tool store" in said
    place.environ[b"PATH"] = str(place.hidden).encode()
    assert "libsecret-tools" in refused(lambda: place.read("T x.org from keyring:https://x.org/ann"))
