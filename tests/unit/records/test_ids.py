"""Ids name the same thing however many are made at once."""

from hypothesis import given
from hypothesis import strategies as st
from tavr_records.ids import clip_id, clip_ids

SECTION = st.tuples(st.text(), st.integers(), st.integers())


@given(st.lists(SECTION, max_size=8))
def test_many_clip_ids_are_those_made_one_by_one(sections: list[tuple[str, int, int]]) -> None:
    columns = list(zip(*sections, strict=True)) or [(), (), ()]
    assert list(clip_ids(*columns)) == [clip_id(*section) for section in sections]
