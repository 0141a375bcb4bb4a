"""Student's t distribution, in closed form rather than by SciPy for one function."""

import math
from functools import lru_cache


@lru_cache(maxsize=64)
def student_quantile(share: float, degrees: int) -> float:
    """Return Student's t below which ``share`` (over 0.5) lies, by bisection of its distribution."""
    low, high = 0.0, 1e3
    while high - low > 1e-9 * high:
        middle = (low + high) / 2
        low, high = (middle, high) if _student_below(middle, degrees) < share else (low, middle)
    return high


def _student_below(t: float, degrees: int) -> float:
    """Return the share of Student's distribution below ``t``, in closed form (Abramowitz 26.7.3)."""
    angle = math.atan(t / math.sqrt(degrees))
    cosine = math.cos(angle)
    odd = degrees % 2
    term, total = (cosine if odd else 1.0), 0.0
    for k in range(2 + odd, degrees + 1, 2):
        total += term
        term *= cosine**2 * (k - 1) / k
    if degrees == 1:
        area = 2 * angle / math.pi
    elif odd:
        area = 2 / math.pi * (angle + math.sin(angle) * total)
    else:
        area = math.sin(angle) * total
    return 0.5 + area / 2
