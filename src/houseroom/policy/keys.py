"""The table of all policy keys. Parsing, suggestions, the JSON schema and the reference page are generated from it."""

from __future__ import annotations

from houseroom.policy.model import GIT_MODES, NETWORK_REACHES, UPSTREAMS
from houseroom.policy.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

# Kinds of lists, with the word that names one item's subject in its long form: { path = "src", reason = "…" }.
PATHS: Final = "paths"
HOSTS: Final = "hosts"
PORTS: Final = "ports"
VARIABLES: Final = "variables"
RULES: Final = "rules"
CREDENTIALS: Final = "credentials"
SUBJECTS: Final = {PATHS: "path", HOSTS: "host", PORTS: "port", VARIABLES: "name", RULES: "rule", CREDENTIALS: "credential"}
# Kinds of single values.
SIZE: Final = "size"
DURATION: Final = "duration"
COUNT: Final = "count"
CHOICE: Final = "choice"
NAME: Final = "name"

KINDS: Final = {
    PATHS: "a list of paths",
    HOSTS: "a list of hosts",
    PORTS: "a list of port numbers",
    VARIABLES: "a list of variable names",
    RULES: "a list of rules",
    CREDENTIALS: "a list of variables with the host each is for",
    SIZE: "a size",
    DURATION: "a duration",
    COUNT: "a whole number",
    CHOICE: "one word",
    NAME: "a name",
}

# What an item of a list may say besides its subject.
ITEM_FIELDS: Final = {
    "reason": "Why the rule is there. Shown when it decides.",
    "allows": "Examples that must be allowed; checked when the policy loads.",
    "denies": "Examples that must be refused; checked when the policy loads.",
}


class Key(Record):
    """One key: ``section.key``, its kind, what it means, and an example of its value as TOML text."""

    name: str
    kind: str
    meaning: str
    example: str
    choices: tuple[str, ...] = ()

    @property
    def section(self) -> str:
        """``files.read`` → ``files``; empty for a key above all sections."""
        return self.name.rpartition(".")[0]

    @property
    def leaf(self) -> str:
        """``files.read`` → ``read``."""
        return self.name.rpartition(".")[2]

    @property
    def subject(self) -> str:
        """The word for an item's subject, empty where the key takes a single value."""
        return SUBJECTS.get(self.kind, "")

    @property
    def is_list(self) -> bool:
        """Whether the key takes a list of rules."""
        return self.kind in SUBJECTS


# What the floor may require: rules whose coverage a plan reports. A section stands for all of its rules.
FLOOR_RULES: Final = (
    "files", "files.read", "files.write", "files.protect", "files.hide", "files.private", "files.scratch",
    "network", "network.reach", "environment", "processes", "git",
    "limits", "limits.memory", "limits.processes", "limits.time", "limits.cpu", "limits.open_files", "limits.file_size",
    "limits.output", "limits.disk", "session.expires",
)  # fmt: skip

TABLE: Final = (
    Key("extends", NAME, "The preset or profile that this policy starts from.", '"workspace"'),
    Key("files.read", PATHS, "May be read and run, not written.", '["/"]'),
    Key("files.write", PATHS, "May be read and written; the host's own files.", '["{workspace}"]'),
    Key("files.protect", PATHS, "May be read; never written, created, renamed or replaced, also while missing.", '["**/.git"]'),
    Key("files.hide", PATHS, "Neither read nor written.", '["~/.ssh", "**/.env"]'),
    Key("files.private", PATHS, "The sandbox's own: empty at the start, gone at the end.", '["{tmp}"]'),
    Key("files.scratch", PATHS, "The host's content is seen; writes stay in the sandbox and are dropped at its end.", '["~/.cache"]'),
    Key("files.except", PATHS, "Rules with wildcards don't apply here; what holds around it does.", '["**/.env.example"]'),
    Key("network.reach", CHOICE, "How far the network goes: nowhere, to the listed hosts, or anywhere.", '"none"', NETWORK_REACHES),
    Key("network.allow", HOSTS, "Hosts that may be reached; a port, method or path narrows that.", '["pypi.org", "*.example.org:443"]'),
    Key("network.deny", HOSTS, "Hosts that may not be reached. Deny beats allow.", '["tracker.example.org"]'),
    Key("network.upstream", CHOICE, "Whether listed hosts are reached through the host's own proxy.", '"none"', UPSTREAMS),
    Key("network.publish", PORTS, "Ports of the sandbox that the host may reach.", "[8000]"),
    Key("network.sockets", PATHS, "Unix sockets of the host that may be connected to.", '["/run/postgresql/.s.PGSQL.5432"]'),
    Key(
        "network.credentials",
        CREDENTIALS,
        "Variables whose values only the egress proxy knows: the host that gets each, and where it comes from. Not in a project's file.",
        '["GITHUB_TOKEN api.github.com from command:gh auth token"]',
    ),
    Key("git.mode", CHOICE, "Whether git may only read, write through a guard, or write freely.", '"read-only"', GIT_MODES),
    Key("environment.pass", VARIABLES, "Variables that are passed although they look like secrets.", '["HF_TOKEN"]'),
    Key("environment.withhold", VARIABLES, "Variables that commands don't see.", '["*_TOKEN", "*SECRET*"]'),
    Key("limits.memory", SIZE, "Memory of all processes together.", '"4G"'),
    Key("limits.processes", COUNT, "Processes and threads at one time.", "512"),
    Key("limits.time", DURATION, "How long a command may run by the clock.", '"10m"'),
    Key("limits.cpu", DURATION, "Processor time of one process.", '"1h"'),
    Key("limits.open_files", COUNT, "Open files of one process.", "4096"),
    Key("limits.file_size", SIZE, "Size of one file that a command writes.", '"2G"'),
    Key("limits.output", SIZE, "What a command may print.", '"16M"'),
    Key("limits.disk", SIZE, "What the sandbox may store in its private and scratch directories.", '"10G"'),
    Key("session.expires", DURATION, "When the session ends by itself.", '"8h"'),
    Key("floor.require", RULES, "Rules that must be enforced, or nothing starts.", '["files.hide", "network"]', FLOOR_RULES),
)

KEYS: Final = {key.name: key for key in TABLE}

SECTIONS: Final = {
    "files": "What may be read and written.",
    "network": "What may be reached.",
    "git": "What git may do to a repository's metadata.",
    "environment": "Which variables commands see.",
    "limits": "How much a command may use.",
    "session": "How long a session lasts.",
    "floor": "What must be enforced, or nothing starts.",
}


def in_section(section: str) -> dict[str, Key]:
    """The keys of a section by their leaf names, in the table's order."""
    return {key.leaf: key for key in TABLE if key.section == section}


def suggest(word: str, known: tuple[str, ...]) -> str:
    """The known word that the given one was probably meant to be, or an empty string."""
    from difflib import get_close_matches

    folded = {name.replace("-", "_").lower(): name for name in known}
    close = get_close_matches(word.replace("-", "_").lower(), tuple(folded), 1, 0.6)
    return folded[close[0]] if close else ""


def reference() -> str:
    """The reference page of all keys, in Markdown."""
    lines = ["# Policy keys", ""]
    for section in ("", *SECTIONS):
        if section:
            lines += [f"## [{section}]", "", SECTIONS[section], ""]
        lines += ["| key | takes | meaning | example |", "|---|---|---|---|"]
        for key in TABLE:
            if key.section == section:
                takes = " or ".join(f"`{choice}`" for choice in key.choices) if key.kind == CHOICE else KINDS[key.kind]
                lines.append(f"| `{key.leaf}` | {takes} | {key.meaning} | `{key.leaf} = {key.example}` |")
        lines.append("")
    return "\n".join(lines)
