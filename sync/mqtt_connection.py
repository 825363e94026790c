"""One connection to a broker by paho, from its beginning to its end, in the calling thread.

Each connection gets a new paho client, so that paho's memory of unconfirmed messages ends with it. paho's
own loop is not used: it wakes once a second and reconnects by its own rules. Import this module where a
connection is about to be made: paho takes time and memory.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import time
from collections.abc import Callable, Sequence
from typing import Any

from paho.mqtt.client import Client, ConnectFlags, DisconnectFlags, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from sync.mqtt_types import MQTT_5, Confirmed, Endpoint, Received, TransportEvent, Up, Will
from sync.reasons import MOVED, USE_ANOTHER, Ending, ending_of
from sync.tls import Context, TlsFilesError, alert_of, refuses_us

UNSUPPORTED_VERSION = 0x84  # MQTT 5.0, 3.2.2.2; paho maps the 3.1.1 return code 1 to it
NEVER_EXPIRES = 0xFFFFFFFF  # s; MQTT 5.0, 3.1.2.11.2
RECEIVE_MAXIMUM = 128  # messages without a PUBACK; ours: bounds what a depot holds in memory
PACKET_OVERHEAD = 512  # bytes around a payload: fixed header, topic and properties; ours, generous
# Ours. A broker of 3.1.1 alone may wait for more of a CONNECT that it misreads (amqtt does).
ANSWER_S = 3.0
MAX_WAIT_S = 15.0  # ours: longest sleep of the thread; a quarter of the keep-alive if that is less


class Connection:
    """A connection in one protocol version. ``run`` blocks until it has ended and says how."""

    def __init__(
        self,
        endpoint: Endpoint,
        version: str,
        subscriptions: Sequence[str],
        will: Will | None,
        report: Callable[[TransportEvent], None],
        number: int,
        *,
        persistent: bool,
        manual_ack: bool,
    ) -> None:
        self.accepted = False
        self.wrong_version = False  # it may be that the broker does not speak this version
        self.said_so = False  # it is sure
        self.ending = Ending.NETWORK
        self.elsewhere: str | None = None  # host or host:port that the broker sends us to
        self.for_good = False  # it is not only for this time
        self._sock: Any = None
        self._notice = ""
        self._answered = False
        self._ended: str | None = None
        self._endpoint = endpoint
        self._version = version
        self._subscriptions = [(topic, 1) for topic in subscriptions]
        self._report = report
        self._number = number
        self._persistent = persistent
        self._properties: Properties | None = None
        five = version == MQTT_5
        self.client = client = Client(
            CallbackAPIVersion.VERSION2,
            endpoint.client_id,
            clean_session=None if five else not persistent,
            protocol=MQTTProtocolVersion.MQTTv5 if five else MQTTProtocolVersion.MQTTv311,
            reconnect_on_failure=False,
            manual_ack=manual_ack,
        )
        client.connect_timeout = endpoint.connect_timeout_s
        client.max_inflight_messages_set(0)  # without limit: the window is the session's
        if will is not None:
            client.will_set(will.topic, will.payload, qos=1, retain=True)
        client.on_connect = self._on_connect
        client.on_subscribe = self._on_subscribe
        client.on_disconnect = self._on_disconnect
        client.on_publish = self._on_publish
        client.on_message = self._on_message
        client.on_socket_open = self._on_socket
        # Its mere presence keeps publish() from writing to the socket in the caller's thread.
        client.on_socket_register_write = _leave_it_to_the_thread

    def run(self, wanted: Callable[[], bool]) -> str:
        """Connect and serve the connection while ``wanted``; returns how it ended, for people."""
        endpoint = self._endpoint
        where = f"{endpoint.host}:{endpoint.port}"
        try:
            self._connect()
        except (OSError, ValueError) as error:
            self.ending = _ending_of_error(error)
            return f"cannot connect to {where}: {error}"
        until = time.monotonic() + ANSWER_S
        while wanted() and not self._answered and time.monotonic() < until:
            if self.client.loop(ANSWER_S / 10) != 0:
                break
        if not self._answered and self._refused_by_tls():
            self.cut()
        elif not self._answered:
            self.cut()
            self.wrong_version, self.said_so = wanted(), time.monotonic() >= until
            self._ended = f"{where} takes connections and gives no answer"
        wait_s = min(endpoint.keepalive_s / 4, MAX_WAIT_S)
        while wanted() and self.client.loop(wait_s) == 0:
            pass
        self.client.disconnect()
        self._let_go()
        self._refused_by_tls()
        return self._ended or f"connection to {where} lost"

    def _refused_by_tls(self) -> bool:
        """Take up what the broker said of our certificate; in TLS 1.3 it says so after the handshake."""
        alert = alert_of(self._sock)
        if alert is None:
            return False
        self.ending = Ending.FORBIDDEN
        self._ended = f"{self._endpoint.host}:{self._endpoint.port}: {alert}"
        return True

    def cut(self) -> None:
        """End it from another thread, at once and without a word to the broker."""
        sock = self.client.socket()
        if isinstance(sock, socket.socket):
            with contextlib.suppress(OSError):
                # Not SSLSocket.shutdown, which takes the TLS state away under the thread's hands.
                socket.socket.shutdown(sock, socket.SHUT_RDWR)

    def _let_go(self) -> None:
        """Undo the circle of client and callbacks, so that the client closes its wake-up sockets now."""
        client = self.client
        client.on_connect = client.on_subscribe = client.on_disconnect = None
        client.on_publish = client.on_message = None

    def _connect(self) -> None:
        endpoint = self._endpoint
        if endpoint.tls is not None:
            context = Context(endpoint.tls)
            self._notice = context.notice
            self.client.tls_set_context(context.ssl)
        if self._version != MQTT_5:
            self.client.connect(endpoint.host, endpoint.port, endpoint.keepalive_s)
            return
        properties = None
        if self._persistent:
            properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]  # paho's gap
            properties.SessionExpiryInterval = NEVER_EXPIRES
            properties.ReceiveMaximum = RECEIVE_MAXIMUM
        self.client.connect(
            endpoint.host,
            endpoint.port,
            endpoint.keepalive_s,
            clean_start=not self._persistent,
            properties=properties,
        )

    def _on_connect(
        self, client: Client, _: Any, flags: ConnectFlags, code: ReasonCode, properties: Properties | None
    ) -> None:
        self._answered = True
        if code.is_failure:
            self.wrong_version = self.said_so = code.value == UNSUPPORTED_VERSION
            self._ends(code, properties, f"the broker refuses the connection: {code}")
            return
        self.accepted = True
        self._properties = properties
        if self._subscriptions:
            client.subscribe(self._subscriptions)
        else:
            self._up()

    def _on_subscribe(self, client: Client, _: Any, mid: int, codes: list[ReasonCode], props: Any) -> None:
        refused = [str(code) for code in codes if code.is_failure]
        if refused:
            self.ending = Ending.FORBIDDEN
            self._ended = f"the broker refuses a subscription: {', '.join(refused)}"
            client.disconnect()
        else:
            self._up()

    def _up(self) -> None:
        largest = getattr(self._properties, "MaximumPacketSize", None)
        most = None if largest is None else largest - PACKET_OVERHEAD
        self._report(Up(self._version, most, self._notice))

    def _on_disconnect(
        self, client: Client, _: Any, flags: DisconnectFlags, code: ReasonCode, props: Any
    ) -> None:
        if flags.is_disconnect_packet_from_server:
            self._ends(code, props, f"the broker ended the connection: {code}")

    def _ends(self, code: ReasonCode, properties: Properties | None, detail: str) -> None:
        self.ending, self._ended = ending_of(code.value), detail
        if code.value in (USE_ANOTHER, MOVED):
            self.elsewhere = getattr(properties, "ServerReference", None)
            self.for_good = code.value == MOVED

    def _on_publish(self, client: Client, _: Any, mid: int, code: ReasonCode, props: Any) -> None:
        _quick_ack(client)
        self._report(Confirmed(mid, code.value))

    def _on_message(self, client: Client, _: Any, message: MQTTMessage) -> None:
        _quick_ack(client)
        payload = bytes(message.payload)
        self._report(Received(message.topic, payload, message.mid, self._number, message.retain))

    def _on_socket(self, client: Client, _: Any, sock: Any) -> None:
        self._sock = sock
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def _ending_of_error(error: Exception) -> Ending:
    if isinstance(error, TlsFilesError) or refuses_us(error):
        return Ending.FORBIDDEN
    return Ending.UNTRUSTED if isinstance(error, ssl.SSLCertVerificationError) else Ending.NETWORK


def _leave_it_to_the_thread(client: Client, _: Any, sock: Any) -> None:
    """paho has written a byte to wake the thread; that is enough."""


def _quick_ack(client: Client) -> None:
    """Acknowledge TCP segments at once: Nagle at the broker and a delayed ACK here cost 44 ms a burst.

    The kernel forgets the setting, so it is renewed at each packet.
    """
    sock = client.socket()
    if isinstance(sock, socket.socket):
        with contextlib.suppress(OSError):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
