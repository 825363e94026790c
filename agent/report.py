"""What the daemon tells others about itself: the verbs of the control socket and its stream of events."""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from agent.control import Refusal, Verb
from agent.core import explain
from agent.core.records import Record
from agent.core.state import State
from agent.core.types import BootNs, Decision, Effects, Explain, Observation, Write
from agent.runtime import Runtime

# Ours: a shift's worth of changes. Sealed records cannot be read back from the store; this can.
RING = 500

Section = Callable[[], object]


class Reporter:
    """Keeps the last records in memory, publishes changes, answers status, why, events and queue.

    ``sections`` add to the status what parts know of themselves; ``queue`` reads the store's numbers.
    """

    def __init__(
        self,
        *,
        identity: Mapping[str, str],
        now: Callable[[], BootNs],
        publish: Callable[[Mapping[str, Any]], None],
        queue: Callable[[], Awaitable[object]],
        sections: Mapping[str, Section],
    ) -> None:
        self._identity = dict(identity)
        self._now = now
        self._publish = publish
        self._queue = queue
        self._sections = sections
        self._ring: deque[dict[str, Any]] = deque(maxlen=RING)
        self._runtime: Runtime | None = None

    def attach(self, runtime: Runtime) -> None:
        self._runtime = runtime

    def configured(self, digest: str) -> None:
        """Another configuration is in force."""
        self._identity["config"] = digest

    def verbs(self) -> dict[str, Verb]:
        return {
            "status": Verb(lambda _args: self.status()),
            "why": Verb(self._why),
            "events": Verb(self._events, consults=True),
            "queue": Verb(lambda _args: self._queue()),
            "version": Verb(lambda _args: self._identity),
        }

    def watch(self, _observation: Observation, _state: State, effects: Effects) -> None:
        """A watcher of the runtime: notes records, publishes them, and the status after a decision."""
        decided = False
        for effect in effects:
            if isinstance(effect, Write):
                self.note(effect.record)
            elif isinstance(effect, Explain):
                decided = True
        if decided:
            self._publish({"event": "status", "boot_ns": self._now(), "status": self.core_status()})

    def note(self, record: Record) -> None:
        """Keep a record among the newest, and publish it."""
        event = {
            "kind": record.kind.name,
            "stream": record.kind.stream.value,
            "boot_ns": record.at,
            "fields": record.as_dict(),
        }
        self._ring.append(event)
        self._publish({"event": "record", **event})

    def explained(self, decision: Decision) -> None:
        """Publish a decision to subscribers."""
        self._publish(
            {
                "event": "decision",
                "topic": decision.topic,
                "verdict": decision.verdict,
                "rule": decision.rule,
                "because": decision.because,
                "boot_ns": decision.at,
            }
        )

    def core_status(self) -> dict[str, Any]:
        runtime = self._running()
        return explain.status(runtime.state, runtime.policy, self._now())

    def status(self) -> dict[str, Any]:
        """Everything at a glance: the core's view and each part's own."""
        core = self.core_status()
        parts = {name: section() for name, section in self._sections.items()}
        runtime = self._running()
        return {
            **self._identity,
            **core,
            "runtime": {"steps": runtime.steps, "dropped": runtime.dropped},
            **parts,
        }

    def _why(self, args: Mapping[str, Any]) -> object:
        topic = args.get("topic", "tether")
        if topic not in explain.TOPICS:
            raise Refusal("bad_request", f"no topic {topic!r}", f"known: {', '.join(explain.TOPICS)}")
        runtime = self._running()
        return explain.why(runtime.state, topic, runtime.policy, self._now())

    def _events(self, args: Mapping[str, Any]) -> object:
        last = args.get("last", 50)
        if type(last) is not int or not 1 <= last <= RING:  # True is an int, and no number
            raise Refusal("bad_request", f"last: expected 1 to {RING}, came {last!r}", "give a number")
        return {"now_ns": self._now(), "events": list(self._ring)[-last:]}

    def _running(self) -> Runtime:
        if self._runtime is None:
            raise Refusal("starting", "the agent is still starting", "try again in a moment")
        return self._runtime
