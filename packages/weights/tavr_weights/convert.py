"""Foreign pickles become safe files once, in a child process without network, secrets or a home of its own.

`python -m tavr_weights.convert <kind> <source> <target>` is that child; `convert_files` starts it.
"""

import ctypes
import os
import runpy
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, cast

from tavr_records.atomic import atomic_file
from tavr_records.errors import InputError

from tavr_weights.origins import Fetched

PICKLES = (".pt", ".pth", ".bin", ".model", ".ckpt")
_SUFFIX = {"torch-safetensors": ".safetensors", "ultralytics-onnx": ".onnx"}
_CLONE_NEWUSER, _CLONE_NEWNET = 0x10000000, 0x40000000
_WRAPPERS = ("state_dict", "model", "module", "model_state_dict")


def convert_files(kind: str, fetched: Fetched, target: Path) -> Fetched:
    """Replace each pickle of `fetched` by its safe form below `target`; other files stay as they are.

    Raises:
        InputError: unknown kind, or a file that cannot be read as plain tensors.
    """
    if kind not in _SUFFIX:
        raise InputError(f"weights: convert is {kind!r}; use one of {', '.join(sorted(_SUFFIX))}")
    files: dict[str, Path] = {}
    for name, source in sorted(fetched.files.items()):
        if not name.endswith(PICKLES):
            files[name] = source
            continue
        goal = target / Path(name).with_suffix(_SUFFIX[kind])
        _run_child(kind, source, goal)
        files[goal.relative_to(target).as_posix()] = goal
    return Fetched(fetched.origin, files, own=True, revision=fetched.revision, remedy=f"delete {target} and run again")


def _run_child(kind: str, source: Path, goal: Path) -> None:
    environment = {name: os.environ[name] for name in ("PATH", "LD_LIBRARY_PATH", "LANG") if name in os.environ}
    with atomic_file(goal) as temporary:
        scratch = temporary.with_suffix(".home")
        scratch.mkdir()
        environment |= {"HOME": str(scratch.resolve()), "YOLO_CONFIG_DIR": str(scratch.resolve())}
        command = [sys.executable, "-m", "tavr_weights.convert", kind, str(source.resolve()), str(temporary.resolve())]
        try:
            result = subprocess.run(command, env=environment, cwd=scratch, capture_output=True, text=True, check=False)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
        if result.returncode != 0:
            lines = [line for line in result.stderr.splitlines() if line.strip()]
            reason = lines[-1] if lines else f"exit {result.returncode}"
            raise InputError(f"{source}: cannot be converted to {_SUFFIX[kind][1:]} ({reason}); check the origin")


def close_network() -> None:
    """Take the network away from this process: an empty network namespace where allowed, and no sockets at all."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.unshare(_CLONE_NEWUSER | _CLONE_NEWNET)  # refused inside some containers; the hook below always holds

    def refuse(event: str, _: tuple[Any, ...]) -> None:
        if event in ("socket.connect", "socket.bind", "socket.getaddrinfo", "socket.sendto"):
            raise PermissionError(f"no network while a pickle is read ({event})")

    sys.addaudithook(refuse)


def to_safetensors(source: Path, target: Path) -> None:
    """Read a torch pickle as plain tensors (`weights_only`) and write them as safetensors."""
    import torch
    from safetensors.torch import save_file

    loaded: Any = torch.load(source, map_location="cpu", weights_only=True)
    tensors = dict(_tensors(loaded, torch.is_tensor))
    if not tensors:
        raise ValueError("no tensor inside")
    save_file({name: tensor.detach().clone().contiguous() for name, tensor in sorted(tensors.items())}, target)


def _tensors(value: Any, is_tensor: Callable[[Any], bool]) -> Iterable[tuple[str, Any]]:
    """Named tensors of a state dict, looking through the wrappers checkpoints commonly have."""
    content = cast("dict[Any, Any]", value if isinstance(value, dict) else {})
    for wrapper in _WRAPPERS:
        if isinstance(content.get(wrapper), dict):
            return _tensors(content[wrapper], is_tensor)
    return [(str(name), item) for name, item in content.items() if is_tensor(item)]


def to_onnx(source: Path, target: Path) -> None:
    """Export an ultralytics checkpoint by ultralytics' own command, which alone knows its pickle.

    It runs in this process, so that the closed network holds for whatever the pickle does.
    """
    copy = Path("checkpoint.pt")
    shutil.copyfile(source, copy)
    command = Path(sys.executable).with_name("yolo")
    sys.argv = [str(command), "export", f"model={copy}", "format=onnx", "dynamic=True"]
    try:
        runpy.run_path(str(command), run_name="__main__")
    except SystemExit as error:
        if error.code:
            raise
    shutil.move(copy.with_suffix(".onnx"), target)


def main() -> None:
    """The child: close the network, convert one file."""
    kind, source, target = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
    close_network()
    {"torch-safetensors": to_safetensors, "ultralytics-onnx": to_onnx}[kind](source, target)


if __name__ == "__main__":
    main()
