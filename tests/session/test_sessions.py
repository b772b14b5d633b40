"""Sessions by name: seats, ghosts, and what is not ours."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from houseroom.errors import SetupFailed
from houseroom.frontends.cli import exec_client
from houseroom.session import errands, sessions


@pytest.fixture
def base(home: Path) -> Path:
    """Where sessions are, in an empty home directory."""
    return home / sessions.HOME


class TestNames:
    @pytest.mark.parametrize("name", ["a", "work", "Work-2.1_x", "7", "a" * 64])
    def test_names(self, name: str) -> None:
        assert sessions.why_no_name(name) == ""

    @pytest.mark.parametrize("name", ["", ".", "..", ".lock", "-x", "_x", "a/b", "a b", "a\0", "a\n", "ä", "a" * 65, "²"])
    def test_no_names(self, name: str) -> None:
        assert sessions.why_no_name(name)

    @pytest.mark.parametrize(
        ("directory", "name"),
        [("/home/me/project", "project"), ("/x/.dotted", "dotted"), ("/x/with space", "with-space"), ("/", "session"), ("/x/ä", "session")],
    )
    def test_a_workspaces_name_can_always_be_used(self, directory: str, name: str) -> None:
        assert sessions.name_of(directory) == name
        assert sessions.why_no_name(sessions.name_of("/x/" + "y" * 300)) == ""

    def test_the_fast_client_agrees_on_names_and_the_place(self, home: Path) -> None:
        """It spells them out for itself, to import less."""
        assert exec_client._SIGNS == sessions._SIGNS
        assert f"{home}/{sessions.HOME}/work/{sessions.SOCKET}".encode() == os.fsencode(home) + exec_client._ADDRESS % b"work"


class TestSeats:
    def test_a_seat_is_found_until_it_is_left(self, home: Path, base: Path) -> None:
        assert sessions.names(str(home)) == []
        seat = sessions.take_seat(str(home), "work")
        assert sessions.names(str(home)) == ["work"]
        assert (base / "work").stat().st_mode & 0o777 == 0o700
        seat.leave()
        assert sessions.names(str(home)) == []
        assert not (base / "work").exists()

    def test_a_taken_one_is_refused(self, home: Path) -> None:
        seat = sessions.take_seat(str(home), "work")
        with pytest.raises(sessions.Taken):
            sessions.take_seat(str(home), "work")
        seat.leave()

    def test_a_ghost_is_removed_by_whoever_looks(self, home: Path, base: Path) -> None:
        """A killed holder's listener is closed by the kernel and its socket stays."""
        for look in (lambda: sessions.names(str(home)), lambda: sessions.take_seat(str(home), "work").leave()):
            seat = sessions.take_seat(str(home), "work")
            seat.listener.close()
            assert (base / "work/socket").exists()
            look()
            assert not (base / "work").exists()

    def test_what_no_session_made_stays(self, home: Path, base: Path) -> None:
        sessions.take_seat(str(home), "work").leave()
        (base / "mine").mkdir()
        (base / "mine/notes").write_text("text")
        (base / "file").write_text("text")
        (base / "link").symlink_to(home / "project")
        assert sessions.names(str(home)) == []
        assert (base / "mine/notes").read_text() == (base / "file").read_text() == "text"
        for name in ("mine", "file", "link"):
            with pytest.raises(SetupFailed):
                sessions.take_seat(str(home), name)
        assert (home / "project").is_dir()

    def test_only_ones_own_place_is_left(self, home: Path) -> None:
        first = sessions.take_seat(str(home), "work")
        first.listener.close()
        second = sessions.take_seat(str(home), "work")
        first.leave()
        assert sessions.names(str(home)) == ["work"]
        second.leave()

    @pytest.mark.parametrize("spoil", [lambda base: base.chmod(0o755), lambda base: (base.rmdir(), base.symlink_to("/tmp"))])
    def test_a_place_that_is_not_plainly_ours_is_refused(self, home: Path, base: Path, spoil: Callable[[Path], object]) -> None:
        base.mkdir(parents=True, mode=0o700)
        spoil(base)
        for use in (
            lambda: sessions.names(str(home)),
            lambda: sessions.take_seat(str(home), "work"),
            lambda: sessions.connect(str(home), "work"),
        ):
            with pytest.raises(SetupFailed):
                use()


class TestConnections:
    def test_nobody_is_there(self, home: Path) -> None:
        for name in ("work", "../work", ""):
            with pytest.raises(sessions.NoSession):
                sessions.connect(str(home), name)

    def test_a_holder_that_ends_before_it_answers(self, home: Path) -> None:
        seat = sessions.take_seat(str(home), "work")
        sock = sessions.connect(str(home), "work")
        assert sessions.peer(sock) == os.geteuid()
        assert sessions.holder(sock) == os.getpid()
        seat.leave()
        with pytest.raises((ValueError, ConnectionResetError)):
            sessions.receive(sock)
        sock.close()

    def test_one_that_does_not_answer_is_told_apart_from_one_that_is_not_there(self, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(sessions, "_PATIENCE", 0.1)
        seat = sessions.take_seat(str(home), "work")
        with pytest.raises(SetupFailed, match="does not answer"):
            sessions.facts(str(home), "work")
        assert sessions.names(str(home)) == ["work"]
        seat.leave()


class TestErrands:
    CASES = (
        ([b"true"], [], b"/", (0, 1, 2), (0, 0)),
        ([b"sh", b"-c", b"", b"\xff\n"], [b"A=1", b"B=", b"C==\n"], b"/x y", (), (24, 80)),
        ([b"x"], [b"A=" + b"y" * 70_000], b"", (2,), (65535, 1)),
    )

    @pytest.mark.parametrize("case", CASES)
    def test_a_command_arrives_as_it_was_asked_for(
        self, case: tuple[list[bytes], list[bytes], bytes, tuple[int, ...], tuple[int, int]]
    ) -> None:
        argv, environment, cwd, streams, size = case
        said = errands.run(argv, environment, cwd, streams, size)
        assert errands.read_head(said[: errands.HEAD]) == (errands.RUN, len(said) - errands.HEAD)
        assert errands.read_run(said[errands.HEAD :]) == (argv, b"\0".join(environment), cwd, streams, size)

    def test_what_makes_no_sense_is_refused(self) -> None:
        whole = errands.run([b"a", b"b"], [b"X=1"], b"/", (0,))
        for body in (
            b"",
            b"\0",
            whole[errands.HEAD : errands.HEAD + 5],
            b"\x08" + whole[errands.HEAD + 1 :],
            b"\0\0\0\0\0\xff\xff\xff\xff/\0a",
        ):
            with pytest.raises(ValueError, match="not a command"):
                errands.read_run(body)
        for head in (b"", b"HR\1", b"XX\1\1\0\0\0\0", b"HR\2\1\0\0\0\0", b"HR\1\1\xff\xff\xff\xff"):
            with pytest.raises(ValueError, match="not a message"):
                errands.read_head(head)

    def test_numbers(self) -> None:
        said = errands.number(errands.FAILED, 2, 0xFFFFFFFF)
        assert errands.read_numbers(said[errands.HEAD :]) == [2, 0xFFFFFFFF]

    def test_a_message_in_pieces_is_read_whole(self) -> None:
        ours, theirs = socket.socketpair()
        with ours, theirs:
            said = errands.message(errands.FACTS, b"x" * 100)
            for at in range(0, len(said), 7):
                ours.sendall(said[at : at + 7])
            assert sessions.receive(theirs) == (errands.FACTS, b"x" * 100)
