"""Voxels predicted by the multimodal autoencoder, by linear maps, and the noise ceiling: `python -m benchmarks.brain`.

Works in the folder data/fmri, which `mltrain make-data fmri` writes (simulated: no part of it comes from a brain). All
see the same windows of stimuli, the same training, validation and test samples, and the same standardization. A ridge
regression predicts the voxels from all features of a window, or from the first principal components of each modality;
its strength, and the number of components, are those with the highest correlation on the validation split. The figures
are means over all voxels of Pearson's r over the samples of a split.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

import mltrain
from mltrain.config.load import load_config
from mltrain.tasks.base import task_config_class
from mltrain.tasks.multimodal_autoencoder import MultimodalTask
from mltrain.tasks.multimodal_sums import PairSums

CONFIG = "configs/fmri_simulated.yaml"
STRENGTHS = [10.0**power for power in range(1, 7)]
COMPONENTS = (10, 30, 100)

Values = NDArray[np.float32]


@dataclass(frozen=True)
class Split:
    """Standardized windows of each modality, (N, features), and the voxels, (N, V), of one split."""

    stimuli: Mapping[str, Values]
    fmri: Values


@dataclass(frozen=True)
class Floor:
    """The best linear map: what it was made from, and its mean correlation on each split."""

    features: str
    strength: float
    val: float
    test: float


def read_split(task: MultimodalTask, split: str) -> Split:
    dataset = task.datasets()[split]
    batch = task.collate([dataset.load(index, None) for index in range(len(dataset))])
    stimuli = task.pipeline.standard_stimuli(batch)
    return Split(
        {name: values.flatten(1).numpy() for name, values in stimuli.items()},
        task.pipeline.standard_fmri(batch["fmri"]).numpy(),
    )


def mean_correlation(predicted: NDArray[Any], measured: NDArray[Any]) -> float:
    pairs = PairSums()
    pairs.add(torch.from_numpy(predicted), torch.from_numpy(measured))
    return float(np.nanmean(pairs.correlation()))


def linear_floor(splits: Mapping[str, Split]) -> Floor:
    """Return the linear map that is best on the validation split."""
    floors = [
        floor
        for name, features in feature_sets({split: part.stimuli for split, part in splits.items()})
        for floor in ridge(name, features, {split: part.fmri for split, part in splits.items()})
    ]
    return max(floors, key=lambda floor: floor.val)


def feature_sets(stimuli: Mapping[str, Mapping[str, Values]]) -> Iterator[tuple[str, dict[str, Values]]]:
    """Yield what a linear map may be made from: name, and split -> features (N, F)."""
    yield "all features", {split: joined(parts.values()) for split, parts in stimuli.items()}
    names = list(stimuli["train"])
    bases = {name: principal(stimuli["train"][name], max(COMPONENTS)) for name in names}
    for count in COMPONENTS:
        yield (
            f"{count} components a modality",
            {split: joined(parts[name] @ bases[name][:, :count] for name in names) for split, parts in stimuli.items()},
        )


def joined(parts: Any) -> Values:
    return np.concatenate(list(parts), axis=1)


def principal(values: Values, count: int) -> Values:
    """Return the first principal directions of values (N, F), (F, count), scaled to scores of variance 1."""
    from scipy.sparse.linalg import svds

    count = min(count, min(values.shape) - 1)
    _, sizes, directions = svds(values.astype(np.float64), k=count, v0=np.ones(min(values.shape)))
    order = np.argsort(sizes)[::-1]
    return np.asarray((directions[order] / sizes[order, None]).T * np.sqrt(len(values)), dtype=np.float32)


def ridge(name: str, features: Mapping[str, Values], fmri: Mapping[str, Values]) -> Iterator[Floor]:
    """Yield a ridge regression of each strength, solved for features or for samples, whichever are fewer."""
    mean = features["train"].mean(axis=0)
    train, val, test = ((features[split] - mean).astype(np.float64) for split in ("train", "val", "test"))
    few = train.shape[1] <= len(train)
    products = train.T @ train if few else train @ train.T
    for strength in STRENGTHS:
        penalized = products + strength * np.eye(len(products))
        if few:
            weights = np.linalg.solve(penalized, train.T @ fmri["train"])
        else:
            weights = train.T @ np.linalg.solve(penalized, fmri["train"])
        found = [mean_correlation(values @ weights, fmri[split]) for values, split in ((val, "val"), (test, "test"))]
        yield Floor(name, strength, *found)


def latent_recovered(result: Any, task: MultimodalTask) -> float:
    """Return how well a linear map of the bottleneck gives the latent of the newest sample: R^2 on the test split."""
    packed = mltrain.load_model(result.folder)
    latent = np.load(f"{task.config.data.data_dir}/truth/latent.npy")
    scores, truth = {}, {}
    for split in ("train", "test"):
        dataset = task.datasets()[split]
        with torch.inference_mode():
            batch = task.collate([dataset.load(index, None) for index in range(len(dataset))])
            scores[split] = packed.module(task.pipeline.standard_stimuli(batch))["bottleneck"].numpy()
        truth[split] = latent[[int(dataset.sample_id(index)) for index in range(len(dataset))]]
    design = {split: np.column_stack([values, np.ones(len(values))]) for split, values in scores.items()}
    weights = np.linalg.lstsq(design["train"], truth["train"], rcond=None)[0]
    error = (design["test"] @ weights - truth["test"]).var(axis=0)
    return float(np.mean(1 - error / truth["test"].var(axis=0)))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folds", type=int, nargs="+", default=[0])
    print("| fold | best linear map | its test r | autoencoder's test r | noise ceiling | latent, R^2 |")
    print("|---|---|---|---|---|---|")
    for fold in parser.parse_args().folds:
        settings = {"data.fold": fold, "run.name": f"brain_{fold}", "reproducibility.num_threads": 1}
        result = mltrain.train(CONFIG, settings, resume="auto")
        if result.summary["status"] not in ("completed", "early_stopped"):
            return 1
        task = MultimodalTask(load_config(result.folder / "config.yaml", {}, task_config_class).config)
        floor = linear_floor({split: read_split(task, split) for split in ("train", "val", "test")})
        ceiling = np.concatenate(list(task.recordings.ceilings.values()))
        print(
            f"| {fold} | {floor.features}, strength {floor.strength:g} | {floor.test:.3f} "
            f"| {result.summary['test']['voxel_correlation']:.3f} | {ceiling.mean():.3f} "
            f"| {latent_recovered(result, task):.3f} |",
            flush=True,
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
