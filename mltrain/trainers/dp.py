"""`dp`: differential privacy. Windows are Poisson draws; a step clips the gradient of each example and adds noise."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
import torch.distributed as dist
from accelerate import Accelerator
from torch import nn

from mltrain.config.schema import Config
from mltrain.core.hardware import process_count, set_float32_precision
from mltrain.core.logging import log
from mltrain.core.seeding import mix
from mltrain.data.loader import Plan, Window
from mltrain.models.private_layers import adapt_for_privacy
from mltrain.privacy.account import PrivacyAccount, new_accountant
from mltrain.privacy.clipping import ClippedGradients
from mltrain.privacy.completeness import refuse_incomplete
from mltrain.privacy.ledger import Ledger
from mltrain.privacy.mode_choice import Mode, choose_mode
from mltrain.privacy.noise import NoiseSource
from mltrain.privacy.poisson_plan import PoissonPlan
from mltrain.privacy.private_update import PrivateUpdate
from mltrain.privacy.rounding import rounded_up
from mltrain.privacy.statement import short_facts, write_statement
from mltrain.tasks.base import Task
from mltrain.trainers.base import Trainer
from mltrain.trainers.devices import new_accelerator
from mltrain.trainers.microbatches import Microbatches
from mltrain.trainers.private_checks import check_private_config, check_private_task, probe_batch
from mltrain.trainers.private_claim import claim_of
from mltrain.trainers.registry import register_trainer
from mltrain.trainers.sound_examples import SoundExamples

__all__ = ["DPTrainer"]


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
    def check_task(cls, config: Config, task: Task) -> None:
        """Refuse data, losses and models that cannot be trained privately; calibrate the noise."""
        check_private_task(config, task, processes=process_count())

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
        public = ("!val/*",) if config.data.validation_is_public else ()
        return ("*", "!epoch", "!train/lr", "!train/grad_norm", "!privacy/*", *public)

    @classmethod
    def repeats_exactly(cls, config: Config) -> bool:
        """Return whether draws and noise follow from the seed, which is for tests."""
        return config.training.dp.reproducible

    # ---- the parts of the run --------------------------------------------------------------------------------------

    def make_plan(self, num_samples: int, window_size: int) -> Plan:
        """Open the account of the run, and return its plan."""
        section = self.config.training.dp
        rank = self.processes.rank
        plan = PoissonPlan(
            num_samples,
            window_size,
            self.num_epochs,
            rank=rank,
            processes=self.processes.count,
            key=self._test_key("draws", rank),
        )
        self._ledger: Ledger | None = None
        mechanism, steps = self.processes.done_by_main(lambda: self._open_ledger(plan))
        accountant = new_accountant(section, plan, noise_multiplier=mechanism["noise_multiplier"])
        self.account = PrivacyAccount(
            plan, accountant, target_epsilon=section.target_epsilon, ledger=self._ledger, steps=steps
        )
        self._facts: dict[str, Any] = {}
        self._status = ""
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
        self.grad_sample_mode, self._mode_text = self._choose_mode(model)
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
        self.sound_examples = SoundExamples(self)
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
            batch = self.to_device(self.timing.wait_for(window.batches))
            self.sound_examples.add(batch)
        self.processes.agree_on_step(self.finite, self.stop)
        self.account.settle()
        self._update()

    def steps_allowed(self) -> int:
        """Return how many steps the target leaves."""
        return self.account.steps_allowed(self.position.step)

    def limit_text(self) -> str:
        """Say that the budget is spent."""
        spent, steps = self.account.accountant.epsilon(self.account.steps), self.account.steps
        return (
            f"the privacy budget is spent: epsilon {spent:.3f} after {steps} steps, and one more would pass "
            f"training.dp.target_epsilon {self.account.target_epsilon:g}"
        )

    def samples_of(self, window: Window) -> int:
        """Return the expected number: the realised one is not private, and each rank knows its own alone."""
        return self.window_size

    def extra_values(self) -> dict[str, float]:
        """Return epsilon so far."""
        if not self.is_main:
            return {}
        epsilon = self.account.epsilon()
        self._status = f"epsilon {rounded_up(epsilon)}"
        return {"privacy/epsilon": epsilon, "privacy/steps": float(self.account.steps)}

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
        if not self.is_main:
            return
        ahead = min(self.account.plan.total_steps - self.position.step, self.steps_allowed())
        claim = claim_of(self, under_way=True, steps_ahead=ahead)
        accountant = self.account.accountant
        log.info(
            "Privacy: each of %d samples with probability %.6g in each step, clipped to %g, noise multiplier %.6g; "
            "epsilon %.4g at delta %.3g after %d steps.",
            claim.num_samples, claim.sample_rate, claim.max_grad_norm, claim.noise_multiplier,
            accountant.epsilon(claim.steps_counted), claim.delta, claim.steps_counted,
        )  # fmt: skip
        log.info("%s", self._mode_text)
        if claim.reproducible:
            log.warning("training.dp.reproducible: samples and noise follow from the seed. There is NO privacy.")
        write_statement(self.folder.reports, claim)

    def status_text(self) -> str:
        """Return epsilon as it was last logged: it takes too long for every step."""
        return self._status

    def write_reports(self, reports: Path) -> None:
        """Write the privacy statement; of an interrupted run without a cross-check, for which nobody may wait."""
        interrupted = self.stop.status == "interrupted"
        self._facts = write_statement(reports, claim_of(self, under_way=interrupted))

    def summary_facts(self) -> dict[str, Any]:
        """Return the statement in short."""
        return {"privacy": short_facts(self._facts)} if self._facts else {}

    # ---- details ---------------------------------------------------------------------------------------------------

    def _open_ledger(self, plan: PoissonPlan) -> tuple[dict[str, Any], int]:
        section = self.config.training.dp
        path = self.folder.privacy_ledger
        mechanism: dict[str, Any] = {}
        if not path.exists():
            accountant = new_accountant(section, plan)
            mechanism = {
                "noise_multiplier": accountant.noise_multiplier,
                "max_grad_norm": section.max_grad_norm,
                "sample_rate": plan.sample_rate,
                "expected_batch_size": plan.batch_size,
                "num_samples": plan.num_samples,
                "dataset_digest": self.task.data_facts().get("digest"),
                "reproducible": section.reproducible,
            }
        self._ledger = Ledger(path, mechanism)
        return self._ledger.mechanism, self._ledger.steps

    def _choose_mode(self, model: nn.Module) -> tuple[Mode, str]:
        """Return how gradients of examples are clipped, and a sentence about it."""
        section = self.config.training.dp
        mode: Mode | Literal["auto"] = section.grad_sample_mode
        if mode == "auto" and section.reproducible:
            # A trial may end otherwise the next time, and the modes differ in their last bits.
            mode = "hooks"
        batch = self.to_device(probe_batch(self.task, self.config.training.batch_size))

        def losses() -> torch.Tensor:
            return self.task.losses(model, batch).values

        if mode != "auto":
            refuse_incomplete(model, losses, mode)
            return mode, f"Gradients of examples: {mode}."
        chosen: tuple[Mode, str] = self.processes.done_by_main(
            lambda: choose_mode(model, losses, section.max_grad_norm)
        )
        return chosen

    def _test_key(self, purpose: str, number: int) -> bytes | None:
        """Return a key that follows from the seed, which anybody may know; None where there is to be privacy."""
        if not self.config.training.dp.reproducible:
            return None
        return hashlib.sha256(f"{self.config.seed} {purpose} {number}".encode()).digest()
