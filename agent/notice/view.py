"""What an officer is shown, from what the agent says of itself. Pure: time is given.

Whatever is missing or not understood makes the notice say less, never that the tablet may be used.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from agent.core.types import MS, BootNs
from agent.notice.words import Words

KINDS = ("docked", "uncertain", "restricted", "foreign", "unknown", "permit", "override", "silent")
# Which of them hold the tablet locked, and which run out.
_TONES = {"docked": "go", "uncertain": "soon", "permit": "timed", "override": "timed"}
_LABELS = {"uncertain": "locks", "permit": "ends", "override": "ends"}
_OFFERING = ("uncertain", "restricted", "foreign", "unknown")


@dataclass(frozen=True, slots=True)
class Challenge:
    text: str
    until: BootNs


@dataclass(frozen=True, slots=True)
class Report:
    """What the agent said last, with every time left turned into a boot time."""

    kind: str
    rule: str = ""
    because: str = ""
    until: BootNs | None = None  # when use ends, if nothing else happens
    overrides_left: int | None = None  # None: the agent does not say, and so offers none
    codes: bool = False  # the agent takes short codes
    challenge: Challenge | None = None
    wait_until: BootNs | None = None  # no code is taken before
    device: str = ""


SILENT = Report("silent")


def report(told: Mapping[str, Any], now: BootNs) -> Report:
    """Read the agent's answer to `notice`, as of ``now``.

    Raises:
        ValueError, TypeError, KeyError: they are not those of an agent.
    """
    tether, grants = told["tether"], told.get("grants") or {}
    kind, left_ms = _kind(tether, grants)
    if kind not in KINDS:
        raise ValueError(f"a tether state {kind!r}, which this notice does not know")
    challenge, wait_s = grants.get("challenge"), grants.get("code_wait_s") or 0
    return Report(
        kind,
        str(told["rule"]),
        str(told["because"]),
        None if left_ms is None else _in(now, left_ms),
        None if "overrides_left" not in grants else int(grants["overrides_left"]),
        "challenge" in grants,
        Challenge(str(challenge["challenge"]), _in(now, 1000 * challenge["s_left"])) if challenge else None,
        _in(now, 1000 * wait_s) if wait_s else None,
        str(told.get("device", "")),
    )


def _kind(tether: Mapping[str, Any], grants: Mapping[str, Any]) -> tuple[str, int | None]:
    state, usable = str(tether["state"]), tether["usable"] is True
    if state == "tethered":
        return ("docked", None) if usable else ("unknown", None)
    by_grant = str(grants.get("state", "none"))
    if usable and "override" in by_grant:
        return "override", 1000 * int(grants["override_s_left"])
    if usable and by_grant != "none":
        permit = grants.get("permit") or {}
        return "permit", 1000 * int(permit["s_left"]) if permit.get("s_left") is not None else None
    if state == "uncertain":
        if usable:
            return "uncertain", int(tether["ride_through_ms_left"])
        return "restricted", None
    return state, None


def _in(now: BootNs, left_ms: int) -> BootNs:
    return BootNs(now + int(left_ms) * MS)


def render(said: Report, words: Words, now: BootNs) -> dict[str, Any]:
    """The notice as the page takes it: every word, and what is left of every time, in ms."""
    state = getattr(words.states, said.kind)
    locked = said.kind in ("uncertain", "restricted", "foreign", "unknown")
    why = words.rules.get(said.rule, said.because or state.why) if locked else state.why
    return {
        "kind": said.kind,
        "tone": _TONES.get(said.kind, "stop"),
        "title": state.title,
        "why": _sentence(why),
        "steps": list(state.steps),
        "countdown": _countdown(said, words, now),
        "override": _override(said, words),
        "code": _code(said, words, now),
    }


def _sentence(text: str) -> str:
    """The agent's own words begin small and end without a stop."""
    text = text.strip()
    return text if not text or text[-1] in ".!?" else f"{text[0].upper()}{text[1:]}."


def _left_ms(until: BootNs, now: BootNs) -> int:
    return max(0, until - now) // MS


def _countdown(said: Report, words: Words, now: BootNs) -> dict[str, Any] | None:
    if said.until is None or said.kind not in _LABELS:
        return None
    return {
        "left_ms": _left_ms(said.until, now),
        "label": getattr(words.countdown, _LABELS[said.kind]),
        "seconds": words.countdown.seconds,
        "minutes": words.countdown.minutes,
    }


def _override(said: Report, words: Words) -> dict[str, Any] | None:
    if said.kind not in _OFFERING or said.overrides_left is None:
        return None
    left = words.override.left.format(left=said.overrides_left)
    return {
        "left": said.overrides_left,
        "offer": words.override.offer,
        "left_words": left,
        "none": words.override.none,
        "title": words.override.title,
        "text": words.override.text.format(left=said.overrides_left),
        "yes": words.override.yes,
        "no": words.override.no,
    }


def _code(said: Report, words: Words, now: BootNs) -> dict[str, Any] | None:
    if said.kind not in _OFFERING or not said.codes:
        return None
    code, challenge = words.code, said.challenge
    shown = challenge.text if challenge is not None and now < challenge.until else ""
    return {
        "offer": code.offer,
        "title": code.title,
        "how_long": code.how_long,
        "options": [list(option) for option in code.options],
        "read_out": code.read_out.format(device=said.device),
        "challenge": "-".join(shown[at : at + 4] for at in range(0, len(shown), 4)),
        "then": code.then,
        "send": code.send,
        "delete": code.delete,
        "back": code.back,
        "entered": code.entered,
        "wait": code.wait,
        "seconds": words.countdown.seconds,
        "wait_ms": 0 if said.wait_until is None else _left_ms(said.wait_until, now),
    }
