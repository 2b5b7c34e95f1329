"""`params.yaml` is what `conf/` composes to; every profile composes; mistakes are refused by name."""

import dataclasses

import pytest
import yaml
from tavr_cli.compose import SECTIONS, compose_params, config_type, render_params
from tavr_records.errors import InputError

PROFILES = ("micro", "tiny", "small", "wan-1.3b", "wan-14b")


def test_params_are_fresh(root):
    recipe = yaml.safe_load((root / "params.yaml").read_text())["_compose"]
    composed = render_params(compose_params(recipe["profile"], recipe["overrides"], root / "conf"))
    assert (root / "params.yaml").read_bytes() == composed, "params.yaml is stale: run `make params`"
    assert recipe == {"profile": "tiny", "overrides": []}


@pytest.mark.parametrize("profile", PROFILES)
def test_every_profile_composes(root, profile):
    assert set(compose_params(profile, conf=root / "conf")) == {"_compose", *SECTIONS}


def test_tiny_is_big_enough(root):
    params = compose_params("tiny", conf=root / "conf")
    assert params["latents"]["height"] >= 64
    assert params["latents"]["width"] >= 112
    assert params["benchmark"]["num_frames"] == 21
    assert params["check_preferences"]["min_pairs"] >= 8
    assert params["check_benchmark"]["min_pairs"] >= 12


def test_the_paper_is_the_default(root):
    """Appendix A.1 and section 4 of the paper, word for word."""
    params = compose_params("wan-14b", conf=root / "conf")
    optimizers = [params[stage]["optimizer"] for stage in ("stage1", "stage2", "stage3")]
    assert [optimizer["steps"] for optimizer in optimizers] == [18000, 15000, 400]
    assert [optimizer["learning_rate"] for optimizer in optimizers] == [5e-6, 5e-6, 1.5e-6]
    assert [optimizer["warmup_steps"] for optimizer in optimizers] == [50, 50, 50]
    assert [optimizer["decay_steps"] for optimizer in optimizers] == [0, 0, 0]
    preference = params["stage3"]["preference"]
    assert (preference["beta"], preference["mse_weight"], preference["dpo_weight"]) == (500, 1, 2)
    assert (params["preferences"]["target_pairs"], params["preferences"]["min_margin"]) == (800, 0.20)
    assert params["benchmark"]["steps"] == 24
    assert (params["benchmark"]["text_guidance"], params["benchmark"]["audio_guidance"]) == (5.0, 1.8)
    assert (params["latents"]["height"], params["latents"]["width"]) == (480, 896)


@pytest.mark.parametrize(
    ("override", "named"),
    [
        ("+stage3.nonsense=1", "nonsense"),
        ("stage3.optimizer.steps=many", "steps"),
        ("stage3.optimizer.steps=???", "Missing mandatory value: steps"),
        ("stage4.steps=1", "stage4"),
    ],
)
def test_a_bad_value_is_refused_by_name(root, override, named):
    with pytest.raises(InputError, match=named):
        compose_params("tiny", [override], root / "conf")


def test_an_unknown_profile_is_refused(root):
    with pytest.raises(InputError, match="choose one of"):
        compose_params("huge", conf=root / "conf")


@pytest.mark.parametrize("section", SECTIONS)
def test_types_have_no_defaults(section):
    for field in dataclasses.fields(config_type(section)):
        assert field.default is dataclasses.MISSING, f"{section}.{field.name}: values live in conf/"
        assert field.default_factory is dataclasses.MISSING, f"{section}.{field.name}: values live in conf/"


def test_the_default_profile_says_what_every_stage_costs(root):
    """`make retrain` prints a time for each stage, in all at most twelve minutes."""
    budget = yaml.safe_load((root / "conf" / "budget.yaml").read_text())["tiny"]
    stages = yaml.safe_load((root / "dvc.yaml").read_text())["stages"]
    assert list(budget) == list(stages)
    assert sum(budget.values()) <= 12 * 60
