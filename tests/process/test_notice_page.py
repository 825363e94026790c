"""The officer's notice in a real browser: what it shows, what it offers, and who can read it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from agent.control import Refusal
from agent.notice.words import load
from tests.browser_rig import Browser, browser
from tests.notice_rig import Agent, Notice, notice

WORDS = load()
SIZES = ((1280, 800), (800, 1280))
PERMIT = {"state": "permit", "permit": {"s_left": 70}}
OVERRIDE = {"state": "override", "override_s_left": 857}
CHALLENGE = {"challenge": {"challenge": "7Q2M9XKD", "scope": "undocked", "minutes": 60, "s_left": 800}}
# Each kind of notice, and how the agent comes to say so.
KINDS: dict[str, dict[str, Any]] = {
    "restricted": {"state": "restricted"},
    "uncertain": {"state": "uncertain", "usable": True, "left_ms": 600_000},
    "foreign": {"state": "foreign", "grants": {"overrides_left": 0}},
    "unknown": {"state": "unknown"},
    "permit": {"state": "restricted", "usable": True, "grants": PERMIT},
    "override": {"state": "restricted", "usable": True, "grants": OVERRIDE},
    "docked": {"state": "tethered", "usable": True},
}


@dataclass
class Bed:
    agent: Agent
    notice: Notice
    page: Browser

    def becomes(self, kind: str, **other: Any) -> None:
        """The agent changes; the page shows it."""
        self.agent.becomes(**{**KINDS[kind], **other})
        self.page.wait(f"document.body.dataset.kind === '{kind}'")

    def shown(self, selector: str) -> bool:
        return bool(self.page.run(f"document.querySelector('{selector}').checkVisibility()"))


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bed]:
    folder, agent = tmp_path_factory.mktemp("notice"), Agent()
    with browser(folder / "profile") as page, notice(agent, folder) as process:
        page.open(process.start_page.as_uri())
        page.wait("document.body.dataset.kind === 'restricted'")
        yield Bed(agent, process, page)


@pytest.fixture
def bed(running: Bed) -> Iterator[Bed]:
    """The same page for every test, as a kiosk's is: restricted, with nothing open."""
    running.agent.refuse.clear()
    running.becomes("docked")
    running.becomes("restricted")
    running.agent.asked.clear()
    running.page.resize(*SIZES[0])
    yield running
    faults = [
        event for event in running.page.events
        if event.get("method") in ("Runtime.exceptionThrown", "Log.entryAdded")
    ]  # fmt: skip
    running.page.events.clear()
    assert faults == [], "the page threw, or broke its own security policy"


def test_it_says_why_and_what_to_do(bed: Bed) -> None:
    text = bed.page.text()
    assert "Tablet locked" in text
    assert "The dock reports that the tablet was taken out." in text
    assert "Put the tablet back into its dock." in text


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_fits_the_screen_in_both_directions_and_is_readable(bed: Bed, kind: str) -> None:
    bed.becomes(kind)
    for width, height in SIZES:
        bed.page.resize(width, height)
        assert bed.page.run("document.documentElement.scrollWidth") <= width
        assert bed.page.run("document.body.scrollHeight") <= height, "nobody scrolls in an emergency"
        for what, ratio, size in contrasts(bed.page):
            assert ratio >= 7, f"{what}: {ratio:.1f}:1, WCAG 2.2 AAA wants 7:1"
            assert size >= 20, f"{what}: {size} px is too small to read at arm's length"


def test_no_kind_is_told_from_another_by_colour_only(bed: Bed) -> None:
    seen = set()
    for kind in KINDS:
        bed.becomes(kind)
        sign = bed.page.run("document.getElementById('sign').getAttribute('href')")
        seen.add((bed.page.run("document.getElementById('title').textContent"), sign))
    assert len({title for title, _ in seen}) == len(KINDS)
    assert len({sign for _, sign in seen}) >= len(KINDS) - 1  # permit and override share the clock


def test_a_screen_reader_is_told_the_state_the_time_and_the_buttons(bed: Bed) -> None:
    bed.becomes("uncertain")
    nodes = [
        (node["role"]["value"], node.get("name", {}).get("value", ""))
        for node in bed.page.call("Accessibility.getFullAXTree")["nodes"]
        if not node["ignored"]
    ]
    roles = [role for role, _ in nodes]
    assert "alert" in roles
    assert ("heading", "Dock connection lost") in nodes
    assert ("timer", "Locks in") in nodes
    assert ("button", "Take the safety override 2 left") in nodes
    assert ("button", "Enter a code from the control room") in nodes
    assert bed.page.run("document.documentElement.lang") == "en"
    assert "Locks in 600 seconds" in bed.page.run("document.getElementById('announce').textContent").replace(
        "10:00 minutes", "600 seconds"
    )


def test_the_time_left_runs_smoothly_and_asks_the_agent_for_none_of_it(bed: Bed) -> None:
    bed.becomes("uncertain", left_ms=30_000)
    before = bed.agent.answers
    bars = bed.page.run(WATCH_BAR)
    assert len(set(bars)) > 10, "a frame is drawn at least every 100 ms"
    shares = [float(bar[7:-1]) for bar in bars]  # scaleX(0.97)
    assert all(after <= before + 0.01 for before, after in pairwise(shares)), "it never runs backwards"
    assert bed.agent.answers - before <= 3
    left = int(bed.page.run("document.getElementById('digits').textContent"))
    assert 20 <= left <= 29


def test_who_wants_no_motion_gets_whole_seconds(bed: Bed) -> None:
    reduce = {"name": "prefers-reduced-motion", "value": "reduce"}
    bed.page.call("Emulation.setEmulatedMedia", features=[reduce])
    try:
        bed.becomes("uncertain", left_ms=30_000)
        assert 1 <= len(set(bed.page.run(WATCH_BAR))) <= 4
    finally:
        bed.page.call("Emulation.setEmulatedMedia", features=[])


def test_the_override_takes_two_touches_in_two_places(bed: Bed) -> None:
    spot = bed.page.touch("#override")
    bed.page.wait("document.getElementById('sure').open")
    assert bed.agent.asked == []
    under = f"document.elementFromPoint({spot[0]}, {spot[1]})?.id"
    assert bed.page.run(under) not in ("sure-yes",), "a double tap must not take it"
    bed.page.touch("#sure-no")
    bed.page.wait("!document.getElementById('sure').open")
    assert bed.agent.asked == []
    bed.page.touch("#override")
    bed.page.wait("document.getElementById('sure').open")
    bed.page.touch("#sure-yes")
    bed.page.wait("document.getElementById('says').textContent !== ''")
    assert bed.agent.asked == [("override", {})]
    assert WORDS.override.taken in bed.page.text()
    bed.becomes("override")
    assert "14:1" in bed.page.run("document.getElementById('digits').textContent")
    assert not bed.shown("#override")


def test_a_refused_override_says_so_and_one_without_a_log_in_says_what_to_do(bed: Bed) -> None:
    for refusal, words in (
        (Refusal("grant.no_override", "none is left: 60 minutes in the dock give new ones"), "none is left"),
        (Refusal("forbidden", "override is for an officer's session"), WORDS.override.log_in),
    ):
        bed.agent.refuse["override"] = refusal
        bed.page.touch("#override")
        bed.page.wait("document.getElementById('sure').open")
        bed.page.touch("#sure-yes")
        bed.page.wait(f"document.getElementById('says').textContent.includes({words!r})")


def test_without_an_override_left_none_is_offered_and_the_way_on_is_said(bed: Bed) -> None:
    bed.becomes("foreign")
    assert not bed.shown("#override")
    assert "ask the control room for a code" in bed.page.text()


def test_a_short_code_is_asked_for_shown_typed_by_touch_and_sent(bed: Bed) -> None:
    bed.page.touch("#code")
    bed.page.wait("document.getElementById('entry').open")
    bed.page.touch("#lengths button:nth-child(2)")
    assert bed.agent.await_asked(1) == [("permit.challenge", {"scope": "undocked", "minutes": 60})]
    bed.agent.becomes("restricted", grants=CHALLENGE)
    bed.page.wait("document.getElementById('challenge').textContent === '7Q2M-9XKD'")
    assert "the tablet tablet-7" in bed.page.text()
    for width, height in SIZES:
        bed.page.resize(width, height)
        assert bed.page.run("(e => e.scrollHeight <= e.clientHeight)(document.getElementById('entry'))")
        for what, ratio, _ in contrasts(bed.page):
            assert ratio >= 7, f"{what}: {ratio:.1f}:1"
        least = bed.page.run("Math.min(...[...document.querySelectorAll('#keys button')]"
                             ".map(b => Math.min(b.offsetWidth, b.offsetHeight)))")  # fmt: skip
        assert least >= 44, "WCAG 2.2 AAA, 2.5.5: a target of at least 44 px"
    for character in "0123ABCD":
        number = "0123456789ABCDEFGHJKMNPQRSTVWXYZ".index(character) + 1
        bed.page.touch(f"#keys button:nth-child({number})")
    assert bed.page.run("document.getElementById('send').disabled")
    for character in ("x", "y", "o", "l", "Backspace", "1"):  # a keyboard does as well, and its look-alikes
        bed.page.call("Input.dispatchKeyEvent", type="keyDown", key=character)
    bed.page.wait("document.getElementById('typed').textContent === '0123-ABCD-XY01'")
    bed.agent.refuse["permit.answer"] = Refusal("grant.code_wrong", "wrong answer number 1")
    bed.page.touch("#send")
    bed.page.wait("document.getElementById('entry-says').textContent.includes('wrong answer number 1')")
    assert bed.agent.asked[-1] == ("permit.answer", {"code": "0123ABCDXY01"})
    bed.agent.refuse.clear()
    for _ in range(12):
        bed.page.touch("#keys button:nth-child(32)")
    bed.page.touch("#send")
    bed.page.wait("!document.getElementById('entry').open")
    assert bed.agent.asked[-1] == ("permit.answer", {"code": "ZZZZZZZZZZZZ"})
    assert WORDS.code.accepted in bed.page.text()


def test_a_wait_after_wrong_codes_is_said(bed: Bed) -> None:
    bed.agent.becomes("restricted", grants={**CHALLENGE, "code_wait_s": 60})
    bed.page.wait("document.getElementById('challenge').textContent !== ''")
    bed.page.touch("#code")
    bed.page.wait("document.getElementById('entry-says').textContent.startsWith('Too many wrong codes')")


def test_dialogs_go_with_the_offer(bed: Bed) -> None:
    bed.page.touch("#override")
    bed.page.wait("document.getElementById('sure').open")
    bed.becomes("docked")
    bed.page.wait("!document.getElementById('sure').open")


def test_the_page_loads_nothing_from_elsewhere_and_runs_nothing_inline(bed: Bed) -> None:
    kinds = bed.page.run("performance.getEntriesByType('resource').map(each => each.name)")
    assert kinds
    assert all(name.startswith(bed.notice.url) for name in kinds)
    blocked = bed.page.run(
        "new Promise(done => { addEventListener('securitypolicyviolation', e => done(e.effectiveDirective), "
        "{once: true}); const s = document.createElement('script'); s.textContent = 'window.evil = 1'; "
        "document.body.append(s); s.remove(); })"
    )
    assert blocked == "script-src-elem"
    assert bed.page.run("window.evil") is None
    bed.page.events.clear()  # which the browser noted as a breach


def test_an_agent_that_hangs_is_said_to_be_silent_and_no_more_is_offered(bed: Bed) -> None:
    bed.becomes("docked")
    bed.agent.hangs = True
    try:
        bed.page.wait("document.body.dataset.kind === 'silent'")
        assert "does not answer" in bed.page.text()
        assert not bed.shown("#offers button")
    finally:
        bed.agent.hangs = False
    bed.page.wait("document.body.dataset.kind === 'docked'")


def test_a_notice_that_died_leaves_no_old_word_on_the_screen(bed: Bed, tmp_path: Path) -> None:
    agent = Agent()
    with notice(agent, tmp_path) as second:
        agent.becomes("tethered", usable=True)
        bed.page.open(second.start_page.as_uri())
        bed.page.wait("document.body.dataset.kind === 'docked'")
        second.process.kill()
        second.process.wait()
        bed.page.wait("document.body.dataset.kind === 'silent'")
        assert "locks, or stays locked" in bed.page.text()
    bed.page.events.clear()  # its connection was refused, which the browser noted
    bed.page.open(bed.notice.start_page.as_uri())
    bed.page.wait("document.body.dataset.kind === 'restricted'")


WATCH_BAR = (
    "new Promise(done => { const seen = []; const end = performance.now() + 1500; const look = () => { "
    "seen.push(document.getElementById('bar').style.transform); "
    "performance.now() < end ? setTimeout(look, 20) : done(seen); }; look(); })"
)
# Every element with words of its own: what it says, its colour, the ground below it, and its size.
_TEXTS = """[...document.querySelectorAll('body *')].filter(e =>
  e.checkVisibility() && !e.closest('.unseen, svg') && (!document.querySelector('dialog[open]') ||
  e.closest('dialog[open]')) && [...e.childNodes].some(n => n.nodeType === 3 && n.data.trim()))
  .map(e => { let g = e, ground; do { ground = getComputedStyle(g).backgroundColor; g = g.parentElement; }
  while (g && /, 0\\)$/.test(ground)); const s = getComputedStyle(e);
  return [e.textContent.trim(), s.color, ground, parseFloat(s.fontSize)]; })"""


def contrasts(page: Browser) -> list[tuple[str, float, float]]:
    """What is shown: words, contrast by WCAG 2.2, size in px."""
    found = [
        (words, _ratio(_luminance(colour), _luminance(ground)), size)
        for words, colour, ground, size in page.run(_TEXTS)
    ]
    assert found
    return found


def _luminance(colour: str) -> float:
    """Relative luminance of "rgb(r, g, b)"."""
    parts = [int(part) / 255 for part in colour[4:-1].split(",")]
    red, green, blue = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def _ratio(one: float, other: float) -> float:
    return (max(one, other) + 0.05) / (min(one, other) + 0.05)
