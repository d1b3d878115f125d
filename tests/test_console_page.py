"""The operator's page in a real browser: what is pressed arrives, and nothing is asked for
elsewhere.
"""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

cv2 = pytest.importorskip("cv2")
np = pytest.importorskip("numpy")
playwright = pytest.importorskip("playwright.sync_api")

from gwm.console.command_checks import refusals
from test_console_web import Site

from gwm_core import topics
from gwm_core.gate_status import GateStatus

CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on the path"),
    pytest.mark.timeout(120),
]
GATE = {"state": "HOLD", "armed": "True", "cause": "armed", "mode": "approve", "latency_ms": "31.0"}
# more than 2^53
WAITS = {"waiting": "1795617706349959571", "waiting_sha256": "ab" * 32, "waiting_s": "12.0"}
ACT = "([what, more]) => import('/commands.js').then((m) => { m.act(what, more); })"
TABLET = {"width": 820, "height": 1180}
PLAN = int(WAITS["waiting"])
LATER = str(PLAN + 64)  # the same float64
VIEWS = ("front", "side", "afar")


class Whole:
    """A backend that knows every command, with two cameras, and the future of a plan, made when it
    began.
    """

    def __init__(self):
        self.picture = cv2.imencode(".jpg", np.full((24, 42, 3), 128, np.uint8))[1].tobytes()
        self.imagined, self.begun, self.cameras_run = self.future(PLAN), time.monotonic(), True
        self.done, self.viewer_port, self.mute, self.ahead = [], 0, (), 0.0
        self.gate, self.recorder, self.trial, self.rubric = (
            GATE | WAITS,
            {"recording": "True"},
            {},
            {},
        )
        self.refuse, self.imagines, self.unread, self.foreseen = {}, True, [], {}
        self.fields = {}
        self.rates = {"front": 15.0, "side": 14.6}
        self.session = {
            "robot": "sim",
            "task": "lift",
            "operator": "Ada",
            "plans": "policy",
            "goal": 50,
            "instruction": "",
        }
        self.arm = {
            "joints_deg": [0.0, -17.2, 0.0, -131.8, 0.0, 114.6, 45.0],
            "low_deg": [-157.0, -101.0, -166.0, -174.0, -160.0, 31.0, -172.0],
            "high_deg": [157.0, 101.0, 166.0, -9.0, 160.0, 258.0, 172.0],
            "width_mm": 79.8,
            "speed": 0.11,
        }
        path = [[0.3 + 0.02 * k, 0.5] for k in range(17)]
        ghosts = [[[0.4 + 0.1 * k, 0.3], [0.4 + 0.1 * k, 0.5]] for k in range(3)]
        views = {name: {"path": path, "ghosts": ghosts} for name in VIEWS[:2]}
        self.plan = {"id": WAITS["waiting"], "words": "12 cm left, then close", "views": views}

    @property
    def now(self):
        """[ms]"""
        return PLAN // 10**6 + 1e3 * (time.monotonic() - self.begun + self.ahead)

    @property
    def pictures(self):
        stamp = round(self.now * 1e6) if self.cameras_run else PLAN
        return {f"live/{c}": (stamp, self.picture) for c in VIEWS[:2]} | self.imagined

    def future(self, plan):
        return {
            f"h{k}/{view}": (plan + k * 10**8, self.picture)
            for view in VIEWS
            for k in topics.LOOKAHEADS
        }

    def state(self):
        return {
            "now": self.now,
            "gate_ms": self.now - 50,
            "gate": self.gate,
            "future": self.foreseen,
            "imagines": self.imagines,
            "divergence": {"score": 0.5},
            "refuses": self.refuse,
            "unread": self.unread,
            "result": {},
            "plan_ms": 1600,
            "recorder": self.recorder,
            "cameras": ["front", "side"],
            "rates": self.rates,
            "steps": topics.LOOKAHEADS,
            "modes": ["auto", "approve"],
            "session": self.session,
            "viewer": False,
            "arm": self.arm,
            "plan": self.plan,
            "nodes": {"gate": {"text": "RUNNING", "age_s": 0.1}},
            "trial": self.trial,
            "rubric": self.rubric,
            "fields": self.fields,
            "causes": ["policy", "hardware"],
        }

    def act(self, command, answer):
        self.done.append(command)
        if command["do"] in self.mute:
            return
        answer("no" not in command.get("note", ""), "as told")


@pytest.fixture(scope="module")
def browser():
    with playwright.sync_playwright() as p:
        browser = p.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def site():
    site = Site()
    site.backend = site.console._backend = site.console._pages._backend = Whole()
    yield site
    site.server.stop()


@pytest.fixture
def page(browser, site):
    page = browser.new_context(viewport=TABLET, has_touch=True).new_page()
    page.asked, page.wrong = [], []
    page.on("request", lambda r: page.asked.append(r.url))
    page.on("console", lambda m: page.wrong.append(m.text) if m.type == "error" else None)
    page.on("pageerror", lambda e: page.wrong.append(str(e)))
    page.goto(f"http://{site.host}/?token=right")
    page.wait_for_function("() => document.getElementById('link').textContent === 'connected'")
    yield page
    assert page.wrong == []
    page.context.close()


def said(site, page, act, **command):
    """Whether the backend gets a command after ``act``, at once."""
    before = len(site.backend.done)
    act()
    end = time.monotonic() + 3
    while command not in site.backend.done[before:]:
        assert time.monotonic() < end, (command, site.backend.done[before:])
        page.wait_for_timeout(10)


def test_it_asks_for_nothing_elsewhere_and_keeps_the_token_out_of_the_address(site, page):
    page.wait_for_function(
        "() => [...document.images].filter((i) => i.naturalWidth === 42).length >= 4"
    )
    assert page.url == f"http://{site.host}/"
    own = (f"http://{site.host}/", f"blob:http://{site.host}/", "data:")
    assert [url for url in page.asked if not url.startswith(own)] == []
    assert page.evaluate("document.cookie") == ""  # no script reads it


def test_buttons(site, page):
    for control in ("stop", "hold"):
        said(site, page, lambda c=control: page.tap(f"#{c}"), do=control)
    for wish in ("arm", "home", "reset", "start", "discard", "keep"):
        said(site, page, lambda w=wish: page.tap(f"#{w}"), do=wish)
    # more than 2^53: text all the way
    plan = {"plan": WAITS["waiting"], "sha256": WAITS["waiting_sha256"]}
    said(site, page, lambda: page.tap("#approve"), do="approve", **plan)
    said(site, page, lambda: page.tap("#success"), do="save", success=True)
    said(site, page, lambda: page.tap("#fail"), do="save", success=False)
    said(site, page, lambda: page.tap("#mode [value=auto]"), do="mode", mode="auto")
    said(site, page, lambda: page.tap("#lay"), do="lay", seed=9002)  # after two episodes


def test_what_the_recorder_loses_and_how_little_room_there_is_can_be_seen(site, page):
    site.backend.recorder = {}
    wait = "(words) => document.getElementById('episode').textContent.includes(words)"
    page.wait_for_function(wait, arg="not recording")
    site.backend.recorder = {
        "recording": "True",
        "dropped a": "4",
        "dropped b": "3",
        "received a": "9",
        "free": "0.04",
    }
    page.wait_for_function(wait, arg="recording, 7 messages dropped, 4 % of the disk free")
    site.backend.recorder = {
        "recording": "False",
        "cut": "less than 5% of the disk is free",
        "saved": "x",
        "free": "0.5",
    }
    page.wait_for_function(wait, arg="less than 5% of the disk is free")


def test_a_protocols_trial_is_shown_and_its_verdict_goes_with_the_rubrics_share(site, page):
    site.backend.gate = GATE
    assert page.is_hidden("#abort") and page.is_hidden("#overlays")
    site.backend.rubric = {"it is in the air": 0.3, "it is in the box": 0.4, "all of them are": 0.3}
    site.backend.trial = {
        "trial": 3,
        "of": 40,
        "policy": "B",
        "task": "sort_screws",
        "start": 5002,
        "seconds": 40,
        "instruction": "put every screw into the box",
        "phase": "lay the table",
        "alike": 0.83,
    }
    site.backend.imagined = site.backend.imagined | {"overlay/front": (1, site.backend.picture)}
    page.wait_for_function("() => document.querySelector('#overlays img').naturalWidth === 42")
    page.wait_for_function("() => document.getElementById('trial').textContent !== ''")
    assert page.inner_text("#trial") == "Trial 3 of 40: policy B, sort_screws, start 5002"
    assert page.inner_text("#alike") == "83 % alike"
    page.wait_for_function("() => say.textContent.includes('Put every screw into the box')")
    page.check("#rubric input >> nth=0")
    page.check("#rubric input >> nth=1")
    said(site, page, lambda: page.tap("#fail"), do="save", success=False, score=0.7)
    # the boxes are for one trial
    said(site, page, lambda: page.tap("#fail"), do="save", success=False, score=0)
    page.check("#rubric input >> nth=0")
    said(site, page, lambda: page.tap("#success"), do="save", success=True)
    page.tap("#abort [value=hardware]")
    said(site, page, lambda: page.tap("#fail"), do="save", success=False, score=0, cause="hardware")
    del site.backend.trial["alike"]
    page.wait_for_selector("#overlays", state="hidden")


def test_what_the_task_asks_of_every_episode_is_filled_in_before_it_is_saved(site, page):
    site.backend.fields = {"box": ["left", "right"], "batch": []}
    page.wait_for_function("() => document.getElementById('success').title.includes('box, batch')")
    assert page.is_disabled("#fail")
    site.backend.gate = GATE | {"mode": "auto", "armed": "True"}
    page.wait_for_function("() => say.textContent.includes('Fill in box, batch, then Success')")
    page.keyboard.press("ArrowRight")  # the key is refused too
    page.wait_for_function("() => said.textContent.includes('fill in box, batch first')")
    page.tap("[aria-label=box] [value=right]")
    page.fill("[aria-label=batch]", " 17 ")
    page.keyboard.press("Enter")  # the arrows rate again
    both = {"box": "right", "batch": "17"}
    said(
        site, page, lambda: page.keyboard.press("ArrowRight"), do="save", success=True, fields=both
    )
    page.tap("[aria-label=box] [value=left]")
    both["box"] = "left"  # the other entry stays
    said(site, page, lambda: page.tap("#fail"), do="save", success=False, fields=both)
    page.reload()
    page.wait_for_selector("#success:enabled")
    assert page.get_attribute("[aria-label=box] [value=left]", "aria-pressed") == "true"
    assert page.input_value("[aria-label=batch]") == "17"


def test_keys_mean_what_they_say_except_in_a_note(site, page):
    for key, command in {"Escape": "stop", " ": "hold"}.items():
        said(site, page, lambda k=key: page.keyboard.press(k), do=command)
    said(site, page, lambda: page.keyboard.press("ArrowRight"), do="save", success=True)
    said(site, page, lambda: page.keyboard.press("ArrowLeft"), do="redo")
    page.click("#note")
    before = len(site.backend.done)
    page.keyboard.type("a slip ")
    said(site, page, lambda: page.keyboard.press("Enter"), do="mark", note="a slip ")
    page.keyboard.type("wasd")  # steers, and writes nothing
    assert page.input_value("#note") == "a slip "  # until it is saved
    assert [c for c in site.backend.done[before:] if c["do"] != "mark"] == []
    said(site, page, lambda: page.keyboard.press("Escape"), do="stop")  # from everywhere


def test_hold_to_run_beats_while_it_is_pressed_and_no_longer(site, page):
    site.backend.refuse = {"beat": "the mode is approve, not hold_to_run"}
    assert page.is_hidden("#run")
    site.backend.gate = GATE | {"mode": "hold_to_run"}
    page.wait_for_selector("#run:disabled")
    site.backend.refuse = {}
    page.wait_for_selector("#run:enabled")
    page.locator("#run").hover()
    page.mouse.down()
    page.wait_for_timeout(500)
    page.mouse.up()
    page.wait_for_timeout(150)
    beats = site.backend.done.count({"do": "beat"})
    assert 4 <= beats <= 12
    page.wait_for_timeout(300)
    assert site.backend.done.count({"do": "beat"}) == beats


def test_nothing_waits_then_nothing_is_to_approve_and_a_lost_server_is_said(site, page):
    page.wait_for_selector("#approve:enabled")
    site.backend.gate, site.backend.refuse = GATE, {"approve": "no plan waits"}
    page.wait_for_selector("#approve:disabled")
    site.server.stop()
    page.wait_for_function("() => document.getElementById('link').textContent.startsWith('LOST')")
    page.wrong.clear()  # the browser says that it cannot connect


def test_stop_is_in_sight_on_a_tablet_wherever_one_scrolls(page):
    page.wait_for_timeout(200)
    for end in ("0", "document.body.scrollHeight"):
        page.evaluate(f"scrollTo(0, {end})")
        box = page.locator("#stop").bounding_box()
        assert box["y"] >= 0 and box["height"] >= 60 and box["width"] >= 0.4 * TABLET["width"]
    wide = page.evaluate("document.documentElement.scrollWidth")
    assert wide <= TABLET["width"], "it scrolls sideways"
    small = page.evaluate(
        "[...document.querySelectorAll('button')].filter((b) => b.offsetParent && b.offsetHeight <"
        " 40).map((b) => b.id)"
    )
    assert small == [], "too small for a finger"


def alarm(page, words):
    """Wait until the page warns with these words."""
    shown = "!document.getElementById('alarm').hidden"
    page.wait_for_function(
        f"(w) => {shown} && document.getElementById('alarm').textContent.includes(w)", arg=words
    )
    assert page.is_visible("#alarm")


def line(page, words):
    """Wait until the answer to the last command has these words."""
    page.wait_for_function(
        "(words) => document.getElementById('said').textContent.includes(words)", arg=words
    )


def calm(page):
    old = "document.querySelector('#cameras .live.old, #strip img.old')"
    page.wait_for_function(f"() => document.getElementById('alarm').hidden && !{old}")


FROZEN = """
import sys, time
sys.path[:0] = {paths!r}
from test_console_page import Whole
from test_console_web import Site
site = Site()
site.backend = site.console._pages._backend = site.console._backend = Whole()
print(site.port, flush=True)
while True:
    time.sleep(0.01)
    print(*[c["do"] for c in site.backend.done], flush=True) if site.backend.done else None
    site.backend.done.clear()
"""


@pytest.fixture
def frozen(browser):
    """A page, and the process of its server, which can be stopped as a machine that hangs is."""
    root = Path(__file__).parents[1]
    paths = [str(Path(__file__).parent), str(root), str(root / "ros2_ws/src/gwm")]
    server = subprocess.Popen(
        [sys.executable, "-c", FROZEN.format(paths=paths)], stdout=subprocess.PIPE, text=True
    )
    port = int(server.stdout.readline())
    page = browser.new_page(viewport=TABLET, has_touch=True)
    page.goto(f"http://127.0.0.1:{port}/?token=right")
    page.wait_for_function("() => document.getElementById('link').textContent === 'connected'")
    yield page, server
    page.close()
    server.send_signal(signal.SIGCONT)
    server.kill()
    server.wait()


def test_a_frozen_link_is_said_and_nothing_of_before_looks_like_now(frozen):
    page, server = frozen
    calm(page)
    os.kill(server.pid, signal.SIGSTOP)
    alarm(page, "no contact for")
    alarm(page, "use the robot's own stop")
    pictures = page.locator("#cameras .live, #strip img")
    # all of them are grey
    assert page.locator("#cameras .live.old, #strip img.old").count() == pictures.count() == 5
    assert "LOST" in page.inner_text("#link") and "lost" in page.get_attribute("#status", "class")

    def ages():
        return [
            float(text.split()[0])
            for text in page.locator("#cameras .age, #strip .age").all_inner_texts()
        ]

    before = ages()
    page.wait_for_timeout(1000)
    # they go on counting
    assert all(later > earlier + 0.5 for earlier, later in zip(before, ages()))
    assert page.is_disabled("#arm") and page.is_disabled("#approve") and page.is_enabled("#stop")
    page.keyboard.press("ArrowRight")
    line(page, "save: not sent: no contact")

    page.tap("#stop")
    alarm(page, "STOP not confirmed for")
    page.wait_for_timeout(700)
    os.kill(server.pid, signal.SIGCONT)
    calm(page)
    line(page, "stop: done")
    told = server.stdout.readline().split()
    assert set(told) == {"stop"} and len(told) > 1  # said again until it was answered, and no save


def test_a_stop_that_nobody_confirms_is_repeated_and_said(site, page):
    site.backend.mute = ("stop",)
    page.tap("#stop")
    alarm(page, "STOP not confirmed for")
    alarm(page, "use the robot's own stop")
    site.until(lambda: site.backend.done.count({"do": "stop"}) >= 3)
    site.backend.mute = ()
    line(page, "stop: done")
    page.wait_for_function("() => document.getElementById('alarm').hidden")
    times = len(site.backend.done)
    page.wait_for_timeout(800)
    assert len(site.backend.done) == times


def test_a_stop_that_is_refused_is_an_alarm(site, page):
    site.backend.act = lambda command, answer: answer(False, "nobody answers to gate/stop")
    page.tap("#stop")
    alarm(page, "STOP refused: nobody answers to gate/stop: use the robot's own stop")


def test_a_gate_that_falls_silent_is_an_alarm(site, page):
    state = site.backend.state
    site.backend.state = lambda: state() | {"gate_ms": site.backend.now - 1500}
    alarm(page, "nothing from the gate for")
    assert "lost" in page.get_attribute("#status", "class")


def test_what_is_pressed_without_a_connection_is_dropped_and_said_but_stop_goes_first(site, page):
    site.server.stop()
    page.wait_for_function("() => document.getElementById('link').textContent.startsWith('LOST')")
    page.evaluate(ACT, ["arm", {}])
    line(page, "arm: not sent: no contact")
    page.evaluate(ACT, ["mode", {"mode": "auto"}])
    line(page, "mode: not sent: no contact")
    page.tap("#stop")
    line(page, "stop: not sent yet")
    again = Site(site.port)  # what a respawned console is: the same address
    again.backend = again.console._backend = again.console._pages._backend = Whole()
    try:
        line(page, "stop: done")
        calm(page)
        page.wait_for_timeout(300)
        assert {c["do"] for c in again.backend.done} == {"stop"}
        assert page.inner_text("#link") == "connected"
    finally:
        page.wrong.clear()  # the browser says that it could not connect
        again.server.stop()


def test_another_start_of_the_graph_is_told_from_a_lost_connection(site, page):
    site.server.stop()
    again = Site(site.port, {"other": "operator"})
    try:
        alarm(page, "this page's address is no longer valid")
        page.reload()
        assert "here/console.url" in page.inner_text("body")
    finally:
        page.wrong.clear()
        again.server.stop()


def test_looking_on_beside_it_makes_no_viewer_of_the_operators_page(site, page):
    look = page.context.new_page()
    look.goto(f"http://{site.host}/?token=look")
    look.wait_for_function(
        "() => document.getElementById('link').textContent === 'this page only shows'"
    )
    assert look.is_disabled("#arm") and look.is_enabled("#stop")
    said(site, look, lambda: look.click("#stop"), do="stop")
    page.reload()
    page.wait_for_function("() => document.getElementById('link').textContent === 'connected'")
    said(site, page, lambda: page.tap("#arm"), do="arm")
    look.close()


@pytest.mark.parametrize("what", ["stop", "hold"])
def test_stop_and_hold_by_every_means(site, page, what):
    """Pointer, keys on the button, and a click without a pointer, as switches and screen readers
    make it.
    """
    means = [
        lambda: page.click(f"#{what}"),
        lambda: page.tap(f"#{what}"),
        lambda: page.press(f"#{what}", "Enter"),
        lambda: page.press(f"#{what}", " "),
        lambda: page.evaluate(f"document.getElementById('{what}').click()"),
        lambda: page.dispatch_event(f"#{what}", "click"),
        lambda: page.dispatch_event(f"#{what}", "pointerdown"),
    ]
    for act in means:
        page.wait_for_timeout(400)
        before = len(site.backend.done)
        said(site, page, act, do=what)
        page.wait_for_timeout(200)
        assert site.backend.done[before:] == [{"do": what}]


@pytest.mark.parametrize(
    "where", ["#note", "#seed", "#drive", "#horizon", "#mode [value=auto]", "#abort [value=policy]"]
)
def test_escape_stops_from_everywhere(site, page, where):
    site.backend.trial = {"trial": 1, "of": 2, "policy": "A", "task": "lift", "start": 1}
    site.backend.session["plans"] = "shared"
    page.reload()
    page.wait_for_selector("#abort", state="visible")
    page.focus(where)
    said(site, page, lambda: page.keyboard.press("Escape"), do="stop")
    opens = (
        "select, dialog, [popover], [list], input:is(:not([type]),"
        " [type=number]):not([autocomplete=off])"
    )
    assert page.locator(opens).count() == 0  # what opens keeps Esc to itself


def test_success_is_foreseen_with_its_interval_or_not_at_all(site, page):
    def shows(text):
        page.wait_for_function(
            "text => document.getElementById('foreseen').textContent === text", arg=text
        )

    shows("nothing imagined yet")
    known = {"success": 0.874, "success_low": 0.79, "success_high": 0.93}
    site.backend.foreseen = {"plan": LATER} | known
    shows("done by then: 87 % (79 to 93)")
    for unknown in ({}, {"success": 0.9}, known | {"success_low": None}):
        site.backend.foreseen = {"plan": LATER} | unknown
        shows("")
    site.backend.imagines, site.backend.foreseen = False, {}
    shows("nothing imagines")


def test_a_slow_page_shows_the_present(site, page):
    """Busy for two seconds, it finds one frame behind, not twenty."""
    page.wait_for_selector("#approve:enabled")
    for number in range(30):
        site.backend.gate = GATE | {"cause": f"cause {number}"}
        if number == 5:
            page.evaluate("""() => {
                const cause = document.getElementById("cause");
                window.seen = [];
                new MutationObserver(() => seen.push(cause.textContent))
                    .observe(cause, { childList: true });
                setTimeout(() => {
                    const end = performance.now() + 2000;
                    while (performance.now() < end);
                });
            }""")
        time.sleep(0.1)
    page.wait_for_function("() => document.getElementById('cause').textContent === 'cause 29'")
    assert len(page.evaluate("window.seen")) < 20


def test_the_plan_that_is_approved_is_the_one_whose_future_is_on_the_page(site, page):
    page.wait_for_selector("#approve:enabled")
    site.backend.gate = GATE | WAITS | {"waiting": LATER, "waiting_sha256": "cd" * 32}
    page.wait_for_selector("#approve:disabled")
    page.evaluate("document.getElementById('approve').click()")
    page.wait_for_timeout(300)
    assert [c for c in site.backend.done if c["do"] == "approve"] == []
    half = {
        name: picture
        for name, picture in site.backend.future(int(LATER)).items()
        if not name.startswith("h16")
    }
    site.backend.imagined = half  # not all of its future
    page.wait_for_timeout(1000)
    assert page.is_disabled("#approve") and "Look at it first" in page.inner_text("#say")
    site.backend.imagined = site.backend.future(int(LATER))
    page.wait_for_selector("#approve:enabled")
    said(site, page, lambda: page.tap("#approve"), do="approve", plan=LATER, sha256="cd" * 32)


def test_pictures_say_how_old_they_are_and_are_grey_when_they_are_of_the_past(site, page):
    calm(page)
    assert all(
        "s old" in text for text in page.locator("#cameras .age, #strip .age").all_inner_texts()
    )
    site.backend.ahead = 3.0
    page.wait_for_timeout(500)
    calm(page)  # its plan waits
    assert all(float(text.split()[0]) > 3 for text in page.locator("#strip .age").all_inner_texts())
    site.backend.gate = GATE | {"plan": LATER}  # another plan is followed
    page.wait_for_function(
        "() => document.querySelectorAll('#cameras .live.old, #strip img.old').length === 3"
    )
    site.backend.imagined = site.backend.future(int(LATER))
    calm(page)  # old, but of the plan that is followed
    site.backend.cameras_run = False
    page.wait_for_function("() => document.querySelectorAll('#cameras .live.old').length === 2")


def test_the_colour_is_the_robots_state(site, page):
    colours = {}
    for state in ("DISARMED", "HOLD", "RUNNING", "STOPPING", "SHADOW", "FAULT"):
        site.backend.gate = GATE | {"state": state}
        page.wait_for_function(
            "(s) => document.getElementById('gate').textContent.startsWith(s)", arg=state
        )
        colours[state] = page.evaluate(
            "getComputedStyle(document.getElementById('status')).backgroundColor"
        )
    assert len(set(colours.values())) == 6
    red, green, blue = (int(x) for x in colours["FAULT"][4:-1].split(","))
    assert red > 150 and max(green, blue) < 60


def test_refusals_are_shown_with_their_reason(site, page):
    site.backend.gate = (
        GATE | WAITS | {"refused moved": "3", "stops policy silent": "2", "trouble": "no gripper"}
    )
    site.backend.unread = ["camera/front/color/image_raw: encoding yuv422: rgb8 or bgr8 is wanted"]
    page.wait_for_function(
        "() => document.getElementById('trouble').textContent.includes('yuv422')"
    )
    assert "moved 3" in page.inner_text("#refused") and "policy silent 2" in page.inner_text(
        "#refused"
    )
    assert "no gripper" in page.inner_text("#trouble")
    act, site.backend.act = (
        site.backend.act,
        lambda command, answer: answer(False, "still coming to rest: arm again"),
    )
    page.tap("#arm")
    line(page, "arm: refused: still coming to rest: arm again")

    def raises(command, answer):
        raise ValueError("nobody answers to gate/home")

    site.backend.act = raises
    page.tap("#home")
    line(page, "home: refused: nobody answers to gate/home")
    assert "still coming to rest" in page.inner_text("#answers")
    site.backend.act = act


def test_what_cannot_act_is_disabled_and_says_why(site, page):
    site.backend.refuse = refusals(
        GateStatus.from_fields(GATE | {"state": "RUNNING"}), {"recording": "False"}, ""
    )
    page.wait_for_selector("#lay:disabled")
    for control, words in {
        "#lay": "not in RUNNING: hold first",
        "#home": "hold first",
        "#success": "not recording",
        "#redo": "not recording",
        "#discard": "not recording",
        "#mode [value=auto]": "hold first",
        "#approve": "no plan waits",
        "#reset": "nothing is to be reset",
    }.items():
        assert page.is_disabled(control) and words in page.get_attribute(control, "title"), control
    assert page.is_enabled("#start") and page.is_enabled("#stop") and page.is_enabled("#hold")
    page.keyboard.press("ArrowRight")
    line(page, "save: refused: not recording")
    page.wait_for_timeout(300)
    assert site.backend.done == []


def test_a_note_is_kept_until_the_episode_it_is_of_is_saved(site, page):
    page.fill("#note", "no, it slipped")  # the backend refuses this one
    said(site, page, lambda: page.tap("#fail"), do="save", success=False, note="no, it slipped")
    line(page, "save: refused")
    assert page.input_value("#note") == "no, it slipped"
    page.fill("#note", "it slipped")
    said(site, page, lambda: page.tap("#fail"), do="save", success=False, note="it slipped")
    page.wait_for_function("() => document.getElementById('note').value === ''")
    site.backend.refuse = {"mark": "not recording"}
    page.wait_for_timeout(300)
    page.fill("#note", "for the next")
    page.press("#note", "Enter")
    page.wait_for_timeout(300)
    assert page.input_value("#note") == "for the next"


def test_a_page_that_fails_says_so(site, page):
    state = site.backend.state
    site.backend.state = lambda: state() | {"trial": None}
    alarm(page, "this page has failed")
    alarm(page, "no contact for")
    page.wrong.clear()
