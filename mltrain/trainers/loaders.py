"""The run's loaders: one stream for training, one loader a split for evaluation."""

from __future__ import annotations

import torch

from mltrain.config.schema import Config
from mltrain.core.logging import log
from mltrain.data.batches import collated
from mltrain.data.loader import EvaluationLoader, Plan, TrainingStream
from mltrain.data.plan import Cut, OrderedPlan, Position
from mltrain.tasks.base import Task
from mltrain.trainers.loader_settings import choose_loader_settings, local_process_count, tensor_bytes
from mltrain.trainers.processes import Processes

__all__ = ["Loaders"]


class Loaders:
    """Makes loaders for this rank.

    Args:
        config: the configuration.
        task: gives the data sets and the collation.
        processes: this rank among the others.
        device: where batches go.
    """

    def __init__(self, config: Config, task: Task, processes: Processes, device: torch.device) -> None:
        self.splits = task.datasets()
        self._task, self._seed = task, config.seed
        self._rank, self._processes = processes.rank, processes.count
        self._batch_size = config.training.batch_size
        self._eval_batch_size = config.training.eval_batch_size or config.training.batch_size
        self.settings = choose_loader_settings(
            config.data,
            device,
            batch_bytes=self._largest_batch_bytes(),
            local_processes=local_process_count(processes.count),
            is_main=processes.rank == 0,
        )
        self._evaluation: dict[str, EvaluationLoader] = {}

    def training_stream(self, plan: Plan, cut: Cut, start: Position, num_epochs: int) -> TrainingStream:
        """Return the windows of this rank from a position on."""
        return TrainingStream(
            self.splits["train"],
            self._task.collate,
            plan,
            cut,
            seed=self._seed,
            settings=self.settings,
            start=start,
            num_epochs=num_epochs,
        )

    def evaluation(self, split: str) -> EvaluationLoader:
        """Return the loader of a split; its workers stay for the next time."""
        if split not in self._evaluation:
            dataset = self.splits[split]
            self._evaluation[split] = EvaluationLoader(
                dataset,
                self._task.collate,
                OrderedPlan(len(dataset), self._eval_batch_size * self._processes),
                Cut(self._rank, self._processes, self._eval_batch_size),
                settings=self.settings,
            )
        return self._evaluation[split]

    def make_evaluation_smaller(self) -> bool:
        """Halve the batches of all evaluations; returns False where that cannot be: see `evaluate_in_memory`."""
        if self._eval_batch_size == 1 or self._processes > 1:
            return False
        self.close()
        before, self._eval_batch_size = self._eval_batch_size, self._eval_batch_size // 2
        log.warning(
            "Out of memory in an evaluation with batches of %d: once more with %d.", before, self._eval_batch_size
        )
        return True

    def _largest_batch_bytes(self) -> int:
        sample = self.splits["train"].load(0, None)
        return tensor_bytes(collated([sample], self._task.collate)) * max(self._batch_size, self._eval_batch_size)

    def close(self) -> None:
        """Stop all evaluation workers."""
        for loader in self._evaluation.values():
            loader.close()
        self._evaluation.clear()
