"""What a statement of privacy speaks of and what it does not, in sentences for people."""

from __future__ import annotations

from mltrain.privacy.claim import PrivacyClaim

__all__ = ["NEIGHBOURS", "clipping_text", "conditions", "not_covered", "public_facts", "sampling_text", "weights_text"]

NEIGHBOURS = "add or remove one training example; the number of training examples is public"

_NOT_COVERED = (
    "Loss, metrics and statistics of the training data, as logged, printed and drawn: they are computed without noise.",
    "Norms of gradients before the noise was added, and counts of the examples that were clipped.",
    "How many examples each class has, names and digests of the files (data_files.jsonl.gz), and the digest of the "
    "whole data, here and in metadata.json: whoever has a guess at the data can verify it.",
    "Images in reports/samples_train.png, and the reports of the classes in logs/ and reports/.",
    "The way the data was split, normalised and cleaned before training, as far as this looked at its examples.",
    "Checkpoints beyond their weights: sums of the training loss and of metrics, and which of them is called best.",
    "How many examples the batches held, and whatever tells it: time, memory and load of the machine, and the moment "
    "at which the run was interrupted.",
    "Settings of this run (learning rate, epochs, architecture, ...) that were chosen by a look at other runs on the "
    "same data. Each of these runs has an epsilon of its own, and they add up.",
    "Several examples of one person: k examples have about k times the epsilon, at a larger delta.",
    "Noise of finite precision: its floating-point numbers are not quite a normal distribution (Mironov 2012), and "
    "sums of gradients are rounded.",
    "An older copy of this run folder that was put back: its ledger lacks the steps taken since.",
    "The memory of the machine while it trains, where gradients, draws and keys lie open.",
)


def public_facts(claim: PrivacyClaim) -> list[str]:
    """Return what the guarantee takes for public."""
    source = (claim.initial_weights or {}).get("source")
    weights = f"The initial weights: {source}." if source else "The initial weights, which are random."
    return [
        "The number of training examples N, and so q = B / N and the default of delta.",
        "Every setting of config.yaml: the architecture, B, sigma, C, the number of epochs, the optimizer.",
        weights,
        "Which classes there are and what they are called: the model has an output for each of them.",
        *(["The validation data: the user says so (data.validation_is_public)."] if claim.validation_is_public else []),
    ]


def conditions(claim: PrivacyClaim) -> list[str]:
    """Return what this run's claim depends on and nothing here can check."""
    source = (claim.initial_weights or {}).get("source")
    weights = f"The initial weights come from {source}: they must not have been learned from the private data."
    return [*_own_code(claim), *_fitted(claim), *([weights] if source else [])]


def not_covered(claim: PrivacyClaim) -> list[str]:
    """Return what the guarantee does not cover; what is special to this run comes first."""
    decisions = [
        f"{what[:1].upper()}{what[1:]}: decided by {name}, a value of private data."
        for what, name in claim.leaking_decisions.items()
    ]
    if claim.validation_is_public:
        held_out = "Examples of the test split, and metrics computed on them: no noise protects them."
    else:
        held_out = "Examples of the validation and test splits, and metrics computed on them: no noise protects them."
    return [*_own_code(claim), *_fitted(claim), *decisions, held_out, *_NOT_COVERED]


def _fitted(claim: PrivacyClaim) -> list[str]:
    return [
        f"The {name}, which the model holds: computed from the training data before training, without noise. The user "
        "accepted that (dp.accept_fitted_leak)."
        for name in claim.fitted
    ]


def _own_code(claim: PrivacyClaim) -> list[str]:
    callbacks, plugins = ", ".join(claim.callbacks), ", ".join(claim.plugins)
    see_all = "see everything, and may change the weights or the end of the run."
    return [
        *([f"What the callbacks of plugins do ({callbacks}): they {see_all}"] if callbacks else []),
        *([f"Code of plugins ({plugins}): it {see_all.replace('see', 'sees', 1)}"] if plugins else []),
    ]


def weights_text(claim: PrivacyClaim) -> str:
    """Return which weights the run chose."""
    average = "the averaged weights (EMA)" if claim.ema else "the weights"
    by = claim.decisions.get("the chosen weights")
    if claim.selection == "best" and by:
        return f"{average} of the checkpoint with the best {by}"
    return f"{average} after the last step"


def sampling_text(claim: PrivacyClaim) -> str:
    """Return how batches are drawn."""
    streams = "one stream" if claim.num_processes == 1 else f"{claim.num_processes} streams, one a process"
    return (
        "Poisson: each training example is in the batch of each step with probability q, independently of all others; "
        f"{streams}; an empty batch is a step like any other"
    )


def clipping_text(claim: PrivacyClaim) -> str:
    """Return what bounds the influence of an example."""
    return (
        f"the gradient of each example, all trainable parameters together, to the 2-norm C = {claim.max_grad_norm:g}; "
        f"the noisy sum is divided by the configured batch size B = {claim.batch_size}"
    )
