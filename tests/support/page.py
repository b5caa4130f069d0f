"""Drives the page in headless Chromium: what the tests of its views share."""

import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import WebDriverWait

from tests.support.serving import Server

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
needs_browser = pytest.mark.skipif(not (CHROMIUM and DRIVER), reason="needs chromium and chromedriver on the PATH")
Browser = webdriver.Chrome
_FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--window-size=1200,1000",
    "--autoplay-policy=no-user-gesture-required",
)
# A drop cannot be made with the mouse from outside: files are taken from an input and dropped by an event.
_DROP = """
const input = document.createElement('input');
input.type = 'file'; input.multiple = true; input.id = 'dropped-by-test'; input.style.position = 'fixed';
input.addEventListener('change', () => {
  const transfer = new DataTransfer();
  for (const file of input.files) transfer.items.add(file);
  for (const name of ['dragenter', 'drop'])
    document.body.dispatchEvent(new DragEvent(name, { bubbles: true, dataTransfer: transfer }));
  input.remove();
});
document.body.append(input);
"""


@contextmanager
def chromium(profile: Path) -> Iterator[Browser]:
    """A browser that logs its console and its requests."""
    options = webdriver.ChromeOptions()
    options.binary_location = str(CHROMIUM)
    for flag in (*_FLAGS, f"--user-data-dir={profile}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(str(DRIVER)))
    try:
        yield driver
    finally:
        driver.quit()


def until(browser: Browser, condition: Callable[[Browser], object]) -> Any:
    """Wait for a condition, and return what it gave."""
    return WebDriverWait(browser, 60, poll_frequency=0.1).until(condition)


def by(browser: Browser, identity: str) -> WebElement:
    """The element of an id."""
    return browser.find_element(By.ID, identity)


def text_of(browser: Browser, selector: str) -> list[str]:
    """Texts of all elements that match, in one step inside the page: one that is found may be gone in the next."""
    script = "return [...document.querySelectorAll(arguments[0])].map((one) => one.textContent)"
    return list(browser.execute_script(script, selector))


def hits(browser: Browser) -> list[str]:
    """Names of the hits."""
    return text_of(browser, "#hits .title")


def opened(browser: Browser, server: Server, view: str = "search") -> None:
    """The page, loaded, in one of its views."""
    browser.get("about:blank")
    browser.get(f"{server.url}/#{view}")
    until(browser, lambda page: by(page, "identity").text not in ("", "unknown"))


def search(browser: Browser, text: str) -> None:
    """Type into the search box and press Enter."""
    box = by(browser, "query")
    box.clear()
    box.send_keys(text, Keys.ENTER)


def press(browser: Browser, key: str) -> None:
    """A key for the page, not for a box."""
    browser.find_element(By.TAG_NAME, "body").send_keys(key)


def drop(browser: Browser, files: Sequence[Path]) -> None:
    """Drop files onto the page."""
    browser.execute_script(_DROP)
    by(browser, "dropped-by-test").send_keys("\n".join(map(str, files)))


def player(browser: Browser, member: str) -> Any:
    """A property of the page's player."""
    return browser.execute_script("return document.getElementById('player')[arguments[0]]", member)
