from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from houseroom.errors import PolicyError
from houseroom.policy import pattern
from houseroom.policy.decide import Allow, PlacedPolicy, Read, Write, decide
from houseroom.policy.layers import merge
from houseroom.policy.model import Origin, Places, Policy, Rule, Setting
from houseroom.policy.presets import NAMES, preset
from houseroom.session.policy_files import load
from houseroom.session.trust import trust

SOURCE = Path(__file__).parents[2] / "src"


class Host:
    """A home, a workspace and a system directory, all below a temporary one."""

    def __init__(self, root: Path):
        self.root, self.system = root, root / "etc"
        self.home, self.workspace = root / "home", root / "home" / "ws"
        self.workspace.mkdir(parents=True)
        self.places = Places(str(self.workspace), str(self.home), user=os.geteuid())

    def write(self, layer: str, text: str | bytes, name: str = "policy.toml") -> Path:
        above = {"organisation": self.system, "user": self.home / ".config/houseroom", "project": self.workspace / ".houseroom"}
        file = above[layer] / name
        file.parent.mkdir(parents=True, exist_ok=True, mode=0o755)
        file.write_bytes(text if isinstance(text, bytes) else text.encode())
        file.chmod(0o644)
        return file

    def load(self, profile: str | None = None, rules: tuple[Rule, ...] = (), settings: dict[str, Setting] | None = None) -> Policy:
        return load(self.places, profile=profile, session_rules=rules, session_settings=settings or {}, system=str(self.system))

    def can(self, policy: Policy, path: str) -> str:
        elsewhere = Places("/home/u/ws", "/home/u")  # below /tmp, where these files lie, everything is private
        placed = PlacedPolicy(policy, elsewhere)
        full = str(pattern.place(path, elsewhere))
        read, write = (isinstance(decide(placed, act(full)), Allow) for act in (Read, Write))
        return "r" * read + "w" * write


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path)


@pytest.mark.parametrize("name", NAMES)
def test_without_files_it_is_what_merging_makes_of_the_preset(host: Host, name: str) -> None:
    extra = Rule("files.write", "~/notes", Origin("session", "--write"))
    setting = {"limits.time": Setting(5.0, Origin("session", "--time"))}
    merged = merge(preset(name, sys.platform), (), profiles={}, trusted=False, name=name)
    assert host.load(name) == merged
    wider = host.load(name, (extra,), setting)
    assert wider.strata[0].rules[-len(merged.strata[0].rules) - 1 :] == (*merged.strata[0].rules, extra)
    assert wider.strata[0].settings == merged.strata[0].settings | setting
    assert wider.floor == merged.floor


def test_without_a_profile_it_is_the_workspace(host: Host) -> None:
    assert host.load() == host.load("workspace")


def test_without_files_nothing_heavy_is_imported(host: Host) -> None:
    program = f"""
import sys
sys.path.insert(0, {str(SOURCE)!r})
from houseroom.policy.model import Places
from houseroom.session.policy_files import load
policy = load(Places({str(host.workspace)!r}, {str(host.home)!r}), profile=None, system={str(host.system)!r})
assert policy.name == "workspace"
print(*sys.modules, sep="\\n")
"""
    done = subprocess.run([sys.executable, "-I", "-S", "-c", program], capture_output=True, text=True, check=True)
    heavy = {
        "typing",
        "dataclasses",
        "enum",
        "re",
        "json",
        "pathlib",
        "tomllib",
        "difflib",
        "shutil",
        "hashlib",
        "subprocess",
        "collections",
    }
    ours = {f"houseroom.policy.{name}" for name in ("parse", "layers", "keys", "toml_places", "units")} | {"houseroom.session.trust"}
    assert not set(done.stdout.split()) & (heavy | ours)


def test_the_users_file(host: Host) -> None:
    assert host.can(host.load(), "~/notes/x") == "r"
    file = host.write("user", '[files]\nwrite = ["~/notes"]')
    policy = host.load()
    assert host.can(policy, "~/notes/x") == "rw"
    (rule,) = [rule for rule in policy.strata[0].rules if rule.origin.layer == "user"]
    assert str(rule.origin) == f"{file}:2"


def test_a_project_narrows_until_its_text_is_trusted(host: Host) -> None:
    host.write("project", '[files]\nwrite = ["src", "~/shared"]')
    assert [host.can(host.load(), path) for path in ("src/a", "~/shared/x")] == ["rw", "r"]
    trust(host.places)
    assert [host.can(host.load(), path) for path in ("src/a", "docs/a", "~/shared/x")] == ["rw", "rw", "rw"]
    host.write("project", '[files]\nwrite = ["src", "~/shared", "/"]')
    assert [host.can(host.load(), path) for path in ("src/a", "~/shared/x", "/etc/x")] == ["rw", "r", "r"]


@pytest.mark.needs("root")
def test_the_organisation_binds_all(host: Host) -> None:
    host.write("user", '[files]\nwrite = ["~/notes"]')
    assert host.can(host.load(), "~/notes/x") == "rw"
    host.write("organisation", '[files]\nprotect = ["~/notes"]\n[floor]\nrequire = ["files.protect"]')
    policy = host.load("full-access")
    assert host.can(policy, "~/notes/x") == "r"
    assert "files.protect" in [rule.subject for rule in policy.floor]


def test_profiles_are_found_and_suggested(host: Host) -> None:
    host.write("user", 'extends = "base"\n[files]\nwrite = ["~/web"]', "profiles/web.toml")
    host.write("user", 'extends = "read-only"\n[files]\nhide = ["~/web/key"]', "profiles/base.toml")
    policy = host.load("web")
    assert (policy.name, [host.can(policy, path) for path in ("a", "~/web/x", "~/web/key")]) == ("web", ["r", "rw", ""])
    with pytest.raises(PolicyError) as caught:
        host.load("wbe")
    assert caught.value.hint == 'Did you mean "web"?'


@pytest.mark.parametrize("name", ["../../etc/passwd", "", "a/b", "..", "a\0b"])
def test_a_profile_is_a_name_and_not_a_path(host: Host, name: str) -> None:
    with pytest.raises(PolicyError, match="not the name"):
        host.load(name)


def test_a_profile_can_not_take_a_presets_name(host: Host) -> None:
    host.write("user", 'extends = "full-access"', "profiles/read-only.toml")
    assert host.can(host.load("read-only"), "a") == "r"


@pytest.mark.needs("root")
def test_the_organisations_profiles_serve_the_user_and_not_the_other_way_round(host: Host) -> None:
    host.write("organisation", 'extends = "read-only"', "profiles/corp.toml")
    assert host.can(host.load("corp"), "a") == "r"
    host.write("user", 'extends = "full-access"', "profiles/corp.toml")
    assert host.can(host.load("corp"), "/etc/x") == "rw"
    host.write("organisation", 'extends = "corp"')
    assert host.can(host.load("corp"), "/etc/x") == "r"
    (host.system / "profiles" / "corp.toml").unlink()
    with pytest.raises(PolicyError, match="no preset or profile 'corp'"):
        host.load("corp")


def test_a_directory_made_writable_is_guarded_like_the_workspace(host: Host) -> None:
    session = Rule("files.write", "~/other", Origin("session", "--write"))
    for policy in (host.load(rules=(session,)), host.load()):
        granted = policy != host.load()
        shown = [host.can(policy, f"~/other/{path}") for path in ("a", "sub/.git/hooks/x", "sub/.env", ".env.example")]
        assert shown == (["rw", "r", "", "rw"] if granted else ["r", "r", "r", "r"])
    host.write("user", '[files]\nwrite = ["~/other", "~/other/mine/.git"]')
    assert [host.can(host.load(), f"~/other/{path}") for path in ("x/.git/config", "mine/.git/config")] == ["r", "rw"]


def test_full_access_is_not_guarded(host: Host) -> None:
    session = Rule("files.write", "~/other", Origin("session", "--write"))
    assert host.can(host.load("full-access", (session,)), "~/other/.git/hooks/x") == "rw"


def test_git_mode_free_opens_the_repository_and_not_what_git_runs(host: Host) -> None:
    free = {"git.mode": Setting("free", Origin("session", "--git"))}
    paths = (".git/index", ".git/hooks/post-commit", ".git/config")
    assert [host.can(host.load(), path) for path in paths] == ["r", "r", "r"]
    assert [host.can(host.load(settings=free), path) for path in paths] == ["rw", "r", "r"]
    host.write("project", '[git]\nmode = "read-only"')
    assert [host.can(host.load(settings=free), path) for path in paths] == ["r", "r", "r"]


def test_a_mistake_names_file_and_line(host: Host) -> None:
    file = host.write("project", "[files]\nwirte = []")
    with pytest.raises(PolicyError) as caught:
        host.load()
    assert str(caught.value).startswith(f"{file}:2:1: unknown key files.wirte")


def test_examples_are_checked(host: Host) -> None:
    host.write("user", '[files]\nwrite = [{ path = "~/notes", allows = ["~/notes/a"] }]')
    host.load()
    host.write("user", '[files]\nwrite = [{ path = "~/notes", denies = ["~/notes/a"] }]')
    with pytest.raises(PolicyError, match="should be denied"):
        host.load()


LAYERS = ["user", "project", pytest.param("organisation", marks=pytest.mark.needs("root"))]


@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize("kind", ["link", "dangling link", "fifo", "directory", "large", "not UTF-8", "socket"])
def test_what_is_no_plain_small_file_is_refused(host: Host, layer: str, kind: str) -> None:
    file = host.write(layer, "")
    host.load()
    if kind not in ("large", "not UTF-8"):
        file.unlink()
    match kind:
        case "link":
            (host.root / "real.toml").write_text("")
            file.symlink_to(host.root / "real.toml")
        case "dangling link":
            file.symlink_to(host.root / "nowhere")
        case "fifo":
            os.mkfifo(file)  # opening it must not wait for a writer
        case "directory":
            file.mkdir()
        case "socket":
            os.mknod(file, 0o140644)
        case "large":
            file.write_text("#" * (1 << 20) + "\n")
        case _:
            file.write_bytes(b"[files]\n# \xc5\xbe\xff\n")
    with pytest.raises(PolicyError) as caught:
        host.load()
    assert caught.value.file == str(file)
    if kind == "not UTF-8":
        assert (caught.value.line, caught.value.column) == (2, 4)


def test_a_policy_of_exactly_the_largest_size_is_read(host: Host) -> None:
    host.write("user", "#" * (1 << 20))
    host.load()


def test_a_link_to_the_projects_directory_is_not_followed(host: Host) -> None:
    (host.root / "elsewhere").mkdir()
    (host.root / "elsewhere" / "policy.toml").write_text("")
    (host.workspace / ".houseroom").symlink_to(host.root / "elsewhere")
    with pytest.raises(PolicyError, match="symbolic link"):
        host.load()


def test_some_other_file_of_this_name_is_no_policy(host: Host) -> None:
    (host.workspace / ".houseroom").write_text("")
    assert host.load() == host.load("workspace")


@pytest.mark.parametrize(
    ("layer", "mode", "fine"),
    [
        ("user", 0o644, True),
        ("user", 0o664, True),
        ("user", 0o666, False),
        ("project", 0o666, True),
        pytest.param("organisation", 0o644, True, marks=pytest.mark.needs("root")),
        pytest.param("organisation", 0o664, False, marks=pytest.mark.needs("root")),
        pytest.param("organisation", 0o646, False, marks=pytest.mark.needs("root")),
    ],
)
@pytest.mark.parametrize("what", ["file", "directory"])
def test_who_may_write_a_layer(host: Host, layer: str, mode: int, fine: bool, what: str) -> None:
    file = host.write(layer, "")
    host.load()
    (file if what == "file" else file.parent).chmod(mode | (0o111 if what == "directory" else 0))
    if fine:
        host.load()
        return
    with pytest.raises(PolicyError, match="may write it"):
        host.load()


@pytest.mark.needs("root")
@pytest.mark.parametrize(("layer", "message"), [("user", "not to user"), ("organisation", "not to root")])
def test_a_layer_of_another_owner_is_refused(host: Host, layer: str, message: str) -> None:
    file = host.write(layer, "")
    host.load()
    os.chown(file, 12345, -1)
    with pytest.raises(PolicyError, match=message):
        host.load()


def test_no_descriptor_is_left_open(host: Host) -> None:
    host.write("user", "")
    host.write("project", "wrong")
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(PolicyError):
        host.load()
    (host.workspace / ".houseroom" / "policy.toml").unlink()
    host.load()
    assert len(os.listdir("/proc/self/fd")) == before
