"""What a private run did, as far as its statement of privacy needs it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from mltrain.tracking.non_private import matcher

__all__ = ["PrivacyClaim"]


@dataclass(frozen=True)
class PrivacyClaim:
    """The figures of a run, or of what it may come to while it is under way.

    Attributes:
        sample_rate: probability of each example to be in a step's batch (q).
        noise_multiplier: standard deviation of the noise, over `max_grad_norm` (sigma).
        max_grad_norm: what one example may contribute (C).
        num_samples: training examples (N).
        batch_size: what a batch of all processes holds on average (B).
        planned_steps: steps of all epochs (T).
        delta: of the claim.
        accountant: "prv" or "rdp".
        steps_counted: steps by the privacy ledger, those that a kill lost included; while the run is under way the
            most that it may come to.
        steps_learned: steps that the weights are the result of.
        grad_sample_mode: "ghost" or "hooks".
        noise_source: where the noise and the draws come from, for people.
        target_epsilon: the most that was allowed; None: no limit.
        data_digest: of the training data.
        initial_weights: `source` and `sha256` of what training began with; None: random ones.
        validation_is_public: the user says so.
        accept_selection_leak: the user accepts that private values choose.
        fitted: what was computed from the training data, without noise, before training; the user accepts that.
        selection: which checkpoint's weights were chosen, the "last" or the "best".
        decisions: what was decided by a logged value -> its name, such as {"the chosen weights": "val/accuracy"}.
        non_private: patterns of the logged names that the guarantee does not cover.
        ema: the chosen weights are a moving average.
        reproducible: noise and draws followed from the seed.
        num_processes, num_segments: how the run was made.
        run_name: of the run.
        state: "under way": the run has begun; "interrupted": it has stopped before its end, and may be continued.
        callbacks: names of the callbacks that plugins added to the run.
        plugins: files of the user's own code.
    """

    sample_rate: float
    noise_multiplier: float
    max_grad_norm: float
    num_samples: int
    batch_size: int
    planned_steps: int
    delta: float
    accountant: Literal["prv", "rdp"]
    steps_counted: int
    steps_learned: int
    grad_sample_mode: str
    noise_source: str
    target_epsilon: float | None = None
    data_digest: str | None = None
    initial_weights: Mapping[str, str] | None = None
    validation_is_public: bool = False
    accept_selection_leak: bool = False
    fitted: tuple[str, ...] = ()
    selection: Literal["last", "best"] = "last"
    decisions: Mapping[str, str] = field(default_factory=dict)
    non_private: tuple[str, ...] = ("*",)
    ema: bool = False
    reproducible: bool = False
    num_processes: int = 1
    num_segments: int = 1
    run_name: str = ""
    state: Literal["under way", "interrupted", "ended"] = "ended"
    callbacks: tuple[str, ...] = ()
    plugins: tuple[str, ...] = ()

    @property
    def under_way(self) -> bool:
        """Whether the figures are those that the run may come to, and not those that it has."""
        return self.state == "under way"

    @property
    def void(self) -> str | None:
        """Why there is no guarantee at all, or None."""
        if self.noise_multiplier == 0:
            return "No noise was added (noise multiplier 0): epsilon is infinite."
        if self.reproducible:
            return "Draws and noise follow from the seed (dp.reproducible): whoever knows it can take them off again."
        return None

    @property
    def leaking_decisions(self) -> dict[str, str]:
        """Those of `decisions` that were taken by a value which the guarantee does not cover."""
        is_non_private = matcher(self.non_private)
        return {what: name for what, name in self.decisions.items() if is_non_private(name)}
