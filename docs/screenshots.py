"""Takes the pictures of the page and of the report that are in docs/images/, in headless Chromium.

    python docs/screenshots.py            # needs chromium and chromedriver on the PATH; a minute or two

The page shows the example library on a service of its own; the report is of `examples/gates/`: the drifted set against
the baseline, as docs/gates.md runs it.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import soundfile
from PIL import Image
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import WebDriverWait

from clsp_client import Client
from service.cli.local_server import local_server
from service.cli.upload import Ingest
from service.core.clip_sources import read_source

ROOT = Path(__file__).resolve().parent.parent
IMAGES = ROOT / "docs" / "images"
LIBRARY = ROOT / "examples" / "library"
GATES = ROOT / "examples" / "gates"
Browser = webdriver.Chrome
CHANGING = "A woman speaks very slowly at first and then very fast, in a deep voice."
COLOURS = 128
"""Of a picture: enough for flat pages, and a third of the bytes."""
DRAWN = """return [...document.querySelectorAll('#hits .awaited')]
    .filter((place) => place.offsetParent && place.getBoundingClientRect().top < innerHeight)
    .every((place) => place.querySelector('.wave'))"""


@contextmanager
def browser(*, width: int, dark: bool = False) -> Iterator[Browser]:
    """A headless Chromium whose window is as wide as asked."""
    options = webdriver.ChromeOptions()
    options.binary_location = str(shutil.which("chromium"))
    for flag in ("--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", f"--window-size={width},900"):
        options.add_argument(flag)
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(str(shutil.which("chromedriver"))))
    try:
        # Windows cannot be narrower than some 500 pixels; a device can.
        metrics = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500}
        driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})
        yield driver
    finally:
        driver.quit()


def until(page: Browser, condition: Callable[[Browser], object]) -> None:
    """Wait for a condition."""
    WebDriverWait(page, 120).until(condition)


def shoot(page: Browser, name: str, *, height: int) -> None:
    """Save the top of the page, `height` pixels of it at most."""
    time.sleep(0.4)  # for fonts and meters to settle
    whole = page.execute_script("return document.documentElement.scrollHeight")
    width = page.execute_script("return window.innerWidth")
    metrics = {"width": width, "height": min(height, whole), "deviceScaleFactor": 1, "mobile": width < 500}
    page.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    page.execute_script("window.scrollTo(0, 0)")
    until(page, lambda page: page.execute_script(DRAWN))
    time.sleep(0.4)
    page.save_screenshot(str(IMAGES / name))
    keep_small(IMAGES / name)


def keep_small(path: Path) -> None:
    """Fewer colours: a repository keeps every version of a picture."""
    with Image.open(path) as picture:
        picture.convert("RGB").quantize(COLOURS, dither=Image.Dither.NONE).save(path, optimize=True)
    print(f"docs/images/{path.name}, {path.stat().st_size // 1000} kB")


def search(page: Browser, url: str, text: str) -> None:
    """Ask for a text, and wait for the hits' waveforms."""
    page.get("about:blank")  # an address that differs behind its # alone would keep the earlier hits
    page.get(url)
    until(page, lambda page: page.find_element(By.ID, "identity").text not in ("", "unknown"))
    page.find_element(By.ID, "query").send_keys(text, Keys.ENTER)
    until(page, lambda page: len(page.find_elements(By.CSS_SELECTOR, "#hits .track .wave")) >= 1)


def page_pictures(url: str) -> None:
    """The views of the page."""
    with browser(width=1100) as page:
        search(page, url, "somebody whispers, not a woman")
        shoot(page, "page-search.png", height=1000)
        search(page, f"{url}/#search", "A man whispers, and then suddenly speaks loudly.")
        (row,) = [one for one in page.find_elements(By.CSS_SELECTOR, "#hits li") if "man-whisper-then-loud" in one.text]
        row.find_element(By.CSS_SELECTOR, ".over-time").click()
        until(page, lambda page: page.find_elements(By.CSS_SELECTOR, "#hits .curves"))
        page.execute_script("document.getElementById('hits').prepend(arguments[0])", row)
        shoot(page, "page-over-time.png", height=900)
        page.get(f"{url}/#judge")
        page.find_element(By.ID, "file").send_keys(str(LIBRARY / "woman-slow-then-fast.ogg"))
        until(page, lambda page: page.find_elements(By.CSS_SELECTOR, "#clip-track .wave"))
        page.find_element(By.ID, "caption").send_keys(CHANGING, Keys.ENTER)
        until(page, lambda page: page.find_elements(By.CSS_SELECTOR, "#verdict .attribute"))
        shoot(page, "page-judge.png", height=1200)
        page.get(f"{url}/#library")
        until(page, lambda page: page.find_elements(By.CSS_SELECTOR, "#items tbody tr"))
        names = ("man-us-low.ogg", "woman-us-high.ogg", "manifest.jsonl")
        page.find_element(By.ID, "upload-files").send_keys("\n".join(str(LIBRARY / name) for name in names))
        until(page, lambda page: "Done" in page.find_element(By.ID, "jobs").text)
        shoot(page, "page-library.png", height=900)
    with browser(width=390, dark=True) as page:
        search(page, url, "warm, low, slow, slightly amused")
        shoot(page, "page-phone.png", height=1100)


def job_picture(url: str) -> None:
    """A job on the server while it goes on, and one that is done and has refused something."""
    with Client(url) as client, browser(width=1100) as page:
        client.create_collection("recordings")
        client.wait_job(client.start_ingest("recordings", "recordings/small")["id"], every_s=0.2)
        page.get(f"{url}/#library")
        until(page, lambda page: page.find_elements(By.XPATH, "//button[@aria-label='Open recordings']"))
        page.find_element(By.XPATH, "//button[@aria-label='Open recordings']").click()
        until(page, lambda page: page.find_element(By.ID, "ingest").is_displayed())
        page.find_element(By.CSS_SELECTOR, ".server-job summary").click()
        page.find_element(By.ID, "ingest-path").send_keys("2026", Keys.ENTER)
        until(page, lambda page: "Adding" in page.find_element(By.ID, "server-jobs").text)
        until(page, lambda page: " added" in page.find_elements(By.CSS_SELECTOR, ".server-job")[0].text)
        page.execute_script("document.getElementById('open-collection').hidden = true")
        shoot(page, "page-jobs.png", height=900)


def recordings(folder: Path) -> None:
    """Two folders to ingest: many clips, and a few of which some cannot be read."""
    for name in ("2026", "small"):
        (folder / name).mkdir(parents=True)
    for path in sorted(LIBRARY.glob("*.ogg")):
        wave, rate = soundfile.read(path)
        for take in range(5):
            soundfile.write(folder / "2026" / f"{path.stem}-{take}.wav", wave * (0.3 + 0.05 * take), rate)
    for name in ("man-us-low.ogg", "woman-us-high.ogg"):
        shutil.copy(LIBRARY / name, folder / "small")
    (folder / "small" / "phone-memo.m4a").write_bytes(b"\0\0\0\x20ftypM4A \0\0\0\0" * 9)
    (folder / "small" / "cut-off.wav").write_bytes((folder / "2026" / "man-us-low-0.wav").read_bytes()[:9000])


def report_picture(folder: Path) -> None:
    """The report of a set in which two voices drifted, and a clip whose style changes from another."""
    clsp = Path(sys.executable).with_name("clsp")
    row = {"id": "changing", "audio": str(LIBRARY / "woman-slow-then-fast.ogg"), "caption": CHANGING}
    (folder / "changing.jsonl").write_text(json.dumps(row) + "\n", "utf-8")
    for arguments in (
        ("baseline.jsonl", "--out", str(folder / "baseline")),
        ("drifted.jsonl", "--out", str(folder / "drifted"), "--baseline", str(folder / "baseline")),
        (str(folder / "changing.jsonl"), "--out", str(folder / "changing"), "--min-match", "0.9"),
    ):
        subprocess.run([str(clsp), "score", *arguments], cwd=GATES, check=False)  # noqa: S603
    with browser(width=1100) as page:
        page.get((folder / "drifted" / "report.html").as_uri())
        shoot(page, "report.png", height=1500)
        page.get((folder / "changing" / "report.html").as_uri())
        tall = {"width": 1100, "height": 2000, "deviceScaleFactor": 1, "mobile": False}
        page.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", tall)  # an element is not shot past the window
        page.find_element(By.CSS_SELECTOR, "article").screenshot(str(IMAGES / "report-clip.png"))
        keep_small(IMAGES / "report-clip.png")


def main() -> int:
    """Take all pictures."""
    IMAGES.mkdir(exist_ok=True)
    with (
        tempfile.TemporaryDirectory(prefix="clsp-recordings-") as folder,
        local_server(environment={"CLSP_INGEST_ROOTS": f"recordings={folder}"}) as server,
        Client(server.url) as client,
    ):
        ingest = Ingest(client, "examples")
        ingest.prepare()
        for _ in ingest.steps(read_source(LIBRARY / "manifest.jsonl")):
            pass
        page_pictures(server.url)
        recordings(Path(folder))
        job_picture(server.url)
    with tempfile.TemporaryDirectory(prefix="clsp-report-") as folder:
        report_picture(Path(folder))
    return 0


if __name__ == "__main__":
    sys.exit(main())
