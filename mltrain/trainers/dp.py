"""`dp`: differential privacy. Windows are Poisson draws; a step clips the gradient of each example and adds noise."""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
import torch.distributed as dist
from accelerate import Accelerator
from torch import nn

from mltrain.config.schema import Config
from mltrain.core.files import read_record
from mltrain.core.hardware import process_count, set_float32_precision
from mltrain.core.logging import log
from mltrain.core.run_folder import RunFolder
from mltrain.core.seeding import mix, stream_key
from mltrain.data.batches import Batch
from mltrain.data.loader import Plan, Window
from mltrain.models.private_layers import adapt_for_privacy
from mltrain.privacy.clipping import ClippedGradients
from mltrain.privacy.completeness import refuse_incomplete
from mltrain.privacy.mode_choice import Mode, choose_mode
from mltrain.privacy.noise import NoiseSource
from mltrain.privacy.poisson_plan import PoissonPlan
from mltrain.privacy.private_update import PrivateUpdate
from mltrain.privacy.rounding import rounded_up
from mltrain.privacy.statement import short_facts, write_statement
from mltrain.tasks.base import Task
from mltrain.tasks.contract import losses_of
from mltrain.trainers.base import Trainer
from mltrain.trainers.devices import new_accelerator
from mltrain.trainers.microbatches import Microbatches
from mltrain.trainers.private_account import announce_privacy, open_account
from mltrain.trainers.private_checks import check_private_config, check_private_task, probe_batch
from mltrain.trainers.private_claim import State, claim_of
from mltrain.trainers.registry import register_trainer

__all__ = ["DPTrainer"]

# Examples of a trial where nothing is timed.
_PROBED = 32


@register_trainer("dp")
class DPTrainer(Trainer):
    """One process or many, full precision. What it promises, and what not, stands in `reports/privacy.html`."""

    name = "dp"
    guarantee: ClassVar[str | None] = "differential privacy"
    default_selection: ClassVar[str] = "last"

    # ---- before the run --------------------------------------------------------------------------------------------

    @classmethod
    def check(cls, config: Config) -> None:
        """Refuse what would make the promise void."""
        check_private_config(config)

    @classmethod
    def check_task(cls, config: Config, task: Task, continued: RunFolder | None) -> None:
        """Refuse data, losses and models that cannot be trained privately; calibrate the noise."""
        check_private_task(config, task, continued, processes=process_count())

    @classmethod
    def make_accelerator(cls, config: Config) -> Accelerator:
        """Return an Accelerator of the launch environment, in full precision, products on GPUs included."""
        training = config.training
        set_float32_precision(tf32=False)
        return new_accelerator(
            training.device, mixed_precision="no", collective_timeout_s=training.collective_timeout_s
        )

    @classmethod
    def non_private(cls, config: Config) -> tuple[str, ...]:
        """Return all but what follows from the noisy gradients alone, or from public data."""
        is_public = config.data.validation_is_public
        by_values = config.scheduler.name == "plateau" and not (is_public and config.scheduler.monitor[:3] == "val")
        rate = () if by_values else ("!train/lr",)
        return ("*", "!epoch", *rate, "!train/grad_norm", "!privacy/*", *(("!val/*",) if is_public else ()))

    @classmethod
    def repeats_exactly(cls, config: Config) -> bool:
        """Return whether draws and noise follow from the seed, which is for tests."""
        return config.training.dp.reproducible

    # ---- the parts of the run --------------------------------------------------------------------------------------

    def random_key(self, purpose: str) -> int:
        """Return a key that nobody knows.

        Masks of dropout that follow from the seed and the place in a batch would tell, by all that come after it,
        whether an example is there. As secret draws they are the same for the others with and without it.
        """
        return stream_key(self._secret, purpose)

    @cached_property
    def _secret(self) -> int:
        return self.config.seed if self.config.training.dp.reproducible else int.from_bytes(os.urandom(8), "little")

    def make_plan(self, num_samples: int, window_size: int) -> Plan:
        """Open the account of the run, and return its plan."""
        rank = self.processes.rank
        plan = PoissonPlan(
            num_samples,
            window_size,
            self.num_epochs,
            rank=rank,
            processes=self.processes.count,
            key=self._test_key("draws", rank),
            lengths=self.task.sample_lengths(),
        )
        self.account = open_account(self, plan)
        # Until it has begun: that of the segment before.
        self._facts = read_record(self.folder.reports / "privacy.json")
        self._has_begun = False
        self._status: tuple[int, str] = (-1, "")
        return plan

    def make_microbatches(self) -> Microbatches:
        """Return how a draw of this rank is cut; by default nearly every one stays whole."""
        training = self.config.training
        # Six standard deviations above the mean of what `batch_size` examples on average come to.
        usual = 8 * math.ceil((training.batch_size + 6 * math.sqrt(training.batch_size)) / 8)
        return Microbatches(0, 1, training.dp.max_physical_batch_size or usual, 1)

    def adapt(self, model: nn.Module) -> list[str]:
        """Replace layers that mix examples."""
        return adapt_for_privacy(model)

    def prepare(
        self, model: nn.Module, optimizer: torch.optim.Optimizer
    ) -> tuple[nn.Module, torch.optim.Optimizer, PrivateUpdate]:
        """Hook into the model. It is not wrapped: what ranks exchange are noisy sums, not gradients."""
        section = self.config.training.dp
        self.processes.share_parameters(model)
        self.grad_sample_mode, self.mode_text = self._choose_mode(model)
        self.noise = NoiseSource(self._test_key("noise", 0)) if self.is_main else None
        self.private_update = PrivateUpdate(
            ClippedGradients(model, section.max_grad_norm, self.grad_sample_mode),
            optimizer,
            self.noise,
            noise_multiplier=self.account.accountant.noise_multiplier,
            max_grad_norm=section.max_grad_norm,
            batch_size=self.window_size,
            exchange=dist.all_reduce if self.processes.count > 1 else None,
        )
        self._unsound_told = False
        return model, optimizer, self.private_update

    def close(self) -> None:
        """Close the ledger and take the hooks off the model."""
        self.account.close()
        self.private_update.gradients.close()

    # ---- during the run --------------------------------------------------------------------------------------------

    def step(self, window: Window) -> None:
        """Take one private step. An empty draw is one as well: its gradient is noise."""
        step = self.position.step
        self.account.begin_step(step)
        self.reseed(mix(self._step_key, step))
        self.schedule.set(step)
        if self.config.training.dp.reproducible and self.noise is not None:
            self.noise.rekey(self._test_key("noise", step) or b"")
        for _ in range(window.num_microbatches):
            self._add(self.to_device(self.timing.wait_for(window.batches)))
        self.agreement.begin_step(self.finite, self.stop)
        self.agreement.settle_step(self.finite, self.stop)
        self.account.settle()
        self._update()

    def _add(self, batch: Batch) -> None:
        """Add the clipped gradients of a microbatch.

        An example whose gradient is not finite cannot be clipped. To stop would tell that it is there; it adds nothing,
        which is within what one example may add.
        """
        losses = losses_of(self.task, self.model, batch)
        norms = self.private_update.add(losses.values)
        unsound = int((~(norms + losses.values.detach()).isfinite()).sum())
        if not unsound:
            self.meter.add(losses, batch, None)
            return
        self.meter.leave_out(losses)
        tell = log.debug if self._unsound_told else log.warning
        self._unsound_told = True
        tell(
            "Step %d: the gradients of %d of %d examples are not finite; these add nothing.",
            self.position.step + 1, unsound, len(norms),
        )  # fmt: skip

    def steps_allowed(self) -> int:
        """Return how many steps the target leaves."""
        return self.account.steps_allowed(self.position.step)

    def limit_text(self) -> str:
        """Say that the budget is spent."""
        steps = self.account.steps
        spent = rounded_up(self.account.accountant.epsilon(steps))
        return (
            f"the privacy budget is spent: epsilon {spent} after {steps} steps, and one more would pass "
            f"training.dp.target_epsilon {self.account.target_epsilon:g}"
        )

    def samples_of(self, window: Window) -> int:
        """Return the expected number: the realised one is not private, and each rank knows its own alone."""
        return self.window_size

    def extra_values(self) -> dict[str, float]:
        """Return epsilon so far."""
        if not self.is_main:
            return {}
        return {"privacy/epsilon": self.account.epsilon(), "privacy/steps": float(self.account.steps)}

    def extra_state(self) -> dict[str, Any]:
        """Return the ledger."""
        return {"ledger": self.account.state()}

    def load_extra_state(self, state: Mapping[str, Any]) -> None:
        """Hold a checkpoint against the ledger, which alone says what was spent."""
        self.processes.done_by_main(lambda: self.account.check(state["ledger"]))

    # ---- what is told of the run -----------------------------------------------------------------------------------

    def window_text(self) -> str:
        """Return the mean size of a window."""
        return f"{self.window_size} samples on average"

    def begin(self) -> None:
        """Say what the run will have spent at its end, and write it down: a run that is killed has a statement too."""
        self._has_begun = True
        if not self.is_main:
            return
        announce_privacy(self)
        ahead = min(self.account.plan.total_steps - self.position.step, self.steps_allowed())
        write_statement(self.folder.reports, claim_of(self, state="under way", steps_ahead=ahead))

    def status_text(self) -> str:
        """Return epsilon at the next log point: it takes too long for every step, and must not be too small."""
        every = self.config.tracking.log_every_n_steps
        point = -(-self.account.steps // every) * every
        if self._status[0] != point:
            self._status = point, f"epsilon {rounded_up(self.account.epsilon(point))}"
        return self._status[1]

    def write_reports(self, reports: Path) -> None:
        """Write the privacy statement; where the run has not ended without a cross-check: nobody may wait for it."""
        if not self._has_begun:
            return
        log.info("Writing the privacy statement.")
        is_over = self.position.epoch == self.num_epochs or self.stop.status == "early_stopped"
        state: State = "ended" if is_over and self.stop.status != "interrupted" else "interrupted"
        self._facts = write_statement(reports, claim_of(self, state=state))

    def summary_facts(self) -> dict[str, Any]:
        """Return the statement in short."""
        return {"privacy": short_facts(self._facts)} if self._facts else {}

    # ---- details ---------------------------------------------------------------------------------------------------

    def _choose_mode(self, model: nn.Module) -> tuple[Mode, str]:
        """Return how gradients of examples are clipped, and a sentence about it."""
        section = self.config.training.dp
        mode: Mode | Literal["auto"] = section.grad_sample_mode
        if mode == "auto" and section.reproducible:
            # A trial may end otherwise the next time, and the modes differ in their last bits.
            mode = "hooks"
        most = min(self.config.training.batch_size, section.max_physical_batch_size or self.config.training.batch_size)
        size = max(2, most if mode == "auto" else min(most, _PROBED))
        batch, smaller = (self.to_device(probe_batch(self.task, count)) for count in (size, size - 1))

        def losses() -> torch.Tensor:
            return self.task.losses(model, batch).values

        text = f"Gradients of examples: {mode}."
        if mode == "auto":
            mode, text = self.processes.done_by_main(lambda: choose_mode(model, losses, section.max_grad_norm))
        else:
            refuse_incomplete(model, losses, mode)
        # Another number of examples, lest it is by chance that of something else, such as the length of a sequence.
        refuse_incomplete(model, lambda: self.task.losses(model, smaller).values, mode)
        return mode, text

    def _test_key(self, purpose: str, number: int) -> bytes | None:
        """Return a key that follows from the seed, which anybody may know; None where there is to be privacy."""
        if not self.config.training.dp.reproducible:
            return None
        return hashlib.sha256(f"{self.config.seed} {purpose} {number}".encode()).digest()
