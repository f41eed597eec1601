"""The arithmetic of scaling beside real tensors in one process, and the rules that its simulation must keep."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from mltrain.config.training import OptimizerSection
from mltrain.core.errors import ConfigError
from mltrain.trainers.ema import averaged_copy
from mltrain.trainers.optimizers import build_optimizer
from mltrain.workflows.scaling import scaling_plan, state_values_of
from mltrain.workflows.scaling_memory import Memory, memory_of_rank
from mltrain.workflows.scaling_model import Block, ModelSize, ParameterSize, list_members, model_of_size, size_of_model
from mltrain.workflows.scaling_steps import HIDDEN, Compute, Job, simulate
from mltrain.workflows.scaling_traffic import Network, exchange_bytes, exchange_seconds
from mltrain.workflows.scaling_ways import ALONE, WAYS, Precision
from mltrain.workflows.scaling_work import Machine, Work

FULL, MIXED = Precision.named("float32"), Precision.named("bf16-mixed")
NETWORK = Network(link=1e9, local_link=1e10, latency=1e-5, local_latency=1e-6, per_machine=8)
MACHINE = Machine(memory=80, link=100)


def small_model() -> nn.Module:
    model = nn.Sequential(nn.Linear(7, 9), nn.ModuleList(nn.Linear(9, 9) for _ in range(3)), nn.Linear(9, 5))
    model[0].weight.requires_grad_(False)
    return model


def tensor_bytes(tensors: list[torch.Tensor]) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def memory(way: str, model: ModelSize, processes: int, precision: Precision = FULL, **more: object) -> Memory:
    known = {"state_values": 2.0, "ema": False, "bucket_bytes": 0, "activation_bytes": 0, "accumulation": 1, **more}
    return memory_of_rank({**WAYS, "alone": ALONE}[way], model, processes, precision=precision, **known)


@pytest.mark.parametrize(
    "section",
    [
        OptimizerSection(name="adamw"),
        OptimizerSection(name="sgd"),
        OptimizerSection(name="sgd", momentum=0.9),
        OptimizerSection(name="rmsprop", momentum=0.9),
        OptimizerSection(name="adam", options={"amsgrad": True}),
    ],
    ids=lambda section: f"{section.name}-{section.momentum}",
)
def test_the_memory_of_one_process_is_that_of_its_tensors(section: OptimizerSection) -> None:
    model = small_model()
    optimizer, average = build_optimizer(section, model), averaged_copy(model)
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter) if parameter.requires_grad else None
    optimizer.step()
    state = [value for kept in optimizer.state.values() for value in kept.values()]
    size = size_of_model(model, list_members(model))
    told = memory("alone", size, 1, state_values=state_values_of(section), ema=True)
    assert told.weights == tensor_bytes(list(model.parameters()))
    assert told.gradients == tensor_bytes([p.grad for p in model.parameters() if p.grad is not None])
    assert told.optimizer == tensor_bytes([value for value in state if torch.is_tensor(value) and value.ndim])
    assert told.ema == tensor_bytes(list(average.parameters()))


def test_an_optimizer_that_keeps_rows_and_columns_keeps_little() -> None:
    assert 0 < state_values_of(OptimizerSection(name="adafactor")) < 0.01


def test_zero_keeps_what_its_paper_says() -> None:
    """Figure 1 of the paper: 7.5e9 parameters on 64 devices, Adam in mixed precision, GB a device."""
    model = model_of_size(7_500_000_000, 32)
    shown = {way: memory(way, model, 64, MIXED) for way in ("zero1", "zero2")}
    resting = {way: (each.weights + each.gradients + each.optimizer) / 1e9 for way, each in shown.items()}
    assert resting == pytest.approx({"zero1": 31.4, "zero2": 16.6}, abs=0.06)
    thirds = memory("fsdp2", model, 64)
    assert (thirds.weights + thirds.gradients + thirds.optimizer) / 1e9 == pytest.approx(1.875, abs=0.01)


def test_shares_are_padded_to_whole_rows() -> None:
    size = size_of_model(nn.Linear(3, 5, bias=False), [])
    assert memory("fsdp2", size, 4).weights == 2 * 3 * 4  # five rows over four ranks: two each, of three floats
    assert memory("zero2", size, 4).gradients == 4 * 4  # fifteen values over four ranks


def test_gradients_that_wait_for_the_last_microbatch_are_whole() -> None:
    model = model_of_size(10_000, 4)
    assert memory("fsdp2-no-sync", model, 8, accumulation=4).gradients == 40_000
    assert memory("fsdp2-no-sync", model, 8).gradients == memory("fsdp2", model, 8, accumulation=4).gradients < 6_000


def test_blocks_are_those_of_module_lists_and_the_rest_is_the_root() -> None:
    model = small_model()
    size = size_of_model(model, list_members(model))
    assert [(block.values, block.stays) for block in size.blocks] == [
        (122, True),
        (90, False),
        (90, False),
        (90, False),
    ]
    assert size.trainable_values == size.values - 63


def test_exchanges_take_what_they_must() -> None:
    assert exchange_bytes(1000, 4, 2) == 1500
    assert exchange_bytes(1000, 4, 1) == 750
    assert exchange_seconds(1000, 1, 2, NETWORK) == 0
    # 8 ranks on a machine use its own links; the ninth brings in the slow one, and its delay.
    assert exchange_seconds(8e6, 8, 1, NETWORK) == pytest.approx(7e6 / 1e10 + 7e-6)
    assert exchange_seconds(9e6, 9, 1, NETWORK) == pytest.approx(8e6 / 1e9 + 7e-6 + 1e-5)
    # 128 machines: an all-reduce takes trees of 7 levels, and of 3 within a machine.
    assert exchange_seconds(0, 1024, 2, NETWORK) == pytest.approx(2 * (7e-5 + 3e-6))
    assert exchange_seconds(0, 1024, 1, NETWORK) == pytest.approx(127e-5 + 896e-6)


def test_a_step_that_can_be_followed_by_hand() -> None:
    """Two equal parameters of 1 MB over two machines: 1 ms each on the wire, half of 3 ms of backward pass each."""
    halves = (Block((ParameterSize(250_000),)), Block((ParameterSize(250_000),)))
    model = ModelSize(halves)
    network = Network(link=1e9, local_link=1e9, latency=0, local_latency=0, per_machine=1)
    job = Job(WAYS["ddp"], model, 2, FULL, network, 10**6, Compute(1e-3, 3e-3))
    step = simulate(job).step(1)
    assert step.sent == pytest.approx(2e6)
    assert step.wire == pytest.approx(2e-3)
    assert step.compute == pytest.approx(4e-3)
    # The second bucket is ready with the backward pass; only it shows.
    assert step.exposed == pytest.approx(1e-3)
    assert simulate(job).step(4).step == pytest.approx(17e-3)
    fast, slow = (simulate(dataclasses.replace(job, way=WAYS[way])).step(3) for way in ("zero1", "zero2"))
    assert (fast.sent, slow.sent) == (pytest.approx(2e6), pytest.approx(4e6))


JOBS = st.builds(
    Job,
    way=st.sampled_from(list(WAYS.values())),
    model=st.builds(model_of_size, st.integers(1, 10**9), st.integers(1, 12)),
    processes=st.integers(2, 2000),
    precision=st.sampled_from([FULL, MIXED]),
    network=st.builds(
        Network,
        link=st.floats(1e8, 1e11),
        local_link=st.floats(1e8, 1e12),
        latency=st.floats(0, 1e-4),
        local_latency=st.floats(0, 1e-5),
        per_machine=st.integers(1, 16),
    ),
    bucket_bytes=st.integers(1, 10**8),
    compute=st.builds(Compute, st.floats(1e-5, 10), st.floats(1e-5, 10)),
)


@settings(max_examples=60, deadline=None)
@given(JOBS, st.integers(1, 64))
def test_a_step_takes_no_less_than_either_clock_and_no_more_than_both(job: Job, accumulation: int) -> None:
    step = simulate(job).step(accumulation)
    slack = 1 + 1e-9
    assert max(step.compute, step.wire) <= step.step * slack
    assert step.step <= (step.compute + step.wire) * slack


@settings(max_examples=60, deadline=None)
@given(JOBS)
def test_from_the_accumulation_named_communication_hides_and_not_before(job: Job) -> None:
    simulation = simulate(job)
    hidden_from = simulation.hidden_from()
    if hidden_from is None:
        assert simulation.step(10**6).efficiency < HIDDEN + 1e-3
    else:
        assert simulation.step(hidden_from).efficiency >= HIDDEN - 1e-9
        assert hidden_from == 1 or simulation.step(hidden_from - 1).efficiency < HIDDEN + 1e-9


@settings(max_examples=60, deadline=None)
@given(JOBS)
def test_a_faster_link_makes_no_step_longer(job: Job) -> None:
    faster = dataclasses.replace(job.network, link=2 * job.network.link, local_link=2 * job.network.local_link)
    times = [simulate(dataclasses.replace(job, network=network)).step(2).step for network in (job.network, faster)]
    assert times[1] <= times[0] * (1 + 1e-9)


def test_what_does_not_fit_is_known() -> None:
    plan = scaling_plan(model_of_size(10**9, 8), [1, 64], dataclasses.replace(MACHINE, memory=8), Work())
    fits = {(row.way.key, row.processes): row.fits for row in plan.rows}
    assert not fits[("alone", 1)]
    assert not fits[("ddp", 64)]
    assert fits[("fsdp2", 64)]
    assert plan.compute is None
    assert all(row.hidden_from is None for row in plan.rows)


@pytest.mark.parametrize(
    ("work", "told"),
    [
        (Work(tokens=10), "--device_flops: the time of a step needs both FLOPs. Give it too."),
        (Work(device_flops=1e12), "--tokens or --flops_per_sample: the time of a step needs both FLOPs. Give it too."),
        (Work(efficiency=1.5), "--efficiency: is 1.5. Use a share of at most 1."),
        (Work(activations=-1), "--activation_gib: is -1. Use 0 or more."),
        (Work(microbatch_ms=float("nan")), "--microbatch_ms: is nan. Use a value above 0."),
    ],
)
def test_mistakes(work: Work, told: str) -> None:
    with pytest.raises(ConfigError) as error:
        scaling_plan(model_of_size(100, 1), [1], MACHINE, work)
    assert str(error.value) == told


def test_the_time_of_a_microbatch() -> None:
    by_tokens = Work(samples=2, tokens=100, device_flops=1e12, efficiency=0.5).compute(10**6)
    assert by_tokens is not None
    assert by_tokens.total == pytest.approx(2 * 6e8 / 0.5e12)
    again = Work(microbatch_ms=30, gradient_checkpointing=True).compute(10**6)
    assert again is not None
    assert (again.forward, again.backward) == (pytest.approx(0.01), pytest.approx(0.03))
