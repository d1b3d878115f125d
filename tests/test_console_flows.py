"""The operator's page in a real browser: its layouts, the plan on the picture, and each flow."""

import time

import pytest
from gwm.console.command_checks import refusals

playwright = pytest.importorskip("playwright.sync_api")

from test_console_page import (  # fixtures among them
    GATE,
    LATER,
    PLAN,
    TABLET,
    WAITS,
    browser,
    page,
    pytestmark,
    said,
    site,
)

from gwm_core.gate_status import GateStatus

__all__ = ("browser", "page", "pytestmark", "site")


SIZES = {
    "desktop": (1400, 900),
    "tablet": (1024, 768),
    "upright tablet": (768, 1024),
    "phone": (390, 844),
    "phone on its side": (844, 390),
}


@pytest.mark.parametrize("size", SIZES.values(), ids=SIZES)
def test_stop_picture_and_next_step_are_in_sight_at_every_size(site, page, size):
    width, height = size
    page.set_viewport_size({"width": width, "height": height})
    page.wait_for_selector("#approve:enabled")
    page.wait_for_function("() => document.querySelector('.main .live').naturalWidth === 42")
    controls = ("#stop", "#hold", "#cameras .main .live", "#say", "#approve", "#decline")
    for control in controls if height > 500 else controls[:3]:
        box = page.locator(control).bounding_box()
        assert box["x"] >= 0 and box["x"] + box["width"] <= width, control
        assert box["y"] >= 0 and box["y"] + box["height"] <= height, control
        middle = [box["x"] + box["width"] / 2, box["y"] + box["height"] / 2]
        covered = page.evaluate(
            """([control, x, y]) => {
                const found = document.elementFromPoint(x, y);
                const wanted = document.querySelector(control);
                return !(wanted.contains(found) || wanted.parentNode.contains(found));
            }""",
            [control, *middle],
        )
        assert not covered, control
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    picture = page.locator("#cameras .main .live").bounding_box()
    assert picture["height"] >= 0.2 * height


def test_text_at_twice_its_size_is_not_cut(site, page):
    page.set_viewport_size({"width": 1400, "height": 900})
    page.evaluate("document.documentElement.style.fontSize = '200%'")
    page.wait_for_timeout(300)
    assert page.evaluate("document.documentElement.scrollWidth") <= 1400
    cut = page.evaluate(
        "[...document.querySelectorAll('button, p, #words, #line')].filter((e) => e.offsetParent &&"
        " (e.scrollWidth > e.clientWidth + 1 || e.scrollHeight > e.clientHeight + 1)).map((e) =>"
        " e.id || e.textContent)"
    )
    assert cut == []


def test_the_plan_is_drawn_over_the_cameras_with_the_gripper_at_the_chosen_lookahead(site, page):
    page.wait_for_selector("#approve:enabled")
    page.wait_for_timeout(300)
    assert page.get_attribute("#cameras .main .plan", "aria-label") == (
        "the plan's path: 12 cm left, then close"
    )

    def pixel(x, y):
        return page.evaluate(
            """([x, y]) => {
                const canvas = document.querySelector("#cameras .main .plan");
                const at = [x * canvas.width, y * canvas.height].map(Math.round);
                return [...canvas.getContext("2d").getImageData(...at, 1, 1).data];
            }""",
            [x, y],
        )

    blue, yellow, nothing = [86, 180, 233, 255], [240, 228, 66, 255], [0, 0, 0, 0]
    assert pixel(0.45, 0.5) == blue  # on the path
    assert pixel(0.6, 0.4) == yellow  # the gripper at the last lookahead
    assert pixel(0.4, 0.4) == [0, 0, 0, 0] == pixel(0.45, 0.8)
    page.fill("#horizon", "0")
    page.wait_for_timeout(300)
    assert pixel(0.4, 0.4) == yellow and pixel(0.6, 0.4) == [0, 0, 0, 0]
    # the waypoints of a running plan that are due are left out: the path goes on from the gripper
    runs = str(round(site.backend.now * 1e6) - 500_000_000)
    site.backend.plan["views"]["front"]["path"][0] = [0.45, 0.3]
    site.backend.plan["id"] = runs
    site.backend.gate = GATE | {"mode": "auto", "plan": runs}
    page.wait_for_timeout(300)
    assert pixel(0.36, 0.5) == nothing and pixel(0.6, 0.5) == blue
    site.backend.gate = GATE | {"plan": LATER}  # another one is followed: its path is not known
    page.wait_for_timeout(300)
    assert pixel(0.6, 0.5) == nothing


def test_imagined_pictures_lie_over_the_live_ones_and_fade_with_their_age(site, page):
    page.wait_for_selector("#approve:enabled")
    opacity = "() => Number(document.querySelector('.main .imagined').style.opacity)"
    assert page.get_attribute("#overlay", "aria-pressed") == "true"  # in mode approve
    assert "by the plan that waits" in page.inner_text("#cameras .main .of-plan")
    page.wait_for_function(f"() => ({opacity})() > 0 && ({opacity})() < 0.7")
    later = PLAN + 10**10
    site.backend.gate = GATE | WAITS | {"waiting": str(later)}
    site.backend.imagined = site.backend.future(later)
    site.backend.ahead = later * 1e-9 - PLAN * 1e-9 - (time.monotonic() - site.backend.begun)
    page.wait_for_function(f"() => ({opacity})() > 0.7")
    page.keyboard.press("i")
    assert page.is_hidden("#cameras .main .imagined")
    page.keyboard.press("i")
    assert page.is_visible("#cameras .main .imagined")
    site.backend.gate = GATE | {"mode": "auto"}
    page.wait_for_timeout(300)
    assert page.is_visible("#cameras .main .imagined")  # as the operator chose
    page.keyboard.press("2")
    page.wait_for_selector("#cameras [data-camera=side].main")


def test_one_declines_a_plan_and_the_gate_is_asked_for_another(site, page):
    page.wait_for_function("() => document.getElementById('say').textContent.startsWith('Approve')")
    assert "12 cm left, then close" in page.inner_text("#say")
    said(site, page, lambda: page.tap("#decline"), do="decline", plan=WAITS["waiting"])
    site.backend.gate = GATE | {"mode": "auto"}
    page.wait_for_selector("#decline", state="hidden")


HOMING = {"state": "RUNNING", "armed": "False", "cause": "going home"}
HELD = {"state": "HOLD", "armed": "False"}


@pytest.mark.parametrize(
    ("gate", "session", "recording", "words", "button"),
    [
        ({"state": "FAULT", "cause": "leash"}, {}, False, "leash. Look at the arm", "#reset"),
        ({"state": "DISARMED", "armed": "False"}, {}, False, "then Arm", "#arm"),
        ({"state": "HOLD"}, {}, False, "The next plan moves the arm", None),
        ({"state": "HOLD", "cause": "at home"}, {"plans": "teleop"}, False, "then Start", "#start"),
        ({"state": "RUNNING"}, {"plans": "teleop"}, True, "Success or Failure", "#success"),
        ({"state": "RUNNING", "mode": "hold_to_run"}, {}, False, "while you hold", "#run"),
        ({"state": "STOPPING"}, {}, False, "Coming to rest", None),
        ({"state": "SHADOW"}, {}, False, "nothing is sent", None),
        (HOMING, {}, False, "Moving home", None),
        (HOMING, {"plans": "teleop"}, False, "Moving home", None),
        (HELD | {"cause": "held by operator"}, {"plans": "teleop"}, False, "Home, lay", "#home"),
        ({"state": "HOLD", "cause": "armed"}, {"plans": "teleop"}, False, "or Home", "#start"),
        (HELD | {"cause": "at home"}, {"plans": "teleop"}, False, "Lay the table, Arm", "#arm"),
        ({"state": "RUNNING"}, {"plans": "teleop"}, False, "HOLD and Home, for another", "#start"),
    ],
)
def test_the_next_step_follows_mode_and_phase(site, page, gate, session, recording, words, button):
    site.backend.gate = GATE | {"mode": "auto"} | gate
    site.backend.session |= session
    site.backend.recorder = {"recording": str(recording)}
    known = GateStatus.from_fields(site.backend.gate)
    site.backend.refuse = refusals(known, site.backend.recorder, "")
    page.wait_for_function(
        "(w) => document.getElementById('say').textContent.includes(w)", arg=words
    )
    suggested = page.locator("#next .suggested")
    assert suggested.count() == (1 if button else 0)
    if button:
        assert page.locator(f"{button}.suggested").count() == 1


def test_an_episode_from_start_to_a_corrected_verdict(site, page):
    site.backend.recorder = {"recording": "False", "episodes": "13"}
    page.wait_for_function(
        "() => document.getElementById('count').textContent === 'episode 13 of 50, lift, Ada'"
    )
    assert page.is_hidden("#rec")
    page.fill("#countdown", "5")
    page.tap("#start")
    page.wait_for_function(
        "() => document.getElementById('start').textContent.startsWith('Starts in')"
    )
    page.tap("#start")  # not yet
    page.fill("#countdown", "0")
    page.wait_for_timeout(1300)
    assert site.backend.done == [] and page.inner_text("#start") == "Start"
    said(site, page, lambda: page.tap("#start"), do="start")
    site.backend.recorder = {"recording": "True", "seconds": "2.0", "episodes": "13"}
    page.wait_for_selector("#rec:visible")
    page.wait_for_function("() => document.getElementById('rec').textContent.includes('3.')")
    assert page.inner_text("#count") == "episode 14 of 50, lift, Ada"
    said(site, page, lambda: page.tap("#success"), do="save", success=True)
    site.backend.recorder = {
        "recording": "False",
        "episodes": "14",
        "saved": "runs/episode_000013",
        "verdict": "True",
    }
    page.wait_for_function(
        "() => document.getElementById('correct').textContent === 'Last was a failure'"
    )
    verdict = {"correct": "episode_000013", "success": False}
    said(site, page, lambda: page.tap("#correct"), do="correct", **verdict)


def test_a_countdown_ends_with_a_stop(site, page):
    site.backend.recorder = {"recording": "False"}
    page.wait_for_selector("#start:enabled")
    page.fill("#countdown", "3")
    counts = "() => document.getElementById('start').textContent.startsWith('Starts in')"
    for _ in range(2):  # also after another stop
        page.tap("#start")
        page.wait_for_function(counts)
        said(site, page, lambda: page.keyboard.press("Escape"), do="stop")
        page.wait_for_function("() => document.getElementById('start').textContent === 'Start'")
    page.wait_for_timeout(3300)
    assert {c["do"] for c in site.backend.done} == {"stop"}


def test_nothing_of_a_silent_gate_looks_like_now(site, page):
    page.wait_for_selector("#cameras .main .plan:not(.lost)")
    state = site.backend.state
    site.backend.state = lambda: state() | {"gate_ms": site.backend.now - 1500}
    page.wait_for_function("() => document.getElementById('say').textContent.includes('is silent')")
    page.wait_for_selector("#cameras .main .plan.lost", state="hidden")


def test_keys_before_the_first_state_do_no_harm(site, browser):
    state = site.backend.state
    site.backend.state = lambda: time.sleep(1.5) or state()
    early = browser.new_context(viewport=TABLET).new_page()
    wrong = []
    early.on("pageerror", lambda error: wrong.append(str(error)))
    early.goto(f"http://{site.host}/?token=right")
    for key in ("i", "1", "ArrowRight", "w"):
        early.keyboard.press(key)
    early.fill("#note", "early")
    early.press("#note", "Enter")
    site.backend.state = state
    early.wait_for_function("() => document.getElementById('link').textContent === 'connected'")
    early.wait_for_selector("#alarm", state="hidden")
    assert wrong == [] and site.backend.done == []
    early.context.close()


def test_the_note_of_a_phone_is_there_while_something_is_recorded_or_rated(site, page):
    page.set_viewport_size({"width": 390, "height": 844})
    page.wait_for_selector("#note", state="visible")  # it records
    site.backend.recorder = {"recording": "False"}
    page.wait_for_selector("#note", state="hidden")
    site.backend.trial = {"trial": 1, "of": 2, "policy": "A", "task": "lift", "start": 1}
    page.wait_for_selector("#note", state="visible")


def test_a_note_is_kept_by_itself(site, page):
    page.fill("#note", "the cube slipped")
    said(site, page, lambda: page.wait_for_timeout(1600), do="mark", note="the cube slipped")
    page.wait_for_timeout(1600)
    assert [c["do"] for c in site.backend.done] == ["mark"]


def test_health_joints_and_plots(site, page):
    page.wait_for_function(
        "() => document.getElementById('health').textContent.includes('front 15 Hz')"
    )
    site.backend.rates = {"front": None, "side": 0.0}
    page.wait_for_selector("#health .bad")
    assert "! front no picture" in page.inner_text("#health")
    page.click("#tab-robot")
    assert "45.0\u00b0" in page.inner_text("#joints") and "79.8 mm" in page.inner_text("#joints")
    site.backend.arm = site.backend.arm | {
        "joints_deg": [155.0, *site.backend.arm["joints_deg"][1:]]
    }
    page.wait_for_selector("#joints .bad")
    site.backend.arm = {}
    page.wait_for_function(
        "() => document.getElementById('joints').textContent.includes('no usable joint state')"
    )
    page.click("#tab-plots")
    page.wait_for_function(
        "() => document.getElementById('divergence').getAttribute('aria-label') === 'divergence"
        " score: 0.500'"
    )
    page.click("#tab-health")
    assert "RUNNING" in page.inner_text("#processes")
    page.keyboard.press("ArrowRight")  # to the next tab, and no verdict
    assert page.is_visible("#plots")
    page.wait_for_timeout(200)
    assert site.backend.done == []


def test_control_changes_hands_with_the_operators_consent(site, page, browser):
    other = browser.new_context(viewport=TABLET).new_page()
    other.goto(f"http://{site.host}/?token=right")
    other.wait_for_selector("#ask:visible")
    assert other.is_disabled("#arm") and page.is_hidden("#give")
    other.click("#ask")
    page.wait_for_selector("#give:visible")
    assert page.inner_text("#give").startswith("Page ")
    third = browser.new_context(viewport=TABLET).new_page()
    third.goto(f"http://{site.host}/?token=right")
    third.click("#ask")
    third.wait_for_function("() => said.textContent.includes('another page asks already')")
    third.context.close()
    page.tap("#give")
    other.wait_for_selector("#arm:enabled")
    page.wait_for_selector("#arm:disabled")
    said(site, other, lambda: other.click("#arm"), do="arm")
    other.context.close()
    page.wait_for_selector("#arm:enabled")  # who has it left


def test_nothing_serious_is_found_by_axe(site, page):
    """WCAG 2 A and AA, names, roles and contrast, in both colour schemes and every tab."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    page.wait_for_selector("#approve:enabled")
    for scheme in ("dark", "light"):
        page.emulate_media(color_scheme=scheme)
        for tab in page.locator("[role=tab]").all():
            tab.click()
            found = axe.run(page).response["violations"]
            serious = [v for v in found if v["impact"] in ("serious", "critical")]
            nodes = [(v["id"], [n["html"][:120] for n in v["nodes"]]) for v in serious]
            assert nodes == [], (scheme, tab.inner_text())


def tab_to(page, selector):
    """Move the focus by Tab alone, as somebody without a pointer."""
    for _ in range(80):
        page.keyboard.press("Tab")
        if page.evaluate("(s) => document.activeElement.matches(s)", selector):
            return
    raise AssertionError(f"{selector} is not reached by Tab")


def by_keyboard(page, selector):
    tab_to(page, selector)
    page.keyboard.press("Enter")


MEANS = {
    "mouse": lambda page, selector: page.click(selector),
    "touch": lambda page, selector: page.tap(selector),
    "keyboard": by_keyboard,
}


USUAL = {("desktop", "mouse"), ("desktop", "keyboard"), ("phone", "touch")}


@pytest.mark.parametrize(
    ("size", "means"),
    [
        pytest.param(size, means, marks=[] if (size, means) in USUAL else [pytest.mark.long])
        for size in SIZES
        for means in MEANS
    ],
)
def test_every_flow_by_every_means_at_every_size(site, page, size, means):
    """Arm, approve, decline, record, rate, correct, change the mode, and stop."""
    width, height = SIZES[size]
    page.set_viewport_size({"width": width, "height": height})
    site.backend.recorder = {"recording": "True", "saved": "runs/episode_000004", "verdict": "True"}
    page.wait_for_selector("#approve:enabled")
    plan = {"plan": WAITS["waiting"]}
    verdict = {"correct": "episode_000004", "success": False}
    flow = {
        "#arm": {"do": "arm"},
        "#approve": {"do": "approve", **plan, "sha256": WAITS["waiting_sha256"]},
        "#decline": {"do": "decline", **plan},
        "#start": {"do": "start"},
        "#success": {"do": "save", "success": True},
        "#fail": {"do": "save", "success": False},
        "#correct": {"do": "correct", **verdict},
        "#mode [value=auto]": {"do": "mode", "mode": "auto"},
        "#hold": {"do": "hold"},
        "#stop": {"do": "stop"},
    }
    for selector, command in flow.items():
        said(site, page, lambda s=selector: MEANS[means](page, s), **command)


def test_a_key_that_is_held_counts_as_a_change_and_one_whose_release_got_lost_does_not(site, page):
    site.backend.session["plans"] = "teleop"
    page.reload()
    page.check("#drive")
    page.evaluate("document.activeElement.blur()")

    def axes(count=12):
        before = len(site.backend.done)
        while len(site.backend.done) < before + count:
            page.wait_for_timeout(20)
        return {tuple(c["axes"]) for c in site.backend.done[before:] if c["do"] == "joy"}

    page.keyboard.press("c")  # at once up again
    axes()
    pressed = [c["buttons"] for c in site.backend.done if any(c.get("buttons", ()))]
    assert pressed and all(buttons == [1, 1, 0, 0] for buttons in pressed)
    page.keyboard.down("w")
    axes(2)
    assert axes() == {(1, 0, 0, 0, 0, 0, 0)}  # pressed once, and never again
    before = len(site.backend.done)
    for _ in range(12):  # it repeats
        page.keyboard.down("w")
        page.wait_for_timeout(50)
    seen = {tuple(c["axes"]) for c in site.backend.done[before:] if c["do"] == "joy"}
    assert seen == {(1, 0, 0, 0, 0, 0, 0), (1, 0, 0, 0, 0, 0, 1)}
    page.keyboard.down("d")  # of two keys one repeats
    axes(2)
    page.keyboard.down("d")
    assert axes() == {(1, -1, 0, 0, 0, 0, 0)}
    page.keyboard.up("d")
    axes(6)
    assert axes() == {(1, 0, 0, 0, 0, 0, 0)}
    page.evaluate("window.dispatchEvent(new Event('blur'))")
    axes(2)
    assert axes() == {(0, 0, 0, 0, 0, 0, 0)}
