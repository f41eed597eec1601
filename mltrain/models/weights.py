"""Where initial weights come from: the hub, a folder or a file. safetensors alone, which cannot run code."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError
from safetensors import SafetensorError, safe_open

from mltrain.core.errors import ConfigError, one_line
from mltrain.core.files import file_sha256, read_json, read_record
from mltrain.models.lora import LoraSection, merged_tensors
from mltrain.models.registry import published_weights

__all__ = ["DEFAULT", "WeightsSource", "find_weights"]

DEFAULT = "DEFAULT"
_WHOLE, _INDEX = "model.safetensors", "model.safetensors.index.json"
_KEY = "model.weights"
_PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle")
_CONVERT = (
    "Convert it: safetensors.torch.save_file(torch.load(FILE, weights_only=True), 'model.safetensors'), where the file "
    "holds tensors by name."
)


@dataclass(frozen=True)
class WeightsSource:
    """Found weights.

    Attributes:
        name: a hub name, or the name of the file or folder; not its whole path, which is of one machine.
        files: the safetensors files that hold them, one or several.
        lora: of adapters that they were trained with; they are merged when the tensors are read.
    """

    name: str
    files: tuple[Path, ...]
    lora: LoraSection | None = None

    def tensors(self) -> dict[str, torch.Tensor]:
        """Read the tensors onto the host.

        Raises:
            ConfigError: a file is damaged.
        """
        return self._read(shapes_only=False)

    def shapes(self) -> dict[str, torch.Tensor]:
        """Return tensors without content of the same names and shapes: reads the headers alone."""
        return self._read(shapes_only=True)

    def sha256(self) -> str:
        """Return the digest of the files' content; of several files, that of their digests in order."""
        digests = [file_sha256(path) for path in self.files]
        return digests[0] if len(digests) == 1 else hashlib.sha256("".join(digests).encode()).hexdigest()

    def identity(self) -> dict[str, str]:
        """Return the name and the digest, for the record."""
        return {"source": self.name, "sha256": self.sha256()}

    def pretrained_config(self) -> dict[str, Any]:
        """Return the transformers configuration that lies beside the files, or in their package; {}: neither does."""
        folder = self.files[0].parent
        packed = read_record(folder / "mltrain.json").get("pretrained_config")
        return packed if isinstance(packed, dict) else read_record(folder / "config.json")

    def _read(self, *, shapes_only: bool) -> dict[str, torch.Tensor]:
        tensors: dict[str, torch.Tensor] = {}
        for path in self.files:
            try:
                with safe_open(path, framework="pt", device="cpu") as file:
                    for name in file.keys():  # noqa: SIM118 (not a dict)
                        if shapes_only:
                            shape = file.get_slice(name).get_shape()
                            tensors[name] = torch.empty(shape, device="meta")
                        else:
                            tensors[name] = file.get_tensor(name)
                    aliases = json.loads((file.metadata() or {}).get("aliases", "{}"))
                tensors |= {name: tensors[original] for name, original in aliases.items()}
            except (OSError, SafetensorError, ValueError, LookupError) as error:
                raise ConfigError(
                    f"cannot be read ({one_line(error)})", where=str(path), fix="Copy or download the weights again."
                ) from None
        if any(".lora_A." in name for name in tensors):
            if self.lora is None:
                raise ConfigError(
                    f"{self.name} has adapters (LoRA), and not what they count",
                    where=_KEY,
                    fix="Name the run or its folder model, which has its settings.",
                )
            return merged_tensors(tensors, self.lora)
        return tensors


def find_weights(wish: str, architecture: str, published: Callable[[str], str] = published_weights) -> WeightsSource:
    """Return the weights that `model.weights` names.

    Args:
        wish: DEFAULT (those published for the architecture), a `.safetensors` file, a folder that `save_pretrained`
            wrote, or an mltrain run or its model folder.
        architecture: the model's name.
        published: gives the hub name or the folder of an architecture's own weights.

    Raises:
        ConfigError: there are none, or not as safetensors.
    """
    if wish == DEFAULT:
        own = published(architecture)
        return _in_folder(Path(own)) if Path(own).is_dir() else _from_hub(own, architecture)
    path = Path(wish).expanduser()
    if path.is_dir():
        return _in_folder(path)
    if not path.is_file():
        close = "Did you mean DEFAULT?" if wish.upper() == DEFAULT else ""
        raise ConfigError(
            f"there is no {wish}", where=_KEY, fix=close or "Name a folder or a .safetensors file, or write DEFAULT."
        )
    if path.suffix != ".safetensors":
        raise ConfigError(
            f"{wish} is no .safetensors file; other kinds can run code when they are read",
            where=_KEY,
            fix=_CONVERT,
        )
    return WeightsSource(path.name, (path,))


def _in_folder(folder: Path, name: str | None = None) -> WeightsSource:
    for place in (folder, folder / "model"):
        if (place / _WHOLE).is_file():
            return WeightsSource(name or folder.resolve().name, (place / _WHOLE,), _lora_of(place))
        if (place / _INDEX).is_file():
            try:
                parts = sorted(set(read_json(place / _INDEX)["weight_map"].values()))
            except (OSError, ValueError, LookupError, TypeError, AttributeError):
                raise ConfigError("cannot be read", where=str(place / _INDEX), fix="Copy the folder again.") from None
            _refuse_other_kinds(place / _INDEX, parts)
            return WeightsSource(name or folder.resolve().name, tuple(place / part for part in parts))
    if (folder / "checkpoints").is_dir():
        raise ConfigError(
            f"the run {folder} has not come to its end and has no model",
            where=_KEY,
            fix="Continue it first, or name one of its folders checkpoints/step-...",
        )
    pickles = sorted(path.name for path in folder.iterdir() if path.suffix in _PICKLES)
    raise ConfigError(
        f"{name or folder} has no {_WHOLE}"
        + (f", but {pickles[0]}, which can run code when it is read" if pickles else ""),
        where=_KEY,
        fix=_CONVERT if pickles else "Save the model with save_pretrained, which writes one, and name that folder.",
    )


def _lora_of(folder: Path) -> LoraSection | None:
    """Return what a package of ours says of its adapters; where it says nothing that makes sense, None."""
    facts = read_record(folder / "mltrain.json")
    try:
        return LoraSection.model_validate(facts.get("lora"))
    except ValidationError:
        return None


def _refuse_other_kinds(index: Path, parts: list[str]) -> None:
    """Raise ConfigError for a part that is no safetensors file beside the index."""
    for part in parts:
        if not part.endswith(".safetensors") or Path(part).name != part:
            raise ConfigError(
                f"names {part!r}, which is no .safetensors file of its own folder",
                where=str(index),
                fix="Copy the folder again, from where you trust it.",
            )


def _from_hub(published: str, architecture: str) -> WeightsSource:
    """Return the weights of a hub name, or of `name@revision`."""
    from huggingface_hub import snapshot_download

    name, _, revision = published.partition("@")
    option = f" --revision {revision}" if revision else ""
    try:
        folder = snapshot_download(
            name,
            revision=revision or None,
            allow_patterns=[_WHOLE, _INDEX, "model-*.safetensors", "config.json"],
        )
    except Exception as error:  # whatever a network, a proxy or a token may be wrong with
        raise ConfigError(
            f"DEFAULT of {architecture} is {name}, which is not on this machine and cannot be fetched "
            f"({type(error).__name__})",
            where=_KEY,
            fix=f"Where there is a network run `hf download {name}{option} --local-dir FOLDER`, then set "
            "model.weights: FOLDER.",
        ) from error
    return _in_folder(Path(folder), name)
