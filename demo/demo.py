"""``./dev demo``: houseroom at work on this checkout, with nothing installed but Python.

A real build in the sandbox, an attack with and without it, and the explanation. Everything planted is made up and removed at the
end. Leaves with 0 only if the build worked, the attack succeeded outside and failed inside: judged by what reached the host.
"""

import contextlib
import os
import shlex
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
HOUSEROOM = (sys.executable, "-I", "-S", str(ROOT / "scripts" / "houseroom"))
BOLD, GREEN, RED, PLAIN = (
    ("\033[1m", "\033[32m", "\033[31m", "\033[0m") if sys.stdout.isatty() and "NO_COLOR" not in os.environ else ("",) * 4
)
KEY, TOKEN = "made-up-private-key", "made-up-token"
STOPPED, REACHED = "stopped", "REACHED THE HOST"


def say(text=""):
    print(text, flush=True)


def shown(argv):
    return shlex.join(argv).replace(f"{ROOT}/", "").replace(sys.executable, "python3")


class Stage:
    """A home with a made-up key, a port that listens, and a place in .git/hooks. All gone when left."""

    def __enter__(self):
        self.home = Path(tempfile.mkdtemp(prefix=".houseroom-demo-", dir=Path.home()))
        (self.home / ".ssh").mkdir(mode=0o700)
        (self.home / ".ssh" / "id_ed25519").write_text(KEY + "\n", encoding="utf-8")
        self.hook = self._hooks() / "houseroom-demo"
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.heard = []
        threading.Thread(target=self._listen, daemon=True).start()
        self.environment = {**os.environ, "HOME": str(self.home), "GITHUB_TOKEN": TOKEN}
        return self

    def _hooks(self):
        """The repository's hooks directory, where .git is a directory; else (an archive, a worktree) one made for the demo."""
        if (ROOT / ".git").is_dir():
            self.made = None if (ROOT / ".git/hooks").is_dir() else ROOT / ".git/hooks"
            (ROOT / ".git/hooks").mkdir(exist_ok=True)
            return ROOT / ".git/hooks"
        self.made = ROOT / "build/demo-repository"
        (self.made / ".git/hooks").mkdir(parents=True, exist_ok=True)
        return self.made / ".git/hooks"

    def _listen(self):
        with contextlib.suppress(OSError):  # closed at the end
            while True:
                line, _ = self.listener.accept()
                with line:
                    self.heard.append(line.recv(64))

    def __exit__(self, *_):
        self.listener.close()
        self.hook.unlink(missing_ok=True)
        if self.made:
            shutil.rmtree(self.made)
        shutil.rmtree(self.home)

    def attack(self, *before):
        """Run the attack and return what it reached, by looking at the host."""
        self.heard.clear()
        self.hook.unlink(missing_ok=True)
        port = str(self.listener.getsockname()[1])
        argv = (*before, sys.executable, str(ROOT / "demo/attack.py"), str(self.home), str(self.hook), port)
        done = subprocess.run(argv, cwd=ROOT, env=self.environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
        say(done.stdout.rstrip())
        if done.stderr.strip():
            say("    " + done.stderr.strip().replace("\n", "\n    "))
        ran = done.stdout.count(":") >= 4  # an attack that did not run would prove nothing
        reached = {
            "the private key": KEY in done.stdout,
            "the token in the environment": TOKEN in done.stdout,
            "git hooks": self.hook.exists(),
            "the network": bool(self.heard),
        }
        self.hook.unlink(missing_ok=True)
        return ran, reached

    def houseroom(self, *words):
        say(f"{BOLD}$ houseroom {shown(words).replace(str(self.home), '~')}{PLAIN}")
        return subprocess.run((*HOUSEROOM, *words), cwd=ROOT, env=self.environment, stdin=subprocess.DEVNULL, check=False).returncode


def build(stage):
    """A real build of this checkout: the package as one file, and that file run."""
    say(f"{BOLD}1. Real work, in the sandbox, on this checkout{PLAIN}\n")
    (ROOT / "build").mkdir(exist_ok=True)
    archive = ROOT / "build" / "houseroom.pyz"
    archive.unlink(missing_ok=True)
    steps = [("run", "--", sys.executable, "-m", "zipapp", "src", "-m", "houseroom.__main__:main", "-o", "build/houseroom.pyz")]
    if (ROOT / ".git").exists() and shutil.which("git"):
        steps.insert(0, ("run", "--", "git", "status", "--short", "--branch"))
    steps.append(("run", "--", sys.executable, "build/houseroom.pyz", "--version"))
    statuses = [stage.houseroom(*step) for step in steps]
    built = archive.exists()
    archive.unlink(missing_ok=True)
    say()
    return built and not any(statuses)


def attacks(stage):
    say(f"{BOLD}2. The install script of a bad package: without the sandbox{PLAIN}\n")
    say(f"{BOLD}$ python3 demo/attack.py{PLAIN}")
    ran_bare, bare = stage.attack()
    say(f"\n{BOLD}   and the same in the sandbox{PLAIN}\n")
    say(f"{BOLD}$ houseroom run -- python3 demo/attack.py{PLAIN}")
    ran_inside, inside = stage.attack(*HOUSEROOM, "run", "--")
    say(f"\n    {'':30}{'without':20}with houseroom")
    for name, reached in inside.items():
        words = (f"{RED}{REACHED}{PLAIN}" if reached else f"{GREEN}{STOPPED}{PLAIN}") if ran_inside else "did not run"
        say(f"    {name:30}{REACHED if bare[name] else STOPPED:20}{words}")
    say()
    return ran_bare and all(bare.values()) and ran_inside and not any(inside.values())


def explanation(stage):
    say(f"{BOLD}3. Why, by which rule, and how to allow it{PLAIN}\n")
    denied = []
    for act, path in (("read", str(stage.home / ".ssh/id_ed25519")), ("write", str(stage.hook.parent.relative_to(ROOT)))):
        stage.houseroom("explain", act, path)
        say()
        asked = subprocess.run(
            (*HOUSEROOM, "explain", "--json", act, path), cwd=ROOT, env=stage.environment, capture_output=True, text=True, check=False
        )
        denied.append(asked.returncode == 1 and asked.stdout.startswith("{"))
    return all(denied)


def main():
    with Stage() as stage:
        worked = {"the build": build(stage), "the attack": attacks(stage), "the explanation": explanation(stage)}
    failed = [name for name, good in worked.items() if not good]
    if failed:
        say(f"{RED}This did not go as it should: {', '.join(failed)}. `scripts/houseroom doctor` says what this host lacks.{PLAIN}")
        return 1
    say(f"{GREEN}The work was done; the attack reached nothing.{PLAIN} Next: scripts/houseroom help, scripts/houseroom doctor")
    return 0


if __name__ == "__main__":
    sys.exit(main())
