"""What a client says first must agree with the name that its connection was let through for: the name in TLS, or HTTP's Host."""

from __future__ import annotations

import sys

assert sys.platform == "linux"  # type checkers for other systems stop reading here

from houseroom.session.proxy import client_hello, http_head, tunnel

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

_TLS = 22  # the first byte of a record with a handshake
_METHODS = tuple(
    f"{word} ".encode()
    for word in (
        *("GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE", "CONNECT", "QUERY", "SEARCH", "REPORT", "PURGE"),
        *("PROPFIND", "PROPPATCH", "MKCOL", "COPY", "MOVE", "LOCK", "UNLOCK", "MKCALENDAR", "ACL"),
    )
)
_MOST_EMPTY = 64  # bytes of empty lines before a request


class Agreement:
    """Shown what a client has sent so far, it returns that when nothing in it is against it, None while it wants more.

    Raises tunnel.Broken for another name, which ``note`` is told of. Of several requests on one connection only the first is looked at.
    """

    def __init__(self, host: str, port: int, note: Callable[[str, str], object]):
        self.host, self.port, self.note = host, port, note

    def __call__(self, data: bytes) -> bytes | None:
        try:
            if data[0] == _TLS:
                return self._hello(data)
            request = data.lstrip(b"\r\n")  # which servers pass over (RFC 9112, section 2.2)
            if len(data) - len(request) > _MOST_EMPTY:
                raise ValueError("more empty lines than any client sends")
            if any(request[: len(method)].upper() == method[: len(request)] for method in _METHODS):
                return data if self._agrees(request) else None
        except ValueError as error:
            raise tunnel.Broken(str(error)) from None
        return data

    def _hello(self, data: bytes) -> bytes | None:
        hello = client_hello.read_hello(data)
        if hello is None:
            return None
        if hello.server_name not in ("", self.host):
            self._disagree(hello.server_name, "the name asked for in TLS is another one")
        return data

    def _agrees(self, data: bytes) -> bool:
        """False where there is not enough of it to say."""
        request = http_head.read_direct(data, self.port) if data else None
        if request is None:
            return False
        if request.host != self.host:
            self._disagree(str(request.host), "the Host asked for is another one")
        return True

    def _disagree(self, other: str, why: str) -> None:
        self.note(f"{other} by way of {self.host}", why)
        raise tunnel.Broken(why)
