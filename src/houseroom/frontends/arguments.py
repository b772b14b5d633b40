"""The arguments of the Python face, as types. Nothing of it exists when it runs."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    import os
    from collections.abc import Mapping, Sequence
    from typing import IO, Any, TypedDict

    Stream = int | IO[Any] | None
    Path = str | os.PathLike[str]
    Words = Sequence[str | bytes | os.PathLike[str]]

    class Description(TypedDict, total=False):
        """The arguments of ``Sandbox`` besides a policy."""

        workspace: Path | None
        profile: str | None
        read: Sequence[str]
        write: Sequence[str]
        hide: Sequence[str]
        protect: Sequence[str]
        environment: Sequence[str]
        network: str | None
        allow: Sequence[str]
        credentials: Sequence[str]
        upstream: str | None
        publish: Sequence[int]
        sockets: Sequence[str]
        git: str | None
        accept: Sequence[str]
        observe: str

    class Start(TypedDict, total=False):
        """The arguments that ``run`` and ``popen`` have in common."""

        cwd: Path | None
        env: Mapping[str, str] | None
        stdin: Stream
        stdout: Stream
        stderr: Stream
        text: bool | None
        encoding: str | None
        errors: str | None
        pty: bool
        size: tuple[int, int]
        pass_fds: Sequence[int]

    class Run(Start, total=False):
        """The arguments of ``run``."""

        input: str | bytes | None
        capture_output: bool
        timeout: float | None
        check: bool
        output_limit: int | None
