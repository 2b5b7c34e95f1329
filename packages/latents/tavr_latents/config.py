"""Parameters of the stage `latents`; values live in `conf/stage/latents.yaml`."""

from dataclasses import dataclass


@dataclass
class LatentsConfig:
    """How a clip is encoded.

    Attributes:
        vae, text_encoder, tokenizer, speech, keypoints, people: folders of the networks.
        height, width: the size that clips must have, in pixels; multiples of 16.
        num_frames: frames of the target window (`target0`), which starts at frame 0.
        ref_frames_max: most frames of the reference window (`ref0`), the longest 4k + 1 of what follows the target.
        long_frames_max: most frames of the long window (`long0`), which starts at frame 0 too: later windows of a long
            video are learnt from it, with latents that lie as deep in their encoding as generation meets them.
        face_stride: keypoints are looked for in every `face_stride`-th frame; 1, 2 or 4 leaves no latent frame out.
        face_min_score: a keypoint below it does not count.
        face_expand: factor by which a face box grows about its middle.
        face_boxes_override: JSON file {clip_id: [x0, y0, x1, y1] in pixels of the clip}; such a clip's face is taken
            from it and not looked for.
        people_stride: people are looked for in every `people_stride`-th frame of the target.
        hole_dilation: pixels by which the hole in the background grows beyond the person's masks.
        text_max_tokens: longer prompts are cut.
        shard_bits: clips go to 2 ** shard_bits shards.
    """

    vae: str
    text_encoder: str
    tokenizer: str
    speech: str
    keypoints: str
    people: str
    height: int
    width: int
    num_frames: int
    ref_frames_max: int
    long_frames_max: int
    face_stride: int
    face_min_score: float
    face_expand: float
    face_boxes_override: str
    people_stride: int
    hole_dilation: int
    text_max_tokens: int
    shard_bits: int


@dataclass
class CheckLatentsConfig:
    """What `check_latents` demands of every clip's tensors and of their number.

    Latents are Wan-normalised, so their mean is near 0 and their spread near 1: `max_abs_mean`, `min_std`, `max_std`
    and `max_abs` bound each window. `min_face_tokens` is the least mean number of face tokens a reference frame keeps.
    """

    num_frames: int
    max_abs_mean: float
    min_std: float
    max_std: float
    max_abs: float
    min_face_tokens: float
    min_clips: int
    max_refused_share: float
