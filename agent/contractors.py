"""A contractor without root: what a signed token allows on this tablet, and for how long. docs/permits.md.

Time is powered time of this tablet from the token's first presentation, on the boot clock. What was used is
on disk before anything is done with it. A boot costs what is not known of the one before, and the third is
the last: so setting clocks back, pulling the battery and waiting gain nothing.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Protocol

from agent import durable
from agent.control import Caller, Peer, Refusal
from agent.core.catalogue import CONTRACTOR_REFUSED, CONTRACTOR_USED
from agent.core.records import Record
from agent.core.types import MINUTE, SECOND, BootNs

FILE = "contractors.json"  # in the state folder, 0600
BOOTS_MAX = 3  # ours, as for permits: the third boot after the first presentation is the last
FORFEIT_NS = 10 * MINUTE  # ours, as for permits: a boot costs so much of what was not accounted for
TOKENS_MAX = 32  # ours: remembered one by one; what is older than all of them counts as used up
TEXT_MAX = 8192  # characters of a token; sync/signed.py looks at no more
SPACING_NS = 10 * SECOND  # ours: whoever guesses must not flood the audit stream


class Token(Protocol):
    """What a verified token says."""

    @property
    def id(self) -> str: ...
    @property
    def number(self) -> int: ...
    @property
    def actions(self) -> tuple[str, ...]: ...
    @property
    def contractor(self) -> str: ...
    @property
    def minutes(self) -> int: ...


@dataclass(slots=True)
class _Box:
    """What was used of one token: in earlier boots, and since when in this one."""

    number: int
    boot_id: str
    since: int  # boot ns from which this boot counts
    seen: int  # boot ns of the last use
    used_ns: int = 0  # in earlier boots
    boots: int = 1

    def spent_ns(self, now: BootNs) -> int:
        return self.used_ns + now - self.since


class Contractors:
    """``read`` verifies a token for this tablet, or raises ValueError; None: no key is configured."""

    def __init__(
        self,
        file: Path,
        boot_id: str,
        read: Callable[[str], Token] | None,
        group: int | None,
        record: Callable[[Record], None],
        now: Callable[[], BootNs],
    ) -> None:
        self._file = file
        self._boot_id = boot_id
        self._read = read
        self._group = group
        self._record = record
        self._now = now
        self._trusted = {0, os.geteuid()}
        self._refused_at: BootNs | None = None
        self._unsaid = 0
        self._begin()

    def trusted(self, peer: Peer) -> bool:
        """Root and the agent's own user need no token."""
        return peer.uid in self._trusted

    def allow(self, action: str, token: object, caller: Caller) -> None:
        """Return if the caller may; each use of a token is recorded. Raises Refusal."""
        if self.trusted(caller.peer):
            return
        try:
            used, left_ns = self._checked(action, token, caller.peer)
        except Refusal as refusal:
            self._note_refusal(action, caller.peer, str(refusal))
            raise
        left_s = left_ns // SECOND
        self._record(
            CONTRACTOR_USED.make(
                self._now(), token=used.id, number=used.number, contractor=used.contractor, action=action,
                left_s=left_s, uid=caller.peer.uid,
            )
        )  # fmt: skip
        caller.tell({"step": "token", "text": f"token {used.number}: {left_s // 60} min left"})

    def _checked(self, action: str, token: object, peer: Peer) -> tuple[Token, int]:
        root = "use sudo, or a token of the fleet with --token"
        if token is None:
            raise Refusal("forbidden", f"dock.{action} is for root and the agent's own user", root)
        if self._read is None or self._group is None:
            raise Refusal("forbidden", "this tablet takes no contractor's tokens", "see [contractors]")
        if self._group not in peer.groups:
            raise Refusal("forbidden", f"user {peer.uid} is not in the contractors' group", "join it")
        if not isinstance(token, str) or len(token) > TEXT_MAX:
            raise Refusal("bad_request", f"token: expected text of at most {TEXT_MAX} characters")
        try:
            read = self._read(token)
        except ValueError as error:
            raise Refusal("bad_token", str(error), "have it sent again") from None
        if action not in read.actions:
            raise Refusal("bad_token", f"the token allows {', '.join(read.actions)}, not {action}")
        return read, self._charge(read)

    def _charge(self, token: Token) -> int:
        """Count this use, durably; returns what is left."""
        boxes, floor = self._load()
        now = self._now()
        box = boxes.get(token.id)
        if box is None:
            if token.number <= floor:
                raise Refusal(
                    "used_up", f"token {token.number} is older than all that are known", "get another"
                )
            box = boxes[token.id] = _Box(token.number, self._boot_id, now, now)
        self._turn_over(boxes)
        box.seen = now
        left_ns = token.minutes * MINUTE - box.spent_ns(now)
        if box.boots > BOOTS_MAX:
            left_ns = 0
        self._store(boxes, floor)
        if left_ns <= 0:
            raise Refusal("used_up", f"the time of token {token.number} is over", "get another")
        return left_ns

    def _begin(self) -> None:
        """A boot in which a token is not presented counts too. A disk that fails is met again at a use."""
        with suppress(Refusal):
            boxes, floor = self._load()
            if self._turn_over(boxes):
                self._store(boxes, floor)

    def _turn_over(self, boxes: dict[str, _Box]) -> bool:
        """Charge what belongs to an earlier boot: of that one no more is known than the last use."""
        old = [box for box in boxes.values() if box.boot_id != self._boot_id]
        for box in old:
            box.used_ns += box.seen - box.since + FORFEIT_NS
            # Of this boot all counts, also what was before the next use.
            box.boot_id, box.since, box.seen, box.boots = self._boot_id, 0, 0, box.boots + 1
        return bool(old)

    def _note_refusal(self, action: str, peer: Peer, why: str) -> None:
        now = self._now()
        if self._refused_at is not None and now < self._refused_at + SPACING_NS:
            self._unsaid += 1
            return
        self._record(CONTRACTOR_REFUSED.make(now, action=action, why=why, before=self._unsaid, uid=peer.uid))
        self._refused_at, self._unsaid = now, 0

    # --- on disk ---

    def _load(self) -> tuple[dict[str, _Box], int]:
        try:
            held = json.loads(self._file.read_text())
            return {id_: _Box(**box) for id_, box in held["tokens"].items()}, int(held["floor"])
        except FileNotFoundError:
            return {}, 0
        except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
            raise Refusal(
                "store", f"{self._file}: what was used of tokens is not known ({type(error).__name__})",
                "root may remove that file; then old tokens count anew",
            ) from None  # fmt: skip

    def _store(self, boxes: dict[str, _Box], floor: int) -> None:
        while len(boxes) > TOKENS_MAX:
            oldest = min(boxes, key=lambda id_: boxes[id_].number)
            floor = max(floor, boxes.pop(oldest).number)
        held = {"floor": floor, "tokens": {id_: asdict(box) for id_, box in boxes.items()}}
        try:
            durable.replace(self._file, json.dumps(held))
        except OSError as error:
            raise Refusal(
                "store", f"{self._file}: the use of the token cannot be kept: {error.strerror}",
                "nothing is done without that; see `ivmactl status`, store",
            ) from None  # fmt: skip
