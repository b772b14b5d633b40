"""Every command and option, as data. Parsing, ``--help``, docs/cli.md and the tests all read this table."""

from __future__ import annotations

from houseroom.frontends.cli.options import Option, Spec
from houseroom.frontends.cli.run_options import ENFORCEMENT, EXITS, JSON, OBSERVE, PROFILE, RULES, RUN, WORKSPACE

SHELL = Spec(
    "shell",
    "Work in the sandbox yourself: your shell, interactive.",
    tuple(option for option in RUN.options if option.key not in ("dry-run", "json")),
    words="[COMMAND [ARGUMENT…]]",
    command=True,
    about="As run, with your shell where no command is named. It has a terminal of its own, with job control; your start files are read, "
    "and HOUSEROOM is 1 in its environment.",
    examples=(
        ("houseroom shell", "look at the world as an agent sees it"),
        ("houseroom shell --net open -- zsh", "another shell, with the host's network"),
    ),
    exits=EXITS,
)

LEARN = Spec(
    "learn",
    "Run a command, then propose the policy it would need.",
    (
        PROFILE,
        WORKSPACE,
        *RULES,
        *ENFORCEMENT,
        Option(("--cwd",), "DIR", "Start the command in DIR; else in the current one."),
        Option(("--into",), "FILE", "The policy the proposal is for: user (the default), project, or a profile of yours."),
        Option(("--save",), "", "Ask whether to write it."),
        Option(("-y", "--yes"), "", "With --save, don't ask."),
        Option(("--json",), "", "Print the proposal as one JSON line on standard error."),
    ),
    words="COMMAND [ARGUMENT…]",
    least=1,
    command=True,
    about="It runs in the sandbox of the present policy: what is refused is refused, so once more is granted it may get further "
    "and need more. What it was refused is proposed as the fewest and narrowest lines, as a diff. Nothing that is hidden, "
    "protected or run by your own shell is proposed: such things are listed, for you to decide. Read it before you save it: the "
    "command chose what to try.",
    examples=(
        ("houseroom learn -- make install", "what it would need, as a diff of your policy file"),
        ("houseroom learn -p read-only --into builds --save -- make", "a new profile that extends read-only"),
    ),
    exits=(("the command's", "it ran"), ("2, 123, 125, 126, 127", "as for run")),
)

EXPLAIN = Spec(
    "explain",
    "Is it allowed, by which rule, and how to grant it.",
    (PROFILE, WORKSPACE, *RULES, *ENFORCEMENT, JSON),
    words="[read|write|run] PATH, variable NAME, or connect PATH or [METHOD ]HOST[:PORT][/PATH]",
    least=1,
    most=2,
    about="Without read, write or run it explains reading and writing. Options are those of run: they explain that run.",
    examples=(
        ("houseroom explain ~/.ssh/id_ed25519", "may it be read, may it be written?"),
        ("houseroom explain write .git/hooks", "a protected path"),
        ("houseroom explain run node", "a program, found on PATH"),
        ("houseroom explain variable GITHUB_TOKEN", "an environment variable"),
        ("houseroom explain connect pypi.org:443", "a host and port"),
        ("houseroom explain connect 'POST api.example.org/v1/items'", "a single request"),
        ("houseroom explain connect /run/docker.sock", "a socket of the host"),
    ),
    exits=(("0", "allowed; without a verb, both are"), ("1", "denied"), ("2, 123, 125", "as for run")),
)

DOCTOR = Spec(
    "doctor",
    "What this host enforces, rule by rule, and the fixes.",
    (PROFILE, WORKSPACE, *ENFORCEMENT, JSON),
    about="Every mechanism is tried, not looked up.",
    examples=(("houseroom doctor", "this host and the default policy"), ("houseroom doctor -p read-only --json", "for a program")),
    exits=(("0", "every rule of the floor is enforced"), ("125", "something of the floor is missing")),
)

SHOW = Spec(
    "policy show",
    "Print the merged policy, each rule with its reason.",
    (PROFILE, WORKSPACE, *RULES, JSON, Option(("--toml",), "", "Print it as a policy file.")),
    words="[KEY]",
    most=1,
    about="KEY prints one part: files, files.hide, environment, limits …",
    examples=(("houseroom policy show files.hide", "what is hidden, and why"), ("houseroom policy show --toml", "as a file to start from")),
    exits=(("0", "printed"), ("123", "the policy has an error")),
)
CHECK = Spec(
    "policy check",
    "Check a policy file and say where it is wrong.",
    (WORKSPACE, JSON),
    words="FILE",
    least=1,
    most=1,
    examples=(("houseroom policy check .houseroom/policy.toml", "before it is committed"),),
    exits=(("0", "it is right"), ("123", "it has an error")),
)
SCHEMA = Spec(
    "policy schema",
    "Print the JSON schema of policy files, for editors.",
    examples=(("houseroom policy schema > houseroom.schema.json", "for an editor's TOML plugin"),),
    exits=(("0", "printed"),),
)
PRESETS = Spec(
    "policy presets",
    "List the built-in policies.",
    (JSON,),
    examples=(("houseroom policy presets", "what -p accepts without any file"),),
    exits=(("0", "printed"),),
)

TRUST = Spec(
    "trust",
    "Let a project's own policy file widen yours.",
    (
        WORKSPACE,
        Option(("--list",), "", "List the project files you trust."),
        Option(("--revoke",), "", "Trust this project's file no longer."),
        Option(("-y", "--yes"), "", "Don't ask."),
        JSON,
    ),
    about="A project's .houseroom/policy.toml can only narrow your policy, because an agent can write it before the next run. "
    "Trust is given to its exact text: any change ends it.",
    examples=(("houseroom trust", "show the file and what it would widen, then ask"), ("houseroom trust --revoke", "take it back")),
    exits=(("0", "done"), ("1", "not trusted: you said no, or nobody could be asked"), ("123", "the file has an error or is missing")),
)

_NO_SESSION = ("125", "there is no such session, or it does not answer")
START_SESSION = Spec(
    "session start",
    "Keep a sandbox in the background, to run commands in by name.",
    (
        PROFILE,
        WORKSPACE,
        *RULES,
        *ENFORCEMENT,
        OBSERVE,
        Option(("--idle",), "DURATION", "End it after so long without a command; else 30m."),
        Option(("-q", "--quiet"), "", "Print its name and nothing else."),
    ),
    words="[NAME]",
    most=1,
    about="It prints the session's name; without one it is that of the workspace. Its policy stays the one it began with. "
    "Whatever ends its holder, a background process, ends everything in it.",
    examples=(
        ("houseroom session start", "in this workspace, named after it"),
        ("houseroom session start build --net open --idle 2h", "another one, with the host's network"),
    ),
    exits=(("0", "it stands, and its name is printed"), ("2, 123, 125", "as for run; 125 also where the name is taken")),
)
EXEC = Spec(
    "session exec",
    "Run a command in a session: at about the price of a plain start.",
    (
        Option(("--cwd",), "DIR", "Start the command in DIR; else in the current one."),
        Option(("-t", "--terminal"), "", "Give it the keyboard also where its output does not go to the terminal."),
    ),
    words="NAME [--] COMMAND [ARGUMENT…]",
    least=2,
    command=True,
    about="It gets your directory, streams and variables, as the session's policy lets them through. If this process is ended, all that "
    "the command ever started is ended too; what a command that ended by itself left running lives on with the session.",
    examples=(
        ("houseroom session exec work -- make -j4", "exit code and streams are the command's"),
        ("houseroom session exec work -- python -i", "at a terminal it has one of its own"),
    ),
    exits=(
        ("the command's", "it ran; 128+n if signal n ended it, 137 also where the session ended first"),
        ("2", "houseroom's own command line was wrong"),
        ("124", "a limit stopped it, such as time or memory"),
        ("125", "there is no such session, or it can't work in this directory or with these streams; nothing was started"),
        ("126, 127", "the command can't be executed, or was not found"),
    ),
)
LIST_SESSIONS = Spec(
    "session list",
    "List the sessions that run.",
    (JSON,),
    examples=(("houseroom session list --json", "for a program"),),
    exits=(("0", "listed, also where there is none"),),
)
SHOW_SESSION = Spec(
    "session show",
    "Show one session: policy, commands, what is enforced.",
    (JSON,),
    words="[NAME]",
    most=1,
    about="The name can be left out where only one session runs.",
    examples=(("houseroom session show work", "also how many processes it has, and their memory"),),
    exits=(("0", "shown"), _NO_SESSION),
)
STOP_SESSION = Spec(
    "session stop",
    "End sessions with everything in them.",
    (Option(("--all",), "", "All that run."),),
    words="[NAME…]",
    most=100,
    about="Without a name it ends the only one. When it returns, nothing of them is alive.",
    examples=(("houseroom session stop work", "end it now"), ("houseroom session stop --all", "tidy up")),
    exits=(("0", "ended"), _NO_SESSION),
)
ATTACH = Spec(
    "session attach",
    "Open your shell in a session.",
    (Option(("--cwd",), "DIR", "Start it in DIR; else in the current one."),),
    words="[NAME]",
    most=1,
    about="The session lives on when the shell ends. The name can be left out where only one session runs.",
    examples=(("houseroom session attach work", "look at what a command left behind"),),
    exits=(("the shell's", "it ran"), _NO_SESSION),
)
SESSION = (START_SESSION, EXEC, LIST_SESSIONS, SHOW_SESSION, STOP_SESSION, ATTACH)

SPECS = {spec.name: spec for spec in (RUN, SHELL, LEARN, *SESSION, EXPLAIN, DOCTOR, SHOW, CHECK, SCHEMA, PRESETS, TRUST)}
