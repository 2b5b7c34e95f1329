"""Shapes in signatures: found for the contract, and checked at every call that a test makes."""

import inspect
import pkgutil
from collections.abc import Callable, Iterator
from importlib import import_module
from typing import Any, get_args, get_type_hints

import numpy as np
import torch
from beartype import beartype
from jaxtyping import AbstractArray

REFUSE_THEMSELVES = {
    "TAVRPipeline.__call__": "names the argument of a user that does not fit",
    "speech_features": "names the shape of a waveform that does not fit",
    "SpeechEncoder.encode": "is `speech_features`",
}
"""Public functions that tests hand wrong shapes to, since they answer for them; not checked at the call."""


def check_shapes(function: Callable[..., Any]) -> Callable[..., Any]:
    """beartype for the arguments whose annotation names a shape; jaxtyping's import hook applies it.

    Everything else may be what the test needs: a network that only counts its passes is not a network's class.
    """
    hints = {name: hint for name, hint in function.__annotations__.items() if has_shape(hint)}
    if not hints or function.__qualname__ in REFUSE_THEMSELVES:
        return function
    function.__annotations__ = hints
    return beartype(function)


def public_callables(package: str) -> Iterator[tuple[str, Any]]:
    """(name, function or class) of every public function, class and method of a package's modules."""
    folder = import_module(package).__path__
    for module in [import_module(found.name) for found in pkgutil.iter_modules(folder, f"{package}.")]:
        for name, value in vars(module).items():
            if name.startswith("_") or getattr(value, "__module__", None) != module.__name__ or not callable(value):
                continue
            yield f"{module.__name__}.{name}", value
            for method, member in vars(value).items() if inspect.isclass(value) else ():
                member = member.fget if isinstance(member, property) else getattr(member, "__func__", member)
                if inspect.isfunction(member) and (not method.startswith("_") or method in {"__call__", "__init__"}):
                    yield f"{module.__name__}.{name}.{method}", member


def parts(annotation: Any) -> Iterator[Any]:
    """An annotation and everything inside it."""
    yield annotation
    inside = get_args(annotation)
    for inner in (part for one in inside for part in (one if isinstance(one, list) else [one])):
        if isinstance(inner, type) or get_args(inner):
            yield from parts(inner)


def has_shape(annotation: Any) -> bool:
    """Whether a shape is named anywhere inside."""
    return any(inspect.isclass(part) and issubclass(part, AbstractArray) for part in parts(annotation))


def bare_arrays(value: Any) -> list[str]:
    """Arguments, fields and `return` whose annotation has a tensor or an array without a shape."""
    hints = get_type_hints(value, include_extras=True)
    own = value.__annotations__ if inspect.isclass(value) else hints
    bare = (torch.Tensor, np.ndarray)
    return [
        name
        for name in own
        if any(part in bare or getattr(part, "__origin__", None) is np.ndarray for part in parts(hints[name]))
    ]
