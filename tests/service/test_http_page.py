"""The page at `/` in a real browser: search, play, judge a clip, keys, errors, and no request to anywhere else."""

import hashlib
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest
from audio_files import encode, voice
from http_support import add, clip
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import Select, WebDriverWait
from serving import Serve, Server

from service.settings import ApiKey

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
pytestmark = pytest.mark.skipif(not (CHROMIUM and DRIVER), reason="needs chromium and chromedriver on the PATH")

Browser = webdriver.Chrome


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    options = webdriver.ChromeOptions()
    options.binary_location = str(CHROMIUM)
    for flag in (
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-quic",
        "--no-first-run",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
        f"--user-data-dir={tmp_path_factory.mktemp('profile')}",
    ):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(str(DRIVER)))
    yield driver
    driver.quit()


@pytest.fixture(scope="module")
def library(serve: Serve, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A service with one collection: two short voices and a long clip whose second half is another voice."""
    with serve(data_dir=tmp_path_factory.mktemp("library")) as own:
        path = "/v1/collections/voices"
        own.client.put(path)
        for i in range(2):
            add(own.client, path, f"short{i}", clip(1, seed=i), gender="female" if i else "male", age=30 + i)
        long = np.concatenate([voice(20, seed=1), voice(10, seed=5)])
        add(own.client, path, "long", encode(long, 16_000), gender="other", age=50)
        yield own


@pytest.fixture
def high_voice(tmp_path: Path) -> Path:
    """The voice that the long clip ends with, as a file."""
    file = tmp_path / "high.wav"
    file.write_bytes(encode(voice(10, seed=5), 16_000))
    return file


def until(browser: Browser, condition: Callable[[Browser], object]) -> object:
    return WebDriverWait(browser, 60).until(condition)


def by(browser: Browser, identity: str):
    return browser.find_element(By.ID, identity)


def hits(browser: Browser) -> list[str]:
    # In one step inside the page: an element found in one call may be gone in the next.
    return list(
        browser.execute_script("return [...document.querySelectorAll('#hits .title')].map((one) => one.textContent)")
    )


def opened(browser: Browser, server: Server) -> None:
    browser.get(server.url + "/")
    until(browser, lambda page: by(page, "identity").text not in ("", "unknown"))


def test_search_filter_and_errors(browser: Browser, library: Server) -> None:
    opened(browser, library)
    until(browser, lambda page: "voices" in by(page, "collection").text)
    assert "age, gender" in by(browser, "filter-help").text
    by(browser, "query").send_keys("a calm voice", Keys.ENTER)
    until(browser, lambda page: len(hits(page)) == 3)
    assert "3 hits" in by(browser, "summary").text
    by(browser, "filter").send_keys("gender=female age>=31")
    by(browser, "query").send_keys(Keys.ENTER)
    until(browser, lambda page: hits(page) == ["short1.wav"])
    by(browser, "filter").clear()
    by(browser, "filter").send_keys('{"height": 5}')
    by(browser, "query").send_keys(Keys.ENTER)
    until(browser, lambda page: by(page, "error").is_displayed())
    assert "height" in by(browser, "error").text
    assert "age" in by(browser, "error").text
    assert hits(browser) == ["short1.wav"]


def test_a_dropped_clip_finds_its_segment_and_plays_it(browser: Browser, library: Server, high_voice: Path) -> None:
    opened(browser, library)
    by(browser, "file").send_keys(str(high_voice))
    until(browser, lambda page: "high.wav" in by(page, "clip-name").text)
    by(browser, "like-clip").click()
    until(browser, lambda page: len(hits(page)) == 3)
    assert hits(browser)[0] == "long.wav"
    assert "20.0 to 30.0 s" in browser.find_element(By.CSS_SELECTOR, "#hits .meta").text
    play = browser.find_element(By.CSS_SELECTOR, "#hits button")
    play.send_keys(Keys.ENTER)
    until(browser, lambda page: page.execute_script("return document.getElementById('player').currentTime") > 20)
    assert browser.execute_script("return document.getElementById('player').currentTime") < 30
    assert not by(browser, "error").is_displayed()


def test_classify_and_score(browser: Browser, library: Server, high_voice: Path) -> None:
    opened(browser, library)
    by(browser, "classify").find_element(By.TAG_NAME, "button").click()
    until(browser, lambda page: "Choose, drop or record a clip" in by(page, "error").text)
    by(browser, "file").send_keys(str(high_voice))
    until(browser, lambda page: "gender" in by(page, "preset").text)
    Select(by(browser, "preset")).select_by_value("gender")
    by(browser, "classify").find_element(By.TAG_NAME, "button").click()
    until(browser, lambda page: "Most likely" in by(page, "verdict").text)
    assert "female" in by(browser, "verdict").text
    by(browser, "labels").send_keys("whispering, shouting", Keys.ENTER)
    until(browser, lambda page: "whispering" in by(page, "verdict").text)
    by(browser, "caption").send_keys("a high voice", Keys.ENTER)
    until(browser, lambda page: "Cosine" in by(page, "verdict").text)
    assert not by(browser, "error").is_displayed()


def test_a_bad_clip_is_explained(browser: Browser, library: Server, tmp_path: Path) -> None:
    opened(browser, library)
    bad = tmp_path / "text.wav"
    bad.write_text("not audio at all")
    by(browser, "file").send_keys(str(bad))
    by(browser, "caption").send_keys("anything", Keys.ENTER)
    until(browser, lambda page: "The audio cannot be used" in by(page, "error").text)
    assert by(browser, "error").get_attribute("role") == "alert"


def test_an_api_key_is_asked_for_and_used(browser: Browser, serve: Serve, data_dir: Path) -> None:
    digest = hashlib.sha256(b"open sesame").hexdigest()
    with serve(data_dir=data_dir, api_keys=[ApiKey.model_validate(f"me:read+write:{digest}")]) as own:
        own.client.headers["Authorization"] = "Bearer open sesame"
        own.client.put("/v1/collections/locked")
        add(own.client, "/v1/collections/locked", "a", clip(2))
        browser.get(own.url + "/")
        until(browser, lambda page: "Enter an API key" in by(page, "error").text)
        assert browser.switch_to.active_element.get_attribute("id") == "key"
        by(browser, "key").send_keys("open sesame", Keys.TAB)
        until(browser, lambda page: "locked" in by(page, "collection").text)
        by(browser, "query").send_keys("a voice", Keys.ENTER)
        until(browser, lambda page: hits(page) == ["a.wav"])
        browser.find_element(By.CSS_SELECTOR, "#hits button").click()
        until(browser, lambda page: page.execute_script("return document.getElementById('player').readyState") >= 2)
        assert browser.execute_script("return document.getElementById('player').src").startswith("blob:")
        browser.execute_script("sessionStorage.clear()")


def test_the_manual_shows_every_call(browser: Browser, library: Server) -> None:
    browser.get(library.url + "/docs")
    until(browser, lambda page: len(page.find_elements(By.TAG_NAME, "summary")) > 10)
    shown = {one.text for one in browser.find_elements(By.TAG_NAME, "summary")}
    for path, calls in httpx.get(library.url + "/openapi.json").json()["paths"].items():
        for method in calls:
            assert f"{method.upper()} {path}" in shown
    browser.find_element(By.TAG_NAME, "summary").click()
    assert "encoding_format" in browser.find_element(By.TAG_NAME, "body").text


def test_pages_load_nothing_from_elsewhere_and_log_no_errors(browser: Browser, library: Server) -> None:
    browser.get_log("performance")
    browser.get_log("browser")
    for path in ("/", "/docs"):
        browser.get(library.url + path)
        until(browser, lambda page: by(page, "status").text == "")
    requested = [
        event["params"]["request"]["url"]
        for event in (json.loads(entry["message"])["message"] for entry in browser.get_log("performance"))
        if event["method"] == "Network.requestWillBeSent"
    ]
    assert len(requested) > 8
    assert [url for url in requested if not url.startswith((library.url, "data:"))] == []
    assert [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE"] == []


@pytest.mark.parametrize("width", [360, 1200])
def test_the_page_fits_and_every_control_has_a_name(browser: Browser, library: Server, width: int) -> None:
    browser.set_window_size(width, 800)
    opened(browser, library)
    assert browser.execute_script("return document.documentElement.scrollWidth <= window.innerWidth")
    unnamed = browser.execute_script(
        """return [...document.querySelectorAll('input, select, button')]
        .filter((one) => !(one.labels?.length || one.textContent.trim() || one.getAttribute('aria-label')))
        .map((one) => one.outerHTML)"""
    )
    assert unnamed == []
