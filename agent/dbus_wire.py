"""The socket below a D-Bus connection, with file descriptors.

jeepney speaks the protocol without I/O, but its asyncio transport cannot receive descriptors, and an
inhibitor of logind is one.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from array import array
from collections.abc import Callable, Iterator

import structlog
from jeepney import Message, Parser
from jeepney.auth import BEGIN, Authenticator
from jeepney.fds import FileDescriptor

MESSAGE_MAX = 1 << 20  # bytes, ours: logind's longest answer is a few kB; the bus itself allows 32 MiB
UNSENT_MAX = 1 << 18  # bytes, ours
FDS_MAX = 16  # descriptors a message, as dbus-daemon's max_message_unix_fds

log = structlog.get_logger()


class BusError(Exception):
    """A call came to nothing."""


class RemoteProtocolError(BusError):
    """The bus sent what is not D-Bus, or more than we accept."""


async def authenticate(sock: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    conversation = Authenticator(enable_fds=True)
    for line in conversation:
        await loop.sock_sendall(sock, line)
        answer = await loop.sock_recv(sock, 1024)
        if not answer:
            raise RemoteProtocolError("the bus closed the connection while we authenticated")
        conversation.feed(answer)
    await loop.sock_sendall(sock, BEGIN)


class Wire:
    """The socket: messages in, bytes out, ``lost`` called once something is wrong with it."""

    def __init__(
        self, sock: socket.socket, received: Callable[[Message], None], lost: Callable[[], None]
    ) -> None:
        self._sock = sock
        self._received = received
        self._lost = lost
        self._parser = Parser()
        self._unsent = bytearray()
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(sock.fileno(), self._readable)

    def send(self, data: bytes) -> None:
        if self._sock.fileno() < 0:
            return  # closed by an error that the owner has not seen yet; its calls fail when it does
        if len(self._unsent) + len(data) > UNSENT_MAX:
            self._give_up(f"the bus has not read {UNSENT_MAX} bytes of ours")
            return
        waiting = bool(self._unsent)
        self._unsent += data
        if not waiting:
            self._writable()

    def close(self) -> None:
        if self._sock.fileno() >= 0:
            self._loop.remove_reader(self._sock.fileno())
            self._loop.remove_writer(self._sock.fileno())
            self._sock.close()

    def _writable(self) -> None:
        try:
            sent = self._sock.send(self._unsent)
        except BlockingIOError:
            sent = 0
        except OSError as error:
            self._give_up(str(error))
            return
        del self._unsent[:sent]
        if self._unsent:
            self._loop.add_writer(self._sock.fileno(), self._writable)
        else:
            self._loop.remove_writer(self._sock.fileno())

    def _readable(self) -> None:
        try:
            data, ancillary, flags, _ = self._sock.recvmsg(
                65536, socket.CMSG_SPACE(FDS_MAX * array("i").itemsize)
            )
            self._parser.add_data(data, FileDescriptor.from_ancdata(ancillary))
            if not data:
                raise RemoteProtocolError("the bus closed the connection")
            if flags & socket.MSG_CTRUNC:
                raise RemoteProtocolError(f"a message carried more than {FDS_MAX} descriptors")
            for message in self._messages():
                self._received(message)
        except BlockingIOError:
            return
        except (OSError, RemoteProtocolError) as error:
            self._give_up(str(error))

    def _messages(self) -> Iterator[Message]:
        while True:
            try:
                message = self._parser.get_next_message()
                wanted = self._parser.bytes_desired()
            except (ValueError, KeyError, IndexError, TypeError, struct.error) as error:
                raise RemoteProtocolError(f"not D-Bus: {error}") from error
            if message is None:
                if wanted > MESSAGE_MAX:
                    raise RemoteProtocolError(f"a message of over {MESSAGE_MAX} bytes")
                return
            yield message

    def _give_up(self, why: str) -> None:
        log.debug("bus.lost", error=why)
        for descriptor in self._parser.fds:
            descriptor.close()
        self.close()
        self._lost()
