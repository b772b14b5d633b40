"""Facts without a host: a tree of files as a table, and what ``enforce`` would have found of it for a policy."""

from __future__ import annotations

from houseroom.plan.facts import DIRECTORY, FILE, LINK, MISSING, SOCKET, Entry, Facts, Host, Tree
from houseroom.policy.decide import PlacedPolicy
from houseroom.policy.model import HIDE, PROTECT, Origin, Places, Policy, Rule, Setting, Stratum
from houseroom.policy.pattern import components, join
from houseroom.policy.presets import preset

PLACES = Places("/home/me/work", "/home/me", "/tmp", 1000)
HOST = Host("6.12.0", "x86_64", 1000, 1000, landlock_abi=6, bubblewrap="/usr/bin/bwrap")
CLOSED = frozenset({"files.read", "files.write"})
SETTINGS = {"network.reach": Setting("none", Origin("preset", "built in")), "git.mode": Setting("read-only", Origin("preset", "built in"))}

# Path → what is there: dir, file, socket, or a link as "-> target".
Files = dict[str, str]
PLAIN: Files = {"/": "dir", "/tmp": "dir", "/usr": "dir", "/home/me": "dir", "/home/me/work": "dir"}


def stratum(*rules: tuple[str, str], layer: str = "user", base: Stratum | None = None, closed: frozenset[str] = CLOSED) -> Stratum:
    """Rules by ``(leaf, subject)`` after those of ``base``, written on lines of their own in one file."""
    written = tuple(
        Rule(f"files.{leaf}", subject, Origin(layer, f"{layer}.toml", line, 1)) for line, (leaf, subject) in enumerate(rules, 1)
    )
    return Stratum(layer, (*(base.rules if base else ()), *written), {**(base.settings if base else SETTINGS)}, closed)


def policy(*strata: Stratum) -> Policy:
    return Policy("golden", strata)


def ordinary(*rules: tuple[str, str]) -> Policy:
    """Read broadly, write the workspace, a private /tmp, and these."""
    return policy(stratum(("read", "/"), ("write", "{workspace}"), ("private", "/tmp"), *rules))


def with_rules(base: Policy, key: str, *subjects: str) -> Policy:
    """The policy with rules of another key at the end of its first stratum."""
    first, *others = base.strata
    added = tuple(Rule(key, subject, Origin("user", "user.toml", 1, 1)) for subject in subjects)
    return base.with_(strata=(first.with_(rules=(*first.rules, *added)), *others))


def of_preset(name: str) -> Policy:
    base = preset(name)
    return Policy(name, (base.with_(rules=tuple(rule for rule in base.rules if rule.key != "floor.require")),), base.under("floor.require"))


def tree(placed: PlacedPolicy, files: Files) -> Tree:
    """What the search finds: named paths, matches of wildcards, link targets. Below a hidden or protected match it does not look."""
    links = {path: target[3:] for path, target in files.items() if target.startswith("-> ")}

    def entry(path: str) -> Entry:
        kind = LINK if path in links else {"dir": DIRECTORY, "file": FILE, "socket": SOCKET}.get(files.get(path, ""), MISSING)
        return Entry(path, kind, links.get(path, path))

    aliases = {components(path): (components(target),) for path, target in links.items()}
    wanted = [join(parts) for parts in placed.literals() if parts]  # "/" is there, nobody looks
    named = {path: entry(path) for path in wanted if path in files}
    named |= {join(parts): entry(join(parts)) for parts in placed.writable()}
    named |= {target: entry(target) for path, target in links.items() if path in named or _matched(placed, path)}
    found = tuple(entry(path) for path in sorted(files) if _matched(placed, path) and not _inside_one(placed, path))
    return Tree(
        named, found, aliases={parts: others for parts, others in aliases.items() if join(parts) in named or _matched(placed, join(parts))}
    )


def _matched(placed: PlacedPolicy, path: str) -> bool:
    return any(rule.pattern.matches(components(path)) for rule in placed.globs())


def _inside_one(placed: PlacedPolicy, path: str) -> bool:
    parts = components(path)
    above = [parts[:depth] for depth in range(1, len(parts))]
    return any(_matched(placed, join(each)) and placed.access(each)[0] in (HIDE, PROTECT) for each in above)


def facts(placed: PlacedPolicy, files: Files, host: Host = HOST) -> Facts:
    """Facts of a table of files; the policy has learnt the aliases, as before every plan."""
    found = tree(placed, files)
    placed.learn(found.aliases)
    return Facts(host, found)


def on_host(what: Policy, files: Files, host: Host = HOST) -> tuple[PlacedPolicy, Facts]:
    placed = PlacedPolicy(what, PLACES)
    return placed, facts(placed, files, host)
