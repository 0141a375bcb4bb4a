"""Student's t: the numbers of SciPy."""

import pytest
from scipy import stats

from timbre.student import student_quantile


@pytest.mark.parametrize("degrees", [1, 2, 3, 4, 7, 20, 399])
@pytest.mark.parametrize("share", [0.9, 0.975, 0.9995])
def test_quantiles_of_student_are_those_of_scipy(share: float, degrees: int) -> None:
    quantile = student_quantile(share, degrees)
    assert quantile == pytest.approx(stats.t.ppf(share, degrees), rel=1e-6)
