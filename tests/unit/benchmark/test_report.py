"""The page: the numbers of the metrics, the worst pair first, foreign text harmless, nothing from elsewhere."""

import base64
import json
import re

import numpy as np
import pytest
from tavr_benchmark.report import LABELS, middle, still
from tavr_benchmark.stage import benchmark
from tavr_benchmark.statistics import METRICS
from tavr_records.errors import InputError

from .conftest import CONFIG, pair_of


@pytest.fixture
def page(world):
    benchmark(CONFIG, world.root)
    return (world.root / "reports/benchmark/report.html").read_text()


def test_every_metric_has_a_column_and_its_interval(world, page):
    assert set(LABELS) == set(METRICS)
    metrics = json.loads((world.root / "reports/benchmark/metrics.json").read_text())
    for name, label in LABELS.items():
        assert page.count(f"<th>{label}</th>") == 2
        cell = metrics["methods"]["ours"][name]
        assert f"{cell['mean']:.3f}<br><small>{cell['low']:.3f} … {cell['high']:.3f}</small>" in page
        versus = metrics["versus_base"]["ours"][name]
        assert f"{versus['mean']:+.3f}<br>" in page
    assert "4 cross-scene pairs" in page
    assert "95 % bootstrap" in page


def test_it_needs_nothing_from_elsewhere_and_escapes_what_it_is_told(page):
    assert not re.search(r"https?://|src=\"(?!data:)|<script", page)
    assert "<talks>" not in page
    assert "Person 0 &lt;talks&gt; &amp; looks." in page


def test_it_links_every_video_from_where_it_lies(world, page):
    links = re.findall(r'href="([^"]+\.mp4)"', page)
    assert len(links) == 12
    for link in links:
        assert (world.root / "reports/benchmark" / link).resolve().is_file()


def test_the_candidates_worst_pair_comes_first(world):
    original = world.generate

    def generate(model, task, conditions):
        frames = original(model, task, conditions)
        if task.name == "ours":
            frames[:] = {"person-0": 210, "person-1": 60, "person-2": 150, "person-3": 110}[task.pair.person_id]
        return frames

    world.generate = generate
    benchmark(CONFIG, world.root)
    page = (world.root / "reports/benchmark/report.html").read_text()
    order = re.findall(r'aria-label="pair ([0-9a-f]+)"', page)
    assert order == [pair_of(person).pair_id[:12] for person in (1, 3, 2, 0)]


def test_a_still_is_the_very_frame():
    frame = np.random.default_rng(0).integers(0, 256, (6, 8, 3), np.uint8)
    kind, data = still(frame).split(",")
    assert kind == "data:image/png;base64"
    assert base64.b64decode(data).startswith(b"\x89PNG")
    assert still(frame) == still(frame.copy())


def test_a_video_that_cannot_be_read_is_named(tmp_path):
    (tmp_path / "x.mp4").write_bytes(b"no video")
    with pytest.raises(InputError, match=r"x\.mp4: not a readable video"):
        middle(tmp_path / "x.mp4")
