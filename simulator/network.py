"""The network between tablet and fleet: a TCP proxy that cuts, stalls, delays, throttles and tampers.

A cut closes every connection and refuses new ones. A stall keeps them open and moves nothing: a tablet that
drove into a car park. Bytes that the proxy took before a stall arrive after ``heal``; bytes that it had not
taken wait in the kernels' buffers. ``half_open`` ends connections at their far end only. ``tamper`` may
change or swallow what is carried. It only ever listens on loopback.
"""

from __future__ import annotations

import asyncio
import contextlib
import enum
import socket
from collections.abc import Callable, Iterable

from agent.core.types import MS, SECOND, BootNs

CHUNK = 16_384  # bytes read at once
HELD_CHUNKS = 16  # held in one direction of a connection at most; then the sender waits
HOST = "127.0.0.1"


class Way(enum.Enum):
    """The direction of a piece, from whoever connects to the proxy."""

    UP = "up"
    DOWN = "down"


Tamper = Callable[[Way, bytes], bytes]  # what is carried in place of a piece; nothing swallows it


def faithful(way: Way, piece: bytes) -> bytes:
    """Change nothing."""
    return piece


class Packets:
    """Cuts a stream of bytes into MQTT packets (5.0, 2.1.4: a variable length of up to four bytes)."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> list[bytes]:
        """The packets that are whole now."""
        self._rest += data
        whole = []
        while (size := self._size()) and len(self._rest) >= size:
            whole.append(self._rest[:size])
            self._rest = self._rest[size:]
        return whole

    def _size(self) -> int:
        """Bytes of the first packet; 0 while that is not known."""
        length = 0
        for number, byte in enumerate(self._rest[1:5]):
            length |= (byte & 0x7F) << 7 * number
            if byte < 0x80:
                return 2 + number + length
        return 0


class FaultProxy:
    """Stands before ``host:port``; what comes in on ``self.port`` goes there, while it is let through.

    With ``packets``, which a plain MQTT connection can have, ``tamper`` gets whole packets.
    """

    def __init__(self, host: str, port: int, now: Callable[[], BootNs], *, packets: bool = False) -> None:
        self.upstream = (host, port)
        self.port = 0
        self.bytes_up = 0
        self.bytes_down = 0
        self.connections = 0  # accepted since the start
        self.is_cut = False
        self.tamper: Tamper = faithful
        self._packets = packets
        self._now = now
        self._delay_ns = 0
        self._bytes_per_s: int | None = None
        self._flowing = asyncio.Event()
        self._flowing.set()
        self._server: asyncio.Server | None = None
        self._port_held: socket.socket | None = None  # bound: nobody else gets the port during a cut
        self._changing = asyncio.Lock()  # two may heal at once
        self._open: set[asyncio.Task[None]] = set()
        self._far: dict[asyncio.Task[None], asyncio.StreamWriter] = {}
        self._silent: set[asyncio.Task[None]] = set()  # half-open

    async def start(self) -> None:
        if self._port_held is None:
            self._port_held = socket.socket()
            self._port_held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            self._port_held.bind((HOST, 0))
            self.port = self._port_held.getsockname()[1]
        await self._listen()

    async def _listen(self) -> None:
        self._server = await asyncio.start_server(self._accept, HOST, self.port)

    async def close(self) -> None:
        if self._port_held is not None:
            self._port_held.close()
            self._port_held = None
        await self._refuse()

    async def _refuse(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None
        await self._drop_all()

    async def cut(self) -> None:
        """End every connection and refuse new ones."""
        async with self._changing:
            self.is_cut = True
            await self._refuse()

    @property
    def is_stalled(self) -> bool:
        return not self._flowing.is_set()

    def stall(self) -> None:
        """Let nothing through, and let nobody notice."""
        self._flowing.clear()

    def slow(self, *, delay_ms: int = 0, bytes_per_s: int | None = None) -> None:
        """Hold every piece for ``delay_ms`` each way, and pass at most ``bytes_per_s`` each way."""
        self._delay_ns, self._bytes_per_s = delay_ms * MS, bytes_per_s

    def half_open(self) -> None:
        """End every connection at the far end; the near end hears nothing, ever. New ones are let through."""
        for task, far in self._far.items():
            self._silent.add(task)
            far.transport.abort()

    async def heal(self) -> None:
        """Undo all faults, on the same port; what is half-open stays so."""
        self.slow()
        self.tamper = faithful
        self._flowing.set()
        async with self._changing:
            if self.is_cut:
                await self._listen()
                self.is_cut = False

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - asyncio runs this callback in a task, always
        self._open.add(task)
        self.connections += 1
        try:
            await self._flowing.wait()
            await self._connect(task, reader, writer)
            if task in self._silent:
                while await reader.read(CHUNK):
                    pass
        except asyncio.CancelledError:
            pass  # a cut; asyncio's stream code would log a cancelled callback as an error
        except OSError:
            pass  # a half-open connection was reset by its near end
        finally:
            self._open.discard(task)
            self._silent.discard(task)
            writer.transport.abort()

    async def _connect(
        self, task: asyncio.Task[None], reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        """Carry bytes both ways until one side ends, or the broker is down."""
        with contextlib.suppress(OSError):
            far_reader, far_writer = await asyncio.open_connection(*self.upstream)
            self._far[task] = far_writer
            try:
                async with asyncio.TaskGroup() as both:
                    both.create_task(self._carry(reader, far_writer, Way.UP))
                    both.create_task(self._carry(far_reader, writer, Way.DOWN))
            except* (OSError, _Ended):
                pass  # the other side sees its connection end
            finally:
                del self._far[task]
                far_writer.transport.abort()

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, way: Way) -> None:
        """Carry bytes one way; raises ``_Ended`` at their end so that the other way ends too."""
        cut: Callable[[bytes], Iterable[bytes]] = Packets().feed if self._packets else lambda data: (data,)
        held: asyncio.Queue[tuple[int, bytes]] = asyncio.Queue(HELD_CHUNKS)
        writer.transport.set_write_buffer_limits(high=0)  # drained means: the kernel has it
        async with asyncio.TaskGroup() as group:
            group.create_task(self._take(reader, held))
            while True:
                due, data = await held.get()
                await asyncio.sleep(max(0, due - self._now()) / SECOND)
                await self._flowing.wait()
                if not data:
                    raise _Ended
                if writer.transport.is_closing():
                    raise _Ended
                writer.write(b"".join(self.tamper(way, piece) for piece in cut(data)))
                await writer.drain()
                self._count(way, len(data))
                if self._bytes_per_s is not None:
                    await asyncio.sleep(len(data) / self._bytes_per_s)

    async def _take(self, reader: asyncio.StreamReader, held: asyncio.Queue[tuple[int, bytes]]) -> None:
        data = b"more"
        while data:
            data = await reader.read(CHUNK)
            await held.put((self._now() + self._delay_ns, data))

    def _count(self, way: Way, size: int) -> None:
        if way is Way.UP:
            self.bytes_up += size
        else:
            self.bytes_down += size

    async def _drop_all(self) -> None:
        dropped = tuple(self._open)
        for task in dropped:
            task.cancel()
        await asyncio.gather(*dropped)


class _Ended(Exception):
    """One side closed its connection."""
