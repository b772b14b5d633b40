"""The environment a command gets: the caller's, without what looks like a secret and with what the sandbox needs.

The policy's word on names is taken first and kept as plain data, so that the next start need not ask the policy again.
"""

from __future__ import annotations

import os

from houseroom.policy.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from houseroom.policy.decide import PlacedPolicy
    from houseroom.policy.model import Stratum

    Patterns = tuple[tuple[str, str], ...]

WITHHELD, BY_VALUE, PASSED = 0, 1, 2
_TMP = ("TMPDIR", "TEMP", "TMP")
_PASS, _WITHHOLD = "environment.pass", "environment.withhold"


class Choice(Record):
    """What the policy says of variables. ``names``: withheld, passed on purpose, or passed unless the value is a secret.

    ``tmp`` is the private temporary directory, "" where the host's is used; ``redirects`` point tools whose cache does
    not exist to a directory in it: a variable, the directory, and the program (``caches.CACHES``) without which nobody asks.
    ``rules`` are the policy's on variables, for names that turn up later: for each stratum what it passes and what it withholds,
    each a pattern and its layer. ``fixed`` are variables of the sandbox's own, "" for one that is not to be there.
    """

    names: dict[str, int]
    tmp: str = ""
    redirects: tuple[tuple[str, str, str], ...] = ()
    rules: tuple[tuple[Patterns, Patterns], ...] = ()
    fixed: tuple[tuple[str, str], ...] = ()

    def knowing(self, names: Iterable[str]) -> Choice:
        """The same choice with the policy's word on these names too."""
        unknown = [name for name in names if name not in self.names]
        return self.with_(names=self.names | _verdicts(_placed(self.rules), unknown)) if unknown else self

    def moved(self, tmp: str) -> Choice:
        """The same choice where the sandbox's own temporary directory turned out to be another one."""
        redirects = [(name, tmp + path[len(self.tmp) :], sign) for name, path, sign in self.redirects]
        return self.with_(tmp=tmp, redirects=(*redirects, *((name, tmp, "") for name in _TMP)))


def choose(placed: PlacedPolicy, names: Iterable[str]) -> Choice:
    """The policy's word on these names."""
    from houseroom.policy import caches
    from houseroom.policy.model import PRIVATE
    from houseroom.policy.pattern import components

    verdicts = {**_verdicts(placed, names), **dict.fromkeys(placed.credentials, WITHHELD)}  # these whenever they turn up
    rules = tuple((_patterns(stratum, _PASS), _patterns(stratum, _WITHHOLD)) for stratum in placed.policy.strata)
    home, tmp = placed.places.home, placed.places.tmp
    private = tmp if placed.access(components(tmp))[0] == PRIVATE else ""
    redirects = []
    for path, variable, sign, _reason in caches.CACHES if private else ():
        if variable and not os.path.isdir(home + path[1:]):
            redirects.append((variable, f"{tmp}/{path.rpartition('/')[2].lstrip('.')}", sign))
    reach = placed.policy.setting("network.reach")
    return Choice(verdicts, private, tuple(redirects), rules, _proxies() if reach is not None and reach.value == "listed" else ())


def _proxies() -> tuple[tuple[str, str], ...]:
    """For programs that like to be told of a proxy; those of the host lead nowhere inside."""
    from houseroom.plan import egress

    url, direct = f"http://{egress.ADDRESS}:{egress.PORT}", "localhost,127.0.0.1,::1"
    lower = (("http_proxy", url), ("https_proxy", url), ("no_proxy", direct), ("all_proxy", ""), ("ftp_proxy", ""))
    return tuple((spelt, value) for name, value in lower for spelt in (name, name.upper()))


def _patterns(stratum: Stratum, key: str) -> Patterns:
    return tuple((rule.subject, rule.origin.layer) for rule in stratum.under(key))


def _verdicts(placed: PlacedPolicy, names: Iterable[str]) -> dict[str, int]:
    from houseroom.policy.decide import Allow, Variable, decide

    verdicts = {}
    for name in names:
        decision = decide(placed, Variable(name))
        verdicts[name] = WITHHELD if not isinstance(decision, Allow) else PASSED if decision.why.rule else BY_VALUE
    return verdicts


def _placed(rules: tuple[tuple[Patterns, Patterns], ...]) -> PlacedPolicy:
    """A policy of nothing but rules on variables: they lie at no place."""
    from houseroom.policy.decide import PlacedPolicy
    from houseroom.policy.model import Origin, Places, Policy, Rule, Stratum

    keys = (_PASS, _WITHHOLD)
    strata = [[Rule(key, subject, Origin(layer, "")) for key, kind in zip(keys, each) for subject, layer in kind] for each in rules]
    return PlacedPolicy(Policy("", tuple(Stratum("", tuple(rules)) for rules in strata)), Places("/", "/"))


def build(choice: Choice, environ: Mapping[bytes, bytes]) -> tuple[dict[bytes, bytes], tuple[str, ...]]:
    """The command's environment and the names that were withheld. Raises KeyError for a name the choice doesn't have.

    A variable is withheld by its name, or because its value is recognisably a credential, unless it was passed on purpose. One that has
    something of the sandbox's own in its place is not told as withheld.
    """
    from houseroom.policy.variables import value_looks_secret

    given, withheld = {}, []
    for raw_name, value in environ.items():
        name = os.fsdecode(raw_name)
        verdict = choice.names[name]
        if verdict == PASSED or (verdict == BY_VALUE and not value_looks_secret(os.fsdecode(value))):
            given[raw_name] = value
        else:
            withheld.append(name)
    if choice.tmp:
        for raw_name in map(os.fsencode, _TMP):
            if raw_name in given:
                given[raw_name] = os.fsencode(choice.tmp)
    there = _on_path({sign for _name, _path, sign in choice.redirects}, given.get(b"PATH", b""))
    for name, path, sign in choice.redirects:
        if sign in there:
            given.setdefault(os.fsencode(name), os.fsencode(path))
    for name, text in choice.fixed:
        if text:
            given[os.fsencode(name)] = os.fsencode(text)
        else:
            given.pop(os.fsencode(name), None)
    given[b"HOUSEROOM"] = b"1"
    return given, tuple(name for name in withheld if os.fsencode(name) not in given)


def _on_path(programs: set[str], path: bytes) -> set[str]:
    """Those of these programs that are in a directory of the PATH, and "" always."""
    directories = [os.fsdecode(each) for each in path.split(b":") if each]
    return {name for name in programs if not name or any(os.access(f"{directory}/{name}", os.X_OK) for directory in directories)}
