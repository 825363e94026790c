"""The network between tablet and fleet: a TCP proxy that cuts, stalls, delays and throttles.

A cut closes every connection and refuses new ones. A stall keeps them open and moves nothing: the half-open
connection of a tablet that drove into a car park. Bytes that the proxy took before a stall arrive after
``heal``; bytes that it had not taken wait in the kernels' buffers. It only ever listens on loopback.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable

from agent.core.types import MS, SECOND, BootNs

CHUNK = 16_384  # bytes read at once
HELD_CHUNKS = 16  # held in one direction of a connection at most; then the sender waits
HOST = "127.0.0.1"


class FaultProxy:
    """Stands before ``host:port``; what comes in on ``self.port`` goes there, while it is let through."""

    def __init__(self, host: str, port: int, now: Callable[[], BootNs]) -> None:
        self.upstream = (host, port)
        self.port = 0
        self.bytes_up = 0
        self.bytes_down = 0
        self.connections = 0  # accepted since the start
        self.is_cut = False
        self._now = now
        self._delay_ns = 0
        self._bytes_per_s: int | None = None
        self._flowing = asyncio.Event()
        self._flowing.set()
        self._server: asyncio.Server | None = None
        self._open: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._accept, HOST, self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def close(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None
        await self._drop_all()

    async def cut(self) -> None:
        """End every connection and refuse new ones."""
        self.is_cut = True
        await self.close()

    @property
    def is_stalled(self) -> bool:
        return not self._flowing.is_set()

    def stall(self) -> None:
        """Let nothing through, and let nobody notice."""
        self._flowing.clear()

    def slow(self, *, delay_ms: int = 0, bytes_per_s: int | None = None) -> None:
        """Hold every piece for ``delay_ms`` each way, and pass at most ``bytes_per_s`` each way."""
        self._delay_ns, self._bytes_per_s = delay_ms * MS, bytes_per_s

    async def heal(self) -> None:
        """Undo all faults, on the same port."""
        self.slow()
        self._flowing.set()
        if self.is_cut:
            await self.start()
            self.is_cut = False

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - asyncio runs this callback in a task, always
        self._open.add(task)
        self.connections += 1
        try:
            await self._flowing.wait()
            await self._connect(reader, writer)
        except asyncio.CancelledError:
            pass  # a cut; asyncio's stream code would log a cancelled callback as an error
        finally:
            self._open.discard(task)
            writer.transport.abort()

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Carry bytes both ways until one side ends, or the broker is down."""
        with contextlib.suppress(OSError):
            far_reader, far_writer = await asyncio.open_connection(*self.upstream)
            try:
                async with asyncio.TaskGroup() as both:
                    both.create_task(self._carry(reader, far_writer, self._count_up))
                    both.create_task(self._carry(far_reader, writer, self._count_down))
            except* (OSError, _Ended):
                pass  # the other side sees its connection end
            finally:
                far_writer.transport.abort()

    async def _carry(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, count: Callable[[int], None]
    ) -> None:
        """Carry bytes one way; raises ``_Ended`` at their end so that the other way ends too."""
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
                writer.write(data)
                await writer.drain()
                count(len(data))
                if self._bytes_per_s is not None:
                    await asyncio.sleep(len(data) / self._bytes_per_s)

    async def _take(self, reader: asyncio.StreamReader, held: asyncio.Queue[tuple[int, bytes]]) -> None:
        data = b"more"
        while data:
            data = await reader.read(CHUNK)
            await held.put((self._now() + self._delay_ns, data))

    def _count_up(self, size: int) -> None:
        self.bytes_up += size

    def _count_down(self, size: int) -> None:
        self.bytes_down += size

    async def _drop_all(self) -> None:
        dropped = tuple(self._open)
        for task in dropped:
            task.cancel()
        await asyncio.gather(*dropped)


class _Ended(Exception):
    """One side closed its connection."""
