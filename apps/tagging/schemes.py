"""Tags that name spans of words, in one form: IOB2.

    words   to      new      york     at   seven
    IOB2    O       B-city   I-city   O    B-time     every span begins with B
    IOB1    O       I-city   I-city   O    I-time     B only where a span follows one of the same type at once
    BIOES   O       B-city   E-city   O    S-time     E ends a span, S is one of a single word (BILOU: L and U)

A span that is broken, such as an I that continues nothing, is read as the program `conlleval` of the CoNLL shared tasks does:
another type, or a B, begins a new span.
"""

import re
from collections.abc import Iterable
from typing import Literal, NamedTuple

Scheme = Literal["IOB1", "IOB2", "BIOES", "plain"]

OUTSIDE = "O"
TAG = re.compile(r"([BIESLU])-(.+)", re.DOTALL)
BILOU = {"L": "E", "U": "S"}


class Span(NamedTuple):
    """Words `first` to `last`, both included, of a sentence."""

    type: str
    first: int
    last: int


def split(tag: str) -> tuple[str, str]:
    """Prefix and type of a tag that names a span: ("B", "city"); ("O", "") outside of all."""
    found = TAG.fullmatch(tag)
    return (BILOU.get(found[1], found[1]), found[2]) if found else (OUTSIDE, "")


def names_spans(tag: str) -> bool:
    """Whether it has the form of IOB or BIOES."""
    return tag == OUTSIDE or bool(TAG.fullmatch(tag))


def recognise(sentences: Iterable[list[str]]) -> Scheme:
    """The scheme that tags are written in.

    "plain" if none names a span: parts of speech, for example. IOB1 if I often begins a span, and B never does where an I would
    say the same.
    """
    prefixes, begun_by_inside, needless_begin, spans = set(), False, False, False
    for tags in sentences:
        before = OUTSIDE, ""
        for tag in tags:
            prefix, kind = split(tag)
            prefixes.add(prefix)
            spans |= prefix != OUTSIDE
            begun_by_inside |= prefix == "I" and before[1] != kind
            needless_begin |= prefix == "B" and before[1] != kind
            before = prefix, kind
    if not spans:
        return "plain"
    if prefixes & {"E", "S"}:
        return "BIOES"
    return "IOB1" if begun_by_inside and not needless_begin else "IOB2"


def to_iob2(tags: list[str], scheme: Scheme) -> tuple[list[str], int]:
    """The same spans in IOB2, and how many of the tags were broken: they could not follow the one before, or end there."""
    converted, broken, before = [], 0, (OUTSIDE, "")
    for tag in [*tags, OUTSIDE]:
        prefix, kind = split(tag)
        continues = before[0] in ("B", "I") and before[1] == kind
        if scheme == "BIOES":
            broken += prefix in ("I", "E") and not continues  # nothing to continue
            broken += before[0] in ("B", "I") and not (continues and prefix in ("I", "E"))  # never ended
        elif scheme == "IOB2":
            broken += prefix == "I" and not continues
        begins = prefix in ("B", "S") or not continues
        converted.append(OUTSIDE if prefix == OUTSIDE else f"{'B' if begins else 'I'}-{kind}")
        before = prefix, kind
    return converted[:-1], broken


def spans_of(tags: list[str]) -> list[Span]:
    """The spans that tags in IOB2 name, in order."""
    spans = []
    for place, tag in enumerate(tags):
        prefix, kind = split(tag)
        continues = bool(spans) and spans[-1].last == place - 1 and spans[-1].type == kind
        if prefix == "I" and continues:
            spans[-1] = spans[-1]._replace(last=place)
        elif prefix != OUTSIDE:
            spans.append(Span(kind, place, place))
    return spans


def tags_of(spans: Iterable[Span], length: int) -> list[str]:
    """The tags in IOB2 of a sentence of so many words."""
    tags = [OUTSIDE] * length
    for span in spans:
        tags[span.first : span.last + 1] = [f"B-{span.type}"] + [f"I-{span.type}"] * (span.last - span.first)
    return tags
