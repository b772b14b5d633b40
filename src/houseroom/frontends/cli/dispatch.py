"""From an argument list to an exit code. Imports are inside the branch that needs them: start-up is the budget."""

from __future__ import annotations

import sys

assert sys.platform == "linux"  # type checkers for other systems stop reading here

from houseroom.errors import CannotEnforce, PolicyError, SetupFailed
from houseroom.frontends.cli.options import Given, UsageError, parse

TYPE_CHECKING = False
if TYPE_CHECKING:
    from houseroom.enforce.linux.launch import Cradle

USAGE, POLICY, SETUP, INTERRUPTED = 2, 123, 125, 130


def carry_out(arguments: list[str], cradle: Cradle | None) -> int:
    """Carry out one command line. ``cradle`` is the init that was begun for ``run``. Returns the exit code."""
    try:
        return _dispatch(arguments, cradle)
    except UsageError as usage:
        return _failed(usage.message, usage.hint, USAGE)
    except PolicyError as error:
        return _failed(str(error), "", POLICY)
    except (CannotEnforce, SetupFailed) as error:
        return _failed(str(error), "", SETUP)
    except KeyboardInterrupt:
        return INTERRUPTED


def _failed(message: str, hint: str, code: int) -> int:
    from houseroom.frontends.cli import paper

    paper.fail(message, hint)
    return code


def _dispatch(arguments: list[str], cradle: Cradle | None) -> int:
    if cradle is not None:
        with cradle:
            return _run(_read(arguments[0], arguments[1:]), cradle)
    first = arguments[0] if arguments else "help"
    if first in ("-h", "--help", "help"):
        return _help(arguments[1:])
    if first in ("-V", "--version"):
        from houseroom.frontends.cli import manual, paper

        paper.put(manual.version())
        return 0
    from houseroom.frontends.cli.commands import SPECS

    for size in (2, 1):
        name = " ".join(arguments[:size])
        if name in SPECS:
            return _carry_out(_read(name, arguments[size:]))
    return _group(arguments)


def _read(name: str, arguments: list[str]) -> Given:
    if name == "run":
        from houseroom.frontends.cli.run_options import RUN

        return parse(RUN, arguments)
    from houseroom.frontends.cli.commands import SPECS

    return parse(SPECS[name], arguments)


def _run(given: Given, cradle: Cradle) -> int:
    if given.flag("help"):
        return _help([given.spec.name])
    if given.spec.name == "shell":
        from houseroom.frontends.cli import shell

        return shell.shell(given, cradle)
    from houseroom.frontends.cli import run

    return run.run(given, cradle)


def _carry_out(given: Given) -> int:
    if given.flag("help"):
        return _help(given.spec.name.split())
    match given.spec.name:
        case "session exec" | "session attach":
            from houseroom.frontends.cli import inside

            return inside.execute(given) if given.spec.name == "session exec" else inside.attach(given)
        case "session start" | "session list" | "session show" | "session stop":
            from houseroom.frontends.cli import session

            return session.COMMANDS[given.spec.name](given)
        case "explain":
            from houseroom.frontends.cli import explain

            return explain.explain(given)
        case "learn":
            from houseroom.frontends.cli import learn

            return learn.learn(given)
        case "doctor":
            from houseroom.frontends.cli import doctor

            return doctor.doctor(given)
        case "trust":
            from houseroom.frontends.cli import trust

            return trust.trust(given)
    from houseroom.frontends.cli import policy

    return {
        "policy show": policy.show,
        "policy check": policy.check,
        "policy schema": policy.schema,
        "policy presets": policy.presets,
    }[given.spec.name](given)


def _help(words: list[str]) -> int:
    from houseroom.frontends.cli import manual, paper

    paper.put(manual.about(" ".join(words), paper.Paper.of_stdout()))
    return 0


def _group(arguments: list[str]) -> int:
    """A word that names no command: a group (``policy``), or a mistake."""
    from houseroom.frontends.cli import manual
    from houseroom.frontends.cli.commands import SPECS
    from houseroom.frontends.cli.options import nearest

    first = arguments[0]
    members = [name for name in SPECS if name.split()[0] == first]
    if members and (len(arguments) == 1 or arguments[1] in ("-h", "--help")):
        return _help([first])
    if members:
        near = nearest(" ".join(arguments[:2]), members)
        raise UsageError(f"{first} has no command {arguments[1]!r}", f"Did you mean `houseroom {near}`?" if near else manual.pointer(first))
    if first[:1] == "-":
        raise UsageError(f"there is no option {first}", "Options follow a command: `houseroom help` lists them.")
    near = nearest(first, [*{name.split()[0] for name in SPECS}, "help"])
    hint = f"Did you mean `houseroom {near}`?" if near else f"To run it in the sandbox: houseroom run -- {first}"
    raise UsageError(f"there is no command {first!r}", hint)
