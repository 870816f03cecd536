"""Where in the backbone the bottleneck lies."""

from l2gnet.checks import require


def level_of(tokens_at: int, depth: int) -> int:
    """How many halvings lie before the bottleneck: those to 1 / `tokens_at` of the resolution; for 0 all of them.

    Raises:
        ConfigError: the network has no such level.
    """
    level = tokens_at.bit_length() - 1 if tokens_at else depth
    there = tokens_at in (0, 1 << max(level, 0)) and 1 <= level <= depth
    require(there, "tokens_at", f"0, or a power of two from 2 to 2^{depth} at this depth", tokens_at)
    return level
