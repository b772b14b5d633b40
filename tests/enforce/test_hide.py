"""Hidden paths give no byte, by no spelling, before or after the host touches them."""

from __future__ import annotations

import os
from pathlib import Path

import attack_hide
import pytest
from probe_kit import listed
from runner import Bench
from staging import SECRETS

pytestmark = pytest.mark.needs("userns")

PLANTED = [name for name, text in SECRETS.items() if "{token}" in text]
HOME_WAYS = [
    "plain", "dots", "proc_root", "proc_cwd", "proc_everyone", "descriptor_of_parent", "path_descriptor_reopened", "openat2_plain",
    "new_symlink", "new_hard_link", "mapped", "moved_aside", "moved_into_workspace", "copied_range", "as_a_program", "file_handle",
    "unmounted",
]  # fmt: skip
ENVIRONMENT_WAYS = [name for name in listed(vars(attack_hide), "attack_hide") if name.startswith("environment_file")]
ROOT_ONLY = {"file_handle"}


@pytest.mark.parametrize("secret", PLANTED)
def test_planted_secret(bench: Bench, secret: str) -> None:
    bench.twin(bench.probe("attack_hide", "plain", secret), bench.leak())


@pytest.mark.parametrize("secret", [".ssh/id_ed25519", ".netrc"])
@pytest.mark.parametrize("way", HOME_WAYS)
def test_every_way_to_read(bench: Bench, way: str, secret: str) -> None:
    able = way not in ROOT_ONLY or bench.identity.uid == 0
    bench.twin(bench.probe("attack_hide", way, secret), bench.leak(), control=able or "needs a capability on the host")


@pytest.mark.parametrize("name", [".env", "directory/.env", "deep/er/.env.local"])
@pytest.mark.parametrize("way", ENVIRONMENT_WAYS)
def test_environment_files_of_the_workspace(bench: Bench, way: str, name: str) -> None:
    if way == "environment_file_with_its_directory" and "/" not in name:
        pytest.skip("the file at the top has no directory to move")
    bench.twin(bench.probe("attack_hide", way, name), bench.leak())


def test_names_in_a_hidden_directory(bench: Bench) -> None:
    effect = bench.leak()
    effect.text = "id_ed25519"
    bench.twin(bench.probe("attack_hide", "list_directory", ".ssh"), effect)


def test_size_of_a_hidden_file(bench: Bench) -> None:
    effect = bench.leak()
    effect.text = f"size={(bench.stage.home / '.netrc').stat().st_size}"
    bench.twin(bench.probe("attack_hide", "size_of_content", ".netrc"), effect)


@pytest.mark.parametrize("kind", ["symlink", "hard link", "symlink to the directory"])
@pytest.mark.parametrize("secret", ["home", "workspace"])
def test_link_made_by_the_host_before_the_start(bench: Bench, kind: str, secret: str) -> None:
    target = bench.stage.home / ".ssh/id_ed25519" if secret == "home" else bench.stage.workspace / "directory/.env"
    link = bench.stage.workspace / "innocent"

    def prepare() -> None:
        if kind == "hard link":
            os.link(target, link)
        else:
            link.symlink_to(target if kind == "symlink" else target.parent)

    name = "innocent" if kind != "symlink to the directory" else f"innocent/{target.name}"
    bench.twin(bench.probe("attack_hide", "existing_link", name), bench.leak(), prepare=prepare)


def replace(bench: Bench, path: Path) -> None:
    """An editor's save: write aside, rename over."""
    aside = bench.stage.plant(path.with_name(path.name + "~new"), f"KEY={bench.stage.token}\n")
    aside.rename(path)


HOST_ACTS = {
    "replaced": ".env",
    "replaced below": "directory/.env",
    "replaced three times": ".env",
    "replaced fifty times": "directory/.env",
    "created": "src/.env",
    "created in a new directory": "fresh/sub/.env",
    "removed and created": ".env",
    "moved in from another name": "src/.env",
    "directory moved in": "incoming/.env",
    "written in place": ".env",
    "exchanged directory": "directory/.env",
    "hard link": "innocent",
    "symlink": "innocent",
}


@pytest.mark.parametrize("act", HOST_ACTS)
def test_the_host_touches_a_hidden_file_while_a_command_runs(bench: Bench, act: str) -> None:
    """The probe reads a third of a second later, when init has had time to notice."""
    name = HOST_ACTS[act]
    path = bench.stage.workspace / name

    def during() -> None:
        match act:
            case "replaced" | "replaced below":
                replace(bench, path)
            case "replaced three times":
                for _ in range(3):
                    replace(bench, path)
            case "replaced fifty times":
                for _ in range(50):
                    replace(bench, path)
            case "created" | "created in a new directory" | "written in place":
                bench.stage.plant(path, f"KEY={bench.stage.token}\n")
            case "removed and created":
                path.unlink()
                bench.stage.plant(path, f"KEY={bench.stage.token}\n")
            case "moved in from another name":
                bench.stage.plant(bench.stage.outside / "aside", f"KEY={bench.stage.token}\n").rename(path)
            case "directory moved in":
                bench.stage.plant(bench.stage.outside / "aside/.env", f"KEY={bench.stage.token}\n").parent.rename(path.parent)
            case "exchanged directory":
                bench.stage.plant(bench.stage.workspace / "other/.env", f"KEY={bench.stage.token}\n")
                path.parent.rename(bench.stage.workspace / "old")
                (bench.stage.workspace / "other").rename(path.parent)
            case "hard link":
                os.link(bench.stage.workspace / ".env", path)
            case "symlink":
                path.symlink_to(bench.stage.home / ".ssh/id_ed25519")

    bench.twin(bench.probe("attack_hide", "settled_after_host_acted", name), bench.leak(), during=during)


@pytest.mark.parametrize("name", [".env", "directory/.env"])
def test_directory_held_open_across_a_replace(bench: Bench, name: str) -> None:
    bench.twin(
        bench.probe("attack_hide", "held_descriptor_after_replace", name),
        bench.leak(),
        during=lambda: replace(bench, bench.stage.workspace / name),
    )


def test_home_file_replaced(bench: Bench) -> None:
    path = bench.stage.home / ".netrc"
    bench.twin(
        bench.probe("attack_hide", "settled_after_host_acted", str(path)),
        bench.leak(),
        during=lambda: replace(bench, path),
    )


def test_home_secret_that_appears_later(bench: Bench) -> None:
    """A hidden path that is missing at the start."""
    path = bench.stage.home / ".ssh"
    created = bench.stage.home / ".vault-token"

    def prepare() -> None:
        path.rename(bench.stage.outside / "ssh-kept")

    def during() -> None:
        (bench.stage.outside / "ssh-kept").rename(path)
        bench.stage.plant(created, f"{bench.stage.token}\n")

    bench.twin(
        bench.probe("attack_hide", "settled_after_host_acted", str(path / "id_ed25519")),
        bench.leak(),
        prepare=prepare,
        during=during,
    )


@pytest.mark.parametrize("below", [".ssh/id_ed25519", ".netrc", "project/.env"])
def test_home_directory_on_standard_input(bench: Bench, below: str) -> None:
    """A directory handed over leads to the host's mounts, where no mask is."""
    held: list[int] = []
    try:
        for inside in (False, True):
            bench.stage.restore()
            held.append(os.open(bench.stage.home, os.O_RDONLY | os.O_DIRECTORY))
            argv = ["sh", "-c", 'exec 9<&0 < /dev/null; exec "$@"', "sh", *bench.probe("attack_hide", "standard_input_directory", below)]
            outcome = bench.run(argv, inside=inside, stdin=held[-1])
            assert "probe: " in outcome.out or (inside and "is a directory" in outcome.err), outcome
            assert (bench.stage.token in outcome.out) != inside, f"{'ESCAPE' if inside else 'no control'}\n{outcome}"
    finally:
        for descriptor in held:
            os.close(descriptor)


def test_home_directory_inherited(bench: Bench) -> None:
    for inside in (False, True):
        held = os.open(bench.stage.home, os.O_RDONLY | os.O_DIRECTORY)
        try:
            outcome = bench.run(bench.probe("attack_hide", "inherited_directory", held, ".ssh/id_ed25519"), inside=inside, pass_fds=[held])
        finally:
            os.close(held)
        assert "probe: " in outcome.out, outcome
        assert (bench.stage.token in outcome.out) != inside, f"{'ESCAPE' if inside else 'no control'}\n{outcome}"


def test_ordinary_files_stay_readable(bench: Bench) -> None:
    """Reading is broad: other projects, the toolchain, plain dot files."""
    bench.same(["cat", str(bench.stage.home / "other/file"), str(bench.stage.home / ".bashrc"), "file", "/etc/passwd"])
    bench.same(["sh", "-c", "ls /usr/bin | wc -l; git --version"])


def test_hidden_deep_in_a_private_directory(bench: Bench) -> None:
    """Its parent is not there either: the start must not fail over that, and the name must not come into being."""
    path = bench.stage.outside / "directory/file"
    argv = ["sh", "-c", f"echo began; cat {path}; mkdir -p {path.parent}; echo new > {path}; cat {path}"]
    assert bench.run(argv, inside=False).out == "began\noutside\nnew\n"
    bench.stage.restore()
    outcome = bench.run(argv, inside=True, options=("--private", str(bench.stage.outside), "--hide", str(path)))
    assert (outcome.status, outcome.out) == (1, "began\n"), outcome
    assert path.read_text() == "outside\n"


def test_many_names_in_one_directory(bench: Bench) -> None:
    """So many that they are masked in a row; a directory among them."""
    names = [f"part {number}/.env" if number == 7 else f".env.{number}" for number in range(40)]

    def prepare() -> None:
        for name in names:
            bench.stage.plant(bench.stage.workspace / "many" / name, f"KEY={bench.stage.token}\n")

    script = "echo 'probe: many'; cat many/.env.* 'many/part 7/.env'; ls 'many/part 7'"
    hidden = ("--hide", str(bench.stage.workspace / "many/part 7"))
    outcome = bench.twin(["sh", "-c", script], bench.leak(), prepare=prepare, options=hidden)
    assert ".env\n" not in outcome.out
