"""What a policy is: rules with their origin, in strata that can only narrow one another.

A *stratum* is one voice. The effective decision is the most restrictive one over all strata, so adding a stratum
can never widen anything. The layers a person controls (preset, user file, trusted project file, command line) speak
in one stratum, later ones refining earlier ones; an organisation's file and an untrusted project's file each speak
in a stratum of their own.
"""

from __future__ import annotations

from houseroom.policy.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

# What a file rule grants, from nothing to everything. The order is the meaning: the meet of two is the smaller.
HIDE: Final = "hide"  # neither read nor written; its content does not exist
PRIVATE: Final = "private"  # the sandbox's own, empty at the start and gone at the end
PROTECT: Final = "protect"  # read, never written, created, renamed or replaced, also while it is missing
READ: Final = "read"  # read and run, not written
SCRATCH: Final = "scratch"  # the host's content is seen; writes stay in the sandbox and are dropped at its end
WRITE: Final = "write"  # the host's own, read and written
EXCEPT: Final = "except"  # not a grant: wildcard rules that match here do not apply, the surroundings' rule does
ACCESSES: Final = (HIDE, PRIVATE, PROTECT, READ, SCRATCH, WRITE)
RANK: Final = {access: rank for rank, access in enumerate(ACCESSES)}

# On one path and within one layer the narrower word wins (DESIGN: hide beats protect beats write beats read).
PRECEDENCE: Final = {HIDE: 5, PROTECT: 4, PRIVATE: 3, SCRATCH: 2, WRITE: 1, READ: 0, EXCEPT: -1}

LAYERS: Final = ("preset", "organisation", "user", "project", "session")

REACH: Final = "network.reach"
NETWORK_REACHES: Final = ("none", "listed", "open")
UPSTREAMS: Final = ("none", "host")
GIT_MODES: Final = ("read-only", "guarded", "free")


class Origin(Record):
    """Where a rule was written. ``line`` and ``column`` count from 1; 0 means a built-in table."""

    layer: str
    file: str
    line: int = 0
    column: int = 0

    def __str__(self) -> str:
        return f"{self.file}:{self.line}" if self.line else self.file


class Rule(Record):
    """One line of a policy: a subject (path pattern, variable pattern, host) and what is granted to it.

    ``key`` is the policy key it stands under (``files.hide``), ``subject`` the text as written, ``reason`` why.
    ``allows`` and ``denies`` are examples that are checked when the policy loads.
    """

    key: str
    subject: str
    origin: Origin
    reason: str = ""
    allows: tuple[str, ...] = ()
    denies: tuple[str, ...] = ()

    @property
    def access(self) -> str:
        """``files.hide`` → ``hide``."""
        return self.key[len("files.") :]

    def __str__(self) -> str:
        return f"{self.key} {self.subject}"


class Setting(Record):
    """A single value of a policy with its origin: a limit, the network's reach, the git mode."""

    value: object
    origin: Origin


class Stratum(Record):
    """One voice. ``closed`` names the list keys on which it has an opinion: there, nothing said means nothing granted.

    ``rules`` keep their writing order: a later rule on the same path refines an earlier one of another layer.
    ``settings`` maps ``limits.time``, ``network.reach``, ``git.mode``, ``session.expires`` … to their value.
    """

    name: str
    rules: tuple[Rule, ...] = ()
    settings: dict[str, Setting] = {}
    closed: frozenset[str] = frozenset()

    def under(self, key: str) -> tuple[Rule, ...]:
        """The rules written under one key."""
        return tuple(rule for rule in self.rules if rule.key == key)

    def narrows_to_list(self) -> Setting | None:
        """The reach of a stratum that lists hosts and says no reach: beside another it means that no other host is reached."""
        if REACH in self.settings or "network.allow" not in self.closed:
            return None
        listed = self.under("network.allow")
        return Setting("listed", listed[0].origin if listed else Origin(self.name, ""))


class Policy(Record):
    """The merged policy: its strata, the rules its floor requires, and the name of the profile it came from."""

    name: str
    strata: tuple[Stratum, ...]
    floor: tuple[Rule, ...] = ()

    def setting(self, key: str) -> Setting | None:
        """The narrowest value any stratum gives to a key, or None where none does. The network is opened by the first one or not at all."""
        given = [stratum.settings[key] for stratum in self.strata if key in stratum.settings]
        if key == REACH:
            if not self.strata or REACH not in self.strata[0].settings:
                return None
            given += filter(None, (stratum.narrows_to_list() for stratum in self.strata[1:]))
        return min(given, key=lambda setting: narrowness(key, setting.value)) if given else None

    def granted(self, key: str) -> tuple[Rule, ...]:
        """The rules of the first stratum's list, without those that another stratum's list of the same key does not hold."""
        first, *others = self.strata or (Stratum(""),)
        lists = [{rule.subject for rule in stratum.under(key)} for stratum in others if key in stratum.closed]
        return tuple(rule for rule in first.under(key) if all(rule.subject in subjects for subjects in lists))

    def without(self, key: str) -> Policy:
        """The policy as if nobody had written a list of this key."""
        strata = (s.with_(rules=tuple(rule for rule in s.rules if rule.key != key), closed=s.closed - {key}) for s in self.strata)
        return self.with_(strata=tuple(strata))


def narrowness(key: str, value: object) -> float:
    """A number that is smaller for the narrower value of a setting."""
    if key == REACH:
        return NETWORK_REACHES.index(str(value))
    if key == "network.upstream":
        return UPSTREAMS.index(str(value))
    if key == "git.mode":
        return GIT_MODES.index(str(value))
    return float(value)  # type: ignore[arg-type]  # limits and durations are numbers: bytes, seconds, counts


class Places(Record):
    """What a policy's placeholders stand for on this host. Absolute, resolved paths."""

    workspace: str
    home: str
    tmp: str = "/tmp"
    user: int = 0
