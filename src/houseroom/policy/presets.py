"""The three presets, built from the tables only when asked for.

``workspace``: read broadly, write the workspace, nothing of the network. ``read-only``: the same without the write.
``full-access``: the host's own files and network, and every variable; what stays is the life of the processes.
"""

from __future__ import annotations

from houseroom.errors import PolicyError
from houseroom.policy.model import Origin, Rule, Setting, Stratum

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Final

NAMES: Final = ("read-only", "workspace", "full-access")
DEFAULT: Final = "workspace"
BUILT_IN: Final = Origin("preset", "built in")

# Must be enforced or nothing starts. Reading is not here: files.read is "/", so files.hide says all of it.
FLOOR: Final = (
    ("files.write", "what the sandbox may change is its first promise"),
    ("files.protect", "what the host would later execute must stay yours"),
    ("files.hide", "secrets must stay out of reach"),
    ("network", "what is read must not leave"),
    ("processes", "nothing may outlive the run or reach another process"),
)

PRIVATE: Final = (
    ("/tmp", "other programs' files and sockets lie here; the sandbox has its own"),
    ("/var/tmp", "other programs' files lie here; the sandbox has its own"),
    ("/run", "sockets of every service of the host"),
    ("{user}", "sockets of your own session; programs expect a directory here, so there is an empty one"),
)

# Below the private /run, these are needed to run anything, or to find a name where the network is open.
RUN: Final = (
    ("/run/current-system", "NixOS keeps every program here"),
    ("/run/booted-system", "NixOS keeps the kernel's modules here"),
    ("/run/opengl-driver", "NixOS keeps graphics libraries here"),
    ("/run/systemd/resolve/stub-resolv.conf", "/etc/resolv.conf leads here"),
    ("/run/systemd/resolve/resolv.conf", "/etc/resolv.conf leads here"),
    ("/run/resolvconf/resolv.conf", "/etc/resolv.conf leads here"),
    ("/run/NetworkManager/resolv.conf", "/etc/resolv.conf leads here"),
    ("/run/NetworkManager/no-stub-resolv.conf", "/etc/resolv.conf leads here"),
    ("/run/netconfig/resolv.conf", "/etc/resolv.conf leads here"),
)

_CLOSED: Final = frozenset(("files.read", "files.write"))
_REPOSITORY: Final = (".git", ".gitmodules")
_SHIPPED_WHY: Final = "comes with an installed package; unpacking it must not fail"


class Presets(dict[str, Stratum]):
    """The presets by name, each built when it is asked for: three of them cost three times the start."""

    def __missing__(self, name: str) -> Stratum:
        if name not in NAMES:
            raise KeyError(name)
        return preset(name)

    def __contains__(self, name: object) -> bool:
        return name in NAMES

    def __iter__(self) -> Iterator[str]:
        return iter(NAMES)

    def __len__(self) -> int:
        return len(NAMES)


def preset(name: str, system: str = "linux") -> Stratum:
    """The built-in stratum of this name. ``system`` is ``sys.platform`` of the host it is for.

    Its floor stands in it as rules of key ``floor.require``. Raises PolicyError for a name that is no preset.
    """
    match name:
        case "workspace":
            return Stratum(name, _workspace(system, write=True), _settings("none", "read-only"), _CLOSED)
        case "read-only":
            return Stratum(name, _workspace(system, write=False), _settings("none", "read-only"), _CLOSED)
        case "full-access":
            return Stratum(name, _full_access(), _settings("open", "free"), _CLOSED)
    raise PolicyError(f"there is no preset {name!r}", hint=f"There are {', '.join(NAMES)}.")


def guards(root: str) -> tuple[Rule, ...]:
    """The workspace's protections and hidings for a further directory that was made writable.

    ``root`` is a path as a policy spells it (``~/notes``, ``/srv/data``). The rules are the preset's, so any later layer
    may open what they close.
    """
    from houseroom.policy import protections, secrets

    root = root.rstrip("/")
    hidden = [(f"{root}/{path}", reason) for _, _, rows in secrets.WORKSPACE for path, reason in rows]
    shown = [(f"{root}/{path}", reason) for path, reason in (*secrets.EXAMPLES, *_shipped())]
    kept = [(f"{root}/{path}", reason) for path, reason, _ in protections.WORKSPACE]
    return (*_rules("files.hide", hidden), *_rules("files.except", shown), *_rules("files.protect", kept))


def free_git(stratum: Stratum) -> Stratum:
    """The stratum under ``git.mode = "free"``: the preset's rules on whole repositories give way to those on what git runs.

    Rules of other layers stay, so whoever wrote ``protect = ["**/.git"]`` keeps it.
    """
    from houseroom.policy import protections

    kept = [rule for rule in stratum.rules if rule.origin.layer != "preset" or rule.subject.rpartition("/")[2] not in _REPOSITORY]
    return stratum.with_(rules=(*kept, *_rules("files.protect", protections.GIT_FREE)))


def _workspace(system: str, *, write: bool) -> tuple[Rule, ...]:
    from houseroom.policy import caches, protections, secrets, variables

    rows: list[Rule] = [Rule("files.read", "/", BUILT_IN, "tools, libraries and other projects lie everywhere; secrets are hidden by name")]
    workspace = "the directory the work is about"
    rows.append(Rule("files.write" if write else "files.read", "{workspace}", BUILT_IN, workspace))
    rows += _rules("files.private", PRIVATE)
    rows += _rules("files.read", RUN)
    groups = (
        (*secrets.HOME, *secrets.HOST, *secrets.WORKSPACE) if system != "darwin" else (*secrets.HOME, *secrets.DARWIN, *secrets.WORKSPACE)
    )
    for _title, _breaks, hidden in groups:
        rows += _rules("files.hide", hidden)
    rows += _rules("files.except", (*secrets.EXAMPLES, *_shipped()))
    rows += [Rule("files.protect", path, BUILT_IN, reason) for path, reason, _breaks in protections.WORKSPACE]
    rows += _rules("files.protect", protections.HOME)
    rows += [Rule("files.scratch", path, BUILT_IN, reason) for path, _variable, _sign, reason in caches.CACHES]
    rows += _rules("environment.withhold", variables.WITHHELD)
    rows += _rules("environment.pass", variables.PASSED)
    rows += _rules("floor.require", FLOOR)
    return tuple(rows)


def _shipped() -> list[tuple[str, str]]:
    from houseroom.policy import secrets

    return [(f"{place}/{name}", _SHIPPED_WHY) for place in secrets.UNPACKED for name in secrets.SHIPPED]


def _full_access() -> tuple[Rule, ...]:
    return (
        Rule("files.read", "/", BUILT_IN, "full access: every file of the host"),
        Rule("files.write", "/", BUILT_IN, "full access: every file of the host"),
        Rule("environment.pass", "*", BUILT_IN, "full access: every variable"),
        Rule("floor.require", "processes", BUILT_IN, "nothing may outlive the run"),
    )


def _settings(reach: str, git: str) -> dict[str, Setting]:
    return {"network.reach": Setting(reach, BUILT_IN), "git.mode": Setting(git, BUILT_IN)}


def _rules(key: str, rows: tuple[tuple[str, str], ...] | list[tuple[str, str]]) -> list[Rule]:
    return [Rule(key, subject, BUILT_IN, reason) for subject, reason in rows]


PRESETS: Final = Presets()
