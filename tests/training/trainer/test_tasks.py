"""What a clip says at a step: the paper's tasks and their schedule, and captions that one swap makes false."""

import random
from collections import Counter

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from training.objective.losses import multi_positive_loss
from training.trainer.negatives import swap_attribute, swaps
from training.trainer.recipe import AudioPart, StagePart
from training.trainer.tasks import draw_texts, task1_probability

CAPTIONS = [{"text": f"g{i}", "kind": "global"} for i in range(2)] + [
    {"text": f"f{i}", "kind": "fine"} for i in range(3)
]
TWO = StagePart(number=2, steps=1)


def draws(stage: StagePart, step: int, captions: list[dict[str, str]] = CAPTIONS, clips: int = 4000) -> list:
    return [draw_texts(captions, f"c{i}", step, stage=stage, data=AudioPart(), seed=3) for i in range(clips)]


def test_schedule_is_the_papers() -> None:
    expected = {0: 0.95, 1000: 0.905, 5000: 0.725, 10000: 0.50, 20000: 0.50}
    assert {step: round(task1_probability(TWO, step), 6) for step in expected} == expected


@pytest.mark.parametrize("step", [0, 5000, 30000])
def test_tasks_are_drawn_as_scheduled(step: int) -> None:
    drawn = draws(TWO, step)
    assert sum(one.task == 1 for one in drawn) / len(drawn) == pytest.approx(task1_probability(TWO, step), abs=0.025)
    for one in drawn:
        first, second = one.texts
        assert second[0] == "f"
        assert first[0] == "g" if one.task == 1 else first[0] == "f" and first != second
    assert {text for one in drawn for text in one.texts} == {c["text"] for c in CAPTIONS}


def test_stage_1_draws_one_fine_caption() -> None:
    drawn = draws(StagePart(number=1, steps=1), 0)
    counts = Counter(one.texts for one in drawn)
    assert set(counts) == {("f0",), ("f1",), ("f2",)}
    assert min(counts.values()) > 1200


def test_draws_repeat_and_change_with_the_step() -> None:
    assert draws(TWO, 7, clips=50) == draws(TWO, 7, clips=50)
    assert draws(TWO, 7, clips=50) != draws(TWO, 8, clips=50)


def test_what_is_missing_is_made_up_for() -> None:
    for captions, allowed in (
        ([{"text": "f0", "kind": "fine"}], {("f0", "f0")}),
        ([{"text": "g0", "kind": "global"}], {("g0", "g0")}),
        ([{"text": "g0", "kind": "global"}, {"text": "f0", "kind": "fine"}], {("g0", "f0")}),
        ([{"text": "f0", "kind": "fine"}, {"text": "f1", "kind": "fine"}], {("f0", "f1"), ("f1", "f0")}),
        ([{"text": "g0", "kind": "global"}, {"text": "g1", "kind": "global"}], {("g0", "g1"), ("g1", "g0")}),
        (
            [{"text": t, "kind": k} for t, k in (("f0", "global"), ("f0", "fine"), ("f1", "fine"))],
            {("f0", "f1"), ("f1", "f0")},
        ),
    ):
        for step in (0, 30000):
            assert {one.texts for one in draws(TWO, step, captions, 40)} <= allowed
    with pytest.raises(ValueError, match="c0"):
        draws(TWO, 0, [{"text": "p", "kind": "prompt"}], 1)


def test_swaps_are_aligned_and_unambiguous() -> None:
    for name, sides in swaps().items():
        assert len(sides) > 1 and len({len(words) for words in sides.values()}) == 1, name
        values = [set(words) for words in sides.values()]
        assert not set.intersection(*values), name
        assert all(word == word.lower() for words in sides.values() for word in words), name


@pytest.mark.parametrize(
    ("text", "allowed"),
    [
        ("A man speaks with his voice raised.", {"A woman speaks with her voice raised."}),
        ("She is heard; her words are plain.", {"He is heard; his words are plain."}),
        ("Words come slowly at first, then quickly.", {"Words come quickly at first, then slowly."}),
        ("First a man, then a woman.", {"First a woman, then a man."}),
        ("The tone goes from calm to angry.", {"The tone goes from angry to calm."}),
        ("A voice that grows louder after a soft start.", {"A voice that grows quieter after a booming start."}),
        # As true the other way round: a value that is not there takes one's place, or nothing is swapped.
        (
            "Sad and fearful.",
            {f"{a} and fearful." for a in ("Happy", "Angry", "Calm")}
            | {f"Sad and {a}." for a in ("happy", "angry", "calm")},
        ),
        ("A man and a woman talk.", {None}),
        ("A man and a woman talk in turns, he next to her.", {None}),
        ("A man and a woman, then a woman and a man.", {None}),
        ("A man and a woman speak slowly.", {"A man and a woman speak quickly."}),
        ("A high-pitched voice.", {"A low-pitched voice."}),
        ("An elderly person.", {"A young person."}),
        ("An angry person.", {f"{a} person." for a in ("A happy", "A sad", "A fearful", "A calm")}),
        ("Nobody knows what this is like.", {None}),
    ],
)
def test_a_swap_changes_one_attribute(text: str, allowed: set[str | None]) -> None:
    made = {swap_attribute(text, random.Random(seed)) for seed in range(60)}
    assert made == allowed


CONNECTIVES = (" and ", ", ", " or ", " but also ", " while the other is ", ", both in turns with ")


@given(st.data(), st.sampled_from(sorted(swaps())), st.sampled_from(CONNECTIVES), st.integers(0, 99))
def test_values_in_no_order_never_change_places(data: st.DataObject, attribute: str, between: str, seed: int) -> None:
    sides = swaps()[attribute]
    named = data.draw(st.lists(st.sampled_from(sorted(sides)), min_size=2, max_size=4))
    text = between.join(data.draw(st.sampled_from(sides[side])) for side in named)
    made = swap_attribute(text, random.Random(seed))
    gone = [side for side in sides if side not in named]
    assert (made is None) == (not gone)
    if made is not None:
        words = made.split(between)
        changed = [i for i, (old, new) in enumerate(zip(text.split(between), words, strict=True)) if old != new]
        assert changed and all(any(words[i] in sides[side] for side in gone) for i in changed)


def test_one_of_several_attributes_is_swapped() -> None:
    made = {swap_attribute("A man speaks slowly.", random.Random(seed)) for seed in range(40)}
    assert made == {"A woman speaks slowly.", "A man speaks quickly."}


def test_negatives_stand_against_their_owner_alone() -> None:
    generator = torch.Generator().manual_seed(0)

    def unit(rows: int) -> torch.Tensor:
        return torch.nn.functional.normalize(torch.randn(rows, 8, generator=generator), dim=1)

    speech, text, false = unit(4).requires_grad_(), unit(8), unit(2).requires_grad_()
    scale, owners = torch.tensor(5.0), torch.tensor([1, 3])
    loss = multi_positive_loss(speech, text, scale, false, owners)
    assert loss > multi_positive_loss(speech, text, scale)
    (theirs,) = torch.autograd.grad(loss, false, retain_graph=True)
    plain = multi_positive_loss(speech, text, scale)
    (before,) = torch.autograd.grad(plain, speech)
    (after,) = torch.autograd.grad(loss, speech)
    changed = (before - after).abs().max(1).values > 1e-7
    assert changed.tolist() == [False, True, False, True]
    # A false caption is pushed away from its owner: its gradient lies along the owner's vector.
    for row, owner in enumerate(owners.tolist()):
        assert torch.allclose(theirs[row] / theirs[row].norm(), speech[owner], atol=1e-4)
    none = multi_positive_loss(speech, text, scale, false[:0], owners[:0])
    assert torch.equal(none, plain)
