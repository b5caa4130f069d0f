"""The HTML report: one self-contained page that says what failed, where in the clip, and lets people listen."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from html import escape
from importlib.resources import files
from statistics import fmean
from string import Template

from service.gates.compare import Change, Comparison, place
from service.gates.questions import COSINE, VOICE, unit_of
from service.gates.report import charts
from service.gates.report.headline import cut_captions, headlines
from service.gates.report.sound import Sound
from service.gates.rows import Row, Run, Voice, groups_of
from service.gates.verdict import Outcome, Verdict

_WORDS = {Outcome.PASSED: "passed", Outcome.FAILED: "failed", Outcome.UNDECIDED: "could not be judged"}
_CLASSES = {Outcome.PASSED: "passed", Outcome.FAILED: "failed", Outcome.UNDECIDED: "undecided"}


def page(
    run: Run, verdict: Verdict, *, name: str, shown: Sequence[Row], sounds: Callable[[Row], Sound | None], gates: str
) -> str:
    """The whole page. `shown` are the clips with players, the worst first; `gates` says in words what was asked."""
    body = "\n".join(
        part
        for part in (
            _header(run, verdict, name, gates),
            "<main>",
            _unjudged(run),
            _groups(run, verdict),
            _distributions(run, verdict),
            _breaches(verdict),
            _changes(verdict.comparison),
            _clips(shown, verdict, sounds),
            "</main>",
            _footer(),
        )
        if part
    )
    template = Template(files("service.gates.report").joinpath("template.html").read_text("utf-8"))
    return template.substitute(title=escape(f"{name}: {_WORDS[verdict.outcome]}"), body=body)


def _header(run: Run, verdict: Verdict, name: str, gates: str) -> str:
    total = len(run.rows) + len(run.unjudged)
    identity = run.rows[0].identity if run.rows else "none"
    facts = [
        f"<b>{len(run.rows)}</b> of <b>{total}</b> clips judged ({run.coverage:.1%})",
        f"model <b>{escape(identity)}</b>",
        f"gates: {escape(gates)}",
    ]
    items = "".join(f"<li>{fact}</li>" for fact in facts)
    told = [(f"<b>{escape(where)}</b>: {escape(what)}", "failed") for where, what in headlines(run, verdict)]
    told = [*((escape(reason), "undecided") for reason in verdict.undecided), *told]
    cut = cut_captions(run)
    if cut:
        told.append((escape(cut), "undecided"))
    lead = "".join(f'<li class="{kind}">{line}</li>' for line, kind in told)
    return (
        f'<header><h1>{escape(name)} <span class="verdict {_CLASSES[verdict.outcome]}">'
        f"{_WORDS[verdict.outcome]}</span></h1>{f'<ul class=lead>{lead}</ul>' if lead else ''}"
        f'<ul class="facts">{items}</ul></header>'
    )


def _breaches(verdict: Verdict) -> str:
    if not verdict.breaches:
        return ""
    rows = [
        (
            breach.gate,
            breach.place,
            breach.message,
            ", ".join(breach.attributes),
        )
        for breach in verdict.breaches
    ]
    cells = [[escape(cell) for cell in row] for row in rows]
    return _section("Gates that failed", _table(("gate", "where", "what", "attributes"), cells))


def _unjudged(run: Run) -> str:
    if not run.unjudged:
        return ""
    rows = [[escape(one.id), escape(one.audio), escape(one.reason)] for one in run.unjudged]
    return _section("Clips that could not be judged", _table(("clip", "file", "why"), rows))


def _distributions(run: Run, verdict: Verdict) -> str:
    comparison = verdict.comparison
    before = [pair.before.match_probability for pair in comparison.pairs] if comparison else None
    now = [row.match_probability for row in run.rows]
    key = '<span class="key" style="background:var(--now)"></span>this run'
    if before:
        key += ' <span class="key" style="background:var(--then)"></span>baseline'
    figures = [_figure(charts.distribution(now, before), f"Match probability, share of clips. {key}")]
    if comparison and comparison.pairs:
        drawn = charts.changes([pair.change for pair in comparison.pairs])
        figures.append(_figure(drawn, f"Change of cosine since the baseline, {len(comparison.pairs)} pairs"))
    return _section("Distributions", f'<div class="charts">{"".join(figures)}</div>')


def _groups(run: Run, verdict: Verdict) -> str:
    comparison = verdict.comparison
    cosines = [c for c in comparison.changes if c.measure == COSINE and c.subset is None] if comparison else []
    changed = {c.group: c for c in cosines}
    missed: dict[str, list[str]] = {}
    for breach in verdict.breaches:
        if breach.group:
            missed.setdefault(breach.group, []).extend(name.partition(":")[0] for name in breach.attributes)
    whole = {breach.group for breach in verdict.breaches if breach.id is None}
    rows = []
    # Failed groups first, then those of which single clips failed.
    for group, members in sorted(
        groups_of(run.rows).items(), key=lambda one: (one[0] not in whole, one[0] not in missed)
    ):
        lowest = min(members, key=lambda row: row.match_probability)
        change = changed.get(group)
        rows.append(
            [
                escape(group),
                str(len(members)),
                f"{fmean(row.match_probability for row in members):.3f}",
                f"{fmean(row.cosine for row in members):.3f}",
                f"{lowest.match_probability:.3f} <span class=dim>{escape(lowest.id)}</span>",
                "" if change is None else f"{change.test.mean:+.3f}",
                f'<span class="bad">{escape(", ".join(dict.fromkeys(missed.get(group, []))))}</span>',
                _state(group in missed),
            ]
        )
    columns = ("group", "#clips", "#mean match", "#mean cosine", "lowest match", "#change of cosine", "misses", "")
    return _section("Groups", _table(columns, rows))


def _changes(comparison: Comparison | None) -> str:
    if comparison is None or not comparison.comparable:
        return ""
    notes = [
        f"{word} ({len(ids)}): {', '.join(ids[:8])}{', ...' if len(ids) > 8 else ''}"
        for ids, word in (
            (comparison.added, "new, without a baseline"),
            (comparison.removed, "in the baseline, but gone"),
            (comparison.recaptioned, "captioned otherwise than in the baseline, and not compared"),
        )
        if ids
    ]
    few = [f"{group} ({count})" for group, count in comparison.small.items()]
    if few:
        notes.append(f"too few pairs to be asked about by themselves: {', '.join(few)}")
    text = "".join(f"<p class=dim>{escape(note)}</p>" for note in notes)
    ordered = sorted(comparison.changes, key=lambda change: (not change.fell, change.test.mean))
    reaches: dict[str, float] = {}
    for change in ordered:
        unit = unit_of(change.measure)
        reaches[unit] = max(reaches.get(unit, 0.0), *(abs(bound) for bound in _bounds(change)))
    rows = [
        [
            escape(place(change.group, change.subset)),
            escape(change.measure),
            str(change.test.pairs),
            f"{change.test.mean:+.3f} {unit_of(change.measure)}",
            charts.interval(
                change.test.low,
                change.test.mean,
                change.test.high,
                reaches[unit_of(change.measure)],
                fell=change.fell,
            ),
            f"{change.p:.4f}",
            _state(change.fell, "moved" if change.level == VOICE else "fell"),
        ]
        for change in ordered
    ]
    columns = ("clips", "measure", "#pairs", "#mean change", "interval", "#p, corrected", "")
    return _section("Since the baseline", text + _table(columns, rows))


def _bounds(change: Change) -> tuple[float, float]:
    return change.test.low, change.test.high


def _clips(shown: Sequence[Row], verdict: Verdict, sounds: Callable[[Row], Sound | None]) -> str:
    before = {pair.after.id: pair.before for pair in verdict.comparison.pairs} if verdict.comparison else {}
    articles = [_clip(number, row, before.get(row.id), verdict, sounds(row)) for number, row in enumerate(shown)]
    return f"<h2>Clips to listen to</h2>{''.join(articles)}" if articles else ""


def _clip(number: int, row: Row, before: Row | None, verdict: Verdict, sound: Sound | None) -> str:
    scores = [f"match <b>{row.match_probability:.3f}</b>", f"cosine <b>{row.cosine:.3f}</b>"]
    if before is not None:
        scores.append(f"was {before.cosine:.3f}")
    if row.percentile is not None:
        scores.append(f"percentile {row.percentile:.0f}")
    breaches = verdict.of_clip(row.id)
    if row.voice is not None:
        scores += _measured(row.voice)
    nearer = [breach for breach in breaches if breach.group is not None]  # of all clips is said above
    why = "".join(f'<p class="bad">{escape(f"{breach.gate}: {breach.message}")}</p>' for breach in nearer or breaches)
    return (
        f'<article id="clip-{number}"><div class="row"><h3>{escape(row.id)}</h3>'
        f'<span class="dim">{escape(row.group)} · {" · ".join(scores)}</span></div>'
        f'<p class="caption">{escape(row.caption)}</p>{why}'
        f"{_sound(number, row, sound) if sound else '<p class=dim>The audio is not at hand.</p>'}"
        f"{_attributes(row, before)}</article>"
    )


def _measured(voice: Voice) -> list[str]:
    shown = (
        (voice.pitch_hz, "{:.0f} Hz"),
        (voice.rate_hz, "{:.1f} syllables/s"),
        (voice.level_lufs, "{:.1f} LUFS"),
        (voice.pauses_s, "{:.1f} s of pauses"),
    )
    return [words.format(value) for value, words in shown if value is not None]


def _sound(number: int, row: Row, sound: Sound) -> str:
    low, top = charts.curve_range(row)
    cut = "<p class=dim>The player holds the beginning only.</p>" if sound.cut else ""
    lanes = "".join(
        f'<div class="lane s{i}"><span>{escape(sentence.text)}</span>'
        f"{charts.lane(sentence.holds, sound.duration_s)}</div>"
        for i, sentence in enumerate(row.sentences)
        if len(row.sentences) > 1
    )
    drawn = f"cosine {low:.2f} to {top:.2f}" if len(row.curve) > 1 else "too short for a curve"
    scale = f"<span>0 s</span><span>{drawn}</span><span>{sound.duration_s:.1f} s</span>"
    return (
        f'<audio id="player-{number}" controls preload="none" src="{sound.uri}"></audio>{cut}'
        f'<div class="track" tabindex="0" role="group" aria-label="{escape(row.id)}: waveform, similarity over time" '
        f'data-player="player-{number}" data-seconds="{sound.duration_s:.3f}">{charts.over_time(row, sound)}'
        f'<span class="cursor"></span></div><div class="scale">{scale}</div>{lanes}'
    )


def _attributes(row: Row, before: Row | None) -> str:
    if not row.attributes:
        return ""
    rows = []
    for one in sorted(row.attributes, key=lambda one: one.margin):
        then = before.attribute(one.key) if before else None
        state = f'<span class="bad">sounds more {escape(one.heard)}</span>' if one.margin < 0 else "holds"
        rows.append(
            [
                escape(one.name),
                f"“{escape(one.phrase)}”",
                f"{one.margin:+.2f}",
                "" if then is None else f"{one.margin - then.margin:+.2f}",
                state,
            ]
        )
    return _table(("attribute", "in the caption", "#margin, logits", "#since baseline", "against its opposites"), rows)


def _footer() -> str:
    return (
        "<footer><p>Match is the calibrated probability that clip and caption belong together; cosine is the model's "
        "raw similarity. A margin weighs an attribute of the caption against its opposites: below 0 an opposite fits "
        "better. Changes are means of paired differences with studentised bootstrap intervals; p is corrected for the "
        "questions (weighted Holm). Curves are cosines in overlapping windows.</p></footer>"
    )


def _state(broken: bool, word: str = "failed") -> str:
    return f'<span class="bad">{word}</span>' if broken else '<span class="good">ok</span>'


def _section(title: str, inside: str) -> str:
    return f"<section><h2>{title}</h2>{inside}</section>"


def _figure(drawing: str, caption: str) -> str:
    return f"<figure>{drawing}<figcaption>{caption}</figcaption></figure>"


def _table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Cells are HTML; a column whose name starts with # holds numbers."""
    numeric = [name.startswith("#") for name in columns]

    def cells(tag: str, values: Sequence[str]) -> str:
        marked = zip(values, numeric, strict=True)
        return "".join(f"<{tag}{' class=n' if number else ''}>{value}</{tag}>" for value, number in marked)

    head = cells("th", [name.removeprefix("#") for name in columns])
    body = "".join(f"<tr>{cells('td', row)}</tr>" for row in rows)
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'
