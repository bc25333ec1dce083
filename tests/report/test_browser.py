"""The page in Debian's Chromium: what a person and a keyboard can do with it, and that it asks for nothing."""

from __future__ import annotations

import io
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from chromium import accessible_names, contrast_of, inks, new_browser
from hashshield.report.html import write
from hashshield.types import Evaluation
from tiny_net import encoded, picture

BEFORE, AFTER = (40, 60, 200), (200, 60, 40)


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    driver = new_browser(tmp_path_factory.mktemp("profile"))
    yield driver
    driver.quit()


@pytest.fixture
def opened(browser: Any, tmp_path: Path) -> Callable[..., Any]:
    """Open the page of these rows and return the browser."""

    def show(rows: list[Evaluation], **other: Any) -> Any:
        place = tmp_path / "report.html"
        write(place, rows, command="evaluate", **other)
        browser.get(place.as_uri())
        return browser

    return show


@pytest.fixture
def blue_to_red(tmp_path: Path) -> Evaluation:
    """An original that is blue all over, and a result that is red."""
    paths = [tmp_path / "before.png", tmp_path / "after.png"]
    for path, colour in zip(paths, (BEFORE, AFTER), strict=True):
        path.write_bytes(encoded(np.full((200, 400, 3), colour, np.uint8)))
    return Evaluation(str(paths[0]), str(paths[1]), "compared", psnr_db=40.0)


def share_of_original(browser: Any) -> float:
    """How much of the slider's lowest rows is blue on the screen, 0 to 1."""
    compare = browser.find_element("css selector", ".compare")
    browser.execute_script("arguments[0].scrollIntoView({block: 'center'})", compare)
    shot = compare.screenshot_as_png
    pixels: NDArray[np.int64] = np.asarray(Image.open(io.BytesIO(shot)).convert("RGB"))[-20:].astype(int)
    assert pixels.shape[:2] == (20, 400)
    return float((np.abs(pixels - BEFORE).sum(axis=2) < 30).mean())


def test_the_slider_shows_more_of_one_side_by_key_and_by_mouse(
    opened: Callable[..., Any], blue_to_red: Evaluation
) -> None:
    from selenium.webdriver.common.action_chains import ActionChains
    from selenium.webdriver.common.keys import Keys

    browser = opened([blue_to_red])
    slider = browser.find_element("css selector", ".compare input")
    assert share_of_original(browser) == pytest.approx(0.5, abs=0.02)
    for keys, wanted in ((Keys.HOME, 0), (Keys.END, 1), (Keys.ARROW_LEFT * 20, 0.8)):
        slider.send_keys(keys)
        assert share_of_original(browser) == pytest.approx(wanted, abs=0.02)
    assert slider.get_attribute("aria-valuetext") == "80 percent original, 20 percent protected"
    ActionChains(browser).move_to_element(slider).click_and_hold().move_by_offset(-100, 0).release().perform()
    assert share_of_original(browser) == pytest.approx(0.25, abs=0.02)
    assert browser.get_log("browser") == []


def test_the_difference_takes_the_place_of_the_slider(opened: Callable[..., Any], blue_to_red: Evaluation) -> None:
    from selenium.webdriver.common.keys import Keys

    browser = opened([blue_to_red])
    compare, change = (browser.find_element("css selector", f".{name}") for name in ("compare", "change"))
    assert (compare.is_displayed(), change.is_displayed()) == (True, False)
    browser.find_element("css selector", ".pick-compare").send_keys(Keys.ARROW_RIGHT)
    assert (compare.is_displayed(), change.is_displayed()) == (False, True)


def test_the_page_asks_for_nothing_and_runs_nothing_else(
    opened: Callable[..., Any], pair: Callable[..., Evaluation]
) -> None:
    rows = [
        pair(f"{text}.png") for text in ("<script>document.title='x'<script>", "<img src=x onerror=document.title=1>")
    ]
    browser = opened(rows)
    assert browser.get_log("browser") == []
    assert browser.title.startswith("HashShield")
    asked = browser.execute_script("return performance.getEntriesByType('resource').map(entry => entry.name)")
    assert [name for name in asked if not name.startswith("data:")] == []
    browser.set_script_timeout(10)
    refused = browser.execute_async_script(
        """
        const done = arguments[0], found = [];
        document.addEventListener("securitypolicyviolation", (event) => {
          found.push(event.effectiveDirective);
          if (found.length === 4) done(found.sort());
        });
        const add = (tag, names) => document.body.append(Object.assign(document.createElement(tag), names));
        add("script", {textContent: "document.title = 'run'"});
        add("style", {textContent: "body { display: none }"});
        add("img", {src: "http://127.0.0.1:9/a.png"});
        fetch("http://127.0.0.1:9/").catch(() => 0);
        """
    )
    assert refused == ["connect-src", "img-src", "script-src-elem", "style-src-elem"]
    assert browser.title.startswith("HashShield")
    browser.get_log("browser")


def test_everything_has_a_name_and_fits_a_telephone(
    opened: Callable[..., Any], pair: Callable[..., Evaluation]
) -> None:
    browser = opened([pair("one.png", height=500, width=900), pair("two.png", seed=1)])
    browser.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride", {"width": 360, "height": 780, "deviceScaleFactor": 1, "mobile": False}
    )
    try:
        assert browser.execute_script("return document.documentElement.scrollWidth") == 360
        # Cards out of sight are drawn when they come near; a screen reader brings them near by moving its focus there.
        browser.execute_script("document.querySelector('#photo-2').scrollIntoView()")
        named = accessible_names(browser, "slider", 2)
    finally:
        browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    assert named["slider"] == [f"How much of {name} is shown as the original" for name in ("one.png", "two.png")]
    for role in ("image", "link", "radio", "article", "heading"):
        assert named[role]
        assert "" not in named[role], role


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out_in_light_and_dark(scheme: str, opened: Callable[..., Any], blue_to_red: Evaluation) -> None:
    browser = opened([blue_to_red])
    browser.execute_cdp_cmd(
        "Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
    )
    pairs = inks(browser, "h1, h2, h3, p, dt, dd, .value, .label, .status, th, td, label, a")
    assert len(pairs) > 15
    dark = np.mean([ground[:3] for _, _, ground in pairs]) < 128
    assert dark == (scheme == "dark")
    assert [(name, contrast) for name, ink, ground in pairs if (contrast := contrast_of(ink, ground)) < 4.5] == []


@pytest.mark.slow
def test_two_hundred_photos_stay_small_and_scroll(opened: Callable[..., Any], tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    before = np.clip(picture(440, 640) + rng.integers(-12, 13, (440, 640, 3)), 0, 255).astype(np.uint8)
    after = np.clip(before + rng.integers(-2, 3, before.shape), 0, 255).astype(np.uint8)
    paths = [tmp_path / name for name in ("before.png", "after.png")]
    for path, pixels in zip(paths, (before, after), strict=True):
        path.write_bytes(encoded(pixels))
    rows = [Evaluation(str(paths[0]), str(paths[1]), "compared", psnr_db=45.0) for _ in range(200)]
    browser = opened(rows)
    assert (tmp_path / "report.html").stat().st_size < 30_000_000
    browser.set_script_timeout(120)
    time.sleep(1)
    frames = browser.execute_async_script(
        """
        const done = arguments[0], frames = [];
        let last = performance.now();
        function next(now) {
          frames.push(now - last);
          last = now;
          window.scrollBy(0, 120);
          if (frames.length === 300) done(frames.sort((a, b) => a - b)); else requestAnimationFrame(next);
        }
        requestAnimationFrame(next);
        """
    )
    # Drawn by the processor alone, of a machine that may have other work: the median is what a reader feels.
    assert frames[150] < 34
    assert browser.get_log("browser") == []


def test_the_filter_shows_one_verdict_by_mouse_and_keyboard(
    opened: Callable[..., Any], pair: Callable[..., Evaluation]
) -> None:
    from selenium.webdriver.common.keys import Keys

    broken = Evaluation("before/b.png", "after/b.png", "failed", reason="after/b.png: cannot be read")
    browser = opened([pair("a.png"), broken, pair("c.png", seed=1)])

    def shown() -> list[str]:
        cards = browser.find_elements("css selector", ".card")
        return [card.find_element("css selector", "h3").text for card in cards if card.is_displayed()]

    assert shown() == ["b.png", "a.png", "c.png"]
    first = browser.find_element("css selector", ".filter input")
    first.send_keys(Keys.ARROW_RIGHT)
    assert shown() == ["b.png"]
    assert browser.find_element("css selector", "#shown").get_attribute("textContent") == "1 of 3 photos shown"
    browser.find_element("css selector", ".filter label:last-of-type").click()
    assert shown() == ["a.png", "c.png"]
    # A link into what is hidden brings it back.
    browser.find_element("css selector", ".index summary").click()
    browser.execute_script("location.hash = '#photo-1'")
    deadline = time.monotonic() + 5
    while len(shown()) < 3 and time.monotonic() < deadline:
        time.sleep(0.05)
    assert shown() == ["b.png", "a.png", "c.png"]
    assert browser.get_log("browser") == []
