"""Desired configuration with the real agent, Mosquitto and depot: tried, confirmed or rolled back."""

from __future__ import annotations

import signal
from pathlib import Path

from tests.agent_rig import stop
from tests.aio import looped
from tests.orders_rig import Obeying, fleet
from tests.sync_rig import until

POLICY = "[policy.tether]\nride_through_ms = 3500\n"
RESTARTED = "[trace]\nenabled = false\n"


async def wanted(tablet: Obeying, toml: str, trial_s: int = 2) -> str:
    file = tablet.folder / "wanted.toml"
    file.write_text(toml)
    return await tablet.sign("configuration", str(file), "--trial", str(trial_s))


async def digest(tablet: Obeying) -> str:
    _, status = await tablet.ask("status")
    return str(status["config"])


@looped
async def test_a_policy_is_in_force_at_once_and_stays_over_a_restart(tmp_path: Path) -> None:
    async with fleet(tmp_path) as tablet:
        async with tablet.running() as process:
            await tablet.online()
            before = await digest(tablet)
            await tablet.send(await wanted(tablet, POLICY))
            told = await tablet.desired(lambda it: it["state"] == "confirmed")
            assert told["accepted"] == told["generation"]
            assert await digest(tablet) != before
            assert len(tablet.at_depot("agent.started")) == 1
            after = await digest(tablet)
            assert await stop(process) == 0
        async with tablet.running() as process:
            assert await digest(tablet) == after
            assert await stop(process) == 0
        states = [r["state"] for r in tablet.at_depot("config.desired")]
        assert states[:2] == ["trial", "confirmed"]


@looped
async def test_what_needs_a_new_start_gets_one_in_the_same_process(tmp_path: Path) -> None:
    async with fleet(tmp_path) as tablet, tablet.running() as process:
        await tablet.online()
        await tablet.send(await wanted(tablet, RESTARTED, 5))
        await tablet.says("READY=1")
        await tablet.desired(lambda it: it["state"] == "confirmed")
        assert process.returncode is None
        assert [r["reason"] for r in tablet.at_depot("agent.stopped")] == ["configuration"]
        _, status = await tablet.ask("status")
        assert "trace" not in status
        assert "STOPPING=1" not in "".join(tablet.told)
        assert await stop(process) == 0


@looped
async def test_one_that_cuts_the_tablet_off_is_rolled_back_and_never_taken_again(tmp_path: Path) -> None:
    async with fleet(tmp_path) as tablet, tablet.running() as process:
        await tablet.online()
        before = await digest(tablet)
        text = await wanted(tablet, "[sync]\nport = 1\n", 3)
        await tablet.send(text)
        told = await tablet.desired(lambda it: it["state"] == "rolled_back")
        assert told["detail"] == "the depot said nothing in the trial"
        assert await digest(tablet) == before
        assert told["accepted"] == told["generation"] > 0
        await tablet.publish("desired", text.encode(), retain=True)
        await tablet.send(await tablet.command("flush"))
        await tablet.answered(1)
        assert [r["state"] for r in tablet.at_depot("config.desired")].count("trial") <= 2
        assert await digest(tablet) == before
        assert await stop(process) == 0


@looped
async def test_one_that_the_agent_cannot_start_with_is_rolled_back_at_once(tmp_path: Path) -> None:
    async with fleet(tmp_path) as tablet, tablet.running() as process:
        await tablet.online()
        before = await digest(tablet)
        toml = f'[vehicle]\nprofile = "{tmp_path}/none.toml"\n[[can]]\nchannel = "x"\n'
        await tablet.send(await wanted(tablet, toml, 60))
        told = await tablet.desired(lambda it: it["state"] == "rolled_back")
        assert "none.toml" in told["detail"]
        assert await digest(tablet) == before
        assert process.returncode is None
        assert await stop(process) == 0


@looped
async def test_a_trial_whose_runs_end_by_kills_is_rolled_back(tmp_path: Path) -> None:
    async with fleet(tmp_path) as tablet:
        async with tablet.running() as process:
            await tablet.online()
            before = await digest(tablet)
            await tablet.send(await wanted(tablet, POLICY, 600))
            await tablet.desired(lambda it: it["state"] == "trial")
            process.send_signal(signal.SIGKILL)
            await process.wait()
        for _ in range(2):
            async with tablet.running() as process:
                assert await digest(tablet) != before
                process.send_signal(signal.SIGKILL)
                await process.wait()
        async with tablet.running() as process:
            assert await digest(tablet) == before
            told = await tablet.desired(lambda it: it["state"] == "rolled_back")
            assert "none confirmed it" in told["detail"]
            assert await stop(process) == 0


@looped
async def test_what_is_not_valid_or_not_for_the_fleet_to_set_is_refused_whole(tmp_path: Path) -> None:
    async with fleet(tmp_path) as tablet, tablet.running() as process:
        await tablet.online()
        before = await digest(tablet)
        for toml, words in (
            (POLICY + "[policy.power]\nno_such_key = 1\n", "no_such_key"),
            ('[enforcement]\nactions = ["hooks"]\n', "cannot be set from afar"),
            ('[sync]\ndepot_key_file = "/x"\n', "sync.depot_key_file"),
        ):
            await tablet.send(await wanted(tablet, toml))
            told = await tablet.desired(lambda it, words=words: words in it["detail"])  # type: ignore[misc]
            assert (told["state"], told["accepted"]) == ("refused", 0)
        assert await digest(tablet) == before
        assert await stop(process) == 0


@looped
async def test_an_older_generation_is_refused_also_by_a_tablet_from_an_old_image(
    tmp_path: Path,
) -> None:
    """The depot's acks carry what was accepted: the tablet's own disk is from before it."""
    async with fleet(tmp_path) as tablet:
        async with tablet.running() as process:
            await tablet.online()
            old = await wanted(tablet, POLICY)
            new = await wanted(tablet, "[policy.tether]\nride_through_ms = 5000\n")
            await tablet.send(new)
            await tablet.desired(lambda it: it["state"] == "confirmed")
            assert await stop(process) == 0
        (tmp_path / "desired.json").unlink()
        async with tablet.running() as process:
            await tablet.online()

            async def accepted() -> int:
                _, status = await tablet.ask("status")
                return int(status["orders"]["desired"]["accepted"])

            await tablet.send(await tablet.command("flush"))
            await tablet.answered(1)
            assert await accepted() > 0
            await tablet.send(old)
            await until(lambda: any(r["state"] == "refused" for r in tablet.at_depot("config.desired")))
            assert await stop(process) == 0
