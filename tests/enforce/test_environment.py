"""Secret-looking variables are withheld, ordinary ones are kept, and a name can be passed on purpose."""

from __future__ import annotations

import pytest
from runner import Bench

pytestmark = pytest.mark.needs("userns")

SECRET = [
    "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "GITHUB_TOKEN", "GH_TOKEN", "NPM_TOKEN", "OPENAI_API_KEY", "ANTHROPIC_API_KEY",
    "DATABASE_PASSWORD", "MY_SECRET", "VAULT_TOKEN", "STRIPE_KEY", "HF_TOKEN", "SSH_AUTH_SOCK", "DOCKER_AUTH_CONFIG",
]  # fmt: skip
ORDINARY = {"EDITOR": "vi", "LANG": "C.UTF-8", "MY_SETTING": "value", "CFLAGS": "-O2", "EMPTY": "", "MANY LINES": "a\nb", "UMLAUT": "ä"}
ECHO = "echo probe: environment; env"


@pytest.mark.parametrize("name", SECRET)
def test_secret_is_withheld(bench: Bench, name: str) -> None:
    bench.twin(["sh", "-c", ECHO], bench.leak(), env={name: bench.stage.token})


@pytest.mark.parametrize("how", [["--pass", "MY_SECRET"], ["--pass=MY_SECRET"]], ids=" ".join)
def test_secret_passed_on_purpose(bench: Bench, how: list[str]) -> None:
    environment = {"MY_SECRET": "passed", "OTHER_SECRET": bench.stage.token}
    outcome = bench.run(["sh", "-c", ECHO], inside=True, options=how, env=environment)
    assert "MY_SECRET=passed" in outcome.out and bench.stage.token not in outcome.out, outcome


def test_secret_is_not_in_proc(bench: Bench) -> None:
    """Neither in the command's first environment nor in init's."""
    bench.twin(
        ["sh", "-c", "echo probe: proc; cat /proc/[0-9]*/environ /proc/self/environ | tr '\\0' '\\n'"],
        bench.leak(),
        env={"MY_TOKEN": bench.stage.token},
    )


def test_ordinary_environment_is_kept(bench: Bench) -> None:
    script = "import os; print(sorted((k, v) for k, v in os.environb.items() if k.decode() in %r))" % (sorted(ORDINARY),)
    bench.same([bench.identity.python, "-S", "-c", script], env=ORDINARY)


def test_home_and_user_are_the_callers(bench: Bench) -> None:
    bench.same(["sh", "-c", 'echo "$HOME $USER $LOGNAME $PATH"; pwd; id -u; id -g'])


@pytest.mark.parametrize("name", ["HOME", "XDG_CONFIG_HOME", "HOUSEROOM_POLICY", "TMPDIR", "PYTHONPATH", "LD_PRELOAD"])
def test_the_commands_environment_does_not_widen_the_policy(bench: Bench, name: str) -> None:
    """Changed inside, it changes nothing about the sandbox that is already there."""
    script = f"echo probe: env; {name}=/ sh -c 'cat {bench.stage.home}/.netrc'"
    bench.twin(["sh", "-c", script], bench.leak())
