"""Gaussian noise that nobody can draw again: from a keystream of AES with a key of the operating system.

The generators of torch and NumPy are made for simulations. torch seeds the one of the CPU with 32 bits, and an observer
who knows the data, as differential privacy grants, could tell its later output from its earlier one.
"""

from __future__ import annotations

import math
import os

import torch
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

__all__ = ["KEY_BYTES", "NOISE_SOURCE", "NoiseSource"]

KEY_BYTES = 32
NOISE_SOURCE = (
    "AES-256 in counter mode, its key from the operating system anew for each segment of the run and kept nowhere; "
    "Box-Muller, rounded to float32"
)
_PAIRS = 65536  # at a time: what is in between stays in the processor's cache
_ZEROS = bytes(12 * _PAIRS)


class NoiseSource:
    """Independent draws of a standard normal distribution.

    Args:
        key: 32 secret bytes; None takes them from the operating system.
    """

    def __init__(self, key: bytes | None = None) -> None:
        self.rekey(os.urandom(KEY_BYTES) if key is None else key)

    def rekey(self, key: bytes) -> None:
        """Begin the stream of another key, from its start."""
        # The stream of a key is used once, so its counter may always begin at 0.
        self._stream = Cipher(algorithms.AES(key), modes.CTR(bytes(16))).encryptor()

    def draw(self, count: int) -> torch.Tensor:
        """Return the next draws, float32 (count,), on the CPU.

        By Box and Muller (1958). The radius comes from 53 bits, so draws beyond 8 standard deviations occur, as they
        must among many parameters; with the 24 bits of a float32 there would be none beyond 5.8.
        """
        drawn = torch.empty(count + count % 2)
        for start in range(0, len(drawn), 2 * _PAIRS):
            block = drawn[start : start + 2 * _PAIRS]
            self._fill(block)
        return drawn[:count]

    def _fill(self, block: torch.Tensor) -> None:
        pairs = len(block) // 2
        bits = bytearray(12 * pairs + 15)  # the stream wants room for a whole block more
        self._stream.update_into(memoryview(_ZEROS)[: 12 * pairs], bits)
        whole = torch.frombuffer(bits, dtype=torch.int64, count=pairs)
        uniform = ((whole >> 11) & ((1 << 53) - 1)).double().add_(0.5).mul_(2.0**-53)
        radius = uniform.log_().mul_(-2.0).sqrt_().float()
        turns = torch.frombuffer(bits, dtype=torch.int32, count=pairs, offset=8 * pairs)
        angle = turns.float().mul_(math.pi * 2.0**-31)
        torch.mul(radius, angle.cos(), out=block[:pairs])
        torch.mul(radius, angle.sin_(), out=block[pairs:])
