"""Debian's Chromium for tests of pages, and what they ask it; importing this skips the module where it is missing."""

from __future__ import annotations

import shutil
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

webdriver = pytest.importorskip("selenium.webdriver", reason="the extra browser (selenium) is not installed")
_CHROMIUM, _DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
_FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--hide-scrollbars",
    "--window-size=1280,900",
)
if _CHROMIUM is None or _DRIVER is None:
    pytest.skip("chromium and chromedriver are not both installed", allow_module_level=True)


def new_browser(profile: Path) -> Any:
    """Start a browser with a profile of its own and the page's console in its log."""
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = str(_CHROMIUM)
    for flag in (*_FLAGS, f"--user-data-dir={profile}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    return webdriver.Chrome(options=options, service=Service(str(_DRIVER)))


def accessible_names(browser: Any, role: str, number: int) -> dict[str, list[str]]:
    """Names by role as a screen reader gets them, once there are `number` of one role: the tree is made in pieces."""
    named: dict[str, list[str]] = {}
    deadline = time.monotonic() + 10
    while len(named.get(role, [])) != number and time.monotonic() < deadline:
        named.clear()
        for node in browser.execute_cdp_cmd("Accessibility.getFullAXTree", {})["nodes"]:
            if not node["ignored"]:
                named.setdefault(node["role"]["value"], []).append(node.get("name", {}).get("value", ""))
    return named


def inks(browser: Any, selector: str) -> list[tuple[str, list[float], list[float]]]:
    """Class and tag, ink and ground of everything visible that the selector finds and that holds text."""
    found = browser.execute_script(
        """
        const numbers = (text) => text.match(/[0-9.]+/g).map(Number);
        const ground = (node) => {
          for (; node; node = node.parentElement) {
            const found = numbers(getComputedStyle(node).backgroundColor);
            if (found.length === 3 || found[3] === 1) return found;
          }
        };
        return [...document.querySelectorAll(arguments[0])]
          .filter((node) => node.textContent.trim() && node.checkVisibility())
          .map((node) => [node.className + node.tagName, numbers(getComputedStyle(node).color), ground(node)]);
        """,
        selector,
    )
    return [(str(name), list(ink), list(ground)) for name, ink, ground in found]


def contrast_of(ink: list[float], ground: list[float]) -> float:
    """Contrast ratio of two colours (WCAG 2.2, 1.4.3)."""

    def luminance(colour: list[float]) -> float:
        part = np.asarray(colour[:3]) / 255
        return float(
            np.where(part <= 0.04045, part / 12.92, ((part + 0.055) / 1.055) ** 2.4) @ (0.2126, 0.7152, 0.0722)
        )

    low, high = sorted((luminance(ink), luminance(ground)))
    return (high + 0.05) / (low + 0.05)
