"""The page of a replay in a real browser: it plays, and every control does what it says."""

import pytest

playwright = pytest.importorskip("playwright.sync_api")

from gwm.tools.replay import write_page
from test_console_page import browser, pytestmark
from test_replay import record

__all__ = ("browser", "pytestmark")


@pytest.fixture
def page(browser, tmp_path):
    for number in range(2):
        record(tmp_path / f"run/episode_00000{number}")
    write_page(tmp_path / "run", tmp_path / "page.html", failures=False)
    page = browser.new_page(viewport={"width": 1200, "height": 900})
    page.wrong = []
    page.on("console", lambda m: page.wrong.append(m.text) if m.type == "error" else None)
    page.on("pageerror", lambda e: page.wrong.append(str(e)))
    page.goto((tmp_path / "page.html").as_uri())
    yield page
    assert page.wrong == []
    page.close()


def now(page):
    return float(page.input_value("#time"))


def test_it_plays_pauses_and_goes_where_one_says(page):
    assert now(page) == 0 and "episode_000000: lift, success" in page.inner_text("#outcome")
    page.keyboard.press(" ")
    page.wait_for_function("() => Number(document.getElementById('time').value) > 0.4")
    page.keyboard.press(" ")
    stopped = now(page)
    page.wait_for_timeout(300)
    assert now(page) == stopped
    page.keyboard.press("ArrowRight")
    assert now(page) == pytest.approx(stopped + 0.1, abs=0.03)
    page.keyboard.press("Shift+ArrowRight")
    assert now(page) == pytest.approx(stopped + 1.1, abs=0.03)
    for _ in range(2):
        page.keyboard.press("+")
    assert page.input_value("#rate") == "4"
    page.click("#play")
    page.wait_for_function("() => document.getElementById('play').textContent.startsWith('Play')")
    assert now(page) == pytest.approx(2.95, abs=0.05)  # its end
    page.keyboard.press("ArrowDown")
    assert "episode_000001" in page.inner_text("#outcome") and now(page) == 0


def test_pictures_plots_and_tables_are_of_the_moment(page):
    page.fill("#time", "2.1")
    page.wait_for_function("() => document.querySelector('#pairs img').naturalWidth === 32")
    captions = page.locator("#pairs figcaption").all_inner_texts()
    assert captions == ["front, seen", "front, imagined for 2.10 s"]
    page.fill("#horizon", "0")
    assert page.inner_text("#step") == "0.4 s"
    assert "for 0.90 s" in page.inner_text("#pairs figcaption >> nth=1")
    width = page.locator("#lanes").bounding_box()["width"]
    page.locator("#lanes").click(position={"x": 150 + (width - 150) / 2, "y": 100})
    assert now(page) == pytest.approx(2.95 / 2, abs=0.05)
    drawn = page.evaluate(
        "() => { const c = document.getElementById('lanes'); const d = c.getContext('2d')"
        ".getImageData(0, 0, c.width, c.height).data; let n = 0;"
        " for (let k = 3; k < d.length; k += 4) n += d[k] > 0; return n; }"
    )
    assert drawn > 5000
    assert "hold: " not in page.inner_text("#decisions") and "hold" in page.inner_text("#decisions")
    assert "success" in page.inner_text("#info")
