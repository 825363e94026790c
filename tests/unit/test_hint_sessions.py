"""Sources of hints against their vectors, and what each makes of a device that comes, goes, lies or hangs."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.core.types import MS, SECOND, BootNs, DockHint, DockLinkLost, DockLinkUp, HintKind, Observation
from drivers.docks.dcdc_usb.codec import ASK
from drivers.docks.dcdc_usb.session import TRIES, DcdcUsbSession
from drivers.docks.dock_switch.session import DockSwitchSession
from drivers.docks.usb_presence.codec import LINE_MAX, Decoder
from drivers.docks.usb_presence.session import DEVICES_MAX, UsbPresenceSession
from drivers.spec import DockSession, DockSettings
from simulator.docks.dcdc_usb import DcdcUsb
from simulator.docks.usb_presence import UsbPorts

VECTORS = {
    name: json.loads((Path(__file__).parents[1] / f"vectors/{name}.json").read_text())
    for name in ("usb_presence", "dock_switch", "dcdc_usb")
}
AT = BootNs(SECOND)


def hints(seen: list[Observation]) -> list[DockHint]:
    return [each for each in seen if isinstance(each, DockHint)]


def cut(data: bytes, seed: int) -> list[bytes]:
    dice = random.Random(seed)
    places = sorted(dice.sample(range(len(data) + 1), k=min(4, len(data))))
    return [data[a:b] for a, b in zip([0, *places], [*places, len(data)], strict=True)]


# --- USB presence -----------------------------------------------------------------------------------


def usb(**options: Any) -> UsbPresenceSession:
    session = UsbPresenceSession(
        DockSettings("hub", options=VECTORS["usb_presence"]["options"] | options), bytes
    )
    session.link_up(AT)
    return session


@pytest.mark.parametrize("vector", VECTORS["usb_presence"]["valid"], ids=lambda vector: vector["name"])
@pytest.mark.parametrize("seed", range(3))
def test_a_usb_device_is_there_or_not(vector: dict[str, Any], seed: int) -> None:
    session = usb()
    seen = [hint for part in cut(vector["text"].encode(), seed) for hint in hints(session.feed(part, AT))]
    if vector["mated"] is None:
        assert seen == []
        return
    assert (seen[-1].kind, seen[-1].mated) == (HintKind.USB, vector["mated"])
    assert seen[-1].seated is None, "a hub in the dock knows nothing of the seat"


@pytest.mark.parametrize("vector", VECTORS["usb_presence"]["invalid"], ids=lambda vector: vector["name"])
def test_a_line_that_says_nothing_is_dropped_and_counted(vector: dict[str, Any]) -> None:
    session = usb()
    assert session.feed(vector["text"].encode(), AT) == []
    assert session.counters().values["line"] == 1


def test_what_another_device_of_the_kind_says_is_told_to_people() -> None:
    session = usb()
    ports = UsbPorts()
    (hint,) = hints(session.feed(ports.plug("1-1.4", "1209", "0d0c", "HUB-9"), AT))
    assert (hint.mated, hint.detail) == (False, "another of its kind at 1-1.4")
    (hint,) = hints(session.feed(ports.plug("1-1.2", "1209", "0d0c", "HUB-1"), AT))
    assert hint.mated is True
    (hint,) = hints(session.feed(ports.pull("1-1"), AT))[-1:]
    assert (hint.mated, hint.detail) == (False, "")


def test_a_hub_full_of_them_is_bounded() -> None:
    session = usb()
    for n in range(3 * DEVICES_MAX):
        session.feed(f"+1209:0d0c 2-{n} X\n".encode(), AT)
    assert session.counters().values["overfull"] == 2 * DEVICES_MAX


@given(st.lists(st.binary(max_size=600), max_size=8))
def test_the_list_takes_any_bytes_and_holds_a_bounded_number(chunks: list[bytes]) -> None:
    decoder = Decoder()
    for chunk in chunks:
        list(decoder.feed(chunk))
        assert len(decoder._begun) <= LINE_MAX


def test_presence_may_be_made_to_mean_the_seat() -> None:
    session = usb(means="seated")
    (hint,) = hints(session.feed(b"+1209:0d0c 1-1.2 HUB-1\n", AT))
    assert (hint.seated, hint.mated) == (True, None)


def test_a_device_must_have_its_ids() -> None:
    with pytest.raises(ValueError, match="`product` is missing"):
        UsbPresenceSession(DockSettings("hub", options={"vendor": "1209"}), bytes)


# --- the dock switch --------------------------------------------------------------------------------


def switch() -> DockSession:
    session = DockSwitchSession(DockSettings("tray"), bytes)
    session.link_up(AT)
    return session


@pytest.mark.parametrize("vector", VECTORS["dock_switch"]["valid"], ids=lambda vector: vector["name"])
@pytest.mark.parametrize("seed", range(3))
def test_the_switch_says_where_it_stands(vector: dict[str, Any], seed: int) -> None:
    session = switch()
    data = bytes.fromhex(vector["bytes"])
    seen = [hint for part in cut(data, seed) for hint in hints(session.feed(part, AT))]
    assert (seen[-1].kind, seen[-1].seated) == (HintKind.SWITCH, vector["seated"])


@pytest.mark.parametrize("vector", VECTORS["dock_switch"]["invalid"], ids=lambda vector: vector["name"])
def test_other_events_say_nothing_of_the_dock(vector: dict[str, Any]) -> None:
    assert switch().feed(bytes.fromhex(vector["bytes"]), AT) == []


def test_after_lost_events_nothing_is_known() -> None:
    session = switch()
    session.feed(bytes.fromhex(VECTORS["dock_switch"]["valid"][0]["bytes"]), AT)
    (hint,) = hints(session.feed(bytes.fromhex(VECTORS["dock_switch"]["unknown"]), AT))
    assert hint.seated is None


# --- the supply -------------------------------------------------------------------------------------


def supply(**options: Any) -> DcdcUsbSession:
    session = DcdcUsbSession(DockSettings("psu", options=options), bytes)
    session.link_up(AT)
    return session


@pytest.mark.parametrize("vector", VECTORS["dcdc_usb"]["valid"], ids=lambda vector: vector["name"])
@pytest.mark.parametrize("seed", range(3))
def test_a_report_tells_the_voltages(vector: dict[str, Any], seed: int) -> None:
    session = supply()
    assert session.outgoing().hex() == VECTORS["dcdc_usb"]["ask"]
    data = bytes.fromhex(vector["bytes"])
    (hint,) = [hint for part in cut(data, seed) for hint in hints(session.feed(part, AT))]
    assert hint.kind is HintKind.SUPPLY
    for name in ("kl15", "vehicle_mv", "dock_mv", "supply_ok"):
        assert getattr(hint, name) == vector[name]
    assert (hint.seated, hint.mated, hint.locked) == (None, None, None)
    assert hint.detail == "mode automotive, firmware 1.7"


@pytest.mark.parametrize("vector", VECTORS["dcdc_usb"]["invalid"], ids=lambda vector: vector["name"])
def test_other_reports_tell_nothing(vector: dict[str, Any]) -> None:
    assert supply().feed(bytes.fromhex(vector["bytes"]), AT) == []


def test_the_ignition_input_has_hysteresis_and_may_be_unconnected() -> None:
    session, model = supply(), DcdcUsb()
    seen = []
    for mv in (12_400, 5500, 4000, 5500, 7000):
        model.ignition_mv = mv
        seen += [hint.kl15 for hint in hints(session.feed(model.report(), AT))]
    assert seen == [True, True, False, False, True]
    (hint,) = hints(supply(ignition=False).feed(model.report(), AT))
    assert hint.kl15 is None


def test_it_asks_at_its_pace_says_when_nobody_answers_and_goes_on_asking() -> None:
    session, model = supply(poll_ms=200), DcdcUsb()
    at, seen, sent = AT, list[Observation](), b""
    for _ in range(60):
        sent += (data := session.outgoing())
        model.feed(data, at)
        model.deaf = 10 <= model.asked < 20
        seen += session.feed(model.outgoing(), at)
        deadline = session.next_deadline()
        assert deadline is not None
        assert deadline > at
        at = deadline
        seen += session.timer(at)
    assert sent == ASK * 60, "one question, and never a command"
    assert model.refused == 0
    lost = [each for each in seen if isinstance(each, DockLinkLost)]
    back = [each for each in seen if isinstance(each, DockLinkUp)]
    assert (len(lost), len(back)) == (1, 1)
    silent_ns = back[0].at - lost[0].at
    assert silent_ns >= (10 - TRIES - 1) * SECOND
    assert len(hints(seen)) == 50
    assert at > AT + 60 * 200 * MS
