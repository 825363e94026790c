"""Configuration: good files, and errors that say where, what was expected and what came."""

from __future__ import annotations

import dataclasses
import typing
from pathlib import Path

import pytest

from agent.config import ConfigError, load, parse
from agent.core.policy import Policy
from agent.keeper import Keeper

GOOD = """
[device]
fleet = "met"
name = "tablet-1"
[[dock]]
port = "/dev/ttyX"
serial = "DK-000042"
vehicle_id = "WV1ZZZ7HZNH000042"
key_file = "/etc/ivma/dock.key"
[policy.tether]
ride_through_ms = 3000
"""


def test_a_good_file_gives_settings_and_policy() -> None:
    config = parse(GOOD.encode())
    assert config.settings.dock[0].serial == "DK-000042"
    assert config.policy.tether.ride_through_ms == 3000
    assert config.policy.ignition == Policy().ignition


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("polici = 1\n", "`polici` is not a known key; did you mean `policy`?"),
        ("[policy.tether]\nride_trough_ms = 3000\n", "did you mean `policy.tether.ride_through_ms`?"),
        ("[policy.tether]\nride_through_ms = 4\n", "expected `int` >= 1000; it is 4"),
        ('[policy.tether]\nrequired = ["sat"]\n', "`policy.tether.required[0]`"),
        ("[store]\nretain_days = 61\n", "`store.retain_days`: expected `int` <= 60; it is 61"),
        ("[enforcement]\nactions = []\n", "`enforcement.actions`"),
        (
            '[sync]\nhost = "broker.example"\nsigning_key_file = "a"\ndepot_key_file = "b"\n',
            "`sync.tls` is missing",
        ),
        (
            "[enforcement.settings.logind2]\nx = 1\n",
            "`enforcement.settings.logind2`: there is no such action",
        ),
        ("x = \n", "not valid TOML"),
        ('[[can]]\nchannel = "can0"\n[[can]]\nchannel = "can1"\n', "bus name powertrain is used twice"),
    ],
)
def test_a_bad_file_is_refused_in_words_that_help(change: str, said: str) -> None:
    head = '[device]\nfleet = "met"\nname = "t"\n'
    text = change + head if change.startswith("pol") else head + change
    with pytest.raises(ConfigError) as refused:
        parse(text.encode(), "agent.toml")
    assert "agent.toml" in str(refused.value)
    assert said in str(refused.value)


def test_a_dock_is_found_in_exactly_one_way() -> None:
    for text in (
        GOOD.replace('port = "/dev/ttyX"\n', ""),
        GOOD.replace("[policy", '[dock.match]\nA = "1"\n[policy'),
    ):
        with pytest.raises(ConfigError, match="either `port` or `match`"):
            parse(text.encode())


def test_every_problem_of_names_is_said_at_once() -> None:
    with pytest.raises(ConfigError) as refused:
        parse(b"[devise]\n[policy.tether]\nx = 1\n")
    assert "devise" in str(refused.value)
    assert "policy.tether.x" in str(refused.value)


def test_every_policy_value_has_a_meaning_a_source_and_a_default_within_its_bounds() -> None:
    for section in typing.get_type_hints(Policy).values():
        hints = typing.get_type_hints(section, include_extras=True)
        for field in dataclasses.fields(section):
            bounds = hints[field.name].__metadata__[0]
            assert bounds.doc
            assert bounds.source
            if bounds.ge is not None:
                assert bounds.ge <= field.default <= bounds.le, field.name


def test_a_bad_new_file_leaves_the_last_good_one_in_force(tmp_path: Path) -> None:
    file, copy = tmp_path / "agent.toml", tmp_path / "state" / "last-good.toml"
    file.write_text(GOOD)
    good, problem = Keeper(file, copy).start()
    assert problem is None
    file.write_text(GOOD + "nonsense = 1\n")
    with pytest.raises(ConfigError, match="nonsense"):
        Keeper(file, copy).reload()
    again, problem = Keeper(file, copy).start()
    assert again == good
    assert problem is not None
    assert "nonsense" in problem


@pytest.mark.parametrize("damage", ["", "\0\0\0\0", "[device"])
def test_a_file_damaged_by_a_power_cut_leaves_the_last_good_one_in_force(tmp_path: Path, damage: str) -> None:
    file, copy = tmp_path / "agent.toml", tmp_path / "last-good.toml"
    file.write_text(GOOD)
    good, _ = Keeper(file, copy).start()
    file.write_text(damage)
    assert Keeper(file, copy).start()[0] == good
    with pytest.raises(ConfigError):
        Keeper(file, copy).reload()


def test_without_any_good_file_the_problem_of_the_file_itself_is_said(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"agent\.toml: cannot be read"):
        Keeper(tmp_path / "agent.toml", tmp_path / "none").start()
    with pytest.raises(ConfigError, match="cannot be read"):
        load(tmp_path / "agent.toml")


# --- docks without a key -----------------------------------------------------------------------------

HEAD = '[device]\nfleet = "met"\nname = "t"\n'
LINES = '[[dock]]\nname = "cradle"\nmodel = "control-lines"\nport = "/dev/ttyS1"\n[dock.lines]\n'
SEATED = LINES + 'seated = "dsr"\n'
ALLOW = '[policy.tether]\nhint_lines = "allow"\n'
USB = '[[dock]]\nname = "hub"\nmodel = "usb-presence"\n[dock.usb]\nvendor = "1209"\nproduct = "0d0c"\n'


def test_every_model_without_a_key_can_be_configured() -> None:
    text = (
        HEAD + SEATED + 'led = "!rts"\n' + USB + '[[dock]]\nname = "tray"\nmodel = "dock-switch"\n'
        '[[dock]]\nname = "psu"\nmodel = "dcdc-usb"\n'
    )
    docks = parse(text.encode()).settings.dock
    assert [dock.model for dock in docks] == ["control-lines", "usb-presence", "dock-switch", "dcdc-usb"]
    assert docks[0].options["seated"] == "dsr"
    assert docks[0].options["debounce_ms"] == 50
    assert docks[1].options["means"] == "mated"
    assert docks[2].options == {}
    assert docks[3].options["ignition_on_mv"] == 6000
    assert parse((HEAD + SEATED + ALLOW).encode()).policy.tether.hint_lines.value == "allow"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (LINES + 'seatd = "dsr"\n', "did you mean `dock[0].lines.seated`?"),
        (LINES + 'seated = "dtr"\n', "`dock[0].lines.seated`"),
        (LINES + 'led = "dsr"\n', "`dock[0].lines.led`"),
        (LINES + 'seated = "!!dsr"\n', "it is '!!dsr'"),
        (LINES + 'latch = "dtr"\n', "names no input"),
        (SEATED + 'latch = "dtr"\nled = "!dtr"\n', "uses the output dtr twice"),
        (SEATED + "debounce_ms = 3000\n", "<= 2000; it is 3000"),
        (SEATED.replace("[dock.lines]", 'key_file = "/k"\n[dock.lines]'), "has no key; leave it out"),
        (SEATED.replace('port = "/dev/ttyS1"\n', ""), "either `port` or `match`"),
        (SEATED + '[dock.usb]\nvendor = "1209"\nproduct = "0d0c"\n', "is for the model usb-presence"),
        ('[[dock]]\nmodel = "control-lines"\nport = "/x"\n', "needs a table `[dock.lines]`"),
        ('[[dock]]\nmodel = "usb-presence"\n', "needs a table `[dock.usb]`"),
        (USB.replace("[dock.usb]", 'port = "/x"\n[dock.usb]'), "leave `port` and `match` out"),
        (USB.replace('"1209"', '"0x1209"'), "`dock[0].usb.vendor`"),
        ('[[dock]]\nport = "/x"\n', "`key_file` is missing: the model reference is known by its pairing"),
        ('[[dock]]\nport = "/x"\n[dock.settings]\na = 1\n', "`settings` is for models of other packages"),
        ('[[dock]]\nmodel = "acme"\nport = "/x"\nserial = "A"\n', "`key_file` is missing"),
        (ALLOW, "no dock is of the model control-lines"),
        (LINES + 'mated = "cts"\n' + ALLOW, "has no line for seated"),
        (LINES + 'seated = "!dsr"\n' + ALLOW, "a cable that is cut would say yes"),
        (
            SEATED + '[[dock]]\nport = "/x"\nserial = "D"\nvehicle_id = "V"\nkey_file = "/k"\n' + ALLOW,
            "a wire bridge would open what the key guards",
        ),
        ('[policy.tether]\nhint_switch = "allow"\n', "only control lines may stand for proof"),
    ],
)
def test_a_dock_that_cannot_be_is_refused_in_words_that_help(text: str, said: str) -> None:
    with pytest.raises(ConfigError) as refused:
        parse((HEAD + text).encode(), "agent.toml")
    assert said in str(refused.value)


def test_a_model_of_another_package_may_have_settings_of_its_own_and_no_key() -> None:
    text = HEAD + '[[dock]]\nmodel = "acme"\nport = "/x"\n[dock.settings]\nbeam = "infrared"\n'
    assert parse(text.encode()).settings.dock[0].options == {"beam": "infrared"}
