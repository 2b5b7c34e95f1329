"""The pages of the AI Act: every heading is there, facts are the record's, the rest is the provider's, marked."""

import re
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tavr_lineage.exports.annex_iv import annex_iv
from tavr_lineage.exports.dossier import STATED, Dossier
from tavr_lineage.exports.pages import Block, Fields, Grid, Heading, Paragraph, render_html, render_markdown
from tavr_lineage.exports.training_summary import training_summary

PAGES = {"annex-iv": annex_iv, "art-53": training_summary}
WEB = {
    "world": None,
    "rows": [
        {"origin": f"https://{host}/a.mp4", "retrieved_at": f"2026-0{month}-01T00:00:00Z", "rights": "CC-BY-4.0"}
        for host, month in (("videos.example", 1), ("videos.example", 3), ("other.example", 2))
    ],
}


class Text(HTMLParser):
    """Collects tags and text, and refuses what would load something."""

    def __init__(self) -> None:
        super().__init__()
        self.text, self.tags = [], []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        assert tag not in {"script", "link", "img", "iframe"}
        assert not {name for name, _ in attrs} & {"src", "href"}

    def handle_data(self, data: str) -> None:
        self.text.append(data)


@pytest.mark.parametrize("page", PAGES.values(), ids=PAGES)
def test_a_page_is_self_contained_stable_and_says_the_same_in_both_forms(
    dossier: Dossier, page: Callable[[Dossier], list[Block]]
) -> None:
    blocks = page(dossier)
    assert render_html(blocks) == render_html(page(dossier))
    parser = Text()
    parser.feed(render_html(blocks).decode())
    text = " ".join(parser.text)
    markdown = render_markdown(blocks).decode()
    for block in blocks:
        if isinstance(block, Heading):
            assert block.text in text
            assert f"{'#' * block.level} {block.text}" in markdown
    unanswered = sum(not answer for block in blocks if isinstance(block, Fields) for answer in block.rows.values())
    assert unanswered > 5
    assert text.count(STATED) >= unanswered
    assert markdown.count(f"**{STATED}**") == unanswered
    assert dossier.record_sha256 in markdown


def test_annex_iv_has_its_nine_points_and_the_records_figures(dossier: Dossier) -> None:
    markdown = render_markdown(annex_iv(dossier)).decode()
    assert re.findall(r"^## (\d)\.", markdown, re.MULTILINE) == list("123456789")
    assert {f"({letter})" for letter in "abcdefgh"} <= set(re.findall(r"\([a-h]\)", markdown))
    assert dossier.record["code"]["commit"] in markdown
    assert "| ours | id_target | 0.5 | 0.4 | 0.6 | 4 |" in markdown
    assert "| Intended purpose" not in markdown
    assert f"| (a) Intended purpose | **{STATED}** |" in markdown
    assert f"| stage1 | {dossier.uses()['stage1'].clips} |" in markdown


def test_the_public_summary_has_the_templates_headings_and_no_ids(dossier: Dossier) -> None:
    markdown = render_markdown(training_summary(replace(dossier, sources=WEB))).decode()
    assert re.findall(r"^#+ (\d(?:\.\d)?)\.? ", markdown, re.MULTILINE) == [
        "1", "1.1", "1.2", "1.3", "2", "2.1", "2.2", "2.3", "2.4", "2.5", "2.6", "3", "3.1", "3.2", "3.3",
    ]  # fmt: skip
    assert "| videos.example | 2 |" in markdown
    assert "| Period of data collection | 2026-01-01T00:00:00Z to 2026-03-01T00:00:00Z |" in markdown
    assert "less than 10 000 hours" in markdown
    assert "| Apache-2.0 | 4 |" in markdown
    for row in dossier.consumption.to_pylist():
        for column in ("clip_id", "person_id", "source_key", "source_sha256"):
            assert f"| {row[column]} |" not in markdown


def test_what_is_not_known_is_not_claimed(dossier: Dossier) -> None:
    markdown = render_markdown(training_summary(replace(dossier, sources={}))).decode()
    assert f"| Latest date of data acquisition | **{STATED}** |" in markdown
    assert f"| Sections fetched over the web | **{STATED}** |" in markdown


@given(st.text(), st.text())
def test_no_text_of_a_record_becomes_markup(one: str, other: str) -> None:
    blocks = [Heading(1, "t"), Paragraph(one), Fields({"asked": other}), Grid(("a",), [(one,)])]
    parser = Text()
    parser.feed(render_html(blocks).decode())
    assert parser.tags == ["html", "head", "meta", "title", "style", "body", "h1", "p", *("table", "tr", "th", "td"), *(
        "table", "tr", "th", "tr", "td"
    )]  # fmt: skip
    assert "<" not in render_markdown(blocks).decode().replace("&lt;", "")
