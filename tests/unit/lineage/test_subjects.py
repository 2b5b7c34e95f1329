"""The tree of subjects: every proof holds against the root, and no proof holds for anything else."""

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tavr_lineage.closure import Consumption
from tavr_lineage.subjects import COLUMNS, check_proof, subject_tree
from tavr_records.errors import InputError
from tavr_records.manifest import arrow_schema

NAMES = st.text(alphabet="abcäß|:", min_size=1, max_size=3)


@st.composite
def tables(draw: st.DrawFn) -> pa.Table:
    rows = draw(
        st.lists(
            st.builds(
                Consumption, NAMES, st.sampled_from(["stage1", "stage2"]), NAMES, NAMES, NAMES, NAMES, NAMES,
                st.integers(0, 9), st.integers(0, 9), NAMES, st.integers(0, 9), st.integers(0, 9), st.integers(0, 9),
            ),
            max_size=12, unique_by=lambda row: (row.clip_id, row.stage),
        )
    )  # fmt: skip
    rows.sort(key=lambda row: (row.clip_id, row.stage))
    return pa.Table.from_pylist([vars(row) for row in rows], schema=arrow_schema(Consumption))


@settings(max_examples=150, deadline=None)
@given(tables(), st.sampled_from(sorted(COLUMNS)), NAMES)
def test_a_subject_is_proven_in_or_out_as_a_scan_says(table: pa.Table, kind: str, value: str) -> None:
    tree = subject_tree(table)
    scanned = [row for row in table.to_pylist() if any(row[column] == value for column in COLUMNS[kind])]
    proof = tree.prove(kind, value)
    assert check_proof(proof, tree.tree.root, tree.tree.size) == bool(scanned)
    if scanned:
        assert proof["rows"] == ["\t".join(str(cell) for cell in row.values()) + "\n" for row in scanned]


@settings(max_examples=100, deadline=None)
@given(tables(), st.sampled_from(sorted(COLUMNS)), NAMES, st.data())
def test_a_changed_proof_holds_for_nothing(table: pa.Table, kind: str, value: str, data: st.DataObject) -> None:
    tree = subject_tree(table)
    proof = tree.prove(kind, value)
    forged = dict(proof)
    if "rows" in proof:
        forged["rows"] = [*proof["rows"][:-1], proof["rows"][-1].replace("\n", "0\n")]
    elif proof["left"] is not None and proof["right"] is not None:
        forged[data.draw(st.sampled_from(["left", "right"]))] = None
    elif tree.tree.size:
        forged |= {"left": None, "right": None}
    else:
        forged |= {"size": 1}
    with pytest.raises(ValueError, match=r"root|neighbours|tree of"):
        check_proof(forged, tree.tree.root, tree.tree.size)


def test_a_separator_inside_a_value_is_refused() -> None:
    row = Consumption("a", "stage1", "p", "", "key\twith a tab", "s", "c", 0, 1, "CC0-1.0", 0, 1, 2)
    table = pa.Table.from_pylist([vars(row)], schema=arrow_schema(Consumption))
    with pytest.raises(InputError, match="source_key holds a tab"):
        subject_tree(table)
