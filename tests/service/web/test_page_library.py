"""The page's library view in a real browser: collections, clips dropped into them with live progress, refusals."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from tests.support.http import clip
from tests.support.page import Browser, by, chromium, drop, needs_browser, opened, press, text_of, until
from tests.support.serving import Serve, Server

pytestmark = needs_browser


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with chromium(tmp_path_factory.mktemp("profile")) as driver:
        yield driver


@pytest.fixture
def empty(serve: Serve, data_dir: Path) -> Iterator[Server]:
    """A service without collections."""
    with serve(data_dir=data_dir) as own:
        yield own


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    """Five clips and one that is none."""
    made = []
    for i in range(5):
        path = tmp_path / f"take-{i}.wav"
        path.write_bytes(clip(1, seed=i))
        made.append(path)
    bad = tmp_path / "notes.wav"
    bad.write_text("these are not samples\n" * 50)
    return [*made, bad]


def create(browser: Browser, name: str) -> None:
    by(browser, "new-name").send_keys(name)
    by(browser, "new-description").send_keys("made by a test", Keys.ENTER)
    until(browser, lambda page: f"Clips of {name}" in by(page, "open-title").text)


def test_an_empty_service_says_what_to_do(browser: Browser, empty: Server) -> None:
    opened(browser, empty)
    until(browser, lambda page: "nothing to search yet" in by(page, "summary").text)
    assert not by(browser, "filter").is_displayed(), "there is nothing to filter"
    by(browser, "query").send_keys("a voice", Keys.ENTER)
    until(browser, lambda page: "no collection to search in" in by(page, "error").text)
    opened(browser, empty)
    until(browser, lambda page: page.find_elements(By.CSS_SELECTOR, "#summary a"))
    by(browser, "summary").find_element(By.TAG_NAME, "a").click()
    until(browser, lambda page: by(page, "no-collections").is_displayed())


def test_clips_are_dropped_in_and_the_refused_ones_named(browser: Browser, empty: Server, files: list[Path]) -> None:
    opened(browser, empty, "library")
    create(browser, "takes")
    assert "made by a test" in by(browser, "collections").text
    # Every state of the progress is kept as it is drawn.
    browser.execute_script(
        """window.seen = [];
        new MutationObserver(() => window.seen.push(document.querySelector('.job span').textContent))
          .observe(document.getElementById('jobs'), { subtree: true, childList: true, characterData: true });"""
    )
    drop(browser, files)
    until(browser, lambda page: any(one.startswith("Done") for one in text_of(page, ".job > span")))
    seen = browser.execute_script("return window.seen")
    assert seen[0].startswith("Adding: 0 of 6")
    counts = [int(one.split(" ")[1]) for one in seen]
    assert counts == sorted(counts)
    assert len(set(counts)) > 3, "progress is live, not one jump at the end"
    assert text_of(browser, ".job > span")[0] == "Done: 5 of 6 added to takes, 1 refused"
    (refused,) = text_of(browser, ".failures li")
    assert refused.startswith("notes.wav: Invalid audio")
    until(browser, lambda page: "5 clips" in by(page, "collections").text)
    assert [one.split(".")[0] for one in text_of(browser, "#items tbody td:first-child")] == [
        f"take-{i}" for i in range(5)
    ]
    assert empty.client.get("/v1/collections/takes").json()["items"] == 5


def test_a_refused_clip_can_be_tried_again(browser: Browser, empty: Server, files: list[Path]) -> None:
    opened(browser, empty, "library")
    create(browser, "again")
    by(browser, "upload-files").send_keys(str(files[-1]))
    until(browser, lambda page: any("1 refused" in one for one in text_of(page, ".job > span")))
    browser.find_element(By.XPATH, "//button[text()='Try the refused ones again']").click()
    until(browser, lambda page: len(page.find_elements(By.CSS_SELECTOR, ".job")) == 1)
    until(browser, lambda page: any(one.startswith("Done: 0 of 1") for one in text_of(page, ".job > span")))


def listings(browser: Browser) -> int:
    """How many pages of clips were asked for and have come."""
    script = "return performance.getEntriesByType('resource').filter((one) => one.name.includes('/items?')).length"
    return int(browser.execute_script(script))


def test_clips_are_listed_once_whatever_is_clicked_twice(browser: Browser, empty: Server) -> None:
    empty.client.put("/v1/collections/many")
    files = [("files", (f"{i:02}.wav", clip(1))) for i in range(60)]
    assert empty.client.post("/v1/collections/many/items", files=files).status_code == 201
    opened(browser, empty, "library")
    until(browser, lambda page: len(text_of(page, "#items tbody tr")) == 50)
    before = listings(browser)
    twice = "const one = document.querySelector(arguments[0]); one.click(); one.click();"
    for selector, clips in (("button[aria-label='Open many']", 50), ("#more-items", 60)):
        browser.execute_script(twice, selector)
        before += 2
        until(browser, lambda page, asked=before: listings(page) == asked)
        until(browser, lambda page, shown=clips: len(text_of(page, "#items tbody tr")) >= shown)
        assert text_of(browser, "#items tbody td:first-child") == [f"{i:02}.wav" for i in range(clips)]


def test_a_refused_clip_changes_no_list(browser: Browser, empty: Server, files: list[Path]) -> None:
    empty.client.put("/v1/collections/two")
    for path in files[:2]:
        empty.client.post("/v1/collections/two/items", files=[("files", (path.name, path.read_bytes()))])
    opened(browser, empty, "library")
    until(browser, lambda page: len(text_of(page, "#items tbody tr")) == 2)
    before = listings(browser)
    drop(browser, [files[-1]] * 2)
    until(browser, lambda page: any(one.startswith("Done: 0 of 2") for one in text_of(page, ".job > span")))
    until(browser, lambda page: listings(page) > before and len(text_of(page, "#items tbody tr")) >= 2)
    assert listings(browser) == before + 1, "only at the end"
    assert text_of(browser, "#items tbody td:first-child") == ["take-0.wav", "take-1.wav"]


def test_items_and_collections_can_be_played_and_deleted(browser: Browser, empty: Server, files: list[Path]) -> None:
    opened(browser, empty, "library")
    create(browser, "gone")
    by(browser, "upload-files").send_keys("\n".join(map(str, files[:2])))
    until(browser, lambda page: len(text_of(page, "#items tbody tr")) == 2)
    row = browser.find_element(By.CSS_SELECTOR, "#items tbody tr")
    row.find_element(By.XPATH, ".//button[text()='Play']").click()
    until(browser, lambda page: "Playing take-0.wav" in by(page, "now-title").text)
    row.find_element(By.XPATH, ".//button[text()='Delete']").click()
    browser.switch_to.alert.dismiss()
    row.find_element(By.XPATH, ".//button[text()='Delete']").click()
    browser.switch_to.alert.accept()
    until(browser, lambda page: len(text_of(page, "#items tbody tr")) == 1)
    until(browser, lambda page: page.switch_to.active_element.accessible_name == "Play take-1.wav")
    assert empty.client.get("/v1/collections/gone").json()["items"] == 1
    browser.find_element(By.CSS_SELECTOR, "#collections button[aria-label='Delete gone']").click()
    browser.switch_to.alert.accept()
    until(browser, lambda page: text_of(page, "#collections li") == [])
    assert by(browser, "no-collections").is_displayed()
    assert empty.client.get("/v1/collections").json()["data"] == []


def test_a_name_that_cannot_be_is_refused(browser: Browser, empty: Server) -> None:
    opened(browser, empty, "library")
    by(browser, "new-name").send_keys("not a name!", Keys.ENTER)
    assert not browser.execute_script("return document.getElementById('new-name').checkValidity()")
    press(browser, "1")
