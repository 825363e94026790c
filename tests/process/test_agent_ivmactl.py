"""ivmactl against the live daemon: the documented shapes, and what decided the ignition."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from agent.core.types import KeyPosition
from simulator.compose_bench import Options, Rig
from tests.agent_rig import docked, ivmactl
from tests.aio import looped
from tests.system import lacking, need

POLICY = {"tether": {"refill_after_s": 1}, "power": {"run_on_s": 600, "max_s": 900}}
EVIDENCE = {"source", "value", "age_ms", "fresh", "weight", "note"}


@looped
async def test_each_verb_answers_in_its_documented_shape(tmp_path: Path) -> None:
    need("dbus-daemon")
    async with Rig(tmp_path, Options(policy=POLICY)) as rig:

        async def ask(*arguments: str) -> tuple[int, Any]:
            return await ivmactl(rig.layout.control, *arguments)

        rig.world.vehicle.turn_key(KeyPosition.ON)
        await docked(rig)
        await rig.until_seen(10, ignition="on")

        code, status = await ask("status")
        assert code == 0
        assert status["tether"]["state"] == "tethered"
        assert status["tether"]["seated"]["value"] is True
        assert status["docks"]["dock"]["opened"] == 1
        assert status["can"]["powertrain"]["state"] == "active"
        assert status["can"]["powertrain"]["frames"] > 0
        assert status["enforcement"]["actions"]["logind"]["keeps_locked"] is False
        assert status["sync"]["link"] == "up"
        assert status["store"] == {"ok": True, "detail": ""}
        assert status["runtime"]["dropped"] == 0

        code, why = await ask("why", "ignition")
        assert code == 0
        assert (why["topic"], why["verdict"]) == ("ignition", "on")
        assert why["rule"].startswith("ignition.")
        assert why["because"]
        assert why["conflicts"] == []
        assert all(item.keys() == EVIDENCE for item in why["evidence"])
        by_source = {item["source"]: item for item in why["evidence"]}
        wire, can = by_source["dock wire (kl15)"], by_source["CAN ignition"]
        assert (wire["value"], can["value"]) == ("on", "on")
        assert wire["fresh"] is can["fresh"] is True
        assert wire["weight"] > 0
        assert can["weight"] > 0
        assert wire["age_ms"] < 2000
        assert {"engine speed", "vehicle supply (dock)", "CAN bus powertrain"} <= by_source.keys()

        _, everything = await ask("why")
        assert [answer["topic"] for answer in everything] == ["tether", "ignition", "power"]

        code, events = await ask("events", "--last", "100", "--reason", "a test")
        assert code == 0
        assert all(e.keys() == {"stream", "kind", "boot_ns", "fields"} for e in events["events"])
        assert all(0 < e["boot_ns"] <= events["now_ns"] for e in events["events"])
        kinds = {event["kind"] for event in events["events"]}
        assert {"agent.started", "tether.changed", "enforcement.changed", "ignition.changed"} <= kinds

        code, queue = await ask("queue")
        assert code == 0
        assert list(queue) == ["alarm", "audit", "state", "telemetry"]
        shape = {"head", "hash", "acknowledged", "pending", "bytes", "quota", "refused"}
        assert all(each.keys() == shape for each in queue.values())
        assert queue["audit"]["head"] >= 2  # the start, and whoever looked at the events

        code, version = await ask("version")
        assert code == 0
        assert version.keys() == {"version", "fleet", "device", "config", "boot_id"}

        code, text = await ivmactl(rig.layout.control, "why", "ignition", as_json=False)
        assert code == 0
        for name, item in by_source.items():
            assert name in text
            assert str(item["weight"]) in text
        assert f"rule     {why['rule']}" in text

        rig.undock()
        await rig.until_seen(5, session="locked", posture="locked")
        code, status = await ask("status")
        assert (code, status["tether"]["posture"]) == (1, "locked")
        assert status["enforcement"]["locked"] is True
        code, why = await ask("why", "tether")
        assert (code, why["rule"]) == (1, "tether.unseated")

        await rig.agent.stop()
        code, _ = await ivmactl(rig.layout.control, "status", as_json=False)
        assert code == 3


@looped
async def test_what_an_installer_and_an_engineer_ask_a_live_agent(tmp_path: Path) -> None:
    """Calibration is taken over, shown and taken back; recording is off; shifts count."""
    need("dbus-daemon")
    if os.geteuid() != 0:
        lacking("only root may calibrate and record")
    async with Rig(tmp_path, Options(policy=POLICY)) as rig:

        async def ask(*arguments: str) -> tuple[int, Any]:
            code, said = await ivmactl(rig.layout.control, *arguments, "--json", as_json=False)
            return code, json.loads(said) if said else None  # what was wrong is on stderr

        rig.world.vehicle.turn_key(KeyPosition.ON)
        await docked(rig)
        await rig.until_seen(10, ignition="on")
        code, first = await ask("vehicle", "calibrate", "--rest", "12.60")
        while code == 1:  # the dock has not spoken often enough, or its supply moved with the key
            code, first = await ask("vehicle", "calibrate", "--rest", "12.60")
        assert code == 0
        assert first["shown_mv"] == 12_600
        assert first["offset_mv"] == 12_600 - first["dock_mv"]
        code, _ = await ask("vehicle", "calibrate", "--load", "12.60")
        assert code == 1, "the tablet takes no more than before"
        _, status = await ask("status")
        assert status["calibration"]["dock"]["offset_mv"] == first["offset_mv"]
        code, undone = await ask("vehicle", "calibrate", "--undo")
        assert (code, undone["offset_mv"], undone["shown_mv"]) == (0, 0, undone["dock_mv"])

        file = tmp_path / "recording.log"
        code, _ = await ask("can", "record", str(file))
        assert code == 4
        assert not file.exists()

        code, availability = await ask("availability")
        assert code == 0
        assert availability["since_start"]["shifts"] == 1
        assert availability["since_start"]["unused_shifts"] == 0
