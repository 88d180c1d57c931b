"""What several notebooks draw is readable: numbers in full at as many ticks as an axis needs."""

import matplotlib.pyplot as plt
import pytest

from study.figures import plain_numbers


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (1, 2e5, "1 10 100 1,000 10,000 100,000"),  # more than three decades: powers of ten
        (0.05, 4, "0.05 0.1 0.2 0.5 1 2"),
        (110, 290, "120 150 180 210 240 270"),  # within a decade: equal steps
    ],
)
def test_a_logarithmic_axis_has_numbers_in_full(low, high, expected):
    fig, ax = plt.subplots()
    ax.set(yscale="log", ylim=(low, high))
    plain_numbers(ax.yaxis)
    fig.canvas.draw()
    shown = [tick.label1.get_text() for tick in ax.yaxis.get_major_ticks() if low <= tick.get_loc() <= high]
    plt.close(fig)
    assert shown == expected.split()
    assert not any(tick.label1.get_text() for tick in ax.yaxis.get_minor_ticks())
