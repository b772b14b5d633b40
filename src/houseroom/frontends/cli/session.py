"""``houseroom session``: a sandbox in the background that terminals, scripts and hooks use by name."""

from __future__ import annotations

import sys

assert sys.platform == "linux"  # type checkers for other systems stop reading here

import os
from time import time

from houseroom.errors import SetupFailed
from houseroom.frontends.cli import paper, request
from houseroom.frontends.cli.options import UsageError, nearest
from houseroom.frontends.cli.paper import BOLD, DIM, Column, Paper, Text
from houseroom.policy.model import Places
from houseroom.session import errands, sessions

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from houseroom.frontends.cli.options import Given
    from houseroom.session.sandbox import Prepared

IDLE = "30m"
NO_SESSION = 125
_WHY = {"idle": ", unless it is used", "session.expires": " (session.expires)"}
_PATIENCE = 15.0  # seconds until a session that is told to end must have ended
_PAGE = os.sysconf("SC_PAGE_SIZE")


def start(given: Given) -> int:
    """Begin a session and print its name."""
    from houseroom.session import background, sandbox

    where = request.places(given)
    name = given.words[0] if given.words else sessions.name_of(where.workspace)
    if wrong := sessions.why_no_name(name):
        raise UsageError(f"{name!r} can't be the name of a session: {wrong}", "For example: houseroom session start work", given.spec.name)
    idle = _idle(given)
    policy = request.policy(given, where)
    accept, backend, observe = request.accepted(given), request.backend(given), request.observed(given)

    def prepare() -> Prepared:
        return sandbox.prepare(policy, where, accept=accept, backend=backend, observe=observe, terminals=True)

    try:
        seat = sessions.take_seat(where.home, name)
    except sessions.Taken:
        paper.fail(
            f"the session {name} runs already",
            f"Use it: houseroom session exec {name} -- COMMAND. Or end it: houseroom session stop {name}",
        )
        return NO_SESSION
    background.begin(seat, prepare, idle)
    paper.put(name)
    if not given.flag("quiet"):
        paper.note(
            f"session {name} in {request.spelt(where.workspace, where)}, policy {policy.name}; it ends after {_spelt_idle(idle)} without "
            f"a command.\nhouseroom session exec {name} -- COMMAND runs one in it"
        )
    return 0


def _idle(given: Given) -> float:
    from houseroom.policy import units

    try:
        return units.parse_duration(given.one("idle") or IDLE)
    except units.NotAUnitError as error:
        raise UsageError(f"--idle: {error.message}", error.hint, given.spec.name) from None


def _spelt_idle(seconds: float) -> str:
    from houseroom.policy.units import duration_text

    return duration_text(seconds)


def listing(given: Given) -> int:
    """All sessions that run."""
    found = [_told(name) for name in sessions.names(home())]
    if given.flag("json"):
        paper.put_json(found)
        return 0
    if not found:
        paper.note("no session runs. houseroom session start begins one")
        return 0
    rows: list[list[Text | str]] = [[Text(title, BOLD) for title in ("name", "commands", "started", "ends", "policy", "workspace")]]
    rows += [_row(facts) for facts in found]
    columns = [Column(wrap=False)] * 5
    paper.put(Paper.of_stdout().table(rows, (*columns, Column()), indent=0))
    return 0


def _told(name: str) -> dict[str, Any]:
    """What a session tells; only its name and what is wrong where it tells nothing."""
    try:
        return sessions.facts(home(), name)
    except sessions.NoSession:
        return {"name": name, "error": f"it has just ended{unexpected(name)}"}
    except SetupFailed as error:
        return {"name": name, "error": error.strerror or str(error)}


def _row(facts: dict[str, Any]) -> list[Text | str]:
    if "error" in facts:
        return [facts["name"], facts["error"], "", "", "", ""]
    running = len(facts["commands"])
    busy = f"{running} running" if running else Text(f"idle {rough(facts['idle_for'])}", DIM)
    return [facts["name"], busy, f"{rough(time() - facts['started'])} ago", _ends(facts), facts["policy"], _spelt(facts["workspace"])]


def _ends(facts: dict[str, Any]) -> str:
    """When a session will end by itself."""
    if facts["ends"] is None:
        return f"{rough(facts['idle'])} after its command"
    left = facts["ends"] - time()
    return f"in {rough(left + 30 if left > 60 else left)}"  # to the nearest minute


def rough(seconds: float) -> str:
    """A duration to look at: its greatest unit, or two where the first is small. ``4s``, ``12m``, ``1h30m``, ``3d``."""
    whole = max(0, int(seconds))
    if whole < 60:
        return f"{whole}s"
    minutes, hours = whole // 60 % 60, whole // 3600
    if hours < 1:
        return f"{minutes}m"
    if hours < 24:
        return f"{hours}h{minutes}m" if minutes else f"{hours}h"
    return f"{hours // 24}d"


def show(given: Given) -> int:
    """One session with its policy, commands and what is enforced."""
    name = which(given)
    try:
        facts = sessions.facts(home(), name)
    except sessions.NoSession:
        return no_session(name)
    processes, memory = _below(facts["pid"])
    facts |= {"processes": processes, "memory": memory}
    if given.flag("json"):
        paper.put_json(facts)
        return 0
    page = Paper.of_stdout()
    weak = [row for row in facts["coverage"] if row["state"] != "enforced"]
    rows: list[tuple[Text | str, Text | str]] = [
        (Text("workspace", BOLD), _spelt(facts["workspace"])),
        (Text("policy", BOLD), f"{facts['policy']}, enforced by {facts['rung']}" + (", but not all of it" if weak else "")),
        *((Text("", BOLD), f"{row['rule']} is {row['state']}: {'; '.join(row['loses'])}") for row in weak),
        (Text("started", BOLD), f"{rough(time() - facts['started'])} ago, holder is process {facts['pid']}"),
        (Text("ends", BOLD), _ends(facts) + _WHY.get(facts["ends_by"], "")),
        (Text("inside", BOLD), f"{processes} processes, {memory >> 20} MiB of their own"),
    ]
    if facts["unwatched"]:
        rows.append((Text("note", BOLD), "not every directory was watched: sysctl fs.inotify.max_user_watches=524288"))
    rows += [(Text("reached", BOLD), row) for row in _reached(facts["reached"])]
    rows += [(Text("running", BOLD), f"{' '.join(command['argv'])}  ({rough(command['seconds'])})") for command in facts["commands"]]
    paper.put(page.ink(name, BOLD) + "\n" + page.table(rows, (Column(wrap=False), Column())))
    return 0


def _reached(found: list[dict[str, Any]]) -> list[str]:
    """The listed hosts that were reached, those with the most bytes first."""
    from houseroom.frontends.cli.denials import MOST, count
    from houseroom.policy.traffic import Traffic

    known = sorted((Traffic(**each) for each in found), key=lambda each: -each.sent - each.received)
    return [f"{each.where}  ({count(each)})" for each in known[:MOST]] + ([f"{len(known) - MOST} more"] if len(known) > MOST else [])


def _below(pid: int) -> tuple[int, int]:
    """How many processes a holder's sandbox has, and the bytes of memory that only they use (proc(5), statm)."""
    from houseroom.enforce.linux import descendants

    count = memory = 0
    for process in descendants.below(pid):
        try:
            with open(f"/proc/{process}/statm", "rb") as file:
                resident, shared = map(int, file.read().split()[1:3])
        except (OSError, ValueError):
            continue
        count += 1
        memory += (resident - shared) * _PAGE
    return count, memory


def stop(given: Given) -> int:
    """End sessions, and return when nothing of them is alive."""
    where = home()
    if given.flag("all") and given.words:
        raise UsageError("--all and names can't both be meant", "Give one of them.", given.spec.name)
    wanted = tuple(sessions.names(where)) if given.flag("all") else given.words or (which(given),)
    code = 0
    for name in wanted:
        try:
            _stop(where, name)
        except sessions.NoSession:
            code = no_session(name)
    return code


def _stop(where: str, name: str) -> None:
    sock = sessions.connect(where, name)
    sock.settimeout(_PATIENCE)
    try:
        sock.sendall(errands.message(errands.STOP))
        sessions.receive(sock)
    except TimeoutError:
        hint = f"Its holder may be stopped. It is process {sessions.holder(sock)}: kill -KILL ends it with everything inside."
        raise SetupFailed("end the session", name, 0, "its holder does not answer", hint) from None
    except (OSError, ValueError):
        return  # it has ended
    finally:
        sock.close()


def which(given: Given) -> str:
    """The session that is meant: the one that is named, or the only one."""
    if given.words:
        return given.words[0]
    running = sessions.names(home())
    if len(running) == 1:
        return running[0]
    if not running:
        raise SetupFailed("choose", "a session", 0, "none runs", "houseroom session start begins one.")
    raise UsageError(f"{given.spec.name} needs a name: {len(running)} sessions run", f"They are {', '.join(running)}.", given.spec.name)


def no_session(name: str) -> int:
    """Say that there is none of this name, and which one may be meant."""
    try:
        running = sessions.names(home())
    except SetupFailed:
        running = []
    near = nearest(name, running)
    others = f"Those that run: {', '.join(running)}. " if running else "No session runs. "
    hint = f"Did you mean {near}?" if near else f"{others}houseroom session start {name} begins it."
    paper.fail(f"there is no session {name!r}{unexpected(name)}", hint)
    return NO_SESSION


def unexpected(name: str) -> str:
    """Where it is written why a session of this name ended, if that was an error of ours: the last one that there was."""
    from houseroom.session import holder_log

    return f"; its holder has failed, see {holder_log.path(home())}" if holder_log.last(home()) == name else ""


def home() -> str:
    """The directory that sessions are found below."""
    return os.path.realpath(os.environ.get("HOME") or "/")


def _spelt(path: str) -> str:
    return request.spelt(path, Places("/", home()))


COMMANDS = {"session start": start, "session list": listing, "session show": show, "session stop": stop}
