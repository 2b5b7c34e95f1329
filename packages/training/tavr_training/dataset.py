"""Cached encodings by clip and window, and the one way of turning them into conditions (all stages use it)."""

from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from tavr_model.audio import audio_windows
from tavr_model.conditions import Conditions
from tavr_model.shapes import AnyTensor
from tavr_model.token_selection import latent_frames
from tavr_records.errors import InputError
from tavr_records.manifest import read_manifest
from tavr_records.schemas import CachedClip


class LatentStore:
    """Random access to the tensors of `data/latents` by (clip id, `<window>/<name>`); shards are memory-mapped."""

    def __init__(self, directory: Path) -> None:
        """Read the index.

        Raises:
            InputError: no readable manifest.
        """
        self.directory = directory
        self._rows = {(row.clip_id, row.key): row for row in read_manifest(directory / "manifest.parquet", CachedClip)}
        self._shards: dict[str, Any] = {}

    def has(self, clip_id: str, key: str) -> bool:
        """Whether the tensor is there."""
        return (clip_id, key) in self._rows

    def row(self, clip_id: str, key: str) -> CachedClip:
        """The index row of a tensor.

        Raises:
            InputError: there is none.
        """
        if (clip_id, key) not in self._rows:
            raise InputError(f"{self.directory}/manifest.parquet: no {key} of clip {clip_id}; run the stage latents")
        return self._rows[clip_id, key]

    def tensor(self, clip_id: str, key: str) -> AnyTensor:
        """Read one tensor as it is stored.

        Raises:
            InputError: not in the index, or the shard is missing or broken.
        """
        row = self.row(clip_id, key)
        try:
            if row.shard not in self._shards:
                self._shards[row.shard] = safe_open(self.directory / row.shard, framework="pt")
            return self._shards[row.shard].get_tensor(f"{clip_id}/{key}")
        except (SafetensorError, OSError) as error:
            raise InputError(f"{self.directory / row.shard}: unreadable ({error}); run the stage latents") from error

    def window_latents(self, clip_id: str, window: str) -> int:
        """Latent frames of a window, from the index."""
        return latent_frames(self.row(clip_id, f"{window}/latents").frames)

    def audio_shape(self) -> tuple[int, int]:
        """(layers, features) of the cached speech features.

        Raises:
            InputError: the store is empty.
        """
        for clip_id, key in self._rows:
            if key == "clip/audio":
                _, layers, features = self.tensor(clip_id, key).shape
                return layers, features
        raise InputError(f"{self.directory}/manifest.parquet: no clip/audio of any clip; run the stage latents")


def build_conditions(  # noqa: PLR0913 - the parts of a condition
    store: LatentStore,
    ref_clip: str,
    target_clip: str,
    ref_latent_frames: int,
    ref_window: str = "ref0",
    target_window: str = "target0",
    *,
    token_selection: bool = True,
    ref_audio: bool = True,
) -> Conditions:
    """Text, driving audio and background of the target clip; the first latent frames of the reference window.

    The reference is the first r = `ref_latent_frames` latent frames of `ref_window`, which are the encoding of its
    first 4 (r - 1) + 1 pixel frames. Without `token_selection` all its tokens are kept; without `ref_audio` the
    reference stream hears nothing.

    Raises:
        InputError: a tensor is missing, or the window is shorter than r.
    """
    available = store.window_latents(ref_clip, ref_window)
    if not 1 <= ref_latent_frames <= available:
        raise InputError(
            f"{store.directory}: reference of {ref_latent_frames} latent frames asked of clip {ref_clip}, "
            f"whose {ref_window} has {available}; lower ref_latent_frames or raise latents.ref_frames_max"
        )
    target = store.row(target_clip, f"{target_window}/latents")
    ref = store.row(ref_clip, f"{ref_window}/latents")
    frames = latent_frames(target.frames)
    driving = store.tensor(target_clip, "clip/audio").float()
    heard = store.tensor(ref_clip, "clip/audio").float()
    faces = store.tensor(ref_clip, f"{ref_window}/face_tokens")[:ref_latent_frames]
    return Conditions(
        text_embeds=store.tensor(target_clip, "clip/text").float(),
        driving_audio=audio_windows(driving, frames, start_frame=target.start_frame),
        ref_latents=store.tensor(ref_clip, f"{ref_window}/latents")[:, :ref_latent_frames].float(),
        ref_face_tokens=faces if token_selection else None,
        ref_audio=audio_windows(heard, ref_latent_frames, start_frame=ref.start_frame) if ref_audio else None,
        bg_latents=store.tensor(target_clip, f"{target_window}/bg_latents").float(),
        bg_tokens=store.tensor(target_clip, f"{target_window}/bg_tokens"),
    )
