"""Decides about acts, then runs the probe in a sandbox of the same policy. A process of its own, as the user it is for.

The first line on standard input is a JSON object:
``python``, ``stage``, ``workspace``, ``home``, ``base`` (name of the rules it starts from), ``layers`` (layer →
list of [key, subject]), ``asks`` (list of [verb, path, follow the last component?]). The first line on standard output is
a JSON object with the decisions, the mounts of the plan and what init keeps in place, or with ``error``; then the probe speaks.
"""

import json
import os
import sys
from pathlib import Path

from houseroom.errors import CannotEnforce, PolicyError
from houseroom.frontends.cli.explain import follow, through
from houseroom.plan import steps
from houseroom.policy.decide import Allow, Read, Write, decide
from houseroom.policy.layers import merge
from houseroom.policy.model import Origin, Places, Rule, Setting, Stratum
from houseroom.policy.parse import parse
from houseroom.policy.presets import preset
from houseroom.session import sandbox

BUILT_IN = Origin("preset", "built in")
CLOSED = frozenset({"files.read", "files.write"})


def base(name, python):
    """The stratum that the user's layer starts from: a preset, or a few rules in which drawn ones count for more."""
    if name in ("workspace", "read-only"):
        return preset(name)
    needed = {"/usr", "/bin", "/lib", "/lib64", "/etc", str(Path(python).parents[1])}
    read = ["/"] if name == "broad" else sorted(path for path in needed if os.path.exists(path))
    subjects = [*(("files.read", path) for path in read), ("files.write", "{workspace}"), ("files.private", "/tmp")]
    rules = tuple(Rule(key, subject, BUILT_IN) for key, subject in subjects)
    return Stratum(name, rules, {"network.reach": Setting("none", BUILT_IN), "git.mode": Setting("read-only", BUILT_IN)}, CLOSED)


def toml(rules):
    lists = {}
    for key, subject in rules:
        lists.setdefault(key.partition(".")[2], []).append(subject)
    return "[files]\n" + "".join(f"{leaf} = {json.dumps(subjects, ensure_ascii=False)}\n" for leaf, subjects in lists.items())


def answer(placed, verb, path, follow_last):
    if follow_last:
        resolved, links = follow(path)
    else:
        parent, _, name = path.rpartition("/")
        above, links = follow(parent)
        resolved = f"{'' if above == '/' else above}/{name}"
    decision = through(placed, (Read if verb == "read" else Write)(resolved), links)
    allowed = isinstance(decision, Allow)
    way = [passed.access for link, _ in links if isinstance(passed := decide(placed, Read(link)), Allow)]
    rule = decision.why.rule.subject if decision.why.rule else ""
    return {
        "allow": allowed,
        "access": decision.access if allowed else "",
        "why": decision.why.sentence,
        "path": resolved,
        "rule": rule,
        "way": way,
    }


def one_line():
    """The first line of standard input and not a byte more: the rest is the probe's."""
    said = bytearray()
    while not said.endswith(b"\n"):
        said += os.read(0, 1)
    return said


def main():
    order = json.loads(one_line())
    places = Places(order["workspace"], order["home"], "/tmp", os.getuid())
    probe = Path(__file__).with_name("oracle_probe.py").read_text()
    try:
        documents = [parse(toml(rules), layer=layer, file=f"{layer}.toml") for layer, rules in order["layers"].items()]
        policy = merge(base(order["base"], order["python"]), documents, profiles={}, trusted=False, name="oracle")
        prepared = sandbox.prepare(policy, places)
    except (PolicyError, CannotEnforce) as error:
        print(json.dumps({"error": type(error).__name__, "said": str(error)}), flush=True)
        return
    with prepared:
        made = prepared.plan.steps
        mounts = {
            step.path: type(step).__name__ for step in made if isinstance(step, steps.Bind | steps.Mask | steps.Private | steps.Scratch)
        }
        mediate = next((step for step in made if isinstance(step, steps.Mediate)), None)
        said = {
            "decisions": [answer(prepared.placed, *ask) for ask in order["asks"]],
            "mounts": mounts,
            "links": [step.path for step in made if isinstance(step, steps.Bind) and step.link],
            "pinned": list(mediate.pinned) if mediate else [],
            "rules": [list(pair) for stratum in mediate.rules for pair in stratum] if mediate else [],
        }
        print(json.dumps(said), flush=True)
        outcome = sandbox.run(prepared, sandbox.Command((order["python"], "-I", "-S", "-c", probe, order["stage"]), order["workspace"]))
    if outcome.exit_code:
        print(f"the sandbox ended with {outcome}", file=sys.stderr)


if __name__ == "__main__":
    main()
