"""TalkVid's metadata: every bad record is refused by name, nothing crashes, nothing good is lost."""

import copy
import json
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tavr_ingest.config import Filters, HeadScores
from tavr_ingest.metadata import HEAD_SCORES, broken_filters, read_records
from tavr_records.errors import InputError

RULES = {"missing_field", "wrong_type", "bad_value", "unsafe_id", "duplicate_id"}
GOOD = {
    "id": "clip-1",
    "height": 1080,
    "width": 1920,
    "fps": 24.0,
    "start-time": 0.1,
    "start-frame": 0,
    "end-time": 5.141666666666667,
    "end-frame": 121,
    "durations": "5.042s",
    "info": {
        "Person ID": "597",
        "Ethnicity": "White",
        "Age Group": "60+",
        "Gender": "Male",
        "Video Link": "https://video.invalid/watch?v=abc",
        "Language": "English",
        "Video Category": "News",
    },
    "description": "An older man in a suit.",
    "dover_scores": 8.9,
    "cotracker_ratio": 0.927,
    "head_detail": {"scores": dict.fromkeys(HEAD_SCORES, 99.5)},
}
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
PATHS = [
    *[(name,) for name in GOOD],
    *[("info", name) for name in GOOD["info"]],
    *[("head_detail", "scores", name) for name in HEAD_SCORES],
    ("head_detail", "scores"),
]


def changed(path, value, *, remove=False):
    record = copy.deepcopy(GOOD)
    inner = record
    for name in path[:-1]:
        inner = inner[name]
    if remove:
        del inner[path[-1]]
    else:
        inner[path[-1]] = value
    return record


def read(tmp_path, document):
    path = tmp_path / "metadata.json"
    path.write_text(document if isinstance(document, str) else json.dumps(document))
    return read_records(path)


def only_refusal(tmp_path, record):
    records, refused = read(tmp_path, [record])
    assert records == []
    assert len(refused) == 1
    return refused[0]


def test_a_published_record_is_read(tmp_path):
    records, refused = read(tmp_path, [GOOD])
    assert refused == []
    (record,) = records
    assert (record.record_id, record.start_ms, record.end_ms, record.person) == ("clip-1", 100, 5142, "597")
    assert (record.dover, record.cotracker, record.head["avg_movement"]) == (8.9, 0.927, 99.5)


def test_a_record_may_start_at_zero(tmp_path):
    for zero in (0, 0.0):
        records, refused = read(tmp_path, [changed(("start-time",), zero)])
        assert refused == []
        assert records[0].start_ms == 0


@pytest.mark.parametrize(
    "path", [path for path in PATHS if path[-1] not in ("start-frame", "end-frame", "durations", "Video Category")]
)
def test_a_missing_field_is_named(tmp_path, path):
    refusal = only_refusal(tmp_path, changed(path, None, remove=True))
    assert refusal.rule == "missing_field"
    assert path[-1] in refusal.reason
    assert refusal.record_id == ("#0" if path == ("id",) else "clip-1")


@pytest.mark.parametrize(
    ("path", "value", "rule"),
    [
        (("start-time",), "0.1", "wrong_type"),
        (("start-time",), True, "wrong_type"),
        (("start-time",), -1, "bad_value"),
        (("end-time",), 0.05, "bad_value"),
        (("end-time",), 10**400, "bad_value"),
        (("dover_scores",), "8.9", "wrong_type"),
        (("height",), 0, "bad_value"),
        (("info",), "Person 597", "wrong_type"),
        (("info", "Person ID"), 597, "wrong_type"),
        (("info", "Person ID"), " ", "missing_field"),
        (("head_detail", "scores"), [1, 2], "wrong_type"),
        (("id",), 12, "wrong_type"),
        (("id",), "../../etc/passwd", "unsafe_id"),
        (("id",), "a/b", "unsafe_id"),
        (("id",), "..", "unsafe_id"),
        (("id",), "a..b", "unsafe_id"),
        (("id",), ".hidden", "unsafe_id"),
        (("id",), "a\u0000b", "unsafe_id"),
        (("id",), "x" * 300, "unsafe_id"),
    ],
)
def test_a_wrong_value_is_named_with_its_rule(tmp_path, path, value, rule):
    refusal = only_refusal(tmp_path, changed(path, value))
    assert refusal.rule == rule
    assert path[-1] in refusal.reason
    refusal.reason.encode("utf-8")


def test_the_first_of_equal_ids_stands(tmp_path):
    records, refused = read(tmp_path, [GOOD, changed(("description",), "Another."), "not a record"])
    assert [record.description for record in records] == ["An older man in a suit."]
    assert [(row.record_id, row.rule) for row in refused] == [("#1", "duplicate_id"), ("#2", "wrong_type")]


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_no_record_crashes_the_reader(tmp_path_factory, data):
    records = [
        changed(data.draw(st.sampled_from(PATHS)), data.draw(JSON), remove=data.draw(st.booleans()))
        if data.draw(st.booleans())
        else data.draw(JSON)
        for _ in range(data.draw(st.integers(0, 4)))
    ]
    path = tmp_path_factory.mktemp("metadata") / "metadata.json"
    path.write_text(json.dumps(records))
    good, refused = read_records(path)
    assert len(good) + len(refused) == len(records)
    assert {row.rule for row in refused} <= RULES
    assert len({row.record_id for row in refused}) == len(refused)
    for record in good:
        assert 0 <= record.start_ms < record.end_ms
        assert math.isfinite(record.dover)
        assert "/" not in record.record_id


@pytest.mark.parametrize("document", ["", "{}", '{"id": 1}', "[{", '[{"id": "a"}', "[1, 2", "[nonsense]", "\ufeff"])
def test_what_is_no_list_is_one_clear_error(tmp_path, document):
    with pytest.raises(InputError, match="metadata"):
        read(tmp_path, document)


def test_a_missing_file_is_one_clear_error(tmp_path):
    with pytest.raises(InputError, match="run the stage `sources`"):
        read_records(tmp_path / "metadata.json")


FILTERS = Filters(5.0, 5.0, 0.7, 0.99, HeadScores(**dict.fromkeys(HEAD_SCORES, 60.0)))


@pytest.mark.parametrize(
    ("path", "value", "rule"),
    [
        (("end-time",), 5.1, "duration"),
        (("dover_scores",), 4.99, "dover"),
        (("cotracker_ratio",), 0.69, "cotracker"),
        (("cotracker_ratio",), 1.0, "cotracker"),
        *[(("head_detail", "scores", name), 59.9, name) for name in HEAD_SCORES],
    ],
)
def test_each_filter_refuses_by_its_name(tmp_path, path, value, rule):
    records, _ = read(tmp_path, [changed(path, value)])
    (refusal,) = broken_filters(records[0], FILTERS)
    assert (refusal.record_id, refusal.rule) == ("clip-1", rule)
    assert any(character.isdigit() for character in refusal.reason)


def test_thresholds_themselves_pass(tmp_path):
    record = changed(("dover_scores",), 5.0)
    record["cotracker_ratio"] = 0.7
    record["head_detail"]["scores"] = dict.fromkeys(HEAD_SCORES, 60.0)
    records, _ = read(tmp_path, [record])
    assert broken_filters(records[0], FILTERS) == []
