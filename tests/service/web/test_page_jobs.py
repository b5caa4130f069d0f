"""Jobs on the page in a real browser: started, watched live, cancelled, resumed, refusals read, errors shown."""

import hashlib
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from tests.support.jobs import clips, ended, start
from tests.support.page import Browser, by, chromium, needs_browser, opened, text_of, until
from tests.support.serving import Serve, Server

pytestmark = needs_browser


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with chromium(tmp_path_factory.mktemp("profile")) as driver:
        yield driver


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Twelve clips and one file that is none."""
    clips(tmp_path / "lib" / "takes", 12)
    (tmp_path / "lib" / "takes" / "notes.wav").write_text("these are not samples\n" * 50)
    return tmp_path / "lib"


@pytest.fixture
def own(serve: Serve, data_dir: Path, root: Path) -> Iterator[Server]:
    """A service that may read a folder, with one empty collection."""
    with serve(data_dir=data_dir, ingest_roots=[root], batch_audio_s=2.0) as running:
        running.client.put("/v1/collections/voices")
        yield running


def held(server: Server) -> threading.Event:
    """The encoder waits until this is set."""
    go = threading.Event()
    runtime = server.app.state.services.engine.runtime
    original = runtime.embed_speech
    runtime.embed_speech = lambda waves: (go.wait(60), original(waves))[1]
    return go


def words(browser: Browser) -> list[str]:
    return text_of(browser, ".server-job .job-words")


def ingest(browser: Browser, path: str) -> None:
    until(browser, lambda page: by(page, "ingest").is_displayed())
    by(browser, "ingest-path").clear()
    by(browser, "ingest-path").send_keys(path, Keys.ENTER)


def test_a_job_is_started_and_followed_to_its_end(browser: Browser, own: Server) -> None:
    go = held(own)
    opened(browser, own, "library")
    browser.execute_script(
        """window.seen = [];
        new MutationObserver(() => window.seen.push(document.querySelector('.job-words')?.textContent))
          .observe(document.getElementById('server-jobs'), { subtree: true, childList: true, characterData: true });"""
    )
    ingest(browser, "takes")
    until(browser, lambda page: any("of 13 clips of lib/takes into voices" in one for one in words(page)))
    go.set()
    until(browser, lambda page: any(one.startswith("Done: 13 of 13") for one in words(page)))
    assert words(browser) == ["Done: 13 of 13 clips of lib/takes into voices, 12 added, 1 refused"]
    seen = [one for one in browser.execute_script("return window.seen") if one]
    done = [int(one.split(" ")[1]) for one in seen]
    assert done == sorted(done)
    assert any(one.startswith("Adding") for one in seen)
    until(browser, lambda page: "12 clips" in by(page, "collections").text)

    browser.find_element(By.CSS_SELECTOR, ".server-job summary").click()
    until(browser, lambda page: text_of(page, ".server-job .failures li"))
    (refused,) = text_of(browser, ".server-job .failures li")
    assert refused.startswith("lib/takes/notes.wav: this is a text file")
    browser.find_element(By.XPATH, "//button[text()='Try the refused ones again']").click()
    until(browser, lambda page: any(one.startswith("Done") and "1 refused" in one for one in words(page)))


def test_a_job_is_cancelled_and_resumed(browser: Browser, own: Server) -> None:
    go = held(own)
    opened(browser, own, "library")
    ingest(browser, "takes")
    until(browser, lambda page: any(one.startswith("Adding") for one in words(page)))
    browser.find_element(By.XPATH, "//*[contains(@class, 'server-job')]//button[text()='Cancel']").click()
    until(browser, lambda page: any(one.startswith("Cancelled") for one in words(page)))
    go.set()
    browser.find_element(By.XPATH, "//*[contains(@class, 'server-job')]//button[text()='Resume']").click()
    until(browser, lambda page: any(one.startswith("Done: 13 of 13") for one in words(page)))


def test_jobs_of_others_are_there_and_failures_say_why(browser: Browser, own: Server, root: Path) -> None:
    go = held(own)
    job = start(own.client, "lib")
    opened(browser, own, "library")
    until(browser, lambda page: len(words(page)) == 1)
    own.client.delete("/v1/collections/voices")
    go.set()
    assert ended(own.client, job)["state"] == "failed"
    until(browser, lambda page: any(one.startswith("Failed") for one in words(page)))
    assert "Collection not found" in text_of(browser, ".server-job .bad")[0]


def test_a_path_that_cannot_be_is_refused_in_words(browser: Browser, own: Server) -> None:
    opened(browser, own, "library")
    ingest(browser, "../../etc")
    until(browser, lambda page: "leads out of the root" in by(page, "error").text)
    assert words(browser) == []


def test_there_is_no_form_where_nothing_may_be_read(browser: Browser, serve: Serve, data_dir: Path) -> None:
    with serve(data_dir=data_dir) as bare:
        bare.client.put("/v1/collections/voices")
        opened(browser, bare, "library")
        until(browser, lambda page: "voices" in by(page, "collections").text)
        assert not by(browser, "bulk").is_displayed()


def test_progress_comes_with_an_api_key_too(browser: Browser, serve: Serve, data_dir: Path, root: Path) -> None:
    digest = hashlib.sha256(b"secret").hexdigest()
    with serve(data_dir=data_dir, ingest_roots=[root], api_keys=[f"page:read+write:{digest}"]) as own:
        own.client.put("/v1/collections/voices", headers={"Authorization": "Bearer secret"}).raise_for_status()
        browser.get("about:blank")
        browser.get(f"{own.url}/#library")
        until(browser, lambda page: by(page, "key-dialog").is_displayed())
        by(browser, "key").send_keys("secret", Keys.ENTER)
        until(browser, lambda page: by(page, "identity").text not in ("", "unknown"))
        ingest(browser, "takes")
        until(browser, lambda page: any(one.startswith("Done: 13 of 13") for one in words(page)))
