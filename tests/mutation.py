"""A byte-mutating fuzzer: valid files with a few things wrong, the same ones for the same seed."""

import struct
from collections.abc import Sequence
from random import Random

HEADER = 400  # bytes at the start, where most formats say how large everything is
WHOLE = (0, 1, -1, 2, 7, 127, 128, 255, 256, 32767, -32768, 65535, 2**31 - 1, -(2**31), 2**63 - 1)
REAL = (0.0, -0.0, 1.0, -1.0, 1e-30, 1e30, float("inf"), float("-inf"), float("nan"))


def mutated(random: Random, data: bytes, words: Sequence[bytes] = ()) -> bytes:
    """`data` with one to eight changes: of bits, numbers, pieces; and with some of `words` in it."""
    changed = bytearray(data)
    for _ in range(min(8, 1 + int(random.expovariate(0.7)))):
        start = random.randrange(min(len(changed), HEADER) if random.random() < 0.6 else max(len(changed), 1))
        end = min(len(changed), start + int(random.expovariate(1 / 20)))
        match random.randrange(9 if words else 7):
            case 0:
                changed[start] ^= 1 << random.randrange(8)
            case 1:
                changed[start] = random.randrange(256)
            case 2:
                changed[start : start + 8] = _number(random)
            case 3:
                del changed[start:end]
            case 4:
                changed[start:start] = changed[start:end] * random.choice((1, 3, 500))
            case 5:
                changed[start:end] = bytes(end - start)
            case 6:
                del changed[start if random.random() < 0.3 else len(changed) :]
            case _:
                changed[start:end] = random.choice(words)
        changed = changed or bytearray(1)
    return bytes(changed)


def _number(random: Random) -> bytes:
    kind = random.choice("hiqfd")
    number = random.choice(REAL if kind in "fd" else WHOLE)
    if kind in "hiq":
        bits = 8 * struct.calcsize(kind)
        number = (int(number) + 2 ** (bits - 1)) % 2**bits - 2 ** (bits - 1)
    return struct.pack(random.choice("<>") + kind, number)
