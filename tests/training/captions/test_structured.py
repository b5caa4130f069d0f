"""JSON answers: read out of whatever models wrap them in, refused when their shape is wrong, paid for once."""

import asyncio
import json
from contextlib import closing
from pathlib import Path

import pytest

from tests.support.captions_server import completion, described, serving
from training.captions import structured
from training.captions.annotator import AnnotatorError
from training.captions.ask import NoVerdictError
from training.captions.book import PROMPTS, Prompt, PromptError
from training.captions.endpoint import EndpointPool, EndpointSettings, EndpointStoppedError
from training.captions.judging.judge import Grade
from training.captions.ledger import Ledger
from training.captions.verifier import Verdict, Verifier

PASS = {"passes": True, "broken_rule": None, "why": "fine"}
FAIL = {"passes": False, "broken_rule": "background", "why": "mentions music"}


@pytest.mark.parametrize(
    "text",
    [
        json.dumps(PASS),
        f"```json\n{json.dumps(PASS, indent=2)}\n```",
        f"<think>The rule {{'x'}} says: {json.dumps(FAIL)}</think>\n{json.dumps(PASS)}",
        f"I considered {json.dumps(FAIL)} first. Final answer: {json.dumps(PASS)} Thanks!",
        f"thoughts without an opening tag </think>{json.dumps(PASS)}",
        json.dumps({**PASS, "extra": 1}),
    ],
)
def test_the_object_is_found(text: str) -> None:
    assert structured.read(Verdict, text).passes


@pytest.mark.parametrize(
    "text",
    [
        "",
        "passes",
        json.dumps(PASS)[:-4],
        json.dumps({"passes": True}),
        json.dumps({**PASS, "broken_rule": "background"}),  # contradicts itself
        json.dumps({**FAIL, "broken_rule": None}),
        json.dumps({**FAIL, "broken_rule": "rudeness"}),
        f"<think>{json.dumps(PASS)}",  # a thought that never ended is no verdict
    ],
)
def test_a_wrong_shape_is_refused(text: str) -> None:
    with pytest.raises(structured.ShapeError):
        structured.read(Verdict, text)


def test_grades_are_whole_numbers_from_one_to_five() -> None:
    good = {"correctness": 1, "coverage": 5, "naturalness": 3, "why": ""}
    assert structured.read(Grade, json.dumps(good)).coverage == 5
    for bad in (0, 6, 3.5, "high", None):
        with pytest.raises(structured.ShapeError):
            structured.read(Grade, json.dumps(good | {"coverage": bad}))


def verdicts(settings: EndpointSettings, ledger: Path, captions: list[str], **more: int) -> list[Verdict | Exception]:
    async def run() -> list[Verdict | Exception]:
        book = Ledger(ledger)
        try:
            async with EndpointPool(settings) as pool:
                verifier = Verifier(pool, book, **more)
                return await asyncio.gather(*(verifier.verdict(c) for c in captions), return_exceptions=True)  # type: ignore[return-value]
        finally:
            book.close()

    return asyncio.run(run())


def test_verdicts_are_named_and_paid_for_once(tmp_path: Path, quick) -> None:
    def behave(asked):
        if "music" in described(asked):
            return completion(json.dumps(FAIL))
        if "odd" in described(asked) and asked.body["seed"] == 0:
            return completion(json.dumps(PASS)[:20])  # cut off: another seed is tried
        return None

    captions = ["a calm voice", "soft music", "an odd voice", "a calm voice"]
    with serving(behave=behave) as server:
        settings = quick(server.url)
        for _ in range(2):  # the second time from the ledger alone
            calm, music, odd, again = verdicts(settings, tmp_path / "l.sqlite", captions)
            assert isinstance(music, Verdict)
            assert music.broken_rule == "background"
            assert music.why == "mentions music"
            assert all(isinstance(v, Verdict) and v.passes for v in (calm, odd, again))
        assert len(server.asked) == 4  # calm once, music once, odd twice
        schema = server.asked[0].body["response_format"]["json_schema"]
        assert schema["strict"]
        assert set(schema["schema"]["properties"]) == {"passes", "broken_rule", "why"}


def test_a_model_that_never_gives_a_verdict_and_one_that_is_down(tmp_path: Path, quick) -> None:
    with serving(behave=lambda asked: completion("It seems fine to me.")) as server:
        (error,) = verdicts(quick(server.url), tmp_path / "l.sqlite", ["a voice"])
        assert isinstance(error, NoVerdictError)
        assert len(server.asked) == 3
    with serving(behave=lambda asked: "500") as server:
        (error,) = verdicts(quick(server.url, attempts=2), tmp_path / "m.sqlite", ["a voice"])
        assert isinstance(error, AnnotatorError)


def test_no_verdict_is_asked_for_once_in_a_start_and_again_in_the_next(tmp_path: Path, quick) -> None:
    async def one_after_the_other(url: str) -> None:
        with closing(Ledger(tmp_path / "l.sqlite")) as book:
            async with EndpointPool(quick(url)) as pool:
                verifier = Verifier(pool, book)
                for _ in range(2):
                    with pytest.raises(NoVerdictError):
                        await verifier.verdict("a voice")

    with serving(behave=lambda asked: completion("It seems fine to me.")) as server:
        for start in (1, 2):
            asyncio.run(one_after_the_other(server.url))
            assert len(server.asked) == 3 * start
        # A start that was killed in the middle goes on with the seeds that are left, as one that was not.
        server.behave = lambda asked: "401" if len(server.asked) > 7 else completion("Fine.")
        with pytest.raises(EndpointStoppedError):
            asyncio.run(one_after_the_other(server.url))
        server.behave = lambda asked: None
        (verdict,) = verdicts(quick(server.url), tmp_path / "l.sqlite", ["a voice"])
    assert isinstance(verdict, Verdict)
    assert [asked.body["seed"] for asked in server.asked[6:]] == [0, 1, 1]


def test_prompts_are_whole_and_their_hash_follows_what_is_asked(tmp_path: Path) -> None:
    names = {path.stem for path in PROMPTS.glob("*.md")}
    assert names == {"short", "long", "verify", "judge", "compare"}
    for name in names:
        prompt = Prompt.load(name)
        assert prompt.system
        assert "{{" in prompt.user
    prompt = Prompt.load("verify")
    filled = prompt.fill(caption="a {{known}} voice")
    assert "a {{known}} voice" in filled.user  # what is filled in is never a field itself
    assert filled.hash() != prompt.fill(caption="another").hash()
    assert filled.hash(0.6) != filled.hash(0.7)
    with pytest.raises(PromptError, match="caption"):
        prompt.fill()
    (tmp_path / "verify.md").write_text("only a text")
    with pytest.raises(PromptError, match="# system"):
        Prompt.load("verify", tmp_path)
    assert Prompt.load("short", tmp_path) == Prompt.load("short")  # ours, where the folder has none
