"""logind for the guard: a blocking D-Bus client in which every step has a time limit.

The guard asks only when it has nothing else to do than to lock, so it may wait for an answer; what it must
not do is to wait for ever. A bus that fails in any way is dropped and connected to anew.
"""

from __future__ import annotations

import itertools
import socket
import struct
import time
from collections.abc import Collection, Iterator
from typing import Any, NoReturn

from jeepney import DBusAddress, HeaderFields, Message, MessageType, Parser, new_method_call
from jeepney.auth import AuthenticationError
from jeepney.bus import get_bus
from jeepney.io.blocking import prep_socket

from agent.login1_words import MANAGER, NAME, PROPERTIES, ROOT, SESSION, SESSIONS_MAX, session_of

CONNECT_S = 0.5  # ours: authentication takes under a millisecond when the bus lives
CALL_S = 0.7  # ours: one look must leave time for another within the 3 s after a lease's end
MESSAGE_MAX = 1 << 20  # bytes; ours, as agent/dbus_wire.py
DRAIN_MAX = 64  # reads at once; ours
DRIVER = "org.freedesktop.DBus"
_DRIVER = DBusAddress("/org/freedesktop/DBus", bus_name=DRIVER, interface=DRIVER)
_MANAGER = DBusAddress(ROOT, bus_name=NAME, interface=MANAGER)
# Whatever may mean that a session is not locked any more. A forged one makes us look, and no more.
RULES = (
    f"type='signal',sender='{NAME}',interface='{MANAGER}',member='SessionNew'",
    (
        f"type='signal',sender='{NAME}',interface='{PROPERTIES}',member='PropertiesChanged',"
        f"path_namespace='{ROOT}/session'"
    ),
    f"type='signal',sender='{DRIVER}',member='NameOwnerChanged',arg0='{NAME}'",
)


GONE = (f"{DRIVER}.Error.UnknownObject", f"{NAME}.NoSuchSession")


class BusTrouble(Exception):
    """The bus or logind did not do it; the text says what came instead."""


class Refused(BusTrouble):
    """An answer that is an error; ``name`` is the D-Bus error name."""

    def __init__(self, member: str, name: str) -> None:
        super().__init__(f"{member}: {name}")
        self.name = name


class Logind:
    """One connection. After BusTrouble from ``connect`` or ``stirred`` it is closed.

    Args:
        exempt: users whose sessions are left alone.
    """

    def __init__(self, exempt: Collection[str]) -> None:
        self._exempt = exempt
        self._sock: socket.socket | None = None
        self._parser = Parser()
        self._serials = itertools.count(1)
        self._stirred = False

    def fileno(self) -> int:
        """The descriptor to poll, -1 when there is no connection."""
        return -1 if self._sock is None else self._sock.fileno()

    def connect(self) -> None:
        """Connect anew and subscribe. Raises BusTrouble."""
        self.close()
        try:
            self._sock = prep_socket(get_bus("SYSTEM"), timeout=CONNECT_S)
        except (OSError, RuntimeError, ValueError, AuthenticationError) as error:
            raise BusTrouble(f"no connection to the system bus: {error}") from None
        self._parser = Parser()
        try:
            self._call(new_method_call(_DRIVER, "Hello"))
            for rule in RULES:
                self._call(new_method_call(_DRIVER, "AddMatch", "s", (rule,)))
        except BusTrouble:
            self.close()
            raise

    def close(self) -> None:
        if self._sock is not None:
            self._sock.close()
            self._sock = None

    def lock_all(self) -> None:
        """Raises BusTrouble."""
        self._call(new_method_call(_MANAGER, "LockSessions"))

    def lock(self, session_id: str) -> None:
        """Raises BusTrouble."""
        self._call(new_method_call(_MANAGER, "LockSession", "s", (session_id,)))

    def unlocked(self) -> list[str]:
        """Ids of the sessions that a person at the tablet can use. Raises BusTrouble."""
        (rows,) = self._call(new_method_call(_MANAGER, "ListSessions"))
        found = []
        for row in rows[:SESSIONS_MAX]:
            address = DBusAddress(row[4], bus_name=NAME, interface=PROPERTIES)
            try:
                (values,) = self._call(new_method_call(address, "GetAll", "s", (SESSION,)))
                session = session_of(row[0], row[4], values)
            except Refused as refused:
                if refused.name in GONE:
                    continue  # it ended meanwhile
                raise
            except ValueError as error:
                raise BusTrouble(str(error)) from None
            if session.on_the_tablet and session.user not in self._exempt and not session.locked:
                found.append(session.id)
        return found

    def stirred(self) -> bool:
        """Take in what has come; whether sessions may have changed since the last time. Raises BusTrouble."""
        if self._sock is not None:
            self._sock.settimeout(0.0)
            for _ in range(DRAIN_MAX):
                try:
                    data = self._sock.recv(65536)
                except BlockingIOError:
                    break
                except OSError as error:
                    self._fail(str(error))
                if not data:
                    self._fail("the bus closed the connection")
                for message in self._messages(data):
                    self._note(message)
        stirred, self._stirred = self._stirred, False
        return stirred

    def _call(self, message: Message) -> tuple[Any, ...]:
        if self._sock is None:
            raise BusTrouble("no connection to the system bus")
        member = message.header.fields.get(HeaderFields.member)
        serial = next(self._serials)
        until = time.monotonic() + CALL_S
        try:
            self._sock.settimeout(CALL_S)
            self._sock.sendall(message.serialise(serial=serial))
            while True:
                self._sock.settimeout(max(0.001, until - time.monotonic()))
                data = self._sock.recv(65536)
                if not data:
                    self._fail("the bus closed the connection")
                answer = None
                for came in self._messages(data):
                    if came.header.fields.get(HeaderFields.reply_serial) == serial:
                        answer = came
                    else:
                        self._note(came)
                if answer is not None:
                    break
        except TimeoutError:
            self._fail(f"{member}: no answer in {CALL_S:g} s")
        except OSError as error:
            self._fail(str(error))
        if answer.header.message_type is MessageType.error:
            raise Refused(str(member), str(answer.header.fields.get(HeaderFields.error_name)))
        body: tuple[Any, ...] = answer.body
        return body

    def _messages(self, data: bytes) -> Iterator[Message]:
        try:
            self._parser.add_data(data)
            while (message := self._parser.get_next_message()) is not None:
                yield message
            if self._parser.bytes_desired() > MESSAGE_MAX:
                self._fail(f"a message of over {MESSAGE_MAX} bytes")
        except (ValueError, KeyError, IndexError, TypeError, struct.error) as error:
            self._fail(f"not D-Bus: {error}")

    def _note(self, message: Message) -> None:
        self._stirred = self._stirred or message.header.message_type is MessageType.signal

    def _fail(self, why: str) -> NoReturn:
        self.close()
        raise BusTrouble(why)
