"""A connection inside TLS, read and written like one that is not (``forward.Stream``).

The ciphers are the interpreter's own ``ssl``; it is fed and emptied by hand, so that what was read in advance of a connection, to see
what it is, can be given to it.
"""

from __future__ import annotations

import sys

assert sys.platform == "linux"  # type checkers for other systems stop reading here

import asyncio
import socket
import ssl
from contextlib import suppress

from houseroom.session.proxy import tunnel
from houseroom.session.proxy.account import RECEIVED, SENT
from houseroom.session.proxy.forward import Stream

TYPE_CHECKING = False
if TYPE_CHECKING:
    from houseroom.session.proxy.account import Counts

_CHUNK = 1 << 16
_LINGERING = 5.0  # seconds for a client to take notice of a refusal


class Secure(Stream):
    """Plain bytes of an encrypted connection. ``first``: what was read of it already."""

    def __init__(
        self, sock: socket.socket, context: ssl.SSLContext, first: bytes = b"", *, server_name: str = "", counts: Counts | None = None
    ):
        super().__init__(sock, counts)
        self.coming, self.going = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.coming.write(first)
        self.tls = context.wrap_bio(self.coming, self.going, server_side=not server_name, server_hostname=server_name or None)
        self.writing = asyncio.Lock()  # reading has something to write at times: alerts, keys anew

    async def shake_hands(self, seconds: float) -> None:
        """Raises OSError: ssl.SSLCertVerificationError for a server that does not prove who it is."""
        async with asyncio.timeout(seconds):
            while True:
                try:
                    self.tls.do_handshake()
                    break
                except ssl.SSLWantReadError:
                    await self._flush()
                    await self._hear()
                except ssl.SSLError:
                    with suppress(OSError):
                        await self._flush()  # the alert, which tells the other side why
                    raise
            await self._flush()

    async def fill(self, seconds: float | None = None) -> bool:
        """Read some more; False at an end that the other side has said. Raises OSError, for one that was cut off too."""
        async with asyncio.timeout(seconds):
            while True:
                try:
                    part = self.tls.read(_CHUNK)
                    break
                except ssl.SSLWantReadError:
                    await self._flush()
                    await self._hear()
        self.data += part
        self.counts[RECEIVED] += len(part)
        return bool(part)

    async def send(self, data: bytes) -> None:
        """Write all of it. Raises OSError."""
        self.sent += len(data)
        self.counts[SENT] += len(data)
        for at in range(0, len(data), _CHUNK):
            self.tls.write(data[at : at + _CHUNK])
            await self._flush()

    async def end(self, data: bytes) -> None:
        """Write all of it as the last word, and say that it is the last."""
        await self.send(data)
        await self.finish()
        with suppress(OSError, ssl.SSLError):
            async with asyncio.timeout(_LINGERING):
                while await self.loop.sock_recv(self.sock, _CHUNK):
                    pass

    async def finish(self) -> None:
        """Say that nothing more is written."""
        with suppress(ssl.SSLError):  # the other side has not said so yet
            self.tls.unwrap()
        await self._flush()
        self.sock.shutdown(socket.SHUT_WR)

    async def _hear(self) -> None:
        part = await self.loop.sock_recv(self.sock, _CHUNK)
        if part:
            self.coming.write(part)
        else:
            self.coming.write_eof()

    async def _flush(self) -> None:
        async with self.writing:
            while data := self.going.read():
                await self.loop.sock_sendall(self.sock, data)


async def relay(one: Stream, other: Stream) -> None:
    """Pass on both ways until both have ended: of connections that have become something else than HTTP."""
    await tunnel.both(_way(one, other), _way(other, one))


async def _way(source: Stream, sink: Stream) -> None:
    while source.data or await source.fill():
        part, source.data = source.data, b""
        await sink.send(part)
    if isinstance(sink, Secure):
        await sink.finish()
    else:
        sink.sock.shutdown(socket.SHUT_WR)
