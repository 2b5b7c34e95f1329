"""`tavr cost`: the paper's figures from its profile, and one line for what cannot be answered."""

import json

import pytest
from tavr_cli.cost import Question, estimate_cost
from tavr_cli.cost_tables import print_cost
from tavr_cli.main import app
from tavr_records.errors import InputError
from typer.testing import CliRunner


def question(**changes):
    values = {
        "profile": "wan-14b", "ref_frames": 20, "machine": "h100", "gpus": 32, "face_share": None,
        "background_share": None, "selected_tokens": None, "mfu": None,
    }  # fmt: skip
    return Question(**{**values, **changes})


def test_the_papers_table_4(root, monkeypatch):
    monkeypatch.chdir(root)
    arguments = ["cost", "--profile", "wan-14b", "--ref-frames", "20", "--selected-tokens", "37715", "--json"]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    variants = json.loads(result.output)["variants"]
    assert [v["tokens"]["total"] for v in variants.values()] == [45_360, 37_715]
    plain, selected = (v["flops"]["ref_self_attention_layer"] / 1e12 for v in variants.values())
    assert plain == pytest.approx(45.3, abs=0.01)
    assert selected == pytest.approx(36.56, rel=0.01)


def test_every_assumption_that_is_a_number_can_be_changed(root):
    slow, fast = (estimate_cost(question(profile="tiny", mfu=mfu), root) for mfu in (0.2, 0.4))
    assert slow["assumptions"]["training_mfu"] == slow["assumptions"]["inference_mfu"] == 0.2
    for path in (("gpu_seconds", "clip"), ("training", "stage1", "gpu_hours"), ("training", "stage3", "days")):
        values = []
        for found in (slow, fast):
            value = found["variants"]["no_selection"]
            for name in path:
                value = value[name]
            values.append(value)
        assert values[0] == pytest.approx(2 * values[1])


@pytest.mark.parametrize("profile", ["micro", "tiny", "small", "wan-1.3b", "wan-14b"])
def test_every_profile_has_a_cost(root, capsys, profile):
    found = estimate_cost(question(profile=profile, ref_frames=None, face_share=0.2), root)
    assert json.loads(json.dumps(found)) == found
    print_cost(found)
    shown = capsys.readouterr().out
    for word in ("tokens", "GPU-hours", "ZeRO-3", "training_mfu", "stage3"):
        assert word in shown


def test_the_parameters_are_the_bases_and_the_audio_layers(root):
    model = estimate_cost(question(profile="tiny"), root)["model"]
    assert model["audio_tensors"] == 8 + 12 * model["layers"]
    assert model["parameters"] == model["base_parameters"] + model["audio_parameters"]
    large = estimate_cost(question(), root)["model"]
    assert large["base_parameters"] == 14_288_491_584


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"profile": "huge"}, "choose one of"),
        ({"machine": "abacus"}, "machine is 'abacus'; choose one of a100, a800, h100"),
        ({"gpus": 0}, "gpus is 0; give at least 1"),
        ({"mfu": 45.0}, r"mfu is 45.0; give a share in \(0, 1\]"),
        ({"ref_frames": 0}, "ref_frames is 0"),
        ({"face_share": 1.5}, "face share is 1.5"),
        ({"face_share": 0.5, "selected_tokens": 37_715}, "both given"),
    ],
)
def test_what_cannot_be_is_one_line(root, changes, message):
    with pytest.raises(InputError, match=message) as caught:
        estimate_cost(question(**changes), root)
    assert "\n" not in str(caught.value)
