"""`tavr cost`: what a profile costs on a machine, as one document."""

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, cast

import yaml
from tavr_model.cost import (
    Clip,
    ClipCost,
    Selection,
    TransformerShape,
    clip_cost,
    meta_sample,
    meta_transformer,
    ref_self_attention_range,
    spec_config,
    split_selected,
    transformer_shape,
)
from tavr_model.gpu_time import Machine, TrainingPlan, gpu_hours, mean_forward_flops, training_flops
from tavr_model.guidance import branch_weights
from tavr_model.memory import ZERO_STAGES, count_activations, model_states
from tavr_model.specs import WAN_T2V_1_3B, WAN_T2V_14B, WAV2VEC2_BASE
from tavr_model.transformer import TAVRTransformer3DModel
from tavr_records.errors import InputError
from tavr_records.params import structure

from tavr_cli.compose import compose_params

MACHINES = Path("infra/machines.yaml")


@dataclass(frozen=True)
class Question:
    """What is asked: a profile, a machine, and, where measured, what token selection keeps.

    Attributes:
        ref_frames: reference frames in pixels; None is the longest that stage1 trains with.
        face_share, background_share: of the reference's and the background's tokens; a missing one is 1.
        selected_tokens: tokens with selection, instead of the shares.
        mfu: replaces both of the machine's utilisations.
    """

    profile: str
    ref_frames: int | None
    machine: str
    gpus: int
    face_share: float | None
    background_share: float | None
    selected_tokens: int | None
    mfu: float | None


@dataclass(frozen=True)
class _Setting:
    """Everything that does not depend on the selection."""

    model: TAVRTransformer3DModel
    parameters: int
    clip: Clip
    steps: int
    branches: tuple[str, ...]
    plans: dict[str, TrainingPlan]
    machine: Machine
    gpus: int
    draws: int


def estimate_cost(question: Question, root: Path) -> dict[str, Any]:
    """Everything `tavr cost` shows; FLOPs, bytes, seconds and GPU-hours as plain numbers.

    Raises:
        InputError: an unknown profile, machine or base; a value out of range.
    """
    params = compose_params(question.profile, conf=root / "conf")
    machine = _machine(question, root)
    setting = _setting(params, question, machine, root)
    plain = clip_cost(setting.model, setting.clip, Selection(), setting.steps, setting.branches)
    variants = {"no_selection": _variant(setting, Selection(), plain)}
    shape = transformer_shape(setting.model)
    selection = _selection(question, plain)
    if selection is not None:
        cost = clip_cost(setting.model, setting.clip, selection, setting.steps, setting.branches)
        variants["selection"] = _variant(setting, selection, cost)
        if question.selected_tokens is not None:
            low, high = ref_self_attention_range(shape, plain.tokens, question.selected_tokens)
            variants["selection"]["flops"]["ref_self_attention_layer_range"] = [low, high]
    return {
        "profile": question.profile,
        "machine": {"name": question.machine, "gpus": question.gpus, **asdict(machine)},
        "clip": asdict(setting.clip),
        "model": _model_facts(setting, shape),
        "variants": variants,
        "assumptions": _assumptions(setting, question),
    }


def _machine(question: Question, root: Path) -> Machine:
    path = root / MACHINES
    if not path.is_file():
        raise InputError(f"{path}: no such file; run in a checkout of the repository")
    machines = cast("dict[str, Any]", yaml.safe_load(path.read_text(encoding="utf-8")))
    if question.machine not in machines:
        raise InputError(
            f"machine is {question.machine!r}; choose one of {', '.join(machines)} or add it to {MACHINES}"
        )
    if question.gpus < 1:
        raise InputError(f"gpus is {question.gpus}; give at least 1")
    machine = structure(Machine, machines[question.machine], f"{MACHINES}: {question.machine}")
    if question.mfu is None:
        return machine
    if not 0 < question.mfu <= 1:
        raise InputError(f"mfu is {question.mfu}; give a share in (0, 1]")
    return replace(machine, training_mfu=question.mfu, inference_mfu=question.mfu)


def _base_config(origin: str, root: Path) -> dict[str, Any]:
    """Arguments of the base: of a folder's config.json, or of the published checkpoint named in `origin`."""
    path = root / origin / "config.json"
    if path.is_file():
        return json.loads(path.read_text(encoding="utf-8"))
    for spec in (WAN_T2V_1_3B, WAN_T2V_14B):
        if spec.name in origin:
            return spec_config(spec)
    raise InputError(
        f"weights.roles.base.origin is {origin!r}: neither a folder with config.json nor a checkpoint of known shape; "
        "add its shape to packages/model/tavr_model/specs.py"
    )


def _speech_config(origin: str, root: Path) -> dict[str, int]:
    """Hidden states a frame and their size, likewise."""
    path = root / origin / "config.json"
    if path.is_file():
        found = json.loads(path.read_text(encoding="utf-8"))
        return {"audio_layers": found["num_hidden_layers"] + 1, "audio_features": found["hidden_size"]}
    if WAV2VEC2_BASE.name in origin:
        return {"audio_layers": WAV2VEC2_BASE.hidden_states, "audio_features": WAV2VEC2_BASE.features}
    raise InputError(
        f"weights.roles.speech.origin is {origin!r}: neither a folder with config.json nor an encoder of known shape; "
        "add its shape to packages/model/tavr_model/specs.py"
    )


def _setting(params: dict[str, Any], question: Question, machine: Machine, root: Path) -> _Setting:
    roles, latents, benchmark = params["weights"]["roles"], params["latents"], params["benchmark"]
    config = {
        **_base_config(roles["base"]["origin"], root),
        **_speech_config(roles["speech"]["origin"], root),
        **params["stage1"]["transformer"],
    }
    model = meta_transformer(config)
    longest = params["stage1"]["conditions"]["ref_latent_frames_max"]
    ref_frames = 4 * longest if question.ref_frames is None else question.ref_frames
    text_tokens = min(latents["text_max_tokens"], config["text_len"])
    clip = Clip(benchmark["num_frames"], latents["height"], latents["width"], ref_frames, text_tokens)
    text, audio = benchmark["text_guidance"], benchmark["audio_guidance"]
    return _Setting(
        model=model,
        parameters=model.num_parameters(),
        clip=clip,
        steps=benchmark["steps"],
        branches=tuple(branch_weights(text, audio)),
        plans=_plans(params),
        machine=machine,
        gpus=question.gpus,
        draws=2 * params["preferences"]["target_pairs"],
    )


def _plans(params: dict[str, Any]) -> dict[str, TrainingPlan]:
    """The three trainings; a pair of stage3 is two trained and two frozen passes, and one more for a real anchor."""
    plans: dict[str, TrainingPlan] = {}
    for stage in ("stage1", "stage2"):
        conditions, optimizer = params[stage]["conditions"], params[stage]["optimizer"]
        lengths = range(conditions["ref_latent_frames_min"], conditions["ref_latent_frames_max"] + 1)
        plans[stage] = TrainingPlan(optimizer["steps"], optimizer["global_batch"], lengths)
    optimizer, anchor = params["stage3"]["optimizer"], params["stage3"]["preference"]["anchor"]
    length = params["preferences"]["ref_latent_frames"]
    trained = 2 if anchor == "winner" else 3
    plans["stage3"] = TrainingPlan(optimizer["steps"], optimizer["global_batch"], (length,), trained, 2)
    return plans


def _selection(question: Question, plain: ClipCost) -> Selection | None:
    shares = (question.background_share, question.face_share)
    if question.selected_tokens is not None:
        if shares != (None, None):
            raise InputError("selected_tokens and a share are both given; give the shares if you know the split")
        return split_selected(plain.tokens, question.selected_tokens)
    if shares == (None, None):
        return None
    background, face = (1.0 if share is None else share for share in shares)
    return Selection(background, face)


def _variant(setting: _Setting, selection: Selection, cost: ClipCost) -> dict[str, Any]:
    """One column of the tables: all figures with this selection."""
    tokens, machine = cost.tokens, setting.machine
    reference = cost.reference.total if cost.reference is not None else 0
    hours = {name: gpu_hours(flops, machine, machine.inference_mfu)
             for name, flops in (("clip", cost.clip), ("clip_cached", cost.cached_clip))}  # fmt: skip
    return {
        "selection": asdict(selection),
        "tokens": {"target": tokens.target, "background": tokens.background, "reference": tokens.reference,
                   "total": tokens.total},
        "flops": {
            "ref_self_attention_layer": cost.forward.block.ref_self_attention,
            "layer": cost.forward.block.total,
            "layer_by_operation": asdict(cost.forward.block),
            "pass": cost.forward.total,
            "reference_stream": reference,
            "step": cost.step,
            "clip": cost.clip,
            "clip_cached": cost.cached_clip,
        },
        "cache": {"bytes": cost.cache_bytes, "speedup": cost.cache_speedup},
        "gpu_seconds": {name: 3600 * value for name, value in hours.items()},
        "memory": _memory(setting, selection, cost),
        "training": _training(setting, selection, hours["clip_cached"]),
    }  # fmt: skip


def _memory(setting: _Setting, selection: Selection, cost: ClipCost) -> dict[str, Any]:
    """Bytes on one GPU, generating a clip and training on one sample at a time with the longest reference."""
    longest = max(length for plan in setting.plans.values() for length in plan.ref_latent_frames)
    sample = meta_sample(setting.model, replace(setting.clip, ref_frames=4 * longest), selection)
    branch = meta_sample(setting.model, setting.clip, selection)
    activations = count_activations(setting.model.config, [sample], [branch])
    weights = model_states(setting.parameters, 1, 0).weights
    generating = {"weights": weights, "cache": cost.cache_bytes, "activations": activations.inference}
    training: dict[str, Any] = {
        "activations": activations.checkpointed,
        "activations_unchecked": activations.kept,
        "stage3_more": activations.checkpointed + weights,
    }
    for stage in ZERO_STAGES:
        states = model_states(setting.parameters, setting.gpus, stage)
        total = states.total + activations.checkpointed
        training[f"zero{stage}"] = {**asdict(states), "total": total}
    return {"inference": {**generating, "total": sum(generating.values())}, "training": training}


def _training(setting: _Setting, selection: Selection, clip_hours: float) -> dict[str, Any]:
    """FLOPs, GPU-hours and days of each training; of mining preferences the least, two draws a pair."""
    machine, out = setting.machine, cast("dict[str, Any]", {})
    for stage, plan in setting.plans.items():
        forward = mean_forward_flops(setting.model, setting.clip, selection, plan.ref_latent_frames)
        flops = training_flops(plan, forward)
        hours = gpu_hours(flops, machine, machine.training_mfu)
        out[stage] = {
            "steps": plan.steps,
            "global_batch": plan.global_batch,
            "flops": flops,
            "gpu_hours": hours,
            "seconds_per_step": 3600 * hours / setting.gpus / plan.steps,
            "days": hours / setting.gpus / 24,
        }
    hours = setting.draws * clip_hours
    out["preferences_at_least"] = {"draws": setting.draws, "gpu_hours": hours, "days": hours / setting.gpus / 24}
    return out


def _model_facts(setting: _Setting, shape: TransformerShape) -> dict[str, Any]:
    audio = setting.model.audio_sizes().values()
    return {
        "parameters": setting.parameters,
        "base_parameters": setting.parameters - sum(audio),
        "audio_parameters": sum(audio),
        "audio_tensors": len(audio),
        "layers": shape.layers,
        "width": shape.width,
        "ffn_dim": shape.ffn_dim,
        "text_len": shape.text_len,
        "audio_tokens": shape.audio_tokens,
    }


def _assumptions(setting: _Setting, question: Question) -> dict[str, Any]:
    given = {
        "flops": "two a multiply-add; matrix products of the transformer only, no VAE, no encoders",
        "peak_flops": setting.machine.peak_flops,
        "training_mfu": setting.machine.training_mfu,
        "inference_mfu": setting.machine.inference_mfu,
        "prompt": f"{setting.clip.text_tokens} tokens, the most there may be; the reference stream has the null prompt",
        "guidance": f"{setting.steps} steps of {len(setting.branches)} branches, one after the other: "
        + ", ".join(setting.branches),
        "training": "every block checkpointed, so a sample costs 4 passes; no dropped condition saves anything",
        "pairs": "stage3: two trained and two frozen passes a pair (anchor target: three trained)",
        "preferences": "two draws a pair, the least; how many are needed depends on the spread of the draws",
        "memory": "bfloat16 weights, gradients and activations; float32 weights and two moments in the optimizer; one "
        "sample a GPU with the longest reference; buffers and fragmentation are not counted; stage3_more is what "
        "stage3 holds beside that: a pair's second sample, and the frozen model's weights on every GPU",
    }
    if question.selected_tokens is not None:
        given["selected_tokens"] = (
            f"{question.selected_tokens} tokens whose split is unknown: the background is kept whole first"
        )
    return given
