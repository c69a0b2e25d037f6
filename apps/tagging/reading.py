"""Tagged sentences from the user's files: CoNLL columns, or JSON Lines with spans of characters, as annotation tools export."""

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple, TypeVar

from apps.tagging.schemes import Span, tags_of
from apps.tagging.words import MAX_TOKENS, tokenise
from shared.cli import UserError
from shared.tables import read_object, read_text

CONLL = (".conll", ".conllu", ".bio", ".iob", ".iob2", ".tsv", ".txt")
SUFFIXES = (*CONLL, ".jsonl")
T = TypeVar("T")
SPAN_FIELDS = ("spans", "entities", "labels", "label")  # of Prodigy, of spaCy and Hugging Face, of doccano


class Sentence(NamedTuple):
    """Tokens, their tags, and on which line of its file each stands."""

    tokens: list[str]
    tags: list[str]
    lines: list[int]


def read(path: Path, token_column: int, tag_column: int) -> list[Sentence]:
    """The sentences of a file.

    Raises:
        UserError: for what does not parse, a sentence that is too long, or a file without any. It names the line.
    """
    text = read_text(path)
    if path.suffix.lower() == ".jsonl":
        sentences = [*_json_lines(text, path)]
    else:
        sentences = [*_conll(text, path, token_column, tag_column)]
    if not sentences:
        raise UserError(f"{path} holds no sentence; expected a token and its tag on each line, or .jsonl with text and spans.")
    for sentence in sentences:
        check_length(len(sentence.tokens), f"{path}, line {sentence.lines[0]}")
    return sentences


def read_tokens(path: Path, token_column: int) -> list[list[str]]:
    """The tokens of each sentence of a CoNLL file; its other columns, if any, are not read."""
    return [sentence.tokens for sentence in _conll(read_text(path), path, token_column, None)]


def read_texts(path: Path) -> list[str]:
    """The texts of a .jsonl file, or the lines of another one, but for empty ones.

    Raises:
        UserError: for a line of .jsonl without a text. It names the line.
    """
    content = read_text(path)
    if path.suffix.lower() == ".jsonl":
        return [*_objects(content, path, _text)]
    return [line for line in content.split("\n") if line.strip()]


def check_length(tokens: int, where: str) -> None:
    """Raise a UserError for a sentence that is too long."""
    if tokens > MAX_TOKENS:
        raise UserError(
            f"{where}: a sentence of {tokens:,} tokens; {MAX_TOKENS:,} are the most. In CoNLL files a blank line ends a "
            "sentence: cut it into sentences."
        )


def _conll(text: str, path: Path, token_column: int, tag_column: int | None) -> Iterator[Sentence]:
    """A token on each line, a blank line behind each sentence; `# ...` before one, and -DOCSTART-, are passed over.

    Without a `tag_column`, tags are not read.
    """
    sentence = Sentence([], [], [])
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip(" \t\r") or line.startswith("-DOCSTART-"):
            if sentence.tokens:
                yield sentence
            sentence = Sentence([], [], [])
        elif sentence.tokens or not _is_comment(line):
            # Tabs, or else spaces; not str.split(): a no-break space may stand inside a token.
            columns = line.split("\t") if "\t" in line else [one for one in line.split(" ") if one]
            if tag_column is not None and len(columns) < 2:
                raise UserError(f"{path}, line {number}: expected a token and its tag; got one column, '{line[:60]}'.")
            sentence.tokens.append(_column(columns, token_column, "token", path, number))
            if tag_column is not None:
                sentence.tags.append(_column(columns, tag_column, "tag", path, number))
            sentence.lines.append(number)
    if sentence.tokens:
        yield sentence


def _is_comment(line: str) -> bool:
    """Such as "# intent = PlayMusic". (A sentence may begin with the token #, which a tab follows.)"""
    return line.startswith("# ") and "\t" not in line


def _column(columns: list[str], number: int, what: str, path: Path, line: int) -> str:
    try:
        found = columns[number].strip(" \r")
    except IndexError:
        found = ""
    if not found:
        raise UserError(
            f"{path}, line {line}: there is no {what} in column {number} of {columns}. Columns are separated by tabs or by "
            f"spaces and counted from 0, from the end as -1, -2; name it with --{what}-column."
        )
    return found


def _json_lines(text: str, path: Path) -> Iterator[Sentence]:
    cut = []
    for sentence, whole in _objects(text, path, _from_spans):
        if not whole:
            cut.append(sentence.lines[0])
        if sentence.tokens:
            yield sentence
    if cut:
        shown = ", ".join(map(str, cut[:10]))
        print(f"{path}: on {len(cut)} lines a span begins or ends inside a token and was widened to all of it: line {shown}.")


def _objects(text: str, path: Path, parse: Callable[[dict, int], T]) -> Iterator[T]:
    """What `parse` makes of the object on each line and the line's number; its ValueErrors name the line."""
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            try:
                yield parse(read_object(number, line), number)
            except ValueError as error:
                raise UserError(f"{path} does not parse: {error}.") from None


def _from_spans(row: dict, number: int) -> tuple[Sentence, bool]:
    """A sentence, and whether no span cuts a token; raises a ValueError that names the line."""
    text, field = _text(row, number), next((name for name in SPAN_FIELDS if isinstance(row.get(name), list)), None)
    if field is None:
        raise ValueError(f"line {number}: expected a list of spans under one of {', '.join(SPAN_FIELDS)}; got {', '.join(row)}")
    tokens, spans, whole = tokenise(text), [], True
    for start, end, kind in (_span(span, len(text), number) for span in row[field]):
        inside = [place for place, (_, first, behind) in enumerate(tokens) if first < end and behind > start]
        if not inside:
            raise ValueError(f"line {number}: the span {start} to {end} holds no token")
        whole &= tokens[inside[0]][1] >= start and tokens[inside[-1]][2] <= end
        spans.append(Span(kind, inside[0], inside[-1]))
    spans.sort(key=lambda span: span.first)
    if any(one.last >= other.first for one, other in itertools.pairwise(spans)):
        raise ValueError(f"line {number}: spans overlap; a token has one tag alone")
    return Sentence([token for token, _, _ in tokens], tags_of(spans, len(tokens)), [number] * len(tokens)), whole


def _text(row: dict, number: int) -> str:
    if not isinstance(row.get("text"), str):
        raise ValueError(f'line {number}: expected a string under "text"; got {", ".join(row)}')
    return row["text"]


def _span(span: object, length: int, number: int) -> tuple[int, int, str]:
    """Start, end and type, from {"start": 0, "end": 5, "label": "city"} or [0, 5, "city"]."""
    parts = [span.get("start"), span.get("end"), span.get("label")] if isinstance(span, dict) else span
    match parts:
        case [int(start), int(end), str(kind)] if kind:
            pass
        case _:
            raise ValueError(f'line {number}: a span is {{"start": 0, "end": 5, "label": "city"}}; got {str(span)[:80]}')
    if not 0 <= start < end <= length:
        raise ValueError(f"line {number}: the span {start} to {end} lies outside of the text, which has {length} characters")
    return start, end, kind
