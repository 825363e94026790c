"""A private D-Bus: a dbus-daemon of its own that plays the system bus for one rig."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path
from types import TracebackType
from typing import Self

_CONFIG = """<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig>
  <type>system</type>
  <keep_umask/>
  <listen>unix:path={socket}</listen>
  <auth>EXTERNAL</auth>
  <policy context="default">
    <allow user="*"/>
    <allow own="*"/>
    <allow send_type="method_call"/>
    <allow send_type="signal"/>
    <allow send_requested_reply="true" send_type="method_return"/>
    <allow send_requested_reply="true" send_type="error"/>
    <allow receive_type="method_call"/>
    <allow receive_type="method_return"/>
    <allow receive_type="error"/>
    <allow receive_type="signal"/>
  </policy>
</busconfig>
"""
START_S = 60.0  # ours


def installed() -> bool:
    return shutil.which("dbus-daemon") is not None


class PrivateBus:
    """Runs a dbus-daemon in ``folder``; ``address`` goes into DBUS_SYSTEM_BUS_ADDRESS of the agent.

    Raises:
        RuntimeError: on entry, when dbus-daemon is not installed or does not start.
    """

    def __init__(self, folder: Path) -> None:
        self._config = folder / "bus.conf"
        self._socket = folder / "bus"
        self._process: asyncio.subprocess.Process | None = None

    @property
    def address(self) -> str:
        return f"unix:path={self._socket}"

    async def start(self) -> None:
        program = shutil.which("dbus-daemon")
        if program is None:
            raise RuntimeError("dbus-daemon is not installed; `make system-deps` installs it")
        self._socket.unlink(missing_ok=True)
        self._config.write_text(_CONFIG.format(socket=self._socket))
        with self._config.with_suffix(".log").open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                program, f"--config-file={self._config}", "--nofork", "--nopidfile", "--print-address=1",
                stdout=asyncio.subprocess.PIPE, stderr=log,
            )  # fmt: skip
        assert self._process.stdout is not None  # noqa: S101 - narrowing, for the type checker
        async with asyncio.timeout(START_S):
            if not await self._process.stdout.readline():
                raise RuntimeError(f"dbus-daemon ended at once with {await self._process.wait()}")

    async def stop(self) -> None:
        """End the daemon; whoever is connected sees end of file. It can be started again."""
        if self._process is not None:
            if self._process.returncode is None:
                self._process.terminate()
            await self._process.communicate()
            self._process = None

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()
