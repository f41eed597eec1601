"""The keys of a file of `accelerate config`, checked one by one: Accelerate's errors name no line, and some no key."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from mltrain.config.places import Places
from mltrain.config.yaml_file import read_yaml
from mltrain.core.errors import ConfigError
from mltrain.core.registry import nearest

__all__ = ["EXAMPLES", "check_keys"]

EXAMPLES = "Write it with `accelerate config --config_file FILE`, or take one of accelerate_configs/."

_NUMBER, _TEXT, _SWITCH = (int, "a whole number"), (str, "a text"), (bool, "true or false")
_TYPES: dict[str, tuple[type, str]] = {
    "distributed_type": _TEXT,
    "num_processes": _NUMBER,
    "num_machines": _NUMBER,
    "machine_rank": _NUMBER,
    "main_process_ip": _TEXT,
    "main_process_port": _NUMBER,
    "mixed_precision": _TEXT,
    "use_cpu": _SWITCH,
}
_SECTIONS = ("deepspeed_config", "dynamo_config", "fsdp_config", "parallelism_config")
_NOT_OURS = ("XLA", "MEGATRON_LM")
# Names of earlier versions, which Accelerate still reads.
_EARLIER = ("dynamo_backend", "fp16")


def check_keys(file: Path) -> Places:
    """Check what can be checked of a file without the launch, and return where its keys stand.

    Raises:
        ConfigError: it cannot be read, or a key of it cannot be used.
    """
    content, places = _read(file)
    _check_environment(content, places)
    _check_known(content, (), _known(), places)
    for key, (kind, wish) in _TYPES.items():
        _check_type(content.get(key), (key,), kind, wish, places)
    for key in _SECTIONS:
        _check_type(content.get(key), (key,), dict, "keys and values", places)
    _check_way(content, file, places)
    _check_precision(content, places)
    fsdp = content.get("fsdp_config") or {}
    # Accelerate would pass over an unknown key here without a word.
    _check_known(fsdp, ("fsdp_config",), _known_of_fsdp(), places)
    _check_type(fsdp.get("fsdp_version"), ("fsdp_config", "fsdp_version"), *_NUMBER, places)
    return places


def _read(file: Path) -> tuple[Mapping[str, Any], Places]:
    if file.suffix != ".json":
        content, lines = read_yaml(file, flag="--accelerate_config", examples="accelerate_configs/")
        return content, Places(file, lines, {})
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        where = f"{file}:{error.lineno}"
        raise ConfigError(f"not valid JSON ({error.msg})", where=where, fix="Mend it there.") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot be read ({error})", where=str(file), fix="Check --accelerate_config.") from None
    if not isinstance(found, dict):
        raise ConfigError("must hold keys and values", where=str(file), fix=EXAMPLES)
    return found, Places(file, {}, {})


def _check_environment(content: Mapping[str, Any], places: Places) -> None:
    environment = content.get("compute_environment", "LOCAL_MACHINE")
    if environment != "LOCAL_MACHINE":
        raise ConfigError(
            f"is {environment}, and mltrain launches the processes of this machine only",
            where=places.of(("compute_environment",)),
            fix="Write LOCAL_MACHINE: in `accelerate config`, answer This machine.",
        )


def _check_known(section: Mapping[str, Any], path: tuple[str, ...], known: Iterable[str], places: Places) -> None:
    for key in section:
        if key not in known:
            close = nearest(str(key), sorted(known))
            fix = f"Did you mean {close}?" if close else f"Known: {', '.join(sorted(known))}."
            raise ConfigError("Accelerate knows no such key", where=places.of((*path, key)), fix=fix)


def _known() -> set[str]:
    from accelerate.commands.config.config_args import ClusterConfig

    return {field.name for field in fields(ClusterConfig)} | set(_EARLIER)


def _known_of_fsdp() -> set[str]:
    from accelerate.commands.launch import launch_command_parser

    return {action.dest for action in launch_command_parser()._actions if action.dest.startswith("fsdp_")}


def _check_type(value: Any, path: tuple[str, ...], kind: type, wish: str, places: Places) -> None:
    if value is None or (isinstance(value, kind) and (kind is bool or not isinstance(value, bool))):
        return
    is_word = kind is str and isinstance(value, bool)
    shown = f"is read as {str(value).lower()}" if is_word else f"must be {wish}, is {value!r}"
    fix = "Put the word in quotes." if is_word else "Mend it there."
    raise ConfigError(shown, where=places.of(path), fix=fix)


def _check_way(content: Mapping[str, Any], file: Path, places: Places) -> None:
    from accelerate.utils import DistributedType

    ways = [way.value for way in DistributedType if way.value not in _NOT_OURS]
    way = content.get("distributed_type")
    if way is None:
        raise ConfigError("distributed_type is missing", where=str(file), fix=f"Add it: one of {', '.join(ways)}.")
    if way in _NOT_OURS:
        raise ConfigError(
            f"{way} is not launched by torch's processes",
            where=places.of(("distributed_type",)),
            fix="Use GPUs or CPUs: see accelerate_configs/.",
        )
    if way not in ways:
        close = nearest(way, ways)
        fix = f"Did you mean {close}?" if close else f"Known: {', '.join(ways)}."
        raise ConfigError(f"is {way!r}", where=places.of(("distributed_type",)), fix=fix)


def _check_precision(content: Mapping[str, Any], places: Places) -> None:
    from accelerate.utils import PrecisionType

    precision, known = content.get("mixed_precision"), list(PrecisionType)
    if precision is not None and precision not in [each.value for each in known]:
        fix = f"Known: {', '.join(repr(str(each.value)) for each in known)}."
        raise ConfigError(f"is {precision!r}", where=places.of(("mixed_precision",)), fix=fix)
