"""ivma-notice: tells the officer why the tablet is locked, or will be, and what to do. docs/officer.md.

    ivma-notice [--show "COMMAND ... {page}"]    in the officer's session, or for a kiosk above the lock

Exit codes: 0 stopped in order, 2 usage, 70 it could not be started (sysexits.h: EX_SOFTWARE).
"""

from __future__ import annotations

import argparse
import asyncio
import importlib.metadata
import os
import shlex
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from agent import logs  # before anything that imports structlog
from agent.clock import boot_now
from agent.notice.feed import Feed
from agent.notice.kiosk import Kiosk
from agent.notice.page import Page
from agent.notice.toast import Toast
from agent.notice.view import render
from agent.notice.words import ENGLISH, Words, WordsError, load

EX_SOFTWARE = 70
DEFAULT_SOCKET = Path("/run/ivma/officer.sock")
QUIET = ("docked",)  # nothing to show


class Notice:
    """The parts, and what moves when the agent says something new."""

    def __init__(self, options: argparse.Namespace, words: Words, folder: Path) -> None:
        self._words = words
        self._folder = folder
        self._port: int = options.port
        self.feed = Feed(options.socket, boot_now, self._changed)
        self.page = Page(self.feed, words, boot_now)
        self._argv = shlex.split(options.show)
        self._kiosk: Kiosk | None = None
        self._toast = (
            Toast(self._page_serves, options.bus) if options.bus and options.notify != "never" else None
        )
        self._always = options.notify == "always"

    async def start(self) -> Path:
        """Returns the start page for a browser. Raises OSError."""
        await self.page.start(self._port)
        file = self.page.write_start_page(self._folder)
        if self._argv:
            self._kiosk = Kiosk(self._argv, file.absolute().as_uri())
            self._kiosk.start()
        if self._toast is not None:
            self._toast.start()
        self.feed.start()
        return file

    async def close(self) -> None:
        await self.feed.close()
        if self._kiosk is not None:
            await self._kiosk.close()
        if self._toast is not None:
            await self._toast.close()
        await self.page.close()

    def _page_serves(self) -> bool:
        return self.page.seen > 0 and not self._always

    def _changed(self) -> None:
        said = self.feed.said
        self.page.changed()
        shows = said.kind not in QUIET
        if self._kiosk is not None:
            self._kiosk.show(shows)
        if self._toast is not None:
            if shows:
                view = render(said, self._words, boot_now())
                self._toast.say(view["title"], "\n".join([view["why"], *view["steps"]]))
            else:
                self._toast.hush()


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    options = _options(argv)
    logs.configure(options.log_level, stream=sys.stderr, environ=os.environ)
    run_dir = os.environ.get("XDG_RUNTIME_DIR")
    folder: Path | None = options.folder or (Path(run_dir) / "ivma-notice" if run_dir else None)
    if folder is None:
        sys.stderr.write("ivma-notice: XDG_RUNTIME_DIR is not set; name a folder with --folder\n")
        return EX_SOFTWARE
    try:
        asyncio.run(_serve(Notice(options, load(options.words), folder)))
    except (OSError, WordsError) as error:
        sys.stderr.write(f"ivma-notice cannot start: {error}\n")
        return EX_SOFTWARE
    return 0


def _options(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="ivma-notice", description="Tells the officer about the tether.")
    parser.add_argument("--version", action="version", version=importlib.metadata.version("ivma-agent"))
    parser.add_argument(
        "--socket",
        type=Path,
        default=DEFAULT_SOCKET,
        help=f"the officer's; default {DEFAULT_SOCKET}",
    )
    parser.add_argument("--port", type=int, default=0, help="on 127.0.0.1; default: a free one")
    parser.add_argument("--folder", type=Path, help="for start.html; default $XDG_RUNTIME_DIR/ivma-notice")
    parser.add_argument("--words", type=Path, default=ENGLISH, help="another language's file of words")
    parser.add_argument(
        "--show", default="", metavar="COMMAND",
        help="a browser, run while there is something to show; {page} in it is the start page",
    )  # fmt: skip
    parser.add_argument(
        "--notify", choices=("fallback", "always", "never"), default="fallback",
        help="desktop notification: while no page is open (default), always, never",
    )  # fmt: skip
    parser.add_argument(
        "--bus", default=os.environ.get("DBUS_SESSION_BUS_ADDRESS"),
        help="D-Bus address for it; default $DBUS_SESSION_BUS_ADDRESS",
    )  # fmt: skip
    parser.add_argument("--log-level", choices=("debug", "info", "warning", "error"), default="info")
    return parser.parse_args(argv)


async def _serve(notice: Notice) -> None:
    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    try:
        file = await notice.start()
        sys.stdout.write(f"{file}\n")
        sys.stdout.flush()
        await stopping.wait()
    finally:
        await notice.close()


if __name__ == "__main__":
    sys.exit(main())
