"""Traces that are recorded by a script: what happens in them, and the bytes that come of it."""

from __future__ import annotations

from dataclasses import replace

from agent.core.policy import HintUse, Policy
from agent.core.types import SECOND, KeyPosition, SleepSignal, UsedWhileLocked
from drivers.docks.control_lines.codec import NO_INPUT, Input, decode_set
from simulator.docks.control_lines import ControlLinesDock
from simulator.docks.dcdc_usb import DcdcUsb
from simulator.docks.dock_switch import DockSwitch
from simulator.docks.usb_presence import UsbPorts
from tests.traces.hint_stage import HintStage
from tests.traces.library import Trace
from tests.traces.stage import Stage


def reference_dock() -> bytes:
    """A shift at the reference dock: start, crank, glitch, foreign dock, theft, return, run-on, sleep."""
    policy = Policy()
    policy = replace(
        policy,
        tether=replace(policy.tether, refill_after_s=10),
        power=replace(policy.power, run_on_s=10, resume_awake_s=5),
    )
    stage = Stage(bytes(range(32)), policy)
    stage.put(seated=True, mated=True, kl15=False, vehicle_mv=12_500, dock_mv=12_000, tablet_ma=900)
    stage.start()
    stage.run(3)
    stage.put(kl15=True)
    stage.key(KeyPosition.ON)
    stage.run(2)
    stage.crank()
    stage.drive(20)
    stage.broken = True  # a pothole
    stage.run(1.2)
    stage.broken = False
    stage.drive(5)
    stage.dock.brown_out(stage.at)
    stage.drive(5)
    stage.unplug()
    stage.plug(stage.foreign)
    stage.drive(8)
    stage.unplug()
    stage.plug(stage.dock)
    stage.drive(4)
    stage.put(seated=False)  # taken out
    stage.run(1)
    stage.see(UsedWhileLocked(stage.at, "session 2 was unlocked"))
    stage.run(2)
    stage.put(seated=True)
    stage.drive(3)
    stage.kill()
    stage.run(0.4)
    stage.start()
    stage.drive(3)
    stage.key(KeyPosition.OFF)
    stage.put(kl15=False, vehicle_mv=12_600)
    stage.run(20)
    stage.see(SleepSignal(stage.at, False))
    stage.run(3)
    stage.recorder.flush()
    return stage.pile.file()


def hint_docks() -> bytes:
    """A shift with sources of hints only: what holds the tablet, and what only contradicts."""
    policy = Policy()
    tether = replace(policy.tether, hint_lines=HintUse.ALLOW, hint_usb=HintUse.RESTRICT, refill_after_s=10)
    policy = replace(policy, tether=tether)
    docks = Trace("hint-docks").docks()
    stage = HintStage(policy)
    cradle = ControlLinesDock(
        {"dsr": "seated", "cts": "!mated", "dtr": "latch", "rts": "!led"},
        switches={"seated": True, "mated": True},
    )
    ports, tray, psu = UsbPorts(), DockSwitch(), DcdcUsb()
    waiting: list[int] = []

    def look(moved: Input = NO_INPUT) -> None:
        stage.feed("cradle", cradle.look(moved))

    def beat() -> None:
        look()
        stage.later(SECOND, beat)

    def set_lines(data: bytes) -> None:
        outputs = decode_set(data)
        if outputs is not None:
            cradle.drive(outputs)
            look()

    def answer(data: bytes) -> None:
        psu.feed(data, stage.at)
        report = psu.outgoing()
        if report and not waiting:
            stage.feed("psu", report)

    stage.source(docks["cradle"].spec, docks["cradle"].settings, set_lines)
    stage.source(docks["hub"].spec, docks["hub"].settings)
    stage.source(docks["tray"].spec, docks["tray"].settings)
    stage.source(docks["psu"].spec, docks["psu"].settings, answer)
    ports.plug("1-1", "1209", "0d0c", "HUB-1")
    stage.start()
    stage.feed("hub", ports.listing())
    stage.feed("tray", tray.state())
    beat()
    stage.run(3)
    psu.ignition_mv = 12_400
    stage.run(2)
    for mv in (8100, 9200, 9700, 10_400, 14_200):  # a crank
        psu.input_mv = mv
        stage.run(0.25)
    stage.run(10)
    look(Input.DSR)  # a pothole: the seat switch bounces
    stage.run(2)
    cradle.power(False)  # a brown-out: the lines drop, the hub goes
    look(Input.DSR)
    stage.feed("hub", ports.pull("1-1"))
    stage.run(1.5)
    cradle.power(True)
    look(Input.DSR)
    stage.feed("hub", ports.plug("1-1", "1209", "0d0c", "HUB-1"))
    stage.run(10)
    cradle.put(seated=False, mated=False)  # taken out
    look(Input.DSR | Input.CTS)
    stage.feed("tray", tray.move(False))
    stage.feed("hub", ports.pull("1-1"))
    stage.run(8)
    cradle.put(seated=True, mated=True)  # the lines are bridged: the hub is still gone
    look(Input.DSR | Input.CTS)
    stage.run(4)
    stage.feed("hub", ports.plug("1-1", "1209", "0d0c", "HUB-1"))
    stage.feed("tray", tray.move(True))
    stage.run(5)
    stage.unplug("cradle")  # its cable is pulled, and put back
    stage.run(2)
    stage.plug("cradle")
    stage.run(3)
    waiting.append(1)  # the supply hangs
    stage.run(4)
    waiting.clear()
    stage.run(2)
    psu.ignition_mv, psu.input_mv = 0, 12_600
    stage.run(10)
    stage.recorder.flush()
    return stage.pile.file()


SCRIPTS = {"reference-dock": reference_dock, "hint-docks": hint_docks}
