"""Getting the bytes of one origin, one small adapter a scheme.

`synthetic:<clip>` is rendered; `file:<path>` is copied (relative to the repository); `s3://bucket/key` comes through
boto3; `http://`, `https://` are plain downloads; `ytdlp:<address>` takes the section through yt-dlp, where installed.
"""

import json
import shutil
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from tavr_records.errors import InputError
from tavr_synthetic.world import PlannedClip, WorldConfig, make_record, plan_world, render_bytes

TIMEOUT_SECONDS = 60
SYNTHETIC = "synthetic:"
_CHUNK = 2**20


class FetchError(Exception):
    """The origin did not give the bytes; the message says why."""


def planned_clips(world: dict[str, Any] | None) -> dict[str, PlannedClip]:
    """The clips of a world by origin, in the world's order; none without a world.

    Raises:
        InputError: the sizes are no world's.
    """
    if world is None:
        return {}
    try:
        return {f"{SYNTHETIC}{clip.key}": clip for clip in plan_world(WorldConfig(**world))}
    except (TypeError, ValueError) as error:
        raise InputError(f"sources.lock: world: {error}; see tavr_synthetic.world.WorldConfig") from error


def metadata_bytes(clips: list[PlannedClip]) -> bytes:
    """All records in TalkVid's format."""
    return (json.dumps([make_record(clip) for clip in clips], indent=1) + "\n").encode()


def fetch(origin: str, section: tuple[int, int], target: Path, root: Path, clip: PlannedClip | None) -> None:
    """Write the bytes of `origin` to `target`.

    Args:
        origin: see the module.
        section: [start_ms, end_ms] of the source; only yt-dlp needs it.
        target: the file to write.
        root: the repository, for `file:`.
        clip: the plan behind a `synthetic:` origin.

    Raises:
        FetchError: the origin is gone, unreachable or of an unknown scheme.
    """
    if clip is not None:
        target.write_bytes(render_bytes(clip))
    elif origin.startswith("file:"):
        _copy(root / origin.removeprefix("file:"), target)
    elif origin.startswith("s3://"):
        _from_bucket(origin, target)
    elif origin.startswith(("http://", "https://")):
        _from_web(origin, target)
    elif origin.startswith("ytdlp:"):
        _with_ytdlp(origin.removeprefix("ytdlp:"), section, target)
    else:
        raise FetchError(f"unknown origin {origin!r}; use synthetic:, file:, s3://, https:// or ytdlp:")


def _copy(source: Path, target: Path) -> None:
    try:
        shutil.copyfile(source, target)
    except FileNotFoundError as error:
        raise FetchError("no such file") from error


def _from_bucket(origin: str, target: Path) -> None:
    import boto3
    from botocore.exceptions import BotoCoreError, ClientError

    bucket, _, key = origin.removeprefix("s3://").partition("/")
    try:
        client: Any = boto3.client("s3")
        client.download_file(bucket, key, str(target))
    except (BotoCoreError, ClientError) as error:
        raise FetchError(_first_line(error)) from error


def _from_web(origin: str, target: Path) -> None:
    try:
        with urllib.request.urlopen(origin, timeout=TIMEOUT_SECONDS) as response, target.open("wb") as file:  # noqa: S310 - http(s) only, see `fetch`
            shutil.copyfileobj(response, file)
    except (urllib.error.URLError, TimeoutError, ConnectionError) as error:
        raise FetchError(_first_line(error)) from error


def download(address: str, target: Path, limit: int) -> None:
    """Write at most `limit` bytes of an http(s) address to `target`.

    Raises:
        FetchError: another scheme, unreachable, or more than `limit` bytes.
    """
    if not address.startswith(("http://", "https://")):
        raise FetchError(f"not an http(s) address: {address!r}")
    try:
        with urllib.request.urlopen(address, timeout=TIMEOUT_SECONDS) as response, target.open("wb") as file:  # noqa: S310 - http(s) only
            left = limit
            while chunk := response.read(min(_CHUNK, left + 1)):
                left -= len(chunk)
                if left < 0:
                    raise FetchError(f"more than {limit} bytes")
                file.write(chunk)
    except (urllib.error.URLError, TimeoutError, ConnectionError) as error:
        raise FetchError(_first_line(error)) from error


def _with_ytdlp(address: str, section: tuple[int, int], target: Path) -> None:
    """Download one section as mp4, as TalkVid's own downloader asks for it."""
    if find_spec("yt_dlp") is None:
        raise FetchError("yt-dlp is not installed; run `uv pip install yt-dlp`")
    start, end = (f"{value / 1000:.3f}" for value in section)
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "yt_dlp", "--ignore-config", "--no-playlist", "--retries", "10"]
        command += ["--download-sections", f"*{start}-{end}", "--force-keyframes-at-cuts"]
        command += ["-f", "bestvideo[ext=mp4]+bestaudio[ext=m4a]/best[ext=mp4]/best", "--merge-output-format", "mp4"]
        result = subprocess.run(
            [*command, "-o", f"{folder}/clip.%(ext)s", address], capture_output=True, text=True, check=False
        )
        files = sorted(Path(folder).glob("clip.*"))
        if result.returncode or not files:
            lines = result.stderr.strip().splitlines()
            raise FetchError(lines[-1] if lines else f"yt-dlp ended with {result.returncode}")
        shutil.copyfile(files[0], target)


def put(store: str, name: str, source: Path, root: Path) -> str:
    """Keep a downloaded file in a store (a folder of the repository, or `s3://bucket/prefix`); its new origin.

    Raises:
        FetchError: the store cannot be written.
    """
    if not store.startswith("s3://"):
        target = root / store / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target)
        return f"file:{store}/{name}"
    import boto3
    from botocore.exceptions import BotoCoreError, ClientError

    bucket, _, prefix = store.removeprefix("s3://").partition("/")
    key = f"{prefix.rstrip('/')}/{name}".lstrip("/")
    try:
        client: Any = boto3.client("s3")
        client.upload_file(str(source), bucket, key)
    except (BotoCoreError, ClientError) as error:
        raise FetchError(_first_line(error)) from error
    return f"s3://{bucket}/{key}"


def _first_line(error: BaseException) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__
