"""Which vehicle profiles fit what is heard on a bus, ranked, with the evidence. Sans-IO; it only listens.

Each frame of each profile is watched by itself. A frame speaks for a profile when its length, range, checksum
and counter are right: a checksum says more than a counter, a counter more than an id, for ids collide.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from agent.core.types import BootNs
from drivers.vehicles.codec import ERROR, Frame, Profile
from drivers.vehicles.watch import CompiledProfile

# What a right frame says for its profile; ours.
PLAIN, COUNTED, CHECKED = 1, 3, 6
LEAST_FRAMES = 3  # ours: one frame may be a coincidence
REFUSED_SHARE = 0.1  # ours: of a frame whose id is another maker's more than that is refused
REASONS = ("wrong_length", "wrong_format", "checksum", "counter", "range", "other_sender")


@dataclass(frozen=True, slots=True)
class FrameFit:
    """What was heard of one frame of a profile."""

    name: str
    heard: int
    refused: dict[str, int]
    says: tuple[str, ...]  # last value of each signal, in words

    @property
    def right(self) -> bool:
        """It was heard, says something, and was seldom refused."""
        return self.heard >= LEAST_FRAMES and bool(self.says) and not self.wrong

    @property
    def wrong(self) -> bool:
        return sum(self.refused.values()) > max(1, self.heard * REFUSED_SHARE)


@dataclass(frozen=True, slots=True)
class Fit:
    """How a profile fits. ``weight`` orders: what speaks for it; 0 says that nothing does."""

    profile: str
    weight: int
    frames: tuple[FrameFit, ...]

    @property
    def because(self) -> str:
        """The evidence in one sentence."""
        right = [f"{frame.name} ({', '.join(frame.says)})" for frame in self.frames if frame.right]
        wrong = [f"{frame.name} is another maker's" for frame in self.frames if frame.wrong]
        missing = [frame.name for frame in self.frames if not frame.heard]
        parts = [f"right: {', '.join(right)}"] if right else []
        parts += wrong
        if missing:
            parts.append(f"not heard: {', '.join(missing)}")
        return "; ".join(parts) or "nothing that decides"


class Detector:
    """Listens to one bus for many profiles."""

    def __init__(self, profiles: Sequence[Profile]) -> None:
        self.heard = 0
        self._watched = [
            (profile, [_Watched(profile, frame) for frame in profile.frames])
            for profile in profiles
            if profile.frames
        ]

    def feed(self, frames: Iterable[bytes], at: BootNs) -> None:
        """Take in frames, struct can_frame each."""
        for raw in frames:
            self.heard += 1
            word = int.from_bytes(raw[:4], sys.byteorder)
            for _, watched in self._watched:
                for each in watched:
                    each.feed(raw, word, at)

    def ranking(self) -> list[Fit]:
        """Every profile, the best first. One with a frame that is another maker's ranks with nothing."""
        fits = [_fit(profile, tuple(each.fit() for each in watched)) for profile, watched in self._watched]
        return sorted(fits, key=lambda fit: -fit.weight)


def _fit(profile: Profile, frames: tuple[FrameFit, ...]) -> Fit:
    if any(frame.wrong for frame in frames):
        return Fit(profile.name, 0, frames)
    weights = [_weight(frame) for frame in profile.frames]
    return Fit(
        profile.name,
        sum(weight for fit, weight in zip(frames, weights, strict=True) if fit.right),
        frames,
    )


def _weight(frame: Frame) -> int:
    return CHECKED if frame.checksum else COUNTED if frame.counter else PLAIN


class _Watched:
    """One frame of a profile by itself, whichever bus the profile has it on."""

    def __init__(self, profile: Profile, frame: Frame) -> None:
        self._name = frame.name
        self._alone = CompiledProfile(replace(profile, frames=(frame,)), frame.bus)
        ((self._id, self._mask),) = self._alone.filters()
        self._frame = frame
        self._says: dict[str, str] = {}

    def feed(self, raw: bytes, word: int, at: BootNs) -> None:
        if word & ERROR or word & self._mask != self._id & self._mask or not self._frame.matches(raw):
            return
        for signal in self._alone.feed([raw], at):
            value = getattr(signal.value, "value", signal.value)
            self._says[signal.kind.value] = f"{signal.kind.value} {value}"

    def fit(self) -> FrameFit:
        counts = self._alone.counters.values
        refused = {reason: counts[reason] for reason in REASONS if counts.get(reason)}
        return FrameFit(self._name, counts.get("frames", 0), refused, tuple(self._says.values()))
