"""The tablet's side of a dock that has control lines only: levels to hints, wishes to levels. Sans-IO.

Nothing here is proved: who bridges two pins says what he likes. What a hint may bring about is policy.
"""

from __future__ import annotations

from agent.core.types import (
    MS,
    SECOND,
    BootNs,
    CommandOutcome,
    Counters,
    DockCommandDone,
    DockHint,
    DockLinkLost,
    DockLinkUp,
    DriveOutputs,
    HintKind,
    LinkLoss,
    Observation,
)
from drivers.docks.control_lines.codec import (
    NO_INPUT,
    NO_OUTPUT,
    Input,
    Look,
    LookDecoder,
    Output,
    encode_set,
)
from drivers.docks.control_lines.wiring import Wiring
from drivers.spec import DockSettings, Entropy

# Said again although nothing changed, so that it does not go stale (policy.tether.hint_fresh_ms): with each
# look of a port that looks once a second, and not with each of one that looks more often. Ours.
REPEAT_NS = 900 * MS
COMMAND_NS = 1 * SECOND  # until a level that does not show in a look counts as lost; ours
# As they stand before anybody asks: the tablet powered, no alarm.
IDLE = DriveOutputs(latch=False, led=False, buzzer=False, power_hold=True, supply_enable=True)


class ControlLinesSession:
    """Implements ``drivers.spec.DockSession``; its bytes are those of ``codec``."""

    def __init__(self, settings: DockSettings, _entropy: Entropy) -> None:
        self._name = settings.name
        self._wiring = Wiring.of(settings.options)
        self._decoder = LookDecoder()
        self._pulses = 0
        self._up = False
        self._look: Look | None = None
        self._looked_at: BootNs = BootNs(0)
        self._steady: Input | None = None  # inputs that have stood for the debounce time
        self._since: BootNs = BootNs(0)  # since when the inputs stand as they do
        self._said_at: BootNs | None = None
        self._pulsed = NO_INPUT
        self._wanted = self._levels(IDLE, NO_OUTPUT)
        if "power_cut" in self._wiring.drives:
            self._wanted = self._wiring.drives["power_cut"].put(False, self._wanted)
        self._commands: dict[str, BootNs] = {}  # under way, with the time at which each is given up
        self._out = b""

    @property
    def name(self) -> str:
        return self._name

    # --- the wire ---

    def link_up(self, at: BootNs) -> list[Observation]:
        self._up, self._look, self._steady, self._said_at = True, None, None, None
        self._decoder = LookDecoder()
        self._out = encode_set(self._wanted)
        return [DockLinkUp(at, self._name)]

    def link_lost(self, at: BootNs, reason: LinkLoss) -> list[Observation]:
        self._up, self._look, self._steady, self._out = False, None, None, b""
        return [DockLinkLost(at, self._name, reason), *self._finish(at, CommandOutcome.LOST)]

    def feed(self, data: bytes, at: BootNs) -> list[Observation]:
        found: list[Observation] = []
        if not self._up:
            return found
        for look in self._decoder.feed(data):
            self._take(look, at)
            if look.outputs == self._wanted:
                found += self._finish(at, CommandOutcome.DONE)
        return [*found, *self.timer(at)]

    def timer(self, at: BootNs) -> list[Observation]:
        """Say what has stood for long enough, say it again in time, give up what does not come about."""
        late = [name for name, until in self._commands.items() if at >= until]
        found: list[Observation] = [self._done(name, at, CommandOutcome.LOST) for name in late]
        look = self._look
        if look is None:
            return found
        settled = at >= self._since + self._wiring.debounce_ns
        changed = settled and look.inputs != self._steady
        if changed:
            self._steady = look.inputs
        again = self._said_at is None or at >= self._said_at + REPEAT_NS
        # Only a fresh look that says the same is said again: a port that hangs, or a line that has just
        # moved, goes stale.
        fresh = self._said_at is None or (self._looked_at > self._said_at and look.inputs == self._steady)
        if self._steady is not None and (changed or (again and fresh)):
            found.append(self._hint(at, self._steady))
        return found

    def next_deadline(self) -> BootNs | None:
        times: list[BootNs] = list(self._commands.values())
        if self._look is not None and self._look.inputs != self._steady:
            times.append(BootNs(self._since + self._wiring.debounce_ns))
        return min(times, default=None)

    def outgoing(self) -> bytes:
        data, self._out = self._out, b""
        return data

    def counters(self) -> Counters:
        return Counters({**self._decoder.dropped, "pulses": self._pulses})

    # --- what the agent asks for ---

    def drive(self, wanted: DriveOutputs, at: BootNs) -> None:
        levels = self._levels(wanted, self._wanted)
        asked = any(getattr(wanted, name, None) is not None for name in self._wiring.drives)
        if asked:
            self._ask("outputs", levels, at)

    def cut_power(self, seconds: int | None, at: BootNs) -> None:
        """Assert the line at once, or take it back: when it cuts is the dock's own delay."""
        drive = self._wiring.drives.get("power_cut")
        if drive is not None:
            self._ask("power_cut_in", drive.put(seconds is not None, self._wanted), at)

    def prove(self, at: BootNs) -> None:
        """There is nothing that it could prove by."""

    # --- inside ---

    def _take(self, look: Look, at: BootNs) -> None:
        before = self._look
        # A pulse began and ended between two looks: the level has not stood since before it.
        pulsed = look.moved if before is not None and before.inputs == look.inputs else NO_INPUT
        if pulsed:
            self._pulses += 1
            self._pulsed = pulsed
        if before is None or before.inputs != look.inputs or pulsed:
            self._since = at
        if before is None:
            self._steady = None
        self._look, self._looked_at = look, at

    def _hint(self, at: BootNs, inputs: Input) -> DockHint:
        said = {name: sense.of(inputs) for name, sense in self._wiring.senses.items()}
        detail = ""
        if self._pulsed:
            detail = f"a pulse on {', '.join(line.name or '' for line in self._pulsed)}"
            self._pulsed = NO_INPUT
        self._said_at = at
        return DockHint(
            at, self._name, HintKind.LINES, seated=said.get("seated"), mated=said.get("mated"),
            locked=said.get("locked"), kl15=said.get("kl15"), supply_ok=said.get("supply_ok"),
            detail=detail,
        )  # fmt: skip

    def _levels(self, wanted: DriveOutputs, levels: Output) -> Output:
        for name, drive in self._wiring.drives.items():
            on: bool | None = getattr(wanted, name, None)
            if on is not None:
                levels = drive.put(on, levels)
        return levels

    def _ask(self, command: str, levels: Output, at: BootNs) -> None:
        self._wanted = levels
        self._commands[command] = BootNs(at + COMMAND_NS)
        if self._up:
            self._out = encode_set(levels)

    def _finish(self, at: BootNs, outcome: CommandOutcome) -> list[Observation]:
        return [self._done(name, at, outcome) for name in list(self._commands)]

    def _done(self, command: str, at: BootNs, outcome: CommandOutcome) -> Observation:
        del self._commands[command]
        return DockCommandDone(at, self._name, command, outcome)
