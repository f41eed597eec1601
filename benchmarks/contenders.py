"""The loops that are compared: each as its own guide writes it, logging the loss every 50 steps.

Frameworks are imported where they are used, so that a contender's process holds its own alone.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader

from benchmarks.problems import LOG_EVERY, MAX_NORM, Batch, Problem, collate


class Ticker(Protocol):
    """Takes note of each optimizer step."""

    def tick(self, model: nn.Module) -> None: ...


def plain(problem: Problem, clock: Ticker) -> None:
    """PyTorch alone."""
    model = problem.model()
    train_by_hand(model, model, problem.optimizer(model), _loader(problem), clock, Path("log.jsonl"))


def train_by_hand(
    model: nn.Module,
    called: nn.Module,
    optimizer: torch.optim.Optimizer,
    loader: DataLoader[Any],
    clock: Ticker,
    file: Path,
) -> None:
    """Train in PyTorch's own words.

    Args:
        model: whose parameters are trained.
        called: the model, or its wrapper.
        optimizer, loader, clock: of the contender.
        file: log of the loss.
    """
    with file.open("w") as log:
        for step, batch in enumerate(loader, 1):
            loss = F.cross_entropy(called(batch["inputs"]), batch["labels"])
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), MAX_NORM)
            optimizer.step()
            optimizer.zero_grad()
            if step % LOG_EVERY == 0:
                log.write(json.dumps({"step": step, "loss": loss.item()}) + "\n")
            clock.tick(model)


def accelerate(problem: Problem, clock: Ticker) -> None:
    """A loop with Accelerate, as in its quick tour."""
    from accelerate import Accelerator

    accelerator = Accelerator(cpu=True)
    model = problem.model()
    model, optimizer, loader = accelerator.prepare(model, problem.optimizer(model), _loader(problem))
    with Path("log.jsonl").open("w") as log:
        for step, batch in enumerate(loader, 1):
            loss = F.cross_entropy(model(batch["inputs"]), batch["labels"])
            accelerator.backward(loss)
            accelerator.clip_grad_norm_(model.parameters(), MAX_NORM)
            optimizer.step()
            optimizer.zero_grad()
            if step % LOG_EVERY == 0:
                log.write(json.dumps({"step": step, "loss": loss.item()}) + "\n")
            clock.tick(model)


def hf_trainer(problem: Problem, clock: Ticker) -> None:
    """The Trainer of Hugging Face transformers."""
    from transformers import Trainer, TrainerCallback, TrainingArguments

    class Wrapped(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = problem.model()

        def forward(self, inputs: torch.Tensor, labels: torch.Tensor) -> dict[str, torch.Tensor]:
            logits = self.network(inputs)
            return {"loss": F.cross_entropy(logits, labels), "logits": logits}

    class Ordered(Trainer):
        def _get_train_sampler(self, train_dataset: Any = None) -> Any:
            return problem.order

    class Tick(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **others: Any) -> None:
            clock.tick(model.network)

    model = Wrapped()
    optimizer = problem.optimizer(model)
    Ordered(
        model,
        TrainingArguments(
            "output",
            per_device_train_batch_size=problem.batch_size,
            num_train_epochs=1,
            max_grad_norm=MAX_NORM,
            logging_steps=LOG_EVERY,
            save_strategy="no",
            report_to=[],
            disable_tqdm=True,
            use_cpu=True,
            remove_unused_columns=False,
        ),
        data_collator=collate,
        train_dataset=problem.samples,
        optimizers=(optimizer, torch.optim.lr_scheduler.ConstantLR(optimizer, factor=1.0)),
        callbacks=[Tick()],
    ).train()


def lightning(problem: Problem, clock: Ticker) -> None:
    """Lightning's Trainer with its CSV logger."""
    from lightning.pytorch import Callback, LightningModule, Trainer
    from lightning.pytorch.loggers import CSVLogger

    class Wrapped(LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.network = problem.model()

        def training_step(self, batch: Batch, index: int) -> torch.Tensor:
            loss = F.cross_entropy(self.network(batch["inputs"]), batch["labels"])
            self.log("loss", loss)
            return loss

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return problem.optimizer(self)

    class Tick(Callback):
        def on_train_batch_end(self, trainer: Any, module: Any, *others: Any) -> None:
            clock.tick(module.network)

    Trainer(
        accelerator="cpu",
        devices=1,
        max_epochs=1,
        gradient_clip_val=MAX_NORM,
        log_every_n_steps=LOG_EVERY,
        logger=CSVLogger("logs"),
        callbacks=[Tick()],
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    ).fit(Wrapped(), _loader(problem))


def ours(problem: Problem, clock: Ticker, overrides: Mapping[str, Any] | None = None) -> None:
    """mltrain with its trainer `standard`; `overrides` as on its command line."""
    from benchmarks.ours import run

    run(problem, clock, overrides or {})


def _loader(problem: Problem) -> DataLoader[Any]:
    return DataLoader(problem.samples, problem.batch_size, sampler=problem.order, collate_fn=collate)
