"""Say what a model takes on one device to a thousand: memory a rank, bytes on the wire, the time of a step.

  mltrain scaling --parameters 7e9 --processes 1,8,64,1024 --memory 80 --link 400
  mltrain scaling --parameters 7e9 --processes 64 --memory 80 --link 400 --tokens 4096 --device_flops 989e12
  mltrain scaling --config configs/x.yaml --processes 1,2 --memory 16 --link 10 --microbatch_ms 40

A table of memory and a table of steps for DDP, the stages of ZeRO and FSDP2, from arithmetic and a small simulation.
With the time of a microbatch, or its FLOPs and the device's, the second says how much of the communication hides behind
the backward pass. Activations count as given with --activation_gib. Nothing is trained.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from mltrain.cli.flags import add_flag, counts
from mltrain.cli.tables import new_table, print_table

if TYPE_CHECKING:
    from rich.table import Table

    from mltrain.workflows.scaling import PlannedWay, ScalingPlan

__all__ = ["add_arguments", "run"]

_MEMORY = (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10))
_SENT = (("GB", 1e9), ("MB", 1e6), ("kB", 1e3))
_TOO_LARGE = "does not fit"
_IN_WORDS = ("way", "")
_NO_MATTER = ("trainer", "num_epochs", "batch_size", "lr", "seed", "num_workers", "device", "run_name")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the model, the machines, the microbatch and the form."""
    from mltrain.cli.train import add_keys
    from mltrain.workflows.scaling import PRECISIONS, WAYS

    add = partial(add_flag, parser)
    add("parameters", type=_count, metavar="N", help="parameters of the model, such as 7e9")
    add("config", metavar="FILE", help="YAML file, to count those of its model instead")
    add("blocks", type=int, default=32, metavar="N", help="equal blocks of the --parameters (default: 32)")
    add("processes", type=counts, required=True, metavar="N,N", help="processes, one device each")
    add("memory", type=float, required=True, metavar="GIB", help="memory of a device, GiB")
    add("link", type=float, required=True, metavar="GBIT", help="link of a machine to the others, Gbit/s")
    add("local_link", type=float, default=300.0, metavar="GB", help="between devices of a machine, GB/s (default: 300)")
    add("per_machine", type=int, default=8, metavar="N", help="devices of a machine (default: 8)")
    add("latency_us", type=float, default=10.0, metavar="US", help="of a link between machines (default: 10)")
    add("local_latency_us", type=float, default=3.0, metavar="US", help="of one within a machine (default: 3)")
    add("optimizer", metavar="NAME", help="adamw, sgd, ... (default: the configuration's, or adamw)")
    add("precision", choices=PRECISIONS, default="float32", help="of the passes (default: float32)")
    add("ema", action="store_true", help="keep a moving average of the weights, if the configuration does not")
    add("accumulation", type=counts, default=(1,), metavar="N,N", help="microbatches of a window (default: 1)")
    add(
        "samples", type=int, metavar="N", help="samples of a microbatch (default: 1, or the configuration's batch_size)"
    )
    add("tokens", type=int, metavar="N", help="tokens of a sample: 6 FLOPs a parameter and token")
    add("flops_per_sample", type=float, metavar="N", help="FLOPs of a sample, forward and backward, instead")
    add("device_flops", type=float, metavar="N", help="FLOPs a second of a device, as its maker says")
    add("efficiency", type=float, default=0.4, metavar="SHARE", help="of them, attained (default: 0.4)")
    add("microbatch_ms", type=float, metavar="MS", help="measured time of a microbatch, instead of FLOPs")
    add("gradient_checkpointing", action="store_true", help="a second forward pass in the backward pass")
    add("activation_gib", type=float, default=0.0, metavar="GIB", help="activations of a microbatch (default: 0)")
    add("bucket_mib", type=float, metavar="MIB", help="gradients sent at a time (default: 25; of ZeRO 5e8 values)")
    add("ways", type=_words, default=tuple(WAYS), metavar="WAY,WAY", help="which of them (default: all)")
    parser.add_argument("--json", action="store_true", help="print everything as JSON instead of tables")
    add_keys(parser, without=_NO_MATTER)


def run(arguments: argparse.Namespace) -> int:
    """Print the tables and return 0."""
    from mltrain.cli.train import given_keys
    from mltrain.core.errors import ConfigError
    from mltrain.core.logging import console_log

    if (arguments.parameters is None) == (arguments.config is None):
        raise ConfigError("a model is needed", where="--parameters", fix="Give either --parameters or --config.")
    overrides = given_keys(arguments)
    if arguments.config is None and overrides:
        raise ConfigError("is a key of a configuration", where=next(iter(overrides)), fix="Give --config, or leave it.")
    with console_log():
        plan, optimizer = _plan(arguments, overrides)
    if arguments.json:
        print(json.dumps(_plain(plan), indent=2))
        return 0
    print("\n".join(_lines(plan, optimizer, arguments)))
    name, size = _fitting(_MEMORY, max(row.memory.total for row in plan.rows))
    print(f"\nMemory a rank, {name}")
    print_table(_memory_table(plan, size))
    print("\nA step")
    print_table(_step_table(plan))
    return 0


def _plan(arguments: argparse.Namespace, overrides: dict[str, Any]) -> tuple[ScalingPlan, str]:
    """Return the plan and the optimizer's name."""
    from mltrain.config.training import OptimizerSection
    from mltrain.workflows.scaling import read_model, scaling_plan, state_values_of
    from mltrain.workflows.scaling_model import model_of_size
    from mltrain.workflows.scaling_work import Machine, Work

    if arguments.config is None:
        model, ema, samples = model_of_size(arguments.parameters, arguments.blocks), arguments.ema, 1
        section = OptimizerSection(name=arguments.optimizer or "adamw")
    else:
        if arguments.optimizer is not None:
            overrides = {**overrides, "optimizer.name": arguments.optimizer}
        model, config = read_model(arguments.config, overrides, by_hand="command line")
        section, ema = config.optimizer, config.training.ema.enabled or arguments.ema
        samples = config.training.batch_size
    machine = Machine(
        memory=arguments.memory,
        link=arguments.link,
        per_machine=arguments.per_machine,
        local_link=arguments.local_link,
        latency=arguments.latency_us,
        local_latency=arguments.local_latency_us,
    )
    work = Work(
        samples=samples if arguments.samples is None else arguments.samples,
        tokens=arguments.tokens,
        flops_per_sample=arguments.flops_per_sample,
        device_flops=arguments.device_flops,
        efficiency=arguments.efficiency,
        microbatch_ms=arguments.microbatch_ms,
        gradient_checkpointing=arguments.gradient_checkpointing,
        activations=arguments.activation_gib,
    )
    plan = scaling_plan(
        model,
        arguments.processes,
        machine,
        work,
        ways=arguments.ways,
        accumulation=arguments.accumulation,
        precision=arguments.precision,
        state_values=state_values_of(section),
        ema=ema,
        bucket_mib=arguments.bucket_mib,
    )
    return plan, section.name


def _count(text: str) -> int:
    """Return a number that may be written as 7e9."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not (1 <= value < math.inf and value == int(value)):
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of 1 or more, such as 7e9")
    return int(value)


def _words(text: str) -> tuple[str, ...]:
    return tuple(word.strip() for word in text.split(","))


def _lines(plan: ScalingPlan, optimizer: str, arguments: argparse.Namespace) -> list[str]:
    model = plan.model
    blocks = len(model.blocks)
    lines = [
        f"{model.values:,} parameters, {model.trainable_values:,} of them trained, in {blocks} "
        f"{'block' if blocks == 1 else 'blocks'}; {optimizer}: {plan.state_values:.3g} values for each; "
        f"{arguments.precision}.",
    ]
    if not arguments.activation_gib:
        lines.append("Activations are not counted; --activation_gib adds them.")
    if plan.compute is None:
        lines.append("The time of a step is not known; --microbatch_ms, or --tokens and --device_flops, tell it.")
    else:
        lines.append(f"A microbatch takes {plan.compute.total * 1e3:,.1f} ms.")
    return lines


def _fitting(units: Sequence[tuple[str, float]], largest: float) -> tuple[str, float]:
    """Return the name and size of the largest unit of which the largest of some numbers is at least one."""
    return next((unit for unit in units if largest >= unit[1]), units[-1])


def _memory_table(plan: ScalingPlan, unit: float) -> Table:
    table = new_table(
        ("processes", "way", "weights", "gradients", "optimizer", "EMA", "gathered", "total", ""), words=_IN_WORDS
    )
    for row in plan.rows:
        memory = row.memory
        parts = (memory.weights, memory.gradients, memory.optimizer, memory.ema, memory.gathered, memory.total)
        cells = (_digits(part / unit) for part in parts)
        table.add_row(str(row.processes), row.way.name, *cells, "" if row.fits else _TOO_LARGE)
    return table


def _step_table(plan: ScalingPlan) -> Table:
    """Return bytes and times at the first accumulation, and the efficiency at each."""
    known = plan.compute is not None
    numbers = [step.accumulation for step in plan.rows[0].steps]
    efficiencies = [f"efficiency x{number}" for number in numbers] if known else []
    name, unit = _fitting(_SENT, max(row.steps[0].sent for row in plan.rows))
    titles = (f"sent x{numbers[0]}, {name}", "wire, ms", *(("waits, ms", *efficiencies, "hides from") if known else ()))
    table = new_table(("processes", "way", *titles, ""), words=_IN_WORDS)
    for row in plan.rows:
        first = row.steps[0]
        cells = [_digits(first.sent / unit), _digits(first.wire * 1e3)]
        if known:
            shares = (f"{step.efficiency:.1%}" for step in row.steps)
            hides = "never" if row.hidden_from is None else f"x{row.hidden_from}"
            cells += [_digits(first.exposed * 1e3), *shares, hides]
        table.add_row(str(row.processes), row.way.name, *cells, "" if row.fits else _TOO_LARGE)
    return table


def _digits(value: float) -> str:
    """Return a number with about three digits."""
    if value == 0:
        return "0"
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 1 else f"{value:.3g}"


def _plain(plan: ScalingPlan) -> dict[str, Any]:
    return {
        "parameters": plan.model.values,
        "trainable": plan.model.trainable_values,
        "blocks": len(plan.model.blocks),
        "state_values": plan.state_values,
        "microbatch_s": None if plan.compute is None else plan.compute.total,
        "rows": [_plain_row(row, known=plan.compute is not None) for row in plan.rows],
    }


def _plain_row(row: PlannedWay, *, known: bool) -> dict[str, Any]:
    return {
        "processes": row.processes,
        "way": row.way.key,
        "memory_bytes": {**vars(row.memory), "total": row.memory.total},
        "fits": row.fits,
        "steps": [
            {
                "accumulation": step.accumulation,
                "sent_bytes": step.sent,
                "wire_s": step.wire,
                "step_s": step.step if known else None,
                "waiting_s": step.exposed if known else None,
                "efficiency": step.efficiency if known else None,
            }
            for step in row.steps
        ],
        "hidden_from": row.hidden_from,
    }
