"""The tables of `tavr cost`."""

from typing import Any

from rich.console import Console
from rich.table import Table

_GIB = 2**30
_COLUMNS = {"no_selection": "no selection", "selection": "selection"}


def print_cost(found: dict[str, Any]) -> None:
    """Model, one clip, memory, trainings and every assumption."""
    console, variants = Console(), found["variants"]
    model, clip, machine = found["model"], found["clip"], found["machine"]
    console.print(
        f"{found['profile']}: {model['parameters'] / 1e9:.3f} B parameters, {model['audio_parameters'] / 1e9:.3f} B of "
        f"them TAVR's {model['audio_tensors']} audio tensors; {clip['frames']} frames of {clip['height']}x"
        f"{clip['width']}, {clip['ref_frames']} reference frames; {machine['gpus']} x {machine['name']}"
    )
    names = [_COLUMNS[name] for name in variants]
    _table(console, "One clip", names, [(label, [show(v) for v in variants.values()]) for label, show in _clip_rows()])
    rows = [(label, [show(v["memory"]) for v in variants.values()]) for label, show in _memory_rows(machine["gpus"])]
    _table(console, f"Memory of one GPU in GiB (it has {machine['memory_gib']:g})", names, rows)
    rows = [
        (f"{stage}: {what}", [f"{v['training'][stage][key]:{form}}" for v in variants.values()])
        for stage in next(iter(variants.values()))["training"]
        for what, key, form in (("GPU-hours", "gpu_hours", ",.4g"), ("days", "days", ",.3g"))
    ]
    _table(console, "Training", names, rows)
    for name, value in found["assumptions"].items():
        console.print(f"[dim]assumed {name}: {value:g}[/]" if isinstance(value, float) else f"[dim]{name}: {value}[/]")
    if "selection" not in variants:
        console.print("[dim]selection: not measured; give --face-share and --background-share, or --selected-tokens[/]")


def _clip_rows() -> list[tuple[str, Any]]:
    def flops(name: str, unit: float, form: str) -> Any:
        return lambda v: f"{v['flops'][name] / unit:{form}}"

    return [
        ("tokens", lambda v: f"{v['tokens']['total']:,}"),
        ("of them background, reference", lambda v: f"{v['tokens']['background']:,}, {v['tokens']['reference']:,}"),
        ("TFLOPs, one reference self-attention layer", _ref_self_attention),
        ("TFLOPs, one layer", flops("layer", 1e12, ",.4g")),
        ("PFLOPs, one pass", flops("pass", 1e15, ",.4g")),
        ("PFLOPs, one step", flops("step", 1e15, ",.4g")),
        ("PFLOPs, one clip", flops("clip", 1e15, ",.4g")),
        ("PFLOPs, reference stream once a clip", flops("clip_cached", 1e15, ",.4g")),
        ("speed-up by that cache", lambda v: f"{v['cache']['speedup']:.3f}"),
        ("seconds on one GPU, cached", lambda v: f"{v['gpu_seconds']['clip_cached']:,.3g}"),
    ]


def _ref_self_attention(variant: dict[str, Any]) -> str:
    shown = f"{variant['flops']['ref_self_attention_layer'] / 1e12:,.4g}"
    if "ref_self_attention_layer_range" not in variant["flops"]:
        return shown
    low, high = variant["flops"]["ref_self_attention_layer_range"]
    return f"{shown} (any split: {low / 1e12:,.4g} to {high / 1e12:,.4g})"


def _memory_rows(gpus: int) -> list[tuple[str, Any]]:
    def inference(name: str) -> Any:
        return lambda m: f"{m['inference'][name] / _GIB:,.3g}"

    def training(*path: str) -> Any:
        def show(memory: dict[str, Any]) -> str:
            value: Any = memory["training"]
            for name in path:
                value = value[name]
            return f"{value / _GIB:,.3g}"

        return show

    zero = [(f"train: total, ZeRO-{stage} on {gpus} GPUs", training(f"zero{stage}", "total")) for stage in range(4)]
    return [
        ("generate: weights", inference("weights")),
        ("generate: reference keys and values", inference("cache")),
        ("generate: activations", inference("activations")),
        ("generate: total", inference("total")),
        ("train: activations, blocks checkpointed", training("activations")),
        ("train: activations, nothing checkpointed", training("activations_unchecked")),
        ("train: optimizer, not divided", training("zero0", "optimizer")),
        *zero,
        ("train: stage3 holds beside that", training("stage3_more")),
    ]


def _table(console: Console, title: str, names: list[str], rows: list[tuple[str, list[str]]]) -> None:
    table = Table("", title=title, title_justify="left")
    for name in names:
        table.add_column(name, justify="right")
    for label, values in rows:
        table.add_row(label, *values)
    console.print(table)
