"""What a run folder says of its run, in the flat names and strings that trackers take. Imports no tracker."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from mltrain.core.files import read_json, read_record
from mltrain.core.masking import masked
from mltrain.core.run_folder import RunFolder
from mltrain.tracking.non_private import NON_PRIVATE, not_private_text

__all__ = ["DatasetFacts", "RunFacts", "flatten", "read_facts", "read_privacy"]

# What is said elsewhere (tags, description), or may hold a password (a store's address), is no parameter.
_NOT_PARAMETERS = ("run.tags", "run.description", "tracking")
# Lists for people, who find them in the artifacts; as tags they would bury the rest.
_NOT_TAGS = ("packages", "segments", "data.classes", "data.counts")


@dataclass(frozen=True)
class DatasetFacts:
    """The data a run learned from; `source` is an absolute path."""

    name: str
    digest: str | None
    source: str


@dataclass(frozen=True)
class RunFacts:
    """The configuration and circumstances of a run.

    Attributes:
        name: the run's name.
        description: the user's free text.
        config: the configuration without its section `tracking`, as plain values.
        parameters: the configuration, `section.key` -> text.
        tags: the user's own labels.
        circumstances: `metadata.json` without packages and segments, `key.key` -> text.
        commit: the git commit of the code, where there is one.
        command_line: how the run was started.
        dataset: the data, where the configuration names any.
        privacy: see `read_privacy`.
    """

    name: str
    description: str
    config: dict[str, Any]
    parameters: dict[str, str]
    tags: dict[str, str]
    circumstances: dict[str, str]
    commit: str | None
    command_line: str | None
    dataset: DatasetFacts | None
    privacy: dict[str, str]

    @property
    def project(self) -> str:
        """What runs of the same data are gathered under, where the user has named nothing."""
        return self.dataset.name if self.dataset is not None else "mltrain"

    @property
    def notice(self) -> str:
        """What must be said beside the values: which of them no privacy guarantee covers; empty where none is made."""
        listed = self.privacy.get(f"privacy.{NON_PRIVATE}")
        return f"Not private: no privacy guarantee covers the values {listed}." if listed else ""


def read_facts(folder: RunFolder) -> RunFacts:
    """Read `config.yaml` and `metadata.json`; a missing or empty file says nothing."""
    config = _mapping(yaml.safe_load(folder.config.read_text(encoding="utf-8")) if folder.config.exists() else None)
    metadata = _mapping(read_json(folder.metadata) if folder.metadata.exists() else None)
    run = _mapping(config.get("run"))
    # The command line may set a store's address with a password in it.
    circumstances = {name: masked(text) for name, text in _without(flatten(metadata), _NOT_TAGS).items()}
    return RunFacts(
        name=folder.name,
        description=str(run.get("description") or ""),
        config={str(section): values for section, values in config.items() if section != "tracking"},
        parameters=_without(flatten(config), _NOT_PARAMETERS),
        tags={str(name): _text(value) for name, value in _mapping(run.get("tags")).items()},
        circumstances=circumstances,
        commit=circumstances.get("git.commit"),
        command_line=circumstances.get("command_line"),
        dataset=_dataset(_mapping(config.get("data")), circumstances),
        privacy=read_privacy(folder),
    )


def read_privacy(folder: RunFolder) -> dict[str, str]:
    """Return what `summary.json` says of privacy by now, `privacy.key` -> text: which values have none, and the claim.

    It is empty where the trainer makes no such claim. The claim itself stands there once the run has ended.
    """
    summary = read_record(folder.summary)
    listed = summary.get(NON_PRIVATE)
    values = flatten(_mapping(summary.get("privacy")))
    texts = {f"privacy.{name}": text for name, text in values.items() if text != "null"}
    return texts | ({f"privacy.{NON_PRIVATE}": not_private_text(listed)} if listed else {})


def flatten(values: Mapping[str, Any]) -> dict[str, str]:
    """Return nested mappings as one of dotted names and texts. Lists, numbers and null are written as JSON."""
    return dict(_leaves(values, ""))


def _leaves(values: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, str]]:
    for name, value in values.items():
        if isinstance(value, Mapping) and value:
            yield from _leaves(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", _text(value)


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _without(values: dict[str, str], sections: tuple[str, ...]) -> dict[str, str]:
    hidden = tuple(f"{section}." for section in sections)
    return {name: text for name, text in values.items() if name not in sections and not name.startswith(hidden)}


def _dataset(data: Mapping[str, Any], circumstances: Mapping[str, str]) -> DatasetFacts | None:
    if not data.get("data_dir"):
        return None
    source = Path(str(data["data_dir"])).absolute()
    name = str(data.get("dataset_name") or source.name)
    return DatasetFacts(name=name, digest=circumstances.get("data.digest"), source=str(source))
