"""Who is measured: each a way to run one command, in its workspace-write, offline profile, and proof that it is one."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

BENCHMARKS = Path(__file__).resolve().parent


@dataclass(frozen=True)
class Contestant:
    """``prefix`` stands before the command. ``missing`` says why it can't be measured here, or is empty."""

    name: str
    prefix: tuple[str, ...]
    missing: str = ""


@dataclass(frozen=True)
class Places:
    """Where things are: the tools' directory (.bench), and a home with a workspace in it that the measuring user owns."""

    tools: Path
    home: Path
    workspace: Path


def contestants(places: Places) -> tuple[Contestant, ...]:
    """Every contestant, those that are not installed with the reason."""
    bin_directory = places.tools / "venv" / "bin"
    peers = places.tools / "peers" / "bin" / "python"
    return (
        Contestant("bare", ()),
        Contestant("houseroom", (str(bin_directory / "houseroom"), "run", "--"), missing_file(bin_directory / "houseroom")),
        _bubblewrap(places),
        _codex(places),
        srt(places),
        _firejail(places),
        _library("nono-py", "nono_py", peers, "run_nono.py", places),
        _library("sandlock", "sandlock", peers, "run_sandlock.py", places),
    )


def missing_file(path: Path) -> str:
    return "" if path.exists() else f"there is no {path}; ./dev bench --peers installs what it needs"


def missing_program(name: str) -> str:
    return "" if shutil.which(name) else f"{name} is not installed; ./dev bench --peers (as root) installs it"


def _bubblewrap(places: Places) -> Contestant:
    here = str(places.workspace)
    words = (
        "--unshare-all --die-with-parent --new-session --ro-bind / / --dev /dev --proc /proc --tmpfs /tmp",
        f"--bind {here} {here} --chdir {here} --",
    )
    return Contestant("bubblewrap", (shutil.which("bwrap") or "bwrap", *" ".join(words).split()), missing_program("bwrap"))


def _codex(places: Places) -> Contestant:
    """The native program itself, found inside the npm package, not the node launcher in front of it."""
    found = sorted(places.tools.glob("npm/node_modules/@openai/codex-*/vendor/*/*/codex"))
    missing = "" if found else missing_file(places.tools / "npm/node_modules/@openai/codex")
    return Contestant(
        "codex (native)", (str(found[0]) if found else "codex", "sandbox", "-c", 'sandbox_mode="workspace-write"', "--"), missing
    )


def srt(places: Places, hosts: Sequence[str] = ()) -> Contestant:
    """``hosts``: those that can be reached by way of its proxy."""
    program = places.tools / "npm/node_modules/.bin/srt"
    settings = places.home / f"srt-settings-{len(hosts)}.json"
    rules = {
        "network": {"allowedDomains": list(hosts), "deniedDomains": []},
        "filesystem": {"denyRead": ["~/.ssh"], "allowWrite": ["."], "denyWrite": []},
    }
    settings.write_text(json.dumps(rules))
    needed = next((reason for reason in map(missing_program, ("bwrap", "socat", "rg", "node")) if reason), "")
    return Contestant("srt", (str(program), "-s", str(settings), "--"), missing_file(program) or needed)


def _firejail(places: Places) -> Contestant:
    words = (
        "--quiet --noprofile --net=none --private-dev --private-tmp --caps.drop=all --seccomp --nonewprivs",
        f"--read-only=/home --read-write={places.workspace} --blacklist={places.home}/.ssh --",
    )
    return Contestant("firejail", (shutil.which("firejail") or "firejail", *" ".join(words).split()), missing_program("firejail"))


def _library(name: str, module: str, python: Path, script: str, places: Places) -> Contestant:
    """A peer that is a Python library: a process that imports it and runs one command, as its users do."""
    missing = missing_file(python) or (
        ""
        if subprocess.run([python, "-c", f"import {module}"], capture_output=True, check=False).returncode == 0
        else f"{python} can't import {module}"
    )
    return Contestant(name, (str(python), str(BENCHMARKS / script), str(places.workspace)), missing)


def fit_ones(ones: Iterable[Contestant], unfit_for: Callable[[Contestant], str]) -> tuple[list[Contestant], dict[str, str]]:
    """Those that are installed and of which nothing is said against them; and what is said of the others."""
    reasons = {one: one.missing or unfit_for(one) for one in ones}
    return [one for one, reason in reasons.items() if not reason], {one.name: reason for one, reason in reasons.items() if reason}


def is_a_sandbox(contestant: Contestant, places: Places) -> str:
    """Empty when it lets a command write in the workspace and not beside it; else what went wrong. Judged by the files."""
    inside, outside = places.workspace / "inside", places.home / "outside"
    for path in (inside, outside):
        path.unlink(missing_ok=True)
    argv = (*contestant.prefix, "/bin/sh", "-c", f"echo x > {inside}; echo x > {outside}")
    try:
        done = subprocess.run(argv, cwd=places.workspace, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    said = " ".join((done.stderr or done.stdout).split())[-300:]
    wrote_inside, wrote_outside = inside.exists(), outside.exists()
    for path in (inside, outside):
        path.unlink(missing_ok=True)
    if not wrote_inside:
        return f"it could not write in the workspace: {said or f'status {done.returncode}'}"
    if wrote_outside and contestant.name != "bare":
        return "it wrote outside the workspace, so it is not the sandbox to compare with"
    return ""


def interpreter() -> str:
    """The interpreter of this process as houseroom's launcher would start it."""
    return os.path.join(os.path.dirname(sys.executable), "python3")
