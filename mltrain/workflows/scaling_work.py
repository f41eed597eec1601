"""What trains, and what it does for a microbatch: the numbers that a user gives to `mltrain scaling`."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mltrain.core.errors import ConfigError
from mltrain.workflows.scaling_steps import Compute
from mltrain.workflows.scaling_traffic import Network

__all__ = ["GIB", "Machine", "Work", "check_counts", "check_positive"]

GIB = 2**30


@dataclass(frozen=True)
class Machine:
    """What trains.

    Attributes:
        memory: GiB of a device.
        per_machine: devices of a machine.
        link: Gbit/s out of a machine.
        local_link: GB/s from one device to another of the same machine.
        latency, local_latency: microseconds until the first byte arrives, between and within machines.
    """

    memory: float
    link: float
    per_machine: int = 8
    local_link: float = 300.0
    latency: float = 10.0
    local_latency: float = 3.0

    def check(self) -> None:
        """Raise ConfigError for a number that cannot be."""
        check_counts({"--per_machine": [self.per_machine]})
        check_positive({"--memory": self.memory, "--link": self.link, "--local_link": self.local_link})
        _check_no_less_than_0({"--latency_us": self.latency, "--local_latency_us": self.local_latency})

    def network(self) -> Network:
        """Return its links in bytes and seconds."""
        return Network(
            link=self.link * 1e9 / 8,
            local_link=self.local_link * 1e9,
            latency=self.latency / 1e6,
            local_latency=self.local_latency / 1e6,
            per_machine=self.per_machine,
        )


@dataclass(frozen=True)
class Work:
    """What a rank does for one microbatch; without any time or FLOPs nothing is said of the time of a step.

    Attributes:
        samples: samples of a microbatch.
        tokens: tokens of a sample; 6 FLOPs a parameter and token (Kaplan et al., "Scaling Laws for Neural Language
            Models", 2020).
        flops_per_sample: FLOPs of a forward and a backward pass, instead.
        device_flops: FLOPs a second of a device.
        efficiency: share of them that the passes attain.
        microbatch_ms: measured milliseconds of a forward and a backward pass, instead of all that.
        gradient_checkpointing: the backward pass computes the forward pass again.
        activations: GiB that a microbatch leaves for the backward pass.
    """

    samples: int = 1
    tokens: int | None = None
    flops_per_sample: float | None = None
    device_flops: float | None = None
    efficiency: float = 0.4
    microbatch_ms: float | None = None
    gradient_checkpointing: bool = False
    activations: float = 0.0

    def check(self) -> None:
        """Raise ConfigError for a number that cannot be."""
        check_counts({"--samples": [self.samples], "--tokens": [] if self.tokens is None else [self.tokens]})
        check_positive(
            {
                "--flops_per_sample": self.flops_per_sample,
                "--device_flops": self.device_flops,
                "--efficiency": self.efficiency,
                "--microbatch_ms": self.microbatch_ms,
            }
        )
        if self.efficiency > 1:
            raise ConfigError(f"is {self.efficiency:g}", where="--efficiency", fix="Use a share of at most 1.")
        _check_no_less_than_0({"--activation_gib": self.activations})

    def compute(self, parameters: int) -> Compute | None:
        """Return the seconds of a microbatch; the backward pass takes twice as long as the forward pass.

        Raises:
            ConfigError: FLOPs without a device, or a device without FLOPs.
        """
        seconds = None if self.microbatch_ms is None else self.microbatch_ms / 1e3
        if seconds is None:
            flops = self.flops_per_sample
            if flops is None and self.tokens is not None:
                flops = 6.0 * parameters * self.tokens
            if (flops is None) != (self.device_flops is None):
                missing = "--device_flops" if self.device_flops is None else "--tokens or --flops_per_sample"
                raise ConfigError("the time of a step needs both FLOPs", where=missing, fix="Give it too.")
            if flops is None or self.device_flops is None:
                return None
            seconds = flops * self.samples / (self.device_flops * self.efficiency)
        forward = seconds / 3
        return Compute(forward, 2 * forward + (forward if self.gradient_checkpointing else 0.0))


def check_counts(given: Mapping[str, Sequence[int]]) -> None:
    """Raise ConfigError for a number below 1 among those of each flag."""
    for flag, counts in given.items():
        for count in counts:
            if count < 1:
                raise ConfigError(f"is {count}", where=flag, fix="Use 1 or more.")


def check_positive(given: Mapping[str, float | None]) -> None:
    """Raise ConfigError for a value of a flag that is not above 0, or not finite."""
    for flag, value in given.items():
        if value is not None and not 0 < value < math.inf:
            raise ConfigError(f"is {value:g}", where=flag, fix="Use a value above 0.")


def _check_no_less_than_0(given: Mapping[str, float]) -> None:
    for flag, value in given.items():
        if not 0 <= value < math.inf:
            raise ConfigError(f"is {value:g}", where=flag, fix="Use 0 or more.")
