"""The run as JUnit XML: a test case a clip in a suite a group, and one for each gate on many clips."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree  # it only writes here; parsing is what is unsafe
from collections.abc import Iterable

from service.gates.rows import Row, Run, Unjudged, groups_of
from service.gates.verdict import Breach, Verdict

# Characters that XML 1.0 cannot hold, even escaped.
_FORBIDDEN = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def junit(run: Run, verdict: Verdict, *, name: str) -> str:
    """The document. A clip that breaks a gate of its own is a failure, one that could not be judged an error; a gate on
    a group or on all clips fails in the suite `gates`, naming its worst clips.
    """
    suites = ElementTree.Element("testsuites", name=_clean(name))
    unjudged: dict[str, list[Unjudged]] = {}
    for one in run.unjudged:
        unjudged.setdefault(one.group, []).append(one)
    rows = groups_of(run.rows)
    for group in sorted(rows.keys() | unjudged.keys()):
        suite = ElementTree.SubElement(suites, "testsuite", name=_clean(group))
        for row in rows.get(group, []):
            _clip(suite, row, [breach for breach in verdict.breaches if breach.id == row.id])
        for one in unjudged.get(group, []):
            case = ElementTree.SubElement(suite, "testcase", classname=_clean(group), name=_clean(one.id))
            error = ElementTree.SubElement(case, "error", message=_clean(one.reason), type="unjudged")
            error.text = _clean(f"{one.audio}: {one.reason}")
        _count(suite)
    _gates(suites, verdict)
    _count(suites)
    ElementTree.indent(suites)
    return ElementTree.tostring(suites, encoding="unicode", xml_declaration=True) + "\n"


def _clip(suite: ElementTree.Element, row: Row, breaches: Iterable[Breach]) -> None:
    case = ElementTree.SubElement(
        suite, "testcase", classname=_clean(row.group), name=_clean(row.id), file=_clean(row.audio)
    )
    for breach in breaches:
        lines = [f"caption: {row.caption}", f"match {row.match_probability:.3f}, cosine {row.cosine:.3f}"]
        lines += [f"misses {name}" for name in breach.attributes]
        failure = ElementTree.SubElement(
            case, "failure", message=_clean(f"{breach.gate}: {breach.message}"), type=breach.gate
        )
        failure.text = _clean("\n".join(lines))


def _gates(suites: ElementTree.Element, verdict: Verdict) -> None:
    shared = [breach for breach in verdict.breaches if breach.id is None]
    if not (shared or verdict.undecided or verdict.comparison):
        return
    suite = ElementTree.SubElement(suites, "testsuite", name="gates")
    for reason in verdict.undecided:
        case = ElementTree.SubElement(suite, "testcase", classname="gates", name=_clean(reason))
        ElementTree.SubElement(case, "error", message=_clean(reason), type="undecided")
    for breach in shared:
        name = f"{breach.gate} {breach.place} {' '.join(breach.attributes)}".strip()
        case = ElementTree.SubElement(suite, "testcase", classname="gates", name=_clean(name))
        failure = ElementTree.SubElement(case, "failure", message=_clean(breach.message), type=breach.gate)
        failure.text = _clean("\n".join(breach.clips))
    for change in verdict.comparison.changes if verdict.comparison else []:
        if not change.fell:
            ElementTree.SubElement(suite, "testcase", classname="gates", name=_clean(f"no-regression {change.name}"))
    _count(suite)


def _count(element: ElementTree.Element) -> None:
    """The totals that readers of JUnit expect on suites."""
    cases = list(element.iter("testcase"))
    element.set("tests", str(len(cases)))
    for kind in ("failure", "error"):
        element.set(f"{kind}s", str(sum(case.find(kind) is not None for case in cases)))


def _clean(text: str) -> str:
    return _FORBIDDEN.sub("\N{REPLACEMENT CHARACTER}", text)
