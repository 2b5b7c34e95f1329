"""`params.yaml` is a lock file of `conf/`: composed by Hydra, resolved, type-checked, committed."""

import importlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import yaml
from hydra import compose, initialize_config_dir
from hydra.errors import HydraException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from tavr_records.atomic import write_bytes
from tavr_records.errors import InputError
from tavr_records.params import structure

STAGES = (
    "weights",
    "sources",
    "ingest",
    "pairs",
    "latents",
    "stage1",
    "stage2",
    "preferences",
    "stage3",
    "benchmark",
)
CHECKED = ("sources", "ingest", "pairs", "latents", "preferences", "benchmark")
SECTIONS = (*STAGES, *(f"check_{stage}" for stage in CHECKED))
HEADER = "# Generated from conf/ by `make params PROFILE=...`; edit conf/, not this file.\n"


def config_type(section: str) -> type[Any]:
    """The dataclass of a parameter section: `IngestConfig` for `ingest`, `CheckIngestConfig` for `check_ingest`."""
    stage = section.removeprefix("check_")
    name = "".join(part.capitalize() for part in section.split("_")) + "Config"
    return cast("type[Any]", getattr(importlib.import_module(f"tavr_{stage}.config"), name))


def compose_params(profile: str, overrides: Sequence[str] = (), conf: Path = Path("conf")) -> dict[str, Any]:
    """Compose, resolve and type-check the parameters of a profile.

    Args:
        profile: a file name in `conf/profile/`.
        overrides: Hydra overrides such as `stage3.steps=10`.
        conf: the configuration directory.

    Raises:
        InputError: unknown profile or key, wrong type, unset value.
    """
    if not (conf / "profile" / f"{profile}.yaml").is_file():
        known = ", ".join(sorted(path.stem for path in (conf / "profile").glob("*.yaml")))
        raise InputError(f"{conf}/profile: no profile {profile!r}; choose one of {known}")
    try:
        with initialize_config_dir(str(conf.resolve()), version_base="1.3"):
            config = compose("config", overrides=[f"profile={profile}", *overrides])
        document = cast("dict[str, Any]", OmegaConf.to_container(config, resolve=True, throw_on_missing=True))
    except (HydraException, OmegaConfBaseException) as error:
        raise InputError(f"{conf}: {str(error).splitlines()[0]}; mend the named key or override") from error
    params: dict[str, Any] = {"_compose": {"profile": profile, "overrides": list(overrides)}}
    for section in SECTIONS:
        if section not in document:
            raise InputError(f"{conf}/stage/{section}.yaml: no such section; every stage needs its file")
        structure(config_type(section), document[section], f"conf: {section}")
        params[section] = document[section]
    return params


def render_params(params: dict[str, Any]) -> bytes:
    """The bytes of `params.yaml`."""
    text = yaml.safe_dump(params, sort_keys=False, allow_unicode=True, width=120)
    return (HEADER + text).encode("utf-8")


def write_params(profile: str, overrides: Sequence[str] = (), root: Path = Path()) -> None:
    """Compose `root/conf` and write `root/params.yaml`."""
    write_bytes(root / "params.yaml", render_params(compose_params(profile, overrides, root / "conf")))
