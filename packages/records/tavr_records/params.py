"""Loading one section of `params.yaml` into its dataclass; anything unknown, mistyped or unset is refused."""

from pathlib import Path
from typing import Any, TypeVar, cast

from tavr_records.errors import InputError

Config = TypeVar("Config")


def load_section(config_type: type[Config], section: str, path: Path = Path("params.yaml")) -> Config:
    """Read `section` of the parameter file as an instance of the dataclass `config_type`.

    Raises:
        InputError: no such file or section; an unknown key, a wrong type or a missing value.
    """
    from omegaconf import OmegaConf

    if not path.is_file():
        raise InputError(f"{path}: no such file; write it with `make params PROFILE=tiny`")
    document: Any = OmegaConf.to_container(OmegaConf.load(path), resolve=True)
    if not isinstance(document, dict) or section not in document:
        raise InputError(f"{path}: section {section!r} is missing; write the file anew with `make params`")
    return structure(config_type, cast("dict[str, Any]", document)[section], f"{path}: {section}")


def structure(config_type: type[Config], values: Any, where: str) -> Config:
    """Check plain `values` against the dataclass `config_type` and build it; `where` starts every message."""
    from omegaconf import OmegaConf  # a fifth of a second that `tavr who-used` does without
    from omegaconf.errors import OmegaConfBaseException

    try:
        merged = OmegaConf.merge(OmegaConf.structured(config_type), values)
        OmegaConf.set_readonly(merged, True)
        missing = sorted(OmegaConf.missing_keys(merged))
        if missing:
            raise InputError(f"{where}: no value for {', '.join(missing)}; set it in conf/")
        return cast("Config", OmegaConf.to_object(merged))
    except OmegaConfBaseException as error:
        reason = str(error.msg or error).splitlines()[0]
        key = f".{error.full_key}" if error.full_key else ""
        raise InputError(f"{where}{key}: {reason}; mend it in conf/ and run `make params`") from error
