"""Help on the terminal and docs/cli.md, both rendered from the table of commands."""

from __future__ import annotations

from houseroom.frontends.cli.commands import SPECS
from houseroom.frontends.cli.options import HELP, Option, Spec, UsageError, nearest
from houseroom.frontends.cli.paper import BOLD, CYAN, DIM, Column, Paper, Text, wrap

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

ABOUT = "Give a coding agent room to work, not the keys to the house."
START = (
    ("houseroom run -- claude", "a whole agent in the sandbox"),
    ("houseroom run -- pytest", "one command"),
    ("houseroom explain ~/.ssh", "is it allowed, why, and how to grant it"),
    ("houseroom doctor", "what this host can enforce"),
)


def version() -> str:
    """``houseroom 0.1.0``."""
    from houseroom import __version__

    return f"houseroom {__version__}"


def pointer(name: str = "") -> str:
    """Where to read on."""
    return f"See `houseroom help {name}`." if name else "See `houseroom help`."


def about(name: str, paper: Paper) -> str:
    """Help for a command, for a group of commands, or for everything where ``name`` is empty. Raises UsageError."""
    if not name:
        return _overview(paper)
    if name in SPECS:
        return _command(SPECS[name], paper)
    members = [spec for spec in SPECS.values() if spec.name.split()[0] == name]
    if members:
        return _section("Commands", _summaries(members, paper), paper) + "\n\n" + paper.prose(f"More: houseroom help {members[0].name}")
    near = nearest(name, SPECS)
    raise UsageError(f"there is no command {name!r}", f"Did you mean `houseroom help {near}`?" if near else pointer())


def _overview(paper: Paper) -> str:
    return "\n\n".join(
        (
            paper.prose(Text(ABOUT, BOLD)),
            _section("Start here", _examples(START, paper), paper),
            _section("Commands", _summaries(SPECS.values(), paper), paper),
            paper.prose("Inside, a command reads what you can read except secrets, writes the workspace, and has no network. "
                        "houseroom help COMMAND says more; houseroom --version says which this is."),
        )
    )  # fmt: skip


def _command(spec: Spec, paper: Paper) -> str:
    parts = [paper.prose(Text(usage(spec), BOLD), hanging=4), paper.prose(f"{spec.summary} {spec.about}".strip())]
    options = (*spec.options, HELP)
    groups = dict.fromkeys(option.group for option in options)
    parts += (_section(group, _options([option for option in options if option.group == group], options, paper), paper) for group in groups)
    if spec.examples:
        parts.append(_section("Examples", _examples(spec.examples, paper), paper))
    if spec.exits:
        rows = [(code, meaning) for code, meaning in spec.exits]
        parts.append(_section("Exit code", paper.table(rows, (Column(wrap=False), Column())), paper))
    return "\n\n".join(parts)


def usage(spec: Spec) -> str:
    """``houseroom run [OPTION…] [--] COMMAND [ARGUMENT…]``."""
    dashes = "[--]" if spec.command and "[--]" not in spec.words else ""
    return " ".join(part for part in ("houseroom", spec.name, "[OPTION…]", dashes, spec.words) if part)


def spelling(option: Option) -> str:
    """``-p, --profile NAME``; an ellipsis where the option may be repeated."""
    return ", ".join(option.names) + (f" {option.value}" if option.value else "") + ("…" if option.repeat else "")


def _options(some: list[Option], every: tuple[Option, ...], paper: Paper) -> str:
    width = max(len(spelling(option)) for option in every)  # the groups of one command line up
    rows = [(Text(spelling(option).ljust(width), CYAN), option.help) for option in some]
    return paper.table(rows, (Column(wrap=False), Column()))


def _examples(examples: tuple[tuple[str, str], ...], paper: Paper) -> str:
    """Example lines; where line and remark don't fit beside each other, the remark goes above."""
    widest = max(len(line) for line, _ in examples)
    if widest + max(len(remark) for _, remark in examples) + 4 <= paper.width:
        return paper.table([(line, Text(remark, DIM)) for line, remark in examples], (Column(wrap=False), Column(wrap=False)))
    return "\n".join(paper.prose(Text(f"# {remark}", DIM), 2) + f"\n  {line}" for line, remark in examples)


def _summaries(specs: Iterable[Spec], paper: Paper) -> str:
    return paper.table([(Text(spec.name, CYAN), spec.summary) for spec in specs], (Column(wrap=False), Column()))


def _section(title: str, body: str, paper: Paper) -> str:
    return paper.ink(title, BOLD) + "\n" + body


REFERENCE = "docs/cli.md"
_INTRODUCTION = f"""# The command line

{ABOUT} This page is generated from the table of commands
(`src/houseroom/frontends/cli/commands.py`); a test fails where the two differ, and
`HOUSEROOM_RENEW=1 python -m pytest tests/frontends` writes it anew.

Options are spelt out in full; none is abbreviated. `…` marks those that may be repeated. What follows `--` belongs to the
command and is passed on byte for byte. While a command runs, houseroom prints nothing on its standard output; what
houseroom has to say goes to standard error and starts with `houseroom:`. Colour appears on a terminal, unless `NO_COLOR` is
set. `--json` prints the same facts for a program.
"""
_CLOSING = """## Why no table library

Everything a person sees is set by `frontends/cli/paper.py`, about 200 lines on the standard library. A library such as rich costs
five times the start of the interpreter each time an agent asks `explain`, and the process runs as `python -I -S`, which does not
look at site-packages at all: code that is installed beside houseroom can't run in its supervisor.
"""


def reference() -> str:
    """The text of docs/cli.md."""
    parts = [_INTRODUCTION]
    for spec in SPECS.values():
        lines = [f"## houseroom {spec.name}", "", f"    {usage(spec)}", "", *wrap(f"{spec.summary} {spec.about}".strip(), 120), ""]
        lines += ["| option | |", "|---|---|"]
        for option in (*spec.options, HELP):
            lines.append(f"| `{spelling(option)}` | {option.help} |")
        if spec.examples:
            width = max(len(line) for line, _ in spec.examples)
            lines += ["", *(f"    {line:<{width}}   # {remark}" for line, remark in spec.examples)]
        if spec.exits:
            lines += ["", "| exit code | |", "|---|---|", *(f"| {code} | {meaning} |" for code, meaning in spec.exits)]
        parts.append("\n".join(lines) + "\n")
    return "\n".join((*parts, _CLOSING))
