"""A real MQTT broker as a process of its own: Mosquitto where it is installed, else amqtt.

Run as ``python -m simulator.broker --port N`` it is the amqtt broker (MQTT 3.1.1, memory only).
"""

from __future__ import annotations

import argparse
import asyncio
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

HOST = "127.0.0.1"
READY_S = 60.0  # ours: amqtt imports for two seconds on a slow machine
STOP_S = 5.0  # ours
CONNECT_S = 0.2  # ours: one try to connect to a broker that starts

# Persistence with a short autosave: as shipped it is off, and saved every 1800 s (facts.md, MQTT).
MOSQUITTO_CONFIG = """\
listener {port} {host}
allow_anonymous true
persistence true
persistence_location {folder}/
autosave_interval 1
autosave_on_changes true
max_queued_messages 100000
max_inflight_messages 100
set_tcp_nodelay true
log_dest file {folder}/mosquitto.log
user {user}
"""


class BrokerError(RuntimeError):
    """The broker did not come up or go down as asked."""


def installed() -> str | None:
    """Path of Mosquitto, also where Debian keeps it out of a user's PATH."""
    return shutil.which("mosquitto", path=os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/sbin"]))


def free_port() -> int:
    """A TCP port of the loopback interface that nobody listens on at the moment."""
    with socket.socket() as sock:
        sock.bind((HOST, 0))
        port: int = sock.getsockname()[1]
        return port


@dataclass
class Broker:
    """One broker: its kind, where it listens, and the process. ``restart`` keeps port and folder."""

    kind: str  # "mosquitto" or "amqtt"
    folder: Path
    port: int
    extra: str = ""  # further lines of mosquitto.conf
    process: subprocess.Popen[bytes] | None = None

    @classmethod
    def start(cls, folder: Path, kind: str | None = None, port: int | None = None, extra: str = "") -> Broker:
        """Start a broker and return when it takes connections.

        Raises:
            BrokerError: not installed, or it did not listen within 15 s; names its log.
        """
        if kind is None:
            kind = "mosquitto" if installed() else "amqtt"
        broker = cls(kind, folder, port or free_port(), extra)
        broker.run()
        return broker

    @property
    def address(self) -> str:
        return f"{HOST}:{self.port}"

    def run(self) -> None:
        """Start the process and wait until it takes connections."""
        self.folder.mkdir(parents=True, exist_ok=True)
        output = self.folder / "broker.log"
        with output.open("ab") as sink:
            self.process = subprocess.Popen(
                self._command(), stdin=subprocess.DEVNULL, stdout=sink, stderr=sink, start_new_session=True
            )
        until = time.monotonic() + READY_S
        while not self._listens():
            if self.process.poll() is not None:
                raise BrokerError(
                    f"{self.kind} ended with status {self.process.returncode} before it listened on "
                    f"{self.address}; see {output} and {self.folder}/mosquitto.log"
                )
            if time.monotonic() > until:
                self.kill()
                raise BrokerError(
                    f"{self.kind} does not listen on {self.address} after {READY_S:g} s; see {output}"
                )
            time.sleep(0.02)

    def stop(self) -> None:
        """End it in an orderly way; kill it when it does not end within 5 s."""
        if self.process is None:
            return
        self.process.terminate()
        try:
            self.process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self.kill()
        self.process = None

    def kill(self) -> None:
        """SIGKILL: what it had not saved is gone."""
        if self.process is not None:
            self.process.kill()
            self.process.wait(STOP_S)
            self.process = None

    def restart(self) -> None:
        self.stop()
        self.run()

    def _command(self) -> list[str]:
        if self.kind == "amqtt":
            return [sys.executable, "-m", "simulator.broker", "--port", str(self.port)]
        path = installed()
        if self.kind != "mosquitto" or path is None:
            raise BrokerError(f"broker {self.kind!r} is not available; install mosquitto or use amqtt")
        # Started as root it would change to a user that may not write the folder.
        user = "root" if os.geteuid() == 0 else "mosquitto"
        config = self.folder / "mosquitto.conf"
        text = MOSQUITTO_CONFIG.format(port=self.port, host=HOST, folder=self.folder, user=user)
        config.write_text(text + self.extra)
        return [path, "-c", str(config)]

    def _listens(self) -> bool:
        try:
            with socket.create_connection((HOST, self.port), CONNECT_S):
                return True
        except OSError:
            return False


async def _serve_amqtt(port: int) -> None:
    from amqtt.broker import Broker as Amqtt

    broker = Amqtt(
        {
            "listeners": {"default": {"type": "tcp", "bind": f"{HOST}:{port}"}},
            "plugins": {"amqtt.plugins.authentication.AnonymousAuthPlugin": {"allow_anonymous": True}},
        }
    )
    await broker.start()
    ended = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ended.set)
    await ended.wait()
    await broker.shutdown()


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m simulator.broker", description="the embedded broker")
    parser.add_argument("--port", type=int, required=True)
    asyncio.run(_serve_amqtt(parser.parse_args().port))


if __name__ == "__main__":
    main()
