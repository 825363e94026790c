"""A broker of MQTT 5.0 that says what no broker at hand can be brought to say; real packets on a real socket.

Only what a script needs: it answers a CONNECT with a reason code and properties, confirms subscriptions and
publishes with the codes it was given, and can end a connection with a DISCONNECT.
"""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass, field

CONNECT, CONNACK, PUBLISH, PUBACK, SUBSCRIBE, SUBACK, DISCONNECT = 1, 2, 3, 4, 8, 9, 14
SERVER_REFERENCE, MAXIMUM_PACKET_SIZE = 0x1C, 0x27  # MQTT 5.0, 2.2.2.2


@dataclass
class Scripted:
    """``connack`` and ``puback`` are reason codes; ``reference`` goes with a refusal that sends us on."""

    connack: int = 0
    puback: int = 0
    reference: str = ""
    maximum_packet: int = 0
    hang_up: int | None = None  # a DISCONNECT with this code right after the CONNACK
    port: int = 0
    connects: int = 0
    published: list[bytes] = field(default_factory=list)
    _server: asyncio.Server | None = None

    async def __aenter__(self) -> Scripted:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, OSError):
            while True:
                first = (await reader.readexactly(1))[0]
                body = await reader.readexactly(await _length(reader))
                if not self._answer(first >> 4, first, body, writer):
                    break
                await writer.drain()
        writer.close()

    def _answer(self, kind: int, first: int, body: bytes, writer: asyncio.StreamWriter) -> bool:
        """Whether the connection goes on."""
        if kind == CONNECT:
            self.connects += 1
            writer.write(_packet(CONNACK, bytes([0, self.connack]) + self._properties(self.connack)))
            if self.hang_up is not None:
                writer.write(_packet(DISCONNECT, bytes([self.hang_up]) + self._properties(self.hang_up)))
            return self.connack < 0x80 and self.hang_up is None
        if kind == SUBSCRIBE:
            writer.write(_packet(SUBACK, body[:2] + b"\0\x01"))
        elif kind == PUBLISH:
            size = int.from_bytes(body[:2], "big")
            self.published.append(body[size + 5 :])
            writer.write(_packet(PUBACK, body[2 + size : 4 + size] + bytes([self.puback, 0])))
        return kind != DISCONNECT

    def _properties(self, code: int) -> bytes:
        found = b""
        if code in (0x9C, 0x9D) and self.reference:
            text = self.reference.encode()
            found += bytes([SERVER_REFERENCE]) + len(text).to_bytes(2, "big") + text
        if code == 0 and self.maximum_packet:
            found += bytes([MAXIMUM_PACKET_SIZE]) + self.maximum_packet.to_bytes(4, "big")
        return bytes([len(found)]) + found


def _packet(kind: int, body: bytes) -> bytes:
    assert len(body) < 128
    return bytes([kind << 4, len(body)]) + body


async def _length(reader: asyncio.StreamReader) -> int:
    length = shift = 0
    while True:
        (byte,) = await reader.readexactly(1)
        length |= (byte & 0x7F) << shift
        if byte < 0x80:
            return length
        shift += 7
