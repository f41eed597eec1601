"""Bytes and seconds of exchanges between ranks."""

from __future__ import annotations

import math
from dataclasses import dataclass

__all__ = ["ALL_REDUCE", "GATHER_OR_SCATTER", "Network", "exchange_bytes", "exchange_seconds"]

ALL_REDUCE = 2
GATHER_OR_SCATTER = 1


@dataclass(frozen=True)
class Network:
    """What joins the ranks.

    Attributes:
        link: bytes a second out of one machine, over all its cards; as much comes in at the same time.
        local_link: bytes a second from a device to another of the same machine.
        latency, local_latency: seconds until the first byte arrives, between and within machines.
        per_machine: devices of a machine.
    """

    link: float
    local_link: float
    latency: float
    local_latency: float
    per_machine: int

    def rate(self, processes: int) -> float:
        """Return the bytes a second of the slowest link of a ring, which passes each machine's border once."""
        return self.local_link if processes <= self.per_machine else min(self.link, self.local_link)

    def ring_delay(self, processes: int) -> float:
        """Return the seconds that one value takes from the first rank of a ring to the last, over n - 1 links."""
        machines = math.ceil(processes / self.per_machine)
        return (machines - 1) * self.latency + (processes - machines) * self.local_latency

    def tree_delay(self, processes: int) -> float:
        """Return the seconds from the leaves of a binary tree of machines, and within one of devices, to the root."""
        machines = math.ceil(processes / self.per_machine)
        local = min(processes, self.per_machine)
        return _levels(machines) * self.latency + _levels(local) * self.local_latency


def _levels(leaves: int) -> int:
    return math.ceil(math.log2(leaves))


def exchange_bytes(values_bytes: float, processes: int, passes: int) -> float:
    """Return the bytes that each rank sends, and receives.

    A reduce-scatter or an all-gather passes (n - 1) / n of the whole through each rank, an all-reduce is one after the
    other: 2 (n - 1) / n. No algorithm sends less (Patarasuk and Yuan, "Bandwidth optimal all-reduce algorithms for
    clusters of workstations", 2009).

    Args:
        values_bytes: size of the whole tensor, in bytes.
        processes: ranks of the ring (n).
        passes: `ALL_REDUCE` or `GATHER_OR_SCATTER`.
    """
    return passes * values_bytes * (processes - 1) / processes


def exchange_seconds(values_bytes: float, processes: int, passes: int, network: Network) -> float:
    """Return how long that takes: the time of the bytes on the slowest link, and of each pass the delay.

    An all-reduce runs in a ring or, where that is quicker, up and down two binary trees that share the bytes (Sanders,
    Speck and Träff, "Two-tree algorithms for full bandwidth broadcast, reduction and scan", 2009), as NCCL does.
    """
    if processes == 1:
        return 0.0
    delay = network.ring_delay(processes)
    if passes == ALL_REDUCE:
        delay = min(delay, network.tree_delay(processes))
    return exchange_bytes(values_bytes, processes, passes) / network.rate(processes) + passes * delay
