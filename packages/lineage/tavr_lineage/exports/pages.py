"""A page for people as a list of blocks, written as markdown and as one HTML file that needs nothing else."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

from tavr_lineage.exports.dossier import STATED

_STYLE = (
    "body{font:16px/1.5 system-ui,sans-serif;max-width:52rem;margin:2rem auto;padding:0 1rem}"
    "table{border-collapse:collapse;width:100%;margin:1rem 0}"
    "th,td{border:1px solid #bbb;padding:.3rem .6rem;text-align:left;vertical-align:top;overflow-wrap:anywhere}"
    "th{width:34%;background:#f2f2f2}.stated{background:#fff3cd;color:#111}"
    "@media(prefers-color-scheme:dark){body{background:#161616;color:#eee}th{background:#262626}}"
)


@dataclass(frozen=True)
class Heading:
    """A heading of level 1 (the title) to 4."""

    level: int
    text: str


@dataclass(frozen=True)
class Paragraph:
    """A paragraph of plain text."""

    text: str


@dataclass(frozen=True)
class Fields:
    """What is asked, and the answer; an empty answer is the provider's to give."""

    rows: Mapping[str, str]


@dataclass(frozen=True)
class Grid:
    """A table with a header."""

    header: Sequence[str]
    rows: Sequence[Sequence[str]]


Block = Heading | Paragraph | Fields | Grid


def render_markdown(blocks: Sequence[Block]) -> bytes:
    """The page as markdown with pipe tables."""
    return ("\n\n".join(_markdown(block) for block in blocks) + "\n").encode()


def render_html(blocks: Sequence[Block]) -> bytes:
    """The page as HTML; what the provider has to state is marked."""
    title = next((block.text for block in blocks if isinstance(block, Heading)), "")
    body = "\n".join(_html(block) for block in blocks)
    head = f'<meta charset="utf-8"><title>{escape(title)}</title><style>{_STYLE}</style>'
    return f'<!doctype html>\n<html lang="en"><head>{head}</head><body>\n{body}\n</body></html>\n'.encode()


def _markdown(block: Block) -> str:
    match block:
        case Heading(level, text):
            return f"{'#' * level} {_line(text)}"
        case Paragraph(text):
            return _plain(text)
        case Fields(rows):
            return _pipes(("", ""), [(name, answer or f"**{STATED}**") for name, answer in rows.items()])
        case Grid(header, rows):
            return _pipes(header, rows)


def _pipes(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(_cell(cell) for cell in line) + " |" for line in lines)


def _cell(text: str) -> str:
    return _plain(_line(text)).replace("|", "\\|")


def _line(text: str) -> str:
    return " ".join(text.split())


def _plain(text: str) -> str:
    """Text of the record must not become HTML in a markdown reader."""
    return text.replace("<", "&lt;")


def _html(block: Block) -> str:
    match block:
        case Heading(level, text):
            return f"<h{level}>{escape(text)}</h{level}>"
        case Paragraph(text):
            return f"<p>{escape(text)}</p>"
        case Fields(rows):
            asked = "".join(f"<tr><th>{escape(name)}</th>{_answer(answer)}</tr>" for name, answer in rows.items())
            return f"<table>{asked}</table>"
        case Grid(header, rows):
            top = "".join(f"<th>{escape(cell)}</th>" for cell in header)
            body = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
            return f"<table><tr>{top}</tr>{body}</table>"


def _answer(answer: str) -> str:
    return f"<td>{escape(answer)}</td>" if answer else f'<td class="stated">{STATED}</td>'
