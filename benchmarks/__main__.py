"""``./dev bench``: prepare, measure as an ordinary user, show.

Two processes: this one may be root and has rich; the one that measures is started from a private virtual environment, in which
houseroom is installed as a user would install it, as an unprivileged user where this one is root.
"""

from __future__ import annotations

import argparse
import json
import os
import pwd
import shutil
import subprocess
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
TOOLS = ROOT / ".bench"
USER = "houseroom-bench"
PEERS_DEBIAN = ("bubblewrap", "socat", "ripgrep", "firejail")
PEERS_NPM = ("@openai/codex", "@anthropic-ai/sandbox-runtime")
PEERS_PYTHON = ("nono-py", "sandlock")


def main() -> int:
    options = parse()
    if options.measure:
        return measure(Path(options.measure), options)
    user = unprivileged_user()
    python = shared_python(user)
    if options.peers:
        install_peers(python)
    install_houseroom(python)
    home = Path(tempfile.mkdtemp(prefix="bench-", dir=user.pw_dir if user else None))
    try:
        return show(run_measuring(home, user, options), options)
    finally:
        shutil.rmtree(home, ignore_errors=True)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="./dev bench", description="Measure houseroom beside its field. Bars are judged by medians of one run."
    )
    parser.add_argument(
        "suite", nargs="*", choices=[[], "start", "work", "paths", "session", "soak", "network"], help="only these; all by default"
    )
    parser.add_argument("--peers", action="store_true", help="install the peers first (root for Debian's; npm and PyPI below .bench)")
    parser.add_argument("--smoke", action="store_true", help="tiny sizes, nothing judged but that houseroom can be measured")
    parser.add_argument("-n", type=int, help="repetitions")
    parser.add_argument("--json", type=Path, help="write the figures here", default=TOOLS / "figures.json")
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    return parser.parse_args()


# Preparation ----------------------------------------------------------------------------------------------------------


def unprivileged_user() -> pwd.struct_passwd | None:
    """The user to measure as where this process is root, made if needed; None where it is not, or where only root gets here."""
    if os.geteuid() != 0 or not reachable(ROOT):
        return None
    try:
        return pwd.getpwnam(USER)
    except KeyError:
        print(f"making the user {USER}, who has no rights, to measure as")
        subprocess.run(["useradd", "--create-home", "--shell", "/bin/sh", USER], check=True)
        return pwd.getpwnam(USER)


def reachable(path: Path) -> bool:
    """Whether any user may go through to a path."""
    return all(directory.stat().st_mode & 0o001 for directory in (path, *path.parents))


def become(user: pwd.struct_passwd | None) -> dict[str, object]:
    """Arguments of subprocess.run that make the child that user."""
    return {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []} if user else {}


def shared_python(user: pwd.struct_passwd | None) -> str:
    """An interpreter that the measuring user can start: this one, or the system's where this one is in root's home."""
    for candidate in (os.path.realpath(sys.executable), "/usr/bin/python3", "/usr/local/bin/python3"):
        program = "import sys; sys.exit(sys.version_info < (3, 11))"
        try:
            if subprocess.run([candidate, "-c", program], capture_output=True, check=False, **become(user)).returncode == 0:  # type: ignore[call-overload]
                return candidate
        except OSError:
            continue
    sys.exit("can't measure: no Python 3.11 or newer that an unprivileged user can start. Install one in /usr.")


def virtual_environment(where: Path, python: str) -> tuple[str, ...]:
    """Make it if needed; returns the start of a pip command for it (run by this process's pip, so it needs none of its own)."""
    if not (where / "bin/python").exists():
        subprocess.run([python, "-m", "venv", "--without-pip", where], check=True)
    return (sys.executable, "-m", "pip", "--python", str(where / "bin/python"), "install", "--quiet", "--disable-pip-version-check")


def install_houseroom(python: str) -> None:
    """As a user's pip would, from a copy: a build leaves files behind, and takes in those of the last one."""
    pip = virtual_environment(TOOLS / "venv", python)
    with tempfile.TemporaryDirectory(prefix="houseroom-build-") as copy:
        for name in ("pyproject.toml", "README.md", "LICENSE"):
            shutil.copy(ROOT / name, copy)
        for name in ("src", "scripts"):
            shutil.copytree(ROOT / name, Path(copy, name), ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
        subprocess.run([*pip, "--force-reinstall", "--no-deps", copy], check=True)
    # Its code in one file (docs/adr/0008-one-file-of-code.md) is written by who owns it, so not by another user who measures.
    subprocess.run([TOOLS / "venv/bin/python", "-I", "-m", "houseroom.bundling"], check=True)


def install_peers(python: str) -> None:
    """Everything that can be had; what can't be is said here and again in the table."""
    steps: list[tuple[str, ...]] = []
    if os.geteuid() == 0 and shutil.which("apt-get"):
        steps += [("apt-get", "update", "-qq"), ("apt-get", "install", "-y", "-qq", "--no-install-recommends", *PEERS_DEBIAN)]
    if shutil.which("npm"):
        (TOOLS / "npm").mkdir(parents=True, exist_ok=True)
        steps.append(("npm", "install", "--no-audit", "--no-fund", "--prefix", str(TOOLS / "npm"), *PEERS_NPM))
    steps.append((*virtual_environment(TOOLS / "peers", python), *PEERS_PYTHON))
    for step in steps:
        print("$", *step, flush=True)
        if subprocess.run(step, env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"}, check=False).returncode:
            print(f"that failed; going on without what it would have installed: {' '.join(step)}")


# Measuring ------------------------------------------------------------------------------------------------------------


def run_measuring(home: Path, user: pwd.struct_passwd | None, options: argparse.Namespace) -> dict[str, object]:
    """Start the measuring process in a clean environment and read its figures."""
    if user:
        os.chown(home, user.pw_uid, user.pw_gid)
    environment = {
        "HOME": str(home),
        "PATH": "/usr/local/bin:/usr/bin:/bin",
        "LANG": "C.UTF-8",
        "USER": user.pw_name if user else os.environ.get("USER", "user"),
    }
    argv = [str(TOOLS / "venv/bin/python"), "-m", "benchmarks", "--measure", str(home), *options.suite]
    argv += ["--smoke"] * options.smoke + (["-n", str(options.n)] if options.n else [])
    passed: tuple[int, ...] = ()
    if user:
        from benchmarks.scales import SCALES, serve

        line = serve()
        passed = (line.fileno(),)
        environment[SCALES] = str(line.fileno())
    done = subprocess.run(argv, cwd=ROOT, env=environment, stdout=subprocess.PIPE, pass_fds=passed, check=False, **become(user))  # type: ignore[call-overload]
    if done.returncode:
        sys.exit(done.returncode)
    figures: dict[str, object] = json.loads(done.stdout)
    figures["as"] = "an unprivileged user" if user or os.geteuid() else "root"
    return figures


def measure(home: Path, options: argparse.Namespace) -> int:
    """The measuring process: figures as JSON on standard output, progress on standard error."""
    from dataclasses import replace

    from benchmarks.contestants import Places
    from benchmarks.results import SMOKE, Size
    from benchmarks.suites import SUITES

    size = SMOKE if options.smoke else Size()
    if options.n:
        size = replace(size, starts=options.n, work=max(1, options.n // 4))
    results = []
    for name in options.suite or SUITES:
        print(f"measuring: {name}", file=sys.stderr, flush=True)
        workspace = home / f"workspace-{name}"
        workspace.mkdir()
        results += [asdict(result) for result in SUITES[name](Places(TOOLS, home, workspace), size)]
    json.dump({"machine": machine(), "size": asdict(size), "results": results}, sys.stdout)
    return 0


def machine() -> dict[str, object]:
    here = os.uname()
    return {"kernel": here.release, "architecture": here.machine, "cpus": os.cpu_count(), "python": sys.version.split()[0]}


# Showing --------------------------------------------------------------------------------------------------------------


def show(figures: dict[str, object], options: argparse.Namespace) -> int:
    """Tables, then the bars. The exit status says whether every bar could be judged and holds; in a smoke run, whether houseroom ran."""
    from rich.console import Console

    from benchmarks.report import bars, table

    console = Console(width=None if sys.stdout.isatty() else 120)
    options.json.parent.mkdir(parents=True, exist_ok=True)
    options.json.write_text(json.dumps(figures, indent=1) + "\n")
    about: dict[str, object] = figures["machine"]  # type: ignore[assignment]
    console.print(
        f"Python {about['python']}, Linux {about['kernel']}, {about['cpus']} CPUs, as {figures['as']}; figures in {options.json}\n"
    )
    results: list[dict[str, object]] = figures["results"]  # type: ignore[assignment]
    for result in results:
        console.print(table(result))
    if options.smoke:
        lacking = [str(result["title"]) for result in results if "houseroom" in result["unmeasured"] or not has_figures(result)]  # type: ignore[operator]
        console.print(f"houseroom could not be measured: {', '.join(lacking)}" if lacking else "smoke: houseroom can be measured")
        return 1 if lacking else 0
    shown, held = bars(results)
    console.print(shown)
    return 0 if held else 1


def has_figures(result: dict[str, object]) -> bool:
    return any(result.get(kind) for kind in ("samples", "figures", "rows"))


if __name__ == "__main__":
    sys.exit(main())
