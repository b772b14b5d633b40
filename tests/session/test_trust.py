from __future__ import annotations

import json
import os
import stat
import threading
from pathlib import Path

import pytest

from houseroom.errors import PolicyError, SetupFailed
from houseroom.policy.model import Places
from houseroom.session import trust

TEXT = '[files]\nwrite = ["src"]\n'


@pytest.fixture
def places(tmp_path: Path) -> Places:
    (tmp_path / "home" / "ws" / ".houseroom").mkdir(parents=True)
    (tmp_path / "home" / "ws" / ".houseroom" / "policy.toml").write_text(TEXT)
    return Places(str(tmp_path / "home" / "ws"), str(tmp_path / "home"), user=os.geteuid())


def policy(places: Places) -> Path:
    return Path(places.workspace, ".houseroom", "policy.toml")


def state(places: Places) -> Path:
    return Path(places.home, ".local", "state", "houseroom")


def trusted(places: Places, text: str = TEXT) -> bool:
    return trust.is_trusted(places, str(policy(places)), text)


def test_nothing_is_trusted_at_first_and_asking_leaves_nothing(places: Places) -> None:
    assert not trusted(places)
    assert trust.listing(places) == ()
    assert not state(places).exists()


def test_exactly_the_trusted_text_is_trusted(places: Places) -> None:
    entry = trust.trust(places)
    assert entry.path == str(policy(places))
    assert trusted(places)
    for changed in (TEXT + " ", TEXT.replace("src", "/"), TEXT.rstrip(), TEXT.replace("\n", "\r\n"), ""):
        assert not trusted(places, changed)
    assert not trust.is_trusted(places, str(policy(places)) + "x", TEXT)


def test_a_changed_file_is_untrusted_until_trusted_again(places: Places) -> None:
    trust.trust(places)
    policy(places).write_text(TEXT + "hide = []\n")
    assert not trusted(places, policy(places).read_text())
    trust.trust(places)
    assert trusted(places, policy(places).read_text())
    assert not trusted(places)
    assert len(trust.listing(places)) == 1


def test_trust_is_taken_back(places: Places) -> None:
    assert not trust.untrust(places)
    trust.trust(places)
    assert trust.untrust(places)
    assert not trusted(places)
    assert not trust.untrust(places)


def test_one_projects_trust_is_not_anothers(places: Places, tmp_path: Path) -> None:
    trust.trust(places)
    other = places.with_(workspace=str(tmp_path / "other"))
    (tmp_path / "other" / ".houseroom").mkdir(parents=True)
    policy(other).write_text(TEXT)
    assert trusted(places)
    assert not trusted(other)
    trust.trust(other)
    assert [entry.path for entry in trust.listing(places)] == sorted([str(policy(places)), str(policy(other))])
    assert trust.untrust(places, str(policy(other)))
    assert trusted(places)


def test_what_is_no_policy_can_not_be_trusted(places: Places) -> None:
    policy(places).write_text("[files]\nwirte = []")
    with pytest.raises(PolicyError, match="wirte"):
        trust.trust(places)
    policy(places).unlink()
    with pytest.raises(PolicyError, match="no policy to trust"):
        trust.trust(places)
    assert trust.listing(places) == ()


def test_the_record_is_private(places: Places) -> None:
    before = os.umask(0)
    try:
        trust.trust(places)
    finally:
        os.umask(before)
    assert stat.S_IMODE(state(places).stat().st_mode) == 0o700
    assert stat.S_IMODE((state(places) / "trust.json").stat().st_mode) == 0o600
    assert os.listdir(state(places)) == ["trust.json"]


def test_a_planted_state_directory_is_refused(places: Places, tmp_path: Path) -> None:
    trust.trust(places)
    state(places).rename(tmp_path / "elsewhere")
    state(places).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(SetupFailed):
        trusted(places)
    with pytest.raises(SetupFailed):
        trust.trust(places)
    state(places).unlink()
    (tmp_path / "elsewhere").rename(state(places))
    assert trusted(places)


@pytest.mark.parametrize("spoil", ["link", "mode", "fifo", "directory"])
def test_a_planted_record_is_refused(places: Places, tmp_path: Path, spoil: str) -> None:
    trust.trust(places)
    assert trusted(places)
    record = state(places) / "trust.json"
    match spoil:
        case "link":
            record.rename(tmp_path / "planted.json")
            record.symlink_to(tmp_path / "planted.json")
        case "mode":
            record.chmod(0o666)
        case "fifo":
            record.unlink()
            os.mkfifo(record, 0o600)
        case "directory":
            record.unlink()
            record.mkdir(0o700)
    with pytest.raises(SetupFailed):
        trusted(places)


@pytest.mark.needs("root")
def test_a_foreign_record_is_refused(places: Places) -> None:
    trust.trust(places)
    os.chown(state(places) / "trust.json", 12345, -1)
    with pytest.raises(SetupFailed):
        trusted(places)


@pytest.mark.parametrize(
    "content", ["", "{", "[]", '{"trusted": 1}', '{"trusted": [1]}', '{"trusted": [{}]}', "\xff", "[" * 100_000, " " * (2 << 20)]
)
def test_a_damaged_record_trusts_nothing_and_says_so(places: Places, content: str) -> None:
    trust.trust(places)
    (state(places) / "trust.json").write_text(content, encoding="latin-1")
    with pytest.raises(SetupFailed, match="not a record of trust"):
        trusted(places)


def test_the_record_names_a_digest_and_not_the_text(places: Places) -> None:
    trust.trust(places)
    record = (state(places) / "trust.json").read_text()
    assert len(json.loads(record)["trusted"][0]["sha256"]) == 64
    assert "write" not in record


def test_two_commands_at_one_time_lose_nothing(places: Places, tmp_path: Path) -> None:
    projects = [places.with_(workspace=str(tmp_path / f"p{number}")) for number in range(8)]
    for project in projects:
        policy(project).parent.mkdir(parents=True)
        policy(project).write_text(TEXT)
    threads = [threading.Thread(target=trust.trust, args=(project,)) for project in projects]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(trust.listing(places)) == len(projects)


def test_a_link_in_place_of_the_policy_is_not_followed(places: Places, tmp_path: Path) -> None:
    policy(places).rename(tmp_path / "real.toml")
    policy(places).symlink_to(tmp_path / "real.toml")
    with pytest.raises(PolicyError, match="symbolic link"):
        trust.trust(places)
