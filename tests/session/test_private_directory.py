"""Each refusal has its twin: the same directory without the planted thing is accepted."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from houseroom.errors import SetupFailed
from houseroom.session.private_directory import make_fresh, open_private


def opened(path: Path, *, create: bool = True) -> int:
    """Opens and closes; the directory's mode."""
    descriptor = open_private(str(path), create=create)
    try:
        status = os.fstat(descriptor)
        assert (status.st_dev, status.st_ino) == (path.stat().st_dev, path.stat().st_ino)
        assert not os.get_inheritable(descriptor)
        return stat.S_IMODE(status.st_mode)
    finally:
        os.close(descriptor)


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077])
def test_it_is_made_with_its_parents_for_us_alone(tmp_path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        assert opened(tmp_path / "a" / "b" / "c") == 0o700
    finally:
        os.umask(before)


def test_ours_is_opened_again(tmp_path: Path) -> None:
    (tmp_path / "ours").mkdir(mode=0o700)
    assert opened(tmp_path / "ours") == 0o700
    assert opened(tmp_path / "ours", create=False) == 0o700


def test_a_missing_one_is_not_made_unless_asked(tmp_path: Path) -> None:
    with pytest.raises(SetupFailed):
        opened(tmp_path / "missing", create=False)
    assert not (tmp_path / "missing").exists()


def test_a_planted_link_is_refused_and_what_it_leads_to_untouched(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir(mode=0o700)
    assert opened(elsewhere) == 0o700
    (tmp_path / "ours").symlink_to(elsewhere)
    with pytest.raises(SetupFailed, match="symbolic link"):
        opened(tmp_path / "ours")
    assert list(elsewhere.iterdir()) == []


def test_a_dangling_link_makes_nothing_elsewhere(tmp_path: Path) -> None:
    (tmp_path / "ours").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(SetupFailed):
        opened(tmp_path / "ours")
    assert not (tmp_path / "elsewhere").exists()


def test_a_planted_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "ours").write_text("")
    with pytest.raises(SetupFailed):
        opened(tmp_path / "ours")


@pytest.mark.parametrize("mode", [0o701, 0o710, 0o720, 0o704, 0o777, 0o1777])
def test_an_open_mode_is_refused(tmp_path: Path, mode: int) -> None:
    (tmp_path / "ours").mkdir(mode=0o700)
    assert opened(tmp_path / "ours") == 0o700
    (tmp_path / "ours").chmod(mode)
    with pytest.raises(SetupFailed, match=f"mode {mode:04o}"):
        opened(tmp_path / "ours")


@pytest.mark.needs("root")
def test_a_foreign_owner_is_refused(tmp_path: Path) -> None:
    (tmp_path / "ours").mkdir(mode=0o700)
    assert opened(tmp_path / "ours") == 0o700
    os.chown(tmp_path / "ours", 12345, -1)
    with pytest.raises(SetupFailed, match="belongs to user 12345"):
        opened(tmp_path / "ours")


def test_no_descriptor_is_left_open_by_a_refusal(tmp_path: Path) -> None:
    (tmp_path / "ours").mkdir(mode=0o755)
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(5):
        with pytest.raises(SetupFailed):
            opened(tmp_path / "ours")
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_fresh_one_has_a_name_of_its_own(tmp_path: Path) -> None:
    tmp_path.chmod(0o1777)
    made = [make_fresh(str(tmp_path), "room-") for _ in range(3)]
    for path, descriptor in made:
        assert stat.S_IMODE(os.fstat(descriptor).st_mode) == 0o700
        assert Path(path).parent == tmp_path
        os.close(descriptor)
    assert len({path for path, _ in made}) == 3


def test_the_message_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "ours").mkdir(mode=0o755)
    (tmp_path / "ours").chmod(0o755)
    with pytest.raises(SetupFailed) as caught:
        opened(tmp_path / "ours")
    path = tmp_path / "ours"
    assert str(caught.value) == f"can't use {path}: others may enter it (mode 0755).\nLook at what is in it, then: chmod 700 {path}"
