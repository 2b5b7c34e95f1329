"""The proofs that packages/model/README.md names exist."""

import re


def test_every_test_that_is_named_exists(root):
    named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", (root / "packages/model/README.md").read_text())
    assert len(named) >= 20
    lost = [f"{path}::{name}" for path, name in named if f"def {name}(" not in (root / path).read_text()]
    assert lost == []
