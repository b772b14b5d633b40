"""``houseroom run`` and the options it shares, as data. Apart from the other ``commands``, since each start reads this."""

from __future__ import annotations

from houseroom.frontends.cli.options import Option, Spec

OWN, HOW = "Rules of this run, over those of the policy", "Enforcement"

PROFILE = Option(("-p", "--profile"), "NAME", "read-only, workspace (the default), full-access, or a profile of yours.")
WORKSPACE = Option(("-w", "--workspace"), "DIR", "The directory to work in; else the current one.")
JSON = Option(("--json",), "", "Print JSON instead of text.")

# What narrows or widens the policy for one run. Each is a rule of the session layer, the last word of the person at the keyboard.
RULES = (
    Option(("--read",), "PATH", "May be read, and what is in it run.", repeat=True, group=OWN),
    Option(("--write",), "PATH", "May be written.", repeat=True, group=OWN),
    Option(("--hide",), "PATH", "Its content does not exist inside.", repeat=True, group=OWN),
    Option(("--protect",), "PATH", "May be read, never changed, created or replaced.", repeat=True, group=OWN),
    Option(("--private",), "PATH", "An empty directory of the sandbox's own.", repeat=True, group=OWN),
    Option(("--scratch",), "PATH", "Shows the host's content, drops what is written.", repeat=True, group=OWN),
    Option(("--pass",), "NAME", "Pass a variable that would be withheld.", repeat=True, group=OWN),
    Option(("--net",), "REACH", "The network: none, listed hosts, or open: the host's own.", choices=("none", "listed", "open"), group=OWN),
    Option(("--allow",), "HOST", "A host that may be reached: pypi.org, *.example.org:443.", repeat=True, group=OWN),
    Option(("--credential",), "TEXT", "'NAME HOST [from SOURCE]': HOST gets the value, commands a placeholder.", repeat=True, group=OWN),
    Option(("--upstream",), "PROXY", "Listed hosts by the host's own proxy: host, or none.", choices=("none", "host"), group=OWN),
    Option(("--publish",), "PORT", "A port of the sandbox that this host reaches at its own loopback.", repeat=True, group=OWN),
    Option(("--socket",), "PATH", "A Unix socket of the host that may be connected to.", repeat=True, group=OWN),
    Option(("--git",), "MODE", "Repositories: read-only, or free to commit in.", choices=("read-only", "free"), group=OWN),
    Option(("--time",), "DURATION", "Stop the command after this long: 30s, 10m, 2h.", group=OWN),
    Option(("--limit",), "NAME=VALUE", "A limit, such as processes=512.", repeat=True, group=OWN),
)
ENFORCEMENT = (
    Option(("--accept",), "RULE", "Start although RULE, named as in doctor, can't hold here.", repeat=True, group=HOW),
    Option(
        ("--backend",),
        "NAME",
        "auto, namespaces, bubblewrap or landlock.",
        choices=("auto", "namespaces", "bubblewrap", "landlock"),
        group=HOW,
    ),
)

OBSERVE = Option(
    ("--observe",),
    "LEVEL",
    "What to note, so that a failure can be explained: off, denials (the default), executions, all.",
    choices=("off", "denials", "executions", "all"),
)

EXITS = (
    ("the command's", "it ran; 128+n if signal n ended it"),
    ("2", "houseroom's own command line was wrong"),
    ("123", "the policy has an error"),
    ("124", "a limit stopped it, such as time or memory"),
    ("125", "this host can't enforce the policy, or the sandbox could not be set up; nothing was started"),
    ("126, 127", "the command can't be executed, or was not found"),
)

RUN = Spec(
    "run",
    "Run a command in the sandbox.",
    (
        PROFILE,
        WORKSPACE,
        *RULES,
        *ENFORCEMENT,
        Option(("--cwd",), "DIR", "Start the command in DIR; else in the current one."),
        OBSERVE,
        Option(("--dry-run",), "", "Print what would be done, in order, and start nothing."),
        Option(("--json",), "", "With --dry-run the plan as JSON; else one JSON line on standard error at the end."),
        Option(("-q", "--quiet"), "", "No notes on standard error; errors are still shown."),
        Option(("-v", "--verbose"), "", "Say before the start what is enforced and which variables are withheld."),
    ),
    words="COMMAND [ARGUMENT…]",
    least=1,
    command=True,
    about="What it starts stays in the same sandbox and ends with it. It reads broadly, writes the workspace, and has no network. "
    "The first word that is not an option starts the command; -- says so explicitly.",
    examples=(
        ("houseroom run -- pytest", "run the tests here"),
        ("houseroom run --net open -- npm install", "with the host's network"),
        ("houseroom run --write ../build --time 10m -- make", "one more writable place, at most ten minutes"),
        ("houseroom run --dry-run -- make", "what would be enforced, step by step"),
    ),
    exits=EXITS,
)
