"""The operator's page in a real browser: what is pressed arrives, and nothing is asked for elsewhere."""

import shutil
import time

import pytest

cv2 = pytest.importorskip("cv2")
np = pytest.importorskip("numpy")
playwright = pytest.importorskip("playwright.sync_api")

from test_console_web import Site

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on the path"),
    pytest.mark.timeout(120),
]
GATE = {"state": "HOLD", "armed": "True", "cause": "armed", "mode": "approve", "latency_ms": "31.0"}
WAITS = {"waiting": "1795617706349959571", "waiting_sha256": "ab" * 32, "waiting_s": "12.0"}  # more than 2^53
TABLET = {"width": 820, "height": 1180}


class Whole:
    """A desk that knows every command, with two cameras."""

    def __init__(self):
        picture = cv2.imencode(".jpg", np.full((24, 42, 3), 128, np.uint8))[1].tobytes()
        names = [f"live/{c}" for c in ("front", "side")] + [f"h{k}/front" for k in range(1, 9)]
        self.pictures, self.done, self.viewer_port = {name: (1, picture) for name in names}, [], 0
        self.gate, self.recorder, self.trial, self.rubric = GATE | WAITS, {}, {}, {}

    def state(self):
        return {
            "gate": self.gate, "future": {}, "divergence": {"score": 0.5}, "stages": {}, "nodes": {}, "result": {},
            "recorder": self.recorder, "answers": ["arm: armed"], "cameras": ["front", "side"], "steps": 8,
            "modes": ["auto", "approve"], "robot": "sim", "viewer": False, "task": "lift",
            "trial": self.trial, "rubric": self.rubric, "causes": ["policy", "hardware"],
        }  # fmt: skip

    def act(self, command):
        self.done.append(command)


@pytest.fixture(scope="module")
def browser():
    with playwright.sync_playwright() as p:
        browser = p.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def site():
    site = Site()
    site.desk = site.console._desk = Whole()
    yield site
    site.server.stop()


@pytest.fixture
def page(browser, site):
    page = browser.new_page(viewport=TABLET, has_touch=True)
    page.asked, page.wrong = [], []
    page.on("request", lambda r: page.asked.append(r.url))
    page.on("console", lambda m: page.wrong.append(m.text) if m.type == "error" else None)
    page.on("pageerror", lambda e: page.wrong.append(str(e)))
    page.goto(f"http://{site.host}/?token=right")
    page.wait_for_function("() => document.getElementById('link').textContent === 'connected'")
    yield page
    assert page.wrong == []
    page.close()


def said(site, page, act, **command):
    """Whether the desk is told a command after ``act``, at once."""
    before = len(site.desk.done)
    act()
    end = time.monotonic() + 3
    while command not in site.desk.done[before:]:
        assert time.monotonic() < end, (command, site.desk.done[before:])
        page.wait_for_timeout(10)


def test_it_asks_for_nothing_elsewhere_and_keeps_the_token_out_of_the_address(site, page):
    page.wait_for_function("() => [...document.images].filter((i) => i.naturalWidth === 42).length >= 4")
    assert page.url == f"http://{site.host}/"
    own = (f"http://{site.host}/", f"blob:http://{site.host}/", "data:")
    assert [url for url in page.asked if not url.startswith(own)] == []
    assert page.evaluate("document.cookie") == ""  # no script reads it


def test_buttons(site, page):
    for control in ("stop", "hold"):
        said(site, page, lambda c=control: page.tap(f"#{c}"), do=control)
    for wish in ("arm", "home", "reset", "start", "discard", "keep"):
        said(site, page, lambda w=wish: page.tap(f"[data-do={w}]"), do=wish)
    plan = {"plan": WAITS["waiting"], "sha256": WAITS["waiting_sha256"]}
    said(site, page, lambda: page.tap("#approve"), do="approve", **plan)
    said(site, page, lambda: page.tap("#success"), do="save", success=True)
    said(site, page, lambda: page.tap("#fail"), do="save", success=False)
    said(site, page, lambda: page.select_option("#mode", "auto"), do="mode", mode="auto")
    said(site, page, lambda: page.tap("#lay"), do="lay", seed=9000)


def test_what_the_recorder_loses_and_how_little_room_there_is_can_be_seen(site, page):
    wait = "(words) => document.getElementById('episode').textContent.includes(words)"
    page.wait_for_function(wait, arg="not recording")
    site.desk.recorder = {"recording": "True", "dropped a": "4", "dropped b": "3", "received a": "9", "free": "0.04"}
    page.wait_for_function(wait, arg="recording, 7 messages dropped, 4 % of the disk free")
    site.desk.recorder = {"recording": "False", "cut": "less than 5% of the disk is free", "saved": "x", "free": "0.5"}
    page.wait_for_function(wait, arg="less than 5% of the disk is free")


def test_a_protocols_trial_is_shown_and_its_verdict_goes_with_the_rubrics_share(site, page):
    assert page.is_hidden("#abort") and page.is_hidden("#overlays")
    site.desk.rubric = {"it is in the air": 0.3, "it is in the box": 0.4, "all of them are": 0.3}
    site.desk.trial = {
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
    site.desk.pictures = site.desk.pictures | {"overlay/front": (1, site.desk.pictures["live/front"][1])}
    page.wait_for_function("() => document.querySelector('#overlays img').naturalWidth === 42")
    page.wait_for_function("() => document.getElementById('trial').textContent !== ''")
    assert page.inner_text("#trial") == "Trial 3 of 40: policy B, sort_screws, start 5002"
    assert page.inner_text("#alike") == "83 % alike" and "put every screw into the box" in page.inner_text("#trial-how")
    page.check("#rubric input >> nth=0")
    page.check("#rubric input >> nth=1")
    said(site, page, lambda: page.tap("#fail"), do="save", success=False, score=0.7)
    said(site, page, lambda: page.tap("#fail"), do="save", success=False, score=0)  # the boxes are for one trial
    page.check("#rubric input >> nth=0")
    said(site, page, lambda: page.tap("#success"), do="save", success=True)
    page.select_option("#abort", "hardware")
    said(site, page, lambda: page.tap("#fail"), do="save", success=False, score=0, cause="hardware")
    del site.desk.trial["alike"]
    page.wait_for_selector("#overlays", state="hidden")


def test_keys_mean_what_they_say_except_in_a_note(site, page):
    for key, command in {"Escape": "stop", " ": "hold"}.items():
        said(site, page, lambda k=key: page.keyboard.press(k), do=command)
    said(site, page, lambda: page.keyboard.press("ArrowRight"), do="save", success=True)
    said(site, page, lambda: page.keyboard.press("ArrowLeft"), do="redo")
    page.click("#note")
    before = len(site.desk.done)
    page.keyboard.type("a slip ")
    said(site, page, lambda: page.keyboard.press("Enter"), do="mark", note="a slip ")
    assert [c for c in site.desk.done[before:] if c["do"] != "mark"] == []
    said(site, page, lambda: page.keyboard.press("Escape"), do="stop")  # from everywhere


def test_hold_to_run_beats_while_it_is_pressed_and_no_longer(site, page):
    page.locator("#run").hover()
    page.mouse.down()
    page.wait_for_timeout(500)
    page.mouse.up()
    page.wait_for_timeout(150)
    beats = site.desk.done.count({"do": "beat"})
    assert 4 <= beats <= 12
    page.wait_for_timeout(300)
    assert site.desk.done.count({"do": "beat"}) == beats


def test_nothing_waits_then_nothing_is_to_approve_and_a_lost_server_is_said(site, page):
    site.desk.gate = GATE
    page.wait_for_function("() => document.getElementById('approve').disabled")
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
        "[...document.querySelectorAll('button')].filter((b) => b.offsetHeight < 40).map((b) => b.id)"
    )
    assert small == [], "too small for a finger"
