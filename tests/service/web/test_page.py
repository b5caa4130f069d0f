"""The page at `/` in a real browser: search, play, more like this, judge a clip, keys, errors, no request elsewhere."""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import Select

from service.settings import ApiKey
from tests.support.audio_files import encode, voice
from tests.support.http import add, clip
from tests.support.page import (
    Browser,
    by,
    chromium,
    drop,
    hits,
    needs_browser,
    opened,
    player,
    press,
    search,
    text_of,
    until,
)
from tests.support.serving import Serve, Server

pytestmark = needs_browser
SEARCH = "/v1/collections/{collection}/search"


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with chromium(tmp_path_factory.mktemp("profile")) as driver:
        yield driver


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


def test_search_filter_and_errors(browser: Browser, library: Server) -> None:
    opened(browser, library)
    until(browser, lambda page: "voices" in by(page, "collection").text)
    assert "age, gender" in by(browser, "filter-help").text
    search(browser, "a calm voice")
    until(browser, lambda page: len(hits(page)) == 3)
    assert "3 hits" in by(browser, "summary").text
    by(browser, "filter").send_keys("gender = female age >=31")
    search(browser, "a calm voice")
    until(browser, lambda page: hits(page) == ["short1.wav"])
    by(browser, "filter").clear()
    by(browser, "filter").send_keys('{"height": 5}', Keys.ENTER)
    until(browser, lambda page: by(page, "error").is_displayed())
    assert "height" in by(browser, "error").text
    assert "age" in by(browser, "error").text
    assert hits(browser) == [], "hits of the search before would be taken for an answer"
    assert by(browser, "summary").text == ""
    by(browser, "filter").clear()
    by(browser, "filter").send_keys("age>99", Keys.ENTER)
    until(browser, lambda page: by(page, "summary").text == "No clip passes this filter.")
    assert not by(browser, "error").is_displayed()


def test_a_service_that_goes_away_is_said_and_comes_back(browser: Browser, serve: Serve, data_dir: Path) -> None:
    with serve(data_dir=data_dir) as own:
        own.client.put("/v1/collections/voices")
        add(own.client, "/v1/collections/voices", "a", clip(1))
        opened(browser, own)
        search(browser, "a voice")
        until(browser, lambda page: hits(page) == ["a.wav"])
        gone = {"offline": True, "latency": 0, "downloadThroughput": -1, "uploadThroughput": -1}
        browser.execute_cdp_cmd("Network.enable", {})
        browser.execute_cdp_cmd("Network.emulateNetworkConditions", gone)
        search(browser, "another voice")
        until(browser, lambda page: "The service does not answer" in by(page, "error").text)
        assert hits(browser) == []
        assert by(browser, "query").get_property("value") == "another voice", "what was typed is not lost"
        browser.execute_cdp_cmd("Network.emulateNetworkConditions", {**gone, "offline": False})
        by(browser, "query").send_keys(Keys.ENTER)
        until(browser, lambda page: hits(page) == ["a.wav"])
        assert not by(browser, "error").is_displayed()


def test_what_is_below_a_waveform_does_not_jump(browser: Browser, library: Server) -> None:
    opened(browser, library)
    browser.execute_script(
        """window.tops = [];
        new MutationObserver(() => {
          const meta = document.querySelector('#hits .meta');
          if (meta) window.tops.push(Math.round(meta.offsetTop - meta.parentElement.offsetTop));
        }).observe(document.getElementById('hits'), { subtree: true, childList: true });"""
    )
    search(browser, "a calm voice")
    until(browser, lambda page: len(page.find_elements(By.CSS_SELECTOR, "#hits .track .wave")) >= 2)
    tops = browser.execute_script("return window.tops")
    assert len(tops) >= 2
    assert len(set(tops)) == 1


def test_an_example_is_a_click_and_a_search_is_a_link(browser: Browser, library: Server) -> None:
    opened(browser, library)
    browser.find_element(By.CSS_SELECTOR, "#examples button").click()
    until(browser, lambda page: len(hits(page)) == 3)
    link = browser.current_url
    assert "q=a+calm+older+woman" in link
    opened(browser, library)
    browser.get(link)
    until(browser, lambda page: len(hits(page)) == 3)
    assert by(browser, "query").get_attribute("value") == "a calm older woman"


def test_a_link_to_a_collection_that_is_gone_searches_no_other(browser: Browser, library: Server) -> None:
    opened(browser, library)
    search(browser, "a voice")
    until(browser, lambda page: len(hits(page)) == 3)
    browser.execute_script("location.hash = '#search?collection=nope&q=a+calm+voice&filter=age>1'")
    until(browser, lambda page: by(page, "error").text == "There is no collection nope")
    assert hits(browser) == []
    assert by(browser, "query").get_property("value") == "a calm voice"
    browser.back()
    until(browser, lambda page: len(hits(page)) == 3)
    assert not by(browser, "error").is_displayed()
    browser.get("about:blank")
    browser.get(f"{library.url}/#search?collection=nope&q=a+calm+voice")
    until(browser, lambda page: by(page, "error").text == "There is no collection nope")
    assert hits(browser) == []
    library.client.put("/v1/collections/late")
    try:
        browser.execute_script("location.hash = '#search?collection=late&q=a+calm+voice'")
        until(browser, lambda page: by(page, "summary").text == "There is nothing to find in late yet.")
    finally:
        library.client.delete("/v1/collections/late")


def test_what_is_refused_is_shown(browser: Browser, library: Server) -> None:
    opened(browser, library)
    search(browser, "a calm voice, not whispering")
    until(browser, lambda page: text_of(page, "#understood .chip") == ["a calm voice", "not whispering"])
    search(browser, "no music")
    until(browser, lambda page: text_of(page, "#understood .chip") == ["not music"])


def test_a_fact_becomes_a_filter(browser: Browser, library: Server) -> None:
    opened(browser, library)
    search(browser, "a voice")
    until(browser, lambda page: len(hits(page)) == 3)
    (fact,) = [one for one in browser.find_elements(By.CSS_SELECTOR, "button.fact") if one.text == "gender: male"]
    fact.click()
    until(browser, lambda page: hits(page) == ["short0.wav"])
    assert by(browser, "filter").get_attribute("value") == "gender=male"


def test_a_fact_of_any_kind_becomes_a_filter(browser: Browser, serve: Serve, data_dir: Path) -> None:
    # Text that reads as a number, names and values with blanks and quotes, and a value that begins as another does.
    known = {"speaker": "ann", "take": "12", "speaking style": "calm", "said": 'a 7" single', "live": True, "n": 3}
    click = """const [name, fact] = arguments;
    const rows = [...document.querySelectorAll('#hits li')];
    const row = rows.find((one) => one.querySelector('.title').textContent === name);
    [...row.querySelectorAll('button.fact')].find((one) => one.textContent === fact).click();"""
    with serve(data_dir=data_dir) as own:
        own.client.put("/v1/collections/odd")
        add(own.client, "/v1/collections/odd", "sought", clip(1), **known)
        add(own.client, "/v1/collections/odd", "other", clip(1), **{**known, "speaker": "anna", "take": "7", "n": 4})
        for before, facts, after in (
            ("", ["take: 12"], 'take="12"'),
            ("", ["live: true", "n: 3"], "live=true n=3"),
            ("speaker=ann", ["n: 3", "speaker: ann", "n: 3"], "speaker=ann n=3"),
            ("speaker!=anna", ["speaker: ann"], "speaker!=anna speaker=ann"),
            ("", ["speaking style: calm", "take: 12"], '{"all":[{"speaking style":"calm"},{"take":{"eq":"12"}}]}'),
            ("n<4", ['said: a 7" single'], r'{"all":[{"n":{"lt":4}},{"said":{"eq":"a 7\" single"}}]}'),
            ('{"speaker": "ann"}', ["speaker: ann", "n: 3"], '{"all":[{"speaker":"ann"},{"n":{"eq":3}}]}'),
        ):
            opened(browser, own)
            by(browser, "filter").send_keys(before)
            search(browser, "a voice")
            until(browser, lambda page: "sought.wav" in hits(page))
            for fact in facts:
                browser.execute_script(click, "sought.wav", fact)
            assert by(browser, "filter").get_property("value") == after
            until(browser, lambda page: hits(page) == ["sought.wav"])
            assert not by(browser, "error").is_displayed()
        by(browser, "filter").clear()
        search(browser, "a voice")
        until(browser, lambda page: len(hits(page)) == 2)
        by(browser, "filter").send_keys("{not")
        browser.execute_script(click, "sought.wav", "n: 3")
        until(browser, lambda page: "The filter is not JSON" in by(page, "error").text)
        assert by(browser, "filter").get_property("value") == "{not", "what was typed is not lost"


def test_a_hit_has_its_waveform_with_the_best_segment(browser: Browser, library: Server) -> None:
    opened(browser, library)
    search(browser, "a voice")
    until(browser, lambda page: len(page.find_elements(By.CSS_SELECTOR, "#hits .track .wave")) == 3)
    until(browser, lambda page: len(page.find_elements(By.CSS_SELECTOR, "#hits .track .best")) == 1)
    sliders = browser.find_elements(By.CSS_SELECTOR, "#hits [role=slider]")
    assert all("Waveform of" in str(one.get_attribute("aria-label")) for one in sliders)


def test_a_dropped_clip_finds_its_segment_and_plays_it(browser: Browser, library: Server, high_voice: Path) -> None:
    opened(browser, library)
    drop(browser, [high_voice])
    until(browser, lambda page: "high.wav" in by(page, "clip-name").text)
    assert by(browser, "view-judge").is_displayed(), "a drop opens the view that judges"
    until(browser, lambda page: page.find_elements(By.CSS_SELECTOR, "#clip-track .wave"))
    by(browser, "like-clip").find_element(By.TAG_NAME, "button").click()
    until(browser, lambda page: len(hits(page)) == 3)
    assert hits(browser)[0] == "long.wav"
    assert text_of(browser, "#likes .chip") == ["like high.wav ✕"]
    assert "20.0 to 30.0 s" in text_of(browser, "#hits .scores")[0]
    browser.find_element(By.CSS_SELECTOR, "#hits .play").send_keys(Keys.ENTER)
    until(browser, lambda page: player(page, "currentTime") > 20)
    assert player(browser, "currentTime") < 30
    control = browser.find_element(By.CSS_SELECTOR, "#hits .play")
    assert control.text == "Pause"
    assert control.accessible_name.startswith("Pause long.wav"), "what is seen and what is read aloud are the same"
    until(browser, lambda page: page.find_elements(By.CSS_SELECTOR, "#hits .cursor:not([hidden])"))
    assert not by(browser, "error").is_displayed()


def test_more_like_this_and_then_some(browser: Browser, library: Server) -> None:
    opened(browser, library)
    search(browser, "a voice")
    until(browser, lambda page: len(hits(page)) == 3)
    assert len(browser.find_elements(By.CSS_SELECTOR, "#hits meter")) == 3
    browser.find_element(By.CSS_SELECTOR, "#hits .more").click()
    until(browser, lambda page: len(hits(page)) == 2)
    # Without words there is nothing whose match could be told.
    assert not browser.find_elements(By.CSS_SELECTOR, "#hits meter")
    assert all("cosine" in scores and "match" not in scores for scores in text_of(browser, "#hits .scores"))
    (liked,) = text_of(browser, "#likes .chip")
    assert liked.startswith("like ")
    search(browser, "but faster, not whispering")
    until(browser, lambda page: text_of(page, "#understood .chip")[1:] == ["faster", "not whispering"])
    browser.find_element(By.CSS_SELECTOR, "#likes button").click()
    until(browser, lambda page: len(hits(page)) == 3)


def test_a_hit_over_time(browser: Browser, library: Server) -> None:
    opened(browser, library)
    search(browser, "A man speaks slowly. Then a woman speaks in a high voice.")
    until(browser, lambda page: "long.wav" in hits(page))
    (row,) = [one for one in browser.find_elements(By.CSS_SELECTOR, "#hits li") if "long.wav" in one.text]
    row.find_element(By.CSS_SELECTOR, ".over-time").click()
    until(browser, lambda page: row.find_elements(By.CSS_SELECTOR, ".curves polyline"))
    assert len(row.find_elements(By.CSS_SELECTOR, ".curves polyline")) == 2
    assert len(row.find_elements(By.CSS_SELECTOR, ".lane")) == 2
    assert row.find_elements(By.CSS_SELECTOR, ".attribute")


def test_over_time_waits_for_the_waveform_that_it_is_drawn_on(browser: Browser, library: Server) -> None:
    browser.set_window_size(1200, 1000)
    opened(browser, library)
    # As for a hit that was never scrolled to.
    browser.execute_script("IntersectionObserver.prototype.observe = () => {}")
    search(browser, "A man speaks slowly. Then a woman speaks in a high voice.")
    until(browser, lambda page: "long.wav" in hits(page))
    assert not browser.find_elements(By.CSS_SELECTOR, "#hits .track")
    place = hits(browser).index("long.wav")
    browser.execute_script("document.querySelectorAll('#hits .over-time')[arguments[0]].click()", place)
    until(browser, lambda page: page.find_elements(By.CSS_SELECTOR, "#hits .curves polyline"))


def test_the_keyboard_is_enough(browser: Browser, library: Server) -> None:
    opened(browser, library, "judge")
    press(browser, "/")
    until(browser, lambda page: by(page, "view-search").is_displayed())
    assert browser.switch_to.active_element.get_attribute("id") == "query"
    browser.switch_to.active_element.send_keys("a voice", Keys.ENTER)
    until(browser, lambda page: len(hits(page)) == 3)
    browser.execute_script("document.activeElement.blur()")
    press(browser, "j")
    browser.switch_to.active_element.send_keys("j")
    focused = browser.execute_script(
        "return [...document.querySelectorAll('#hits li')].indexOf(document.activeElement)"
    )
    assert focused == 1
    browser.switch_to.active_element.send_keys(" ")
    until(browser, lambda page: not player(page, "paused"))
    assert hits(browser)[1] in by(browser, "now-title").text
    browser.switch_to.active_element.send_keys(Keys.ESCAPE)
    until(browser, lambda page: player(page, "paused"))
    press(browser, "?")
    until(browser, lambda page: by(page, "help").is_displayed())
    browser.switch_to.active_element.send_keys(Keys.ESCAPE)
    until(browser, lambda page: not by(page, "help").is_displayed())
    press(browser, "3")
    until(browser, lambda page: by(page, "view-library").is_displayed())


def test_classify_and_score(browser: Browser, library: Server, high_voice: Path) -> None:
    opened(browser, library, "judge")
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
    by(browser, "caption").send_keys("A man speaks in a high voice, and then whispers.", Keys.ENTER)
    until(browser, lambda page: "Cosine" in by(page, "verdict").text)
    until(browser, lambda page: len(page.find_elements(By.CSS_SELECTOR, "#clip-track polyline")) == 2)
    assert {"gender: male", "pitch: high", "phonation: whispering"} <= {
        one.split(" “")[0] for one in text_of(browser, "#verdict .attribute span:first-child")
    }
    assert not by(browser, "error").is_displayed()


def test_what_is_cut_of_captions_and_labels_is_said(browser: Browser, library: Server, high_voice: Path) -> None:
    opened(browser, library, "judge")
    most = library.client.get("/v1/models").json()["data"][0]["max_tokens"]
    by(browser, "file").send_keys(str(high_voice))
    until(browser, lambda page: "high.wav" in by(page, "clip-name").text)
    for cut in (True, False):
        by(browser, "caption").clear()
        by(browser, "caption").send_keys("a slow voice" + " slow" * most * cut, Keys.ENTER)
        until(browser, lambda page: "Cosine" in by(page, "verdict").text)
        until(browser, lambda page, cut=cut: ("longer than the model reads" in by(page, "verdict").text) == cut)
    for cut in (True, False):
        by(browser, "labels").clear()
        by(browser, "labels").send_keys("calm, a voice that is" + " loud" * most * cut, Keys.ENTER)
        until(browser, lambda page: "Most likely" in by(page, "verdict").text)
        until(browser, lambda page, cut=cut: ("cut: a voice that is" in by(page, "verdict").text) == cut)
    assert not by(browser, "error").is_displayed()


def test_a_bad_clip_is_explained(browser: Browser, library: Server, tmp_path: Path) -> None:
    opened(browser, library, "judge")
    bad = tmp_path / "text.wav"
    bad.write_text("not audio at all")
    by(browser, "file").send_keys(str(bad))
    by(browser, "caption").send_keys("anything", Keys.ENTER)
    until(browser, lambda page: "Invalid audio" in by(page, "error").text)
    assert by(browser, "error").get_attribute("role") == "alert"


def test_an_api_key_is_asked_for_and_used(browser: Browser, serve: Serve, data_dir: Path) -> None:
    digest = hashlib.sha256(b"open sesame").hexdigest()
    with serve(data_dir=data_dir, api_keys=[ApiKey.model_validate(f"me:read+write:{digest}")]) as own:
        own.client.headers["Authorization"] = "Bearer open sesame"
        own.client.put("/v1/collections/locked")
        add(own.client, "/v1/collections/locked", "a", clip(2))
        browser.get(own.url + "/")
        for wrong in ("wrong", "open sesame"):
            until(browser, lambda page: by(page, "key-dialog").is_displayed())
            assert browser.switch_to.active_element.get_attribute("id") == "key"
            by(browser, "key").send_keys(wrong, Keys.ENTER)
            until(browser, lambda page: not by(page, "key-dialog").is_displayed() or by(page, "key-reason").text)
        until(browser, lambda page: "locked" in by(page, "collection").text)
        assert not by(browser, "error").is_displayed()
        search(browser, "a voice")
        until(browser, lambda page: hits(page) == ["a.wav"])
        browser.find_element(By.CSS_SELECTOR, "#hits .play").click()
        until(browser, lambda page: player(page, "readyState") >= 2)
        assert player(browser, "src").startswith("blob:")
        browser.execute_script("sessionStorage.clear()")


def test_the_manual_shows_every_call(browser: Browser, library: Server) -> None:
    browser.get(library.url + "/docs")
    until(browser, lambda page: len(page.find_elements(By.TAG_NAME, "summary")) > 10)
    methods, paths = text_of(browser, "summary .method"), text_of(browser, "summary code")
    calls = httpx.get(library.url + "/openapi.json").json()["paths"]
    expected = [(method.upper(), path) for path, methods in calls.items() for method in methods]
    assert sorted(zip(methods, paths, strict=True)) == sorted(expected)
    browser.find_element(By.TAG_NAME, "summary").click()
    assert "encoding_format" in browser.find_element(By.TAG_NAME, "body").text
    link = browser.current_url
    by(browser, "find").send_keys("maximal marginal relevance")
    until(browser, lambda page: text_of(page, "details:not([hidden]) summary code") == [SEARCH])
    browser.get("about:blank")
    browser.get(link)
    until(browser, lambda page: text_of(page, "details[open] summary code") == ["/v1/embeddings"])


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
@pytest.mark.parametrize("view", ["search", "judge", "library"])
def test_the_page_fits_and_every_control_has_a_name(browser: Browser, library: Server, view: str, width: int) -> None:
    browser.set_window_size(width, 800)
    opened(browser, library, view)
    if view == "search":
        search(browser, "a voice")
        until(browser, lambda page: len(hits(page)) == 3)
    assert browser.execute_script("return document.documentElement.scrollWidth <= window.innerWidth")
    unnamed = browser.execute_script(
        """return [...document.querySelectorAll('input, select, button, progress, [role=slider]')]
        .filter((one) => !(one.labels?.length || one.textContent.trim() || one.getAttribute('aria-label')))
        .map((one) => one.outerHTML)"""
    )
    assert unnamed == []
