"""The statement of privacy of a run: `reports/privacy.json` for programs, `reports/privacy.html` for people."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from mltrain.core.errors import one_line
from mltrain.core.files import write_json, write_text
from mltrain.core.version import __version__
from mltrain.privacy.accounting import Accountant
from mltrain.privacy.claim import PrivacyClaim
from mltrain.privacy.cross_check import pld_epsilon
from mltrain.privacy.rounding import rounded_up, shown_up
from mltrain.privacy.running_epsilon import RunningEpsilon
from mltrain.privacy.scope import (
    NEIGHBOURS,
    clipping_text,
    conditions,
    not_covered,
    public_facts,
    sampling_text,
    weights_text,
)
from mltrain.privacy.statement_page import statement_page
from mltrain.tracking.non_private import not_private_text

__all__ = ["privacy_facts", "short_facts", "write_statement"]

_FORMAT = 1
_JSON, _PAGE = "privacy.json", "privacy.html"
_PACKAGES = ("torch", "opacus", "dp-accounting", "cryptography")
_CURVE_POINTS = 8
# The grid of PLD grows with epsilon, and takes minutes for one that protects nobody.
_MOST_CHECKED = 30.0
_NON_PRIVATE_FILES = (
    "metrics.jsonl", "summary.json", "summary.txt", "metadata.json", "data_files.jsonl.gz", "logs/", "reports/",
    "checkpoints/", "tensorboard/", "tracking/", "model/mltrain.json: whatever it holds beyond what is public",
)  # fmt: skip


def write_statement(reports: Path, claim: PrivacyClaim) -> dict[str, Any]:
    """Write both forms into the folder `reports` and return what the JSON holds.

    Raises:
        OSError: one of them cannot be written.
    """
    facts = privacy_facts(claim)
    write_text(reports / _PAGE, statement_page(facts))
    write_json(reports / _JSON, facts)
    return facts


def short_facts(facts: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the summary of a run says of its statement; epsilon and delta are rounded up to four digits."""
    epsilon = facts["epsilon"]
    return {
        "epsilon": None if epsilon is None else rounded_up(epsilon),
        "delta": rounded_up(facts["delta"]),
        "accountant": facts["accountant"],
        "steps": facts["steps"],
        "void": facts["void"],
        "statement": f"reports/{_PAGE}",
    }


def privacy_facts(claim: PrivacyClaim) -> dict[str, Any]:
    """Return what `privacy.json` holds. `epsilon` is null where the statement is void.

    Of a run that has not ended only the claim itself is computed: the cross-check and the curve take seconds.
    """
    epsilons, reasons = _epsilons(claim)
    void = claim.void or (None if epsilons[claim.accountant] is not None else "The accountant finds no finite epsilon.")
    epsilon = None if void else epsilons[claim.accountant]
    return {
        "format": _FORMAT,
        "run_name": claim.run_name,
        "void": void,
        "state": claim.state,
        "under_way": claim.under_way,
        "epsilon": epsilon,
        "delta": claim.delta,
        "noise_multiplier": claim.noise_multiplier,
        "sample_rate": claim.sample_rate,
        "steps": claim.steps_counted,
        "max_grad_norm": claim.max_grad_norm,
        "accountant": claim.accountant,
        "accountant_epsilons": epsilons,
        "cross_check": _cross_check(claim, epsilons, reasons),
        "target_epsilon": claim.target_epsilon,
        "within_target": None if epsilon is None or claim.target_epsilon is None else epsilon <= claim.target_epsilon,
        "expected_batch_size": claim.batch_size,
        "num_samples": claim.num_samples,
        "planned_steps": claim.planned_steps,
        "steps_counted": claim.steps_counted,
        "steps_learned": claim.steps_learned,
        "segments": claim.num_segments,
        "num_processes": claim.num_processes,
        "neighbouring_relation": NEIGHBOURS,
        "sampling": sampling_text(claim),
        "clipping": clipping_text(claim),
        "noise_source": claim.noise_source,
        "grad_sample_mode": claim.grad_sample_mode,
        "data_digest": claim.data_digest,
        "initial_weights": None if claim.initial_weights is None else dict(claim.initial_weights),
        "selection": _selection(claim),
        "callbacks": list(claim.callbacks),
        "plugins": list(claim.plugins),
        "conditions": conditions(claim),
        "public": public_facts(claim),
        "not_covered": not_covered(claim),
        "non_private_outputs": list(claim.non_private),
        "non_private_outputs_text": not_private_text(claim.non_private),
        "non_private_files": list(_NON_PRIVATE_FILES),
        "epsilon_by_steps": _curve(claim),
        "epsilon_by_steps_text": f"upper bounds of epsilon after so many steps, at delta {shown_up(claim.delta)}",
        "versions": {"mltrain": __version__, **{name: _version(name) for name in _PACKAGES}},
    }


def _accountant(claim: PrivacyClaim, kind: str) -> Accountant:
    return Accountant(claim.sample_rate, claim.noise_multiplier, claim.delta, kind)


def _epsilons(claim: PrivacyClaim) -> tuple[dict[str, float | None], dict[str, str]]:
    """Return each accountant's epsilon, null where it has none, and why it has none."""
    epsilons: dict[str, float | None] = dict.fromkeys(("prv", "rdp", "pld"))
    if claim.noise_multiplier == 0:
        return epsilons, dict.fromkeys(epsilons, "there is no noise")
    claimed = _accountant(claim, claim.accountant).epsilon(claim.steps_counted)
    epsilons[claim.accountant] = claimed if math.isfinite(claimed) else None
    if claim.state != "ended":
        return epsilons, dict.fromkeys(epsilons, "the run has not ended")
    reasons: dict[str, str] = {}
    for kind in ("prv", "rdp"):
        if kind != claim.accountant:
            accountant = _accountant(claim, kind)
            epsilons[kind], reasons[kind] = _attempt(partial(accountant.epsilon, claim.steps_counted))
    if claimed <= _MOST_CHECKED:
        epsilons["pld"], reasons["pld"] = _attempt(partial(_pld, claim))
    else:
        reasons["pld"] = f"it takes too long for an epsilon above {_MOST_CHECKED:g}"
    return epsilons, reasons


def _pld(claim: PrivacyClaim) -> float | None:
    return pld_epsilon(
        sample_rate=claim.sample_rate,
        noise_multiplier=claim.noise_multiplier,
        steps=claim.steps_counted,
        delta=claim.delta,
    )


def _attempt(compute: Callable[[], float | None]) -> tuple[float | None, str]:
    """Return a figure that the claim does not rest on, or why it could not be had."""
    try:
        epsilon = compute()
    except Exception as error:  # of a library, at figures that it was not made for
        return None, one_line(error)
    if epsilon is None:
        return None, "dp-accounting is not installed"
    return (epsilon, "") if math.isfinite(epsilon) else (None, "it is not finite")


def _cross_check(
    claim: PrivacyClaim, epsilons: Mapping[str, float | None], reasons: Mapping[str, str]
) -> dict[str, Any]:
    """Return what Google's accountant says of the claim, which is an upper bound and must not lie below it."""
    claimed, other = epsilons[claim.accountant], epsilons["pld"]
    difference = None if claimed is None or other is None else claimed - other
    return {
        "method": "privacy loss distributions (PLD), Google's dp-accounting",
        "epsilon": other,
        "difference": difference,
        "agrees": None if difference is None else difference >= 0,
        "why_not": None if difference is not None else reasons["pld"] or "there is no claim to compare with",
    }


def _selection(claim: PrivacyClaim) -> dict[str, Any]:
    leaking = claim.leaking_decisions
    return {
        "weights": weights_text(claim),
        "by": claim.selection,
        "ema": claim.ema,
        "covered": not leaking,
        "waiver_used": bool(leaking) and claim.accept_selection_leak,
        "decided_by_private_values": leaking,
    }


def _curve(claim: PrivacyClaim) -> list[tuple[int, float]]:
    """Return steps and upper bounds of epsilon after them, from 0 to where the run stands."""
    if claim.noise_multiplier == 0 or claim.state != "ended" or not claim.steps_counted:
        return []
    accountant = _accountant(claim, claim.accountant)
    bound = accountant.epsilon if accountant.kind == "rdp" else RunningEpsilon(accountant, claim.steps_counted)
    claimed = accountant.epsilon(claim.steps_counted)
    points = {0: 0.0, claim.steps_counted: claimed}
    for point in range(1, _CURVE_POINTS):
        count = math.ceil(claim.steps_counted * point / _CURVE_POINTS)
        epsilon, _ = _attempt(partial(bound, count))
        if epsilon is not None and count < claim.steps_counted:
            points[count] = min(epsilon, claimed)  # fewer steps cost no more
    return sorted(item for item in points.items() if math.isfinite(item[1]))


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
