"""How text models compute attention, side by side: `python -m benchmarks.text_attention`.

transformers takes PyTorch's fused attention ("sdpa") by default; "eager" is products and a softmax, one after the
other. On a CPU the fused one is one kernel only where attention has no dropout: its share is 0, or the encoder is
frozen.
The model has the size of all-MiniLM-L6 and random weights. A step is forward, backward and AdamW over a classifier's
loss on 2,048 tokens, cut into texts of one length; each way takes its steps in turn with the other, in processor time
of one thread.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import sys
import time
from collections.abc import Callable

import torch
import torch.nn.functional as F

from benchmarks.reports import table
from mltrain.models.text_models import build_text_model, text_inputs

SIZE = {"hidden_size": 384, "num_hidden_layers": 6, "num_attention_heads": 12, "intermediate_size": 1536}
WAYS = ("sdpa", "eager")
TYPES = {"float32": None, "bfloat16": torch.bfloat16}
TOKENS, VOCABULARY = 2048, 30_000


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lengths", type=int, nargs="+", default=[16, 64, 256])
    parser.add_argument("--dropout", type=float, nargs="+", default=[0.1, 0.0])
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    rows = []
    for kind, dropout, length in itertools.product(TYPES, arguments.dropout, arguments.lengths):
        times = _times({way: _step_of(way, length, dropout, TYPES[kind]) for way in WAYS}, arguments.rounds)
        ratios = [eager / sdpa for sdpa, eager in zip(times["sdpa"], times["eager"], strict=True)]
        medians = [f"{statistics.median(times[way]) * 1e3:.0f}" for way in WAYS]
        rows.append([f"{kind}, dropout {dropout:g}, {length} tokens", *medians, f"{statistics.median(ratios):.2f}"])
    print(table(["", "sdpa, CPU ms a step", "eager", "ratio"], rows))
    return 0


def _times(steps: dict[str, Callable[[], None]], rounds: int) -> dict[str, list[float]]:
    """Return the processor seconds of steps."""
    times: dict[str, list[float]] = {way: [] for way in steps}
    for number in range(rounds + 1):
        for way, step in steps.items():
            began = time.process_time()
            step()
            if number:  # the first one warms up
                times[way].append(time.process_time() - began)
    return times


def _step_of(way: str, length: int, dropout: float, dtype: torch.dtype | None) -> Callable[[], None]:
    """Return a function that takes one step of a model of its own."""
    torch.manual_seed(0)
    model = build_text_model(
        "bert_tiny",
        "sequence_classification",
        vocab_size=VOCABULARY,
        pad_id=0,
        max_length=length,
        options={**SIZE, "attn_implementation": way, "attention_probs_dropout_prob": dropout},
    )
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5, fused=True)
    shape = (TOKENS // length, length)
    ids = torch.randint(1, VOCABULARY, shape)
    # Half of the texts are half as long: a mask is always there.
    mask = torch.ones(shape, dtype=torch.int64)
    mask[::2, length // 2 :] = 0
    batch = {"input_ids": ids, "attention_mask": mask}
    labels = torch.arange(shape[0]) % 2

    def step() -> None:
        with torch.autocast("cpu", dtype, enabled=dtype is not None):
            logits = model(**text_inputs(model, batch)).logits
        F.cross_entropy(logits.float(), labels).backward()
        optimizer.step()
        optimizer.zero_grad()

    return step


if __name__ == "__main__":
    sys.exit(main())
