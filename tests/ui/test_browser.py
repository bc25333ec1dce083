"""The page in Debian's Chromium: photos are dropped, protected, looked at and saved, by mouse and by keyboard alone."""

from __future__ import annotations

import base64
import io
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from chromium import accessible_names, contrast_of, inks, new_browser
from page_command import Command
from tiny_net import encoded, picture

HOSTILE = (
    "<img src=x onerror=document.title='run'>.png",
    "'\"><script>document.title='run'<script>.png",
    "\u202egnp.exe.png",
    "a&amp;lt; %2e%2e%2f.png",
    "-rf ~; $(touch run) `touch run`.png",
    "con.png",
)


@pytest.fixture
def downloads(tmp_path: Path) -> Path:
    return tmp_path / "downloads"


@pytest.fixture
def browser(tmp_path: Path, downloads: Path) -> Iterator[Any]:
    downloads.mkdir()
    driver = new_browser(tmp_path / "profile")
    driver.execute_cdp_cmd("Browser.setDownloadBehavior", {"behavior": "allow", "downloadPath": str(downloads)})
    yield driver
    driver.quit()


@pytest.fixture
def page(start: Callable[..., Command], browser: Any) -> Any:
    """The browser with the page of a command of its own."""
    command = start(HASHSHIELD_PRESET="invisible")
    browser.get(command.link)
    browser.command = command
    return browser


def find(page: Any, selector: str) -> Any:
    return page.find_element("css selector", selector)


def shown(page: Any, selector: str) -> list[Any]:
    return [node for node in page.find_elements("css selector", selector) if node.is_displayed()]


def until(page: Any, met: Callable[[], Any], *, within: float = 240) -> Any:
    deadline = time.monotonic() + within
    while not (found := met()):
        assert time.monotonic() < deadline, page.page_source[-3000:]
        time.sleep(0.1)
    return found


def drop(page: Any, files: dict[str, bytes], tmp_path: Path) -> None:
    """Drag files over the zone and drop them there, as the system does."""
    folder = tmp_path / "dropped"
    folder.mkdir(exist_ok=True)
    places = []
    for name, data in files.items():
        (folder / name).write_bytes(data)
        places.append(str(folder / name))
    zone = find(page, "#drop").rect
    position = {"x": zone["x"] + zone["width"] / 2, "y": zone["y"] + zone["height"] / 2}
    data = {"items": [], "files": places, "dragOperationsMask": 1}
    for kind in ("dragEnter", "dragOver", "drop"):
        page.execute_cdp_cmd("Input.dispatchDragEvent", {"type": kind, **position, "data": data})


def photos(number: int) -> dict[str, bytes]:
    return {f"photo {i}.png": encoded(picture(seed=i)) for i in range(1, number + 1)}


def whole(folder: Path, name: str) -> bytes | None:
    """A download, once the browser has given it its name."""
    place = folder / name
    return place.read_bytes() if place.exists() and not list(folder.glob("*.crdownload")) else None


def test_twelve_photos_are_dropped_protected_looked_at_and_saved(page: Any, tmp_path: Path, downloads: Path) -> None:
    assert "token" not in page.current_url
    assert page.get_cookies()[0]["httpOnly"]
    sent = photos(12)
    drop(page, sent, tmp_path)
    until(page, lambda: find(page, "#protect").text == "Protect 12 photos")
    assert len(shown(page, "#waiting li")) == 12

    find(page, "#protect").click()
    until(page, lambda: shown(page, "#stop"))
    until(page, lambda: find(page, "#doing").text == "12 of 12 photos done.")
    until(page, lambda: len(page.find_elements("css selector", ".card")) == 12)
    assert not shown(page, "#waiting li")

    # Looking: the slider of a card has the original on one side and the copy on the other.
    card = page.find_elements("css selector", ".card")[0]
    page.execute_script("arguments[0].scrollIntoView()", card)
    slider = card.find_element("css selector", ".compare input")
    slider.send_keys("\ue011")  # Home
    assert slider.get_attribute("aria-valuetext") == "0 percent original, 100 percent protected"
    before, after = (card.find_element("css selector", f".{side}").get_attribute("src") for side in ("before", "after"))
    pixels = [
        np.asarray(Image.open(io.BytesIO(base64.b64decode(uri.split(",")[1])))).astype(int) for uri in (before, after)
    ]
    assert pixels[0].shape == pixels[1].shape == (48, 64, 3)
    assert 0 < np.abs(pixels[0] - pixels[1]).max() < 64

    # Saving: one, then all.
    name = card.find_element("css selector", "h3").text
    card.find_element("css selector", "a.button").click()
    single = until(page, lambda: whole(downloads, name), within=30)
    assert Image.open(io.BytesIO(single)).size == (64, 48)
    assert single != sent[name]
    assert find(page, "#archive").text == "Save all 12 copies (zip)"
    find(page, "#archive").click()
    data = until(page, lambda: whole(downloads, "protected-photos.zip"), within=30)
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        assert sorted(archive.namelist()) == sorted(sent)
        assert archive.read(name) == single
        assert archive.testzip() is None
    # What was dropped is as it was.
    assert {path.name: path.read_bytes() for path in (tmp_path / "dropped").iterdir()} == sent
    assert page.get_log("browser") == []

    # Loaded again, the page is as it was; without the cookie there is none.
    page.refresh()
    until(page, lambda: len(page.find_elements("css selector", ".card")) == 12)
    page.delete_all_cookies()
    page.refresh()
    assert "Open the link" in page.page_source
    page.get_log("browser")


def test_everything_works_with_the_keyboard_alone(page: Any, tmp_path: Path, downloads: Path) -> None:
    from selenium.webdriver.common.action_chains import ActionChains
    from selenium.webdriver.common.keys import Keys

    def press(*keys: str) -> None:
        ActionChains(page).send_keys(*keys).perform()

    def focused() -> str:
        return str(
            page.execute_script(
                "const e = document.activeElement; return e.id || e.value || e.getAttribute('href') || e.tagName"
            )
        )

    def tab_to(wanted: str) -> None:
        for _ in range(40):
            if focused() == wanted:
                return
            press(Keys.TAB)
        raise AssertionError(f"Tab does not reach {wanted}; it is at {focused()}")

    files = photos(2)
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    tab_to("files")
    # Enter opens the system's own chooser, which no test can reach; this is what it hands over.
    page.switch_to.active_element.send_keys("\n".join(str(tmp_path / name) for name in files))
    until(page, lambda: len(shown(page, "#waiting li")) == 2)
    tab_to("invisible")
    press(Keys.ARROW_RIGHT)
    assert (focused(), find(page, "[name=preset]:checked").get_attribute("value")) == ("balanced", "balanced")
    press(Keys.ARROW_LEFT)
    assert find(page, "[name=preset]:checked").get_attribute("value") == "invisible"
    press(Keys.TAB, Keys.SPACE)
    assert find(page, "[name=strip_gps]").is_selected()
    tab_to("protect")
    press(Keys.ENTER)
    until(page, lambda: len(page.find_elements("css selector", ".card")) == 2)
    # The focus was on Stop, which is gone; it is on the page and not lost.
    tab_to("archive")
    press(Keys.ENTER)
    until(page, lambda: whole(downloads, "protected-photos.zip"), within=30)
    tab_to(
        "compare-1" if page.find_elements("css selector", ".card")[0].get_attribute("id") == "photo-1" else "compare-2"
    )
    press(Keys.TAB, Keys.END)
    assert page.switch_to.active_element.get_attribute("aria-valuetext").startswith("100 percent original")
    tab_to("end")
    press(Keys.ENTER)
    page.switch_to.alert.accept()
    until(page, lambda: "HashShield has ended" in page.page_source, within=30)
    assert page.command.ended()[0] == 0
    assert page.command.folders == []


@pytest.mark.long
def test_hostile_names_are_text(page: Any, tmp_path: Path) -> None:
    names = dict(zip(HOSTILE, photos(len(HOSTILE)).values(), strict=True))
    drop(page, names, tmp_path)
    until(page, lambda: find(page, "#protect").text == f"Protect {len(names)} photos")
    find(page, "#protect").click()
    until(page, lambda: len(page.find_elements("css selector", ".card")) == len(names))
    assert page.title == "HashShield"
    assert not page.find_elements("css selector", "main script, [onerror]")
    texts = [node.get_attribute("textContent") for node in page.find_elements("css selector", ".card h3")]
    assert "_img src=x onerror=document.title='run'_.png" in texts
    assert "gnp.exe.png" in texts
    assert page.get_log("browser") == []
    assert not list(page.command.home.rglob("run"))


def test_photos_can_be_taken_off_and_tried_again_and_trouble_is_said(page: Any, tmp_path: Path) -> None:
    drop(page, {**photos(1), "broken.png": b"\x89PNG\r\n\x1a\n" + bytes(20), "note.txt": b"no photo"}, tmp_path)
    until(page, lambda: find(page, "#protect").text == "Protect 3 photos")
    find(page, "[aria-label='Remove note.txt']").click()
    until(page, lambda: find(page, "#protect").text == "Protect 2 photos")
    find(page, "#protect").click()
    until(page, lambda: len(page.find_elements("css selector", ".card")) == 2)
    failed, done = (node.text for node in page.find_elements("css selector", ".card .status:first-of-type"))
    assert failed == "failed"
    assert done in ("protected", "protected, not after JPEG q75")
    assert "broken.png" in find(page, ".card .reason").text
    assert str(page.command.home) not in page.page_source
    find(page, "[aria-label='Try another preset on photo 1.png']").click()
    until(page, lambda: find(page, "#protect").text == "Protect 1 photo")
    assert len(page.find_elements("css selector", ".card")) == 1
    page.command.process.kill()
    find(page, "#protect").click()
    until(page, lambda: "does not answer any more" in find(page, "#alert").text, within=30)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_a_telephone_has_names_and_text_that_stands_out(page: Any, tmp_path: Path, scheme: str) -> None:
    drop(page, photos(2), tmp_path)
    until(page, lambda: find(page, "#protect").text == "Protect 2 photos")
    find(page, "#protect").click()
    until(page, lambda: len(page.find_elements("css selector", ".card")) == 2)
    page.execute_cdp_cmd(
        "Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
    )
    page.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride", {"width": 360, "height": 780, "deviceScaleFactor": 1, "mobile": False}
    )
    assert page.execute_script("return document.documentElement.scrollWidth") == 360
    page.execute_script("document.querySelector('#photo-2').scrollIntoView()")
    found = accessible_names(page, "slider", 2)
    for role in ("button", "link", "radio", "checkbox", "heading", "image", "progressbar"):
        assert found[role], role
        assert "" not in found[role], role
    pairs = inks(page, "h1, h2, h3, p, dt, dd, .status, th, td, label, a, button:enabled, b, .soft, .sides, li")
    assert len(pairs) > 30
    assert (np.mean([ground[:3] for _, _, ground in pairs]) < 128) == (scheme == "dark")
    assert [(name, contrast) for name, ink, ground in pairs if (contrast := contrast_of(ink, ground)) < 4.5] == []
