"""When to connect, what to send next, when to send it again: the uplink's decisions, without I/O.

``handle(event, at)`` returns what the shell is to do. Two cursors run over every stream: ``sent`` moves
when a batch is published, ``depot`` when the depot has acknowledged; whatever goes wrong, ``sent`` goes
back to ``depot`` and the same blocks travel again. The broker's PUBACK frees a place in the window and
nothing else. The batches that wait for theirs when a connection ends are suspects: they travel alone, one
after the other, until one of them ends its connection or none does. No clock and no randomness in here:
``at`` and ``jitter`` come from outside.
"""

from __future__ import annotations

import enum
from collections.abc import Callable

from agent.core.records import Stream
from agent.core.types import SECOND, BootNs
from sync import session_types as t
from sync.lane import Flight, Lane
from sync.reasons import NOT_AUTHORISED, QUOTA_EXCEEDED, Ending
from sync.waits import Waits


class Link(enum.Enum):
    WAITING = "waiting"  # for the end of the backoff
    CONNECTING = "connecting"
    UP = "up"


class Session:
    """The state of the way to the fleet. One event at a time; actions come in order."""

    def __init__(
        self, cursors: dict[Stream, t.Cursor], jitter: Callable[[], float], limits: t.Limits | None = None
    ) -> None:
        """``jitter`` gives a number from 0 up to 1, evenly spread, at each call."""
        self._limits = limits = limits or t.Limits()
        self._waits = Waits(jitter, limits)
        self._lanes = {
            stream: Lane(stream, c.head, c.acked, c.acked, c.acked, limits.batch_bytes)
            for stream, c in ((s, cursors[s]) for s in Stream)
        }
        self.link = Link.WAITING
        self._link_deadline: BootNs | None = BootNs(0)  # next try, or the end of the current one
        self._token = 0
        self._unconfirmed: dict[int, tuple[BootNs, Lane | None, Flight | None]] = {}
        self._fetching: t.Fetch | None = None
        self._largest = limits.batch_bytes
        self._announced: int | None = None  # the largest message that the broker says it takes
        self._presence = "online"
        self._shedding = False
        self._budget: int | None = None
        self._drain_until: BootNs | None = None
        self._out: list[t.Action] = []

    # --- what the shell reads ---------------------------------------------------------------------

    @property
    def pending(self) -> int:
        """Records that the depot has not acknowledged, as far as it told us."""
        return sum(max(lane.head - lane.depot, 0) for lane in self._lanes.values())

    def next_deadline(self) -> BootNs | None:
        """When ``handle(t.Tick(), at)`` is due, if nothing else happens before."""
        times = [self._link_deadline, self._drain_until]
        if self.link is Link.UP:
            times.append(self._puback_deadline())
            for lane in self._lanes.values():
                times.append(self._ack_deadline(lane))
                times.append(lane.paused_until)
        return min((t for t in times if t is not None), default=None)

    def status(self) -> dict[str, object]:
        """For people: the link, and where each stream stands (sequence numbers)."""
        return {
            "link": self.link.value,
            "failed_connections": self._waits.failures,
            "in_window": len(self._unconfirmed),
            "pending": self.pending,
            "streams": {
                stream.value: {"head": lane.head, "sent": lane.sent, "acked": lane.depot, "tries": lane.tries}
                for stream, lane in self._lanes.items()
            },
        }

    # --- events -----------------------------------------------------------------------------------

    def handle(self, event: t.Event, at: BootNs) -> list[t.Action]:
        """Take one event; return what is to be done, in order."""
        self._take(event, at)
        self._time(at)
        self._pump()
        self._finish_drain(at)
        actions, self._out = self._out, []
        return actions

    def _take(self, event: t.Event, at: BootNs) -> None:
        match event:
            case t.Connected():
                self._connected(event, at)
            case t.Disconnected():
                self._wait(at, event.ending, event.detail)
            case t.Puback():
                self._puback(event, at)
            case t.DataAvailable():
                lane = self._lanes[event.stream]
                lane.head = max(lane.head, event.head)
            case t.Fetched():
                self._fetched(event, at)
            case t.FetchFailed():
                if self._fetching is not None and self._fetching.token == event.token:
                    self._pause(self._lanes[self._fetching.stream], at, self._limits.backoff_s)
                    self._fetching = None
            case t.DepotAck():
                self._depot_ack(event, at)
            case t.AckSettled():
                self._settled(event, at)
            case t.Announced():
                self._presence = event.what
                self._present(at)
            case t.Shedding():
                self._shedding = event.on
            case t.BudgetSet():
                self._budget = event.left
            case t.DrainAsked():
                self._drain_until = event.until
                if self.link is Link.WAITING:
                    self._link_deadline = at
            case t.Tick():
                pass

    # --- the connection ---------------------------------------------------------------------------

    def _connected(self, event: t.Connected, at: BootNs) -> None:
        if self.link is not Link.CONNECTING:
            return
        self.link, self._link_deadline = Link.UP, None
        self._announced = event.batch_bytes
        self._largest = min(self._limits.batch_bytes, event.batch_bytes or self._limits.batch_bytes)
        self._tell(self._waits.connected(event.notice))
        # Signed heads go before any backlog, so that a tail that is cut off later shows.
        self._present(at)

    def _tell(self, report: t.Report | None) -> None:
        if report is not None:
            self._out.append(report)

    def _present(self, at: BootNs) -> None:
        if self.link is Link.UP:
            self._token += 1
            self._unconfirmed[self._token] = (at, None, None)
            self._out.append(t.Present(self._token, self._presence))

    def _wait(self, at: BootNs, ending: Ending = Ending.NETWORK, detail: str = "") -> None:
        """Wait before the next try."""
        self._judge(at, ending)
        self._forget()
        self._tell(self._waits.trouble(ending, detail))
        self.link = Link.WAITING
        self._link_deadline = BootNs(at + int(self._waits.after(ending) * SECOND))

    def _give_up(self, at: BootNs, why: str) -> None:
        self._out.append(t.Disconnect(why))
        self._wait(at)

    def _judge(self, at: BootNs, ending: Ending) -> None:
        """Hold the end of a connection against what was on its way: brokers hang up at what is too large.

        MQTT 3.1.1 has no other answer to it, and paho 2.2 hangs up at Mosquitto's answer in 5.0 (0x95).
        """
        open_ = [
            (lane, flight)
            for _, lane, flight in self._unconfirmed.values()
            if lane is None or flight is None or flight.last > lane.depot
        ]
        for lane, flight in open_:
            if lane is not None and flight is not None:
                lane.suspect_to = max(lane.suspect_to, flight.last)
                if len(open_) == 1:
                    self._ended_under(lane, flight, at, ending)

    def _ended_under(self, lane: Lane, flight: Flight, at: BootNs, ending: Ending) -> None:
        """A connection ended with nothing else on its way. One block alone may be there by chance."""
        if flight.blocks > 1:
            lane.shrink(flight)
            lane.grow_every, lane.acks = self._limits.grow_after, 0
        elif lane.ended_under(flight.last) >= self._limits.ended_after or ending is Ending.TOO_LARGE:
            self._refused(
                lane,
                flight,
                at,
                f"connections end at the block up to {flight.last}, a message of {flight.size} bytes: "
                "it may be larger than the broker takes",
            )

    def _forget(self) -> None:
        """What travelled on the lost connection may be lost: begin again at what the depot has."""
        self._unconfirmed.clear()
        self._fetching = None
        for lane in self._lanes.values():
            lane.back_to(lane.depot)
            lane.again_from = None

    # --- sending ----------------------------------------------------------------------------------

    def _pump(self) -> None:
        """Fetch for the first stream, in order of priority, that has something and may send it."""
        if self.link is not Link.UP or self._fetching is not None:
            return
        for lane in self._lanes.values():
            if self._may_send(lane):
                self._token += 1
                size = min(lane.batch_bytes, self._largest)
                self._fetching = t.Fetch(self._token, lane.stream, lane.sent, size)
                self._out.append(self._fetching)
                return

    def _may_send(self, lane: Lane) -> bool:
        if lane.sent >= lane.head or lane.paused_until is not None:
            return False
        # After a timeout one batch asks whether the depot is back: a broker without its depot must not
        # fill with copies.
        if len(lane.flights) >= (1 if lane.tries else self._limits.beyond):
            return False
        if self._unconfirmed and any(each.suspect for each in self._lanes.values()):
            return False
        room = self._limits.window - len(self._unconfirmed)
        if lane.stream is not t.BULK:
            return room > 0
        if self._drain_until is None and (self._shedding or (self._budget is not None and self._budget <= 0)):
            return False
        return room > self._limits.reserved

    def _fetched(self, event: t.Fetched, at: BootNs) -> None:
        asked = self._fetching
        if asked is None or asked.token != event.token:
            return  # of an earlier connection
        self._fetching = None
        lane = self._lanes[asked.stream]
        if asked.after != lane.sent:
            return  # the depot asked for something else meanwhile
        if event.blocks == 0:
            lane.head = lane.sent
            return
        flight = Flight(asked.after, event.last, event.blocks, event.size, at)
        if event.blocks == 1 and self._announced is not None and event.size > self._announced:
            detail = f"{event.size} bytes, and the broker takes {self._announced}"
            self._refused(lane, flight, at, f"the block up to {event.last} is a message of {detail}")
            return
        lane.flights.append(flight)
        lane.sent = event.last
        self._unconfirmed[event.token] = (at, lane, flight)
        if lane.stream is t.BULK and self._budget is not None:
            self._budget -= event.size
        self._out.append(t.Publish(event.token, lane.stream))

    def _puback(self, event: t.Puback, at: BootNs) -> None:
        _, lane, flight = self._unconfirmed.pop(event.token, (at, None, None))
        if lane is None or flight is None:
            return
        if event.code < t.REFUSED:
            lane.cleared(flight.last)
            return
        if flight.last <= lane.depot:
            return
        lane.back_to(max(lane.depot, min(lane.sent, flight.after)))
        if event.code == QUOTA_EXCEEDED:
            detail = f"the broker has no room for what goes up to {flight.last}"
            self._refused(lane, flight, at, detail, t.Trouble.FULL)
            return
        if flight.blocks > 1 and event.code != NOT_AUTHORISED:
            lane.shrink(flight)  # finds the block that the broker will not take
            return
        self._refused(lane, flight, at, f"the broker refuses the block up to {flight.last}: {event.code:#x}")

    def _refused(
        self, lane: Lane, flight: Flight, at: BootNs, detail: str, trouble: t.Trouble = t.Trouble.REFUSED
    ) -> None:
        """The broker will not take it, in whatever size: its stream waits, the others go on."""
        self._report(lane, trouble, flight.last, detail)
        self._pause(lane, at, self._doubled(self._limits.refused_s, lane))
        lane.tries += 1

    def _pause(self, lane: Lane, at: BootNs, pause_s: int) -> None:
        lane.paused_until = BootNs(at + pause_s * SECOND)

    def _report(self, lane: Lane, trouble: t.Trouble, seq: int, detail: str) -> None:
        """Say it once, until the depot has what ``seq`` names."""
        if trouble not in lane.reported:
            lane.reported[trouble] = seq
            self._out.append(t.Report(trouble, lane.stream, detail))

    # --- the depot's acks -------------------------------------------------------------------------

    def _depot_ack(self, ack: t.DepotAck, at: BootNs) -> None:
        self._waits.useful()
        lane = self._lanes[ack.stream]
        if ack.seq > lane.head:
            self._report(
                lane, t.Trouble.AHEAD, ack.seq, f"the depot has {ack.seq}, our newest is {lane.head}"
            )
        elif ack.seq <= lane.acked:
            self._advance(lane, ack, at)
        elif lane.settling is None:
            lane.settling = ack
            self._out.append(t.AckToStore(ack.stream, ack.seq, ack.chain_hash))
        elif lane.waiting is None or ack.seq >= lane.waiting.seq:
            lane.waiting = ack  # one commit lets go what many acks named

    def _settled(self, event: t.AckSettled, at: BootNs) -> None:
        lane = self._lanes[event.stream]
        ack, lane.settling = lane.settling, None
        following, lane.waiting = lane.waiting, None
        if ack is not None and event.ok:
            lane.acked = max(lane.acked, ack.seq)
            self._advance(lane, ack, at)
        elif ack is not None and event.ok is not None:
            self._report(
                lane, t.Trouble.MISMATCH, ack.seq, f"the depot's hash at {ack.seq} is not that of our chain"
            )
        if following is not None:
            self._depot_ack(following, at)

    def _advance(self, lane: Lane, ack: t.DepotAck, at: BootNs) -> None:
        """Take over the depot's head; go back when it asks, once for each head."""
        if ack.seq > lane.depot:
            lane.depot = ack.seq
            lane.sent = max(lane.sent, ack.seq)
            while lane.flights and lane.flights[0].last <= ack.seq:
                lane.flights.popleft()
            lane.tries, lane.paused_until, lane.again_from, lane.moved_at = 0, None, None, at
            lane.reported = {kind: seq for kind, seq in lane.reported.items() if seq > ack.seq}
            lane.cleared(ack.seq)
            lane.grow(self._limits.batch_bytes)
        if ack.again and lane.again_from != ack.seq:
            lane.again_from = lane.depot = ack.seq
            lane.back_to(ack.seq)

    # --- time -------------------------------------------------------------------------------------

    def _time(self, at: BootNs) -> None:
        for lane in self._lanes.values():
            if lane.paused_until is not None and at >= lane.paused_until:
                lane.paused_until = None
        if self._link_deadline is not None and at >= self._link_deadline:
            if self.link is Link.WAITING:
                self.link = Link.CONNECTING
                self._link_deadline = BootNs(at + self._limits.connect_s * SECOND)
                self._out.append(t.Connect())
            elif self.link is Link.CONNECTING:
                self._give_up(at, f"no connection within {self._limits.connect_s} s")
        if self.link is not Link.UP:
            return
        silent = self._puback_deadline()
        if silent is not None and at >= silent:
            self._give_up(at, f"no PUBACK within {self._limits.puback_s} s")
            return
        for lane in self._lanes.values():
            late = self._ack_deadline(lane)
            if late is not None and at >= late:
                self._ack_timeout(lane)

    def _ack_timeout(self, lane: Lane) -> None:
        lane.tries += 1
        if lane.tries >= self._limits.stuck_after:
            self._report(
                lane,
                t.Trouble.STUCK,
                lane.depot + 1,
                f"the depot does not acknowledge what follows {lane.depot}",
            )
        if lane.tries > 1:
            # A broker of MQTT 3.1.1 confirms a batch that is too large for it and drops it.
            lane.shrink(lane.flights[0])
        lane.again_from = None
        lane.back_to(lane.depot)

    def _ack_deadline(self, lane: Lane) -> BootNs | None:
        if not lane.flights:
            return None
        since = max(lane.flights[0].sent_at, lane.moved_at or 0)
        return BootNs(since + self._doubled(self._limits.ack_s, lane) * SECOND)

    def _puback_deadline(self) -> BootNs | None:
        oldest = next(iter(self._unconfirmed.values()), None)
        return None if oldest is None else BootNs(oldest[0] + self._limits.puback_s * SECOND)

    def _doubled(self, base_s: int, lane: Lane) -> int:
        return min(base_s << min(lane.tries, 30), self._limits.retry_cap_s)

    def _finish_drain(self, at: BootNs) -> None:
        if self._drain_until is None:
            return
        presence_out = any(lane is None for _, lane, _ in self._unconfirmed.values())
        delivered = self.pending == 0 and not presence_out
        if delivered or at >= self._drain_until:
            self._drain_until = None
            self._out.append(t.DrainDone(self.pending))
