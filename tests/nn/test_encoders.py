"""The encoder of tables against a slow and obvious reference in float64."""

import math

import numpy as np
import pytest
import torch
from helpers import seeded

from sklearn_moe.nn.encoders import FeatureStatistics, TableEncoder

NAN = float("nan")
NUMBERS = {"numeric": (0, 2, 4), "center": (5.0, -1.0, 0.0), "scale": (2.0, 0.5, 1e3)}
CATEGORIES = {"categories": (1, 3), "n_categories": (3, 2)}
STATISTICS = FeatureStatistics(**NUMBERS, with_missing=(1, 2), **CATEGORIES)
DTYPES = (torch.float32, torch.float64)


def encode(row, known):
    """Return an encoded row, everything written out."""
    encoded = []
    for index, center, scale in zip(known.numeric, known.center, known.scale, strict=True):
        z = (row[index] - center) / scale
        encoded.append(0.0 if math.isnan(z) else z / math.sqrt(1 + (z / 3) ** 2))
    encoded += [float(math.isnan(row[known.numeric[i]])) for i in known.with_missing]
    for index, n in zip(known.categories, known.n_categories, strict=True):
        encoded += [float(row[index] == code) for code in range(n)]
    return encoded


@pytest.mark.parametrize("left_out", [(), ("with_missing",), ("categories", "n_categories")])
def test_encoder(left_out):
    known = STATISTICS._replace(**dict.fromkeys(left_out, ()))
    x = 3 * torch.randn(40, 5, generator=seeded(), dtype=torch.float64)
    codes = torch.tensor([0, 1, 2, NAN, -1, 3, 99], dtype=torch.float64)
    x[:, 1], x[:, 3] = codes[torch.arange(40) % 7], codes[torch.arange(40) % 5]
    x[::3, 0] = x[1::3, 2] = NAN  # the first had none in training
    if not known.categories:
        x = x[:, known.numeric]
        known = known._replace(numeric=(0, 1, 2))
    for dtype, tolerance in zip(DTYPES, (1e-5, 1e-12), strict=True):
        encoder = TableEncoder(known).to(dtype)
        ours = encoder(x.to(dtype))
        assert ours.dtype == dtype
        assert ours.shape == (40, encoder.n_outputs)
        expected = [encode(row, known) for row in x.tolist()]
        np.testing.assert_allclose(ours, expected, rtol=tolerance, atol=tolerance)


def test_outliers_are_bounded_in_order_and_not_missing():
    for dtype in DTYPES:
        for scale in (1.0, 0.01):
            encoder = TableEncoder(FeatureStatistics((0,), (0.0,), (scale,))).to(dtype)
            x = [0, 1e-30, 1e-3, 0.1, 1, 10, 1e4, 1e20, torch.finfo(dtype).max]
            x = torch.tensor(x, dtype=dtype)
            z = encoder(x[:, None])[:, 0]
            assert z.isfinite().all()
            assert (z.diff() >= -4 * torch.finfo(dtype).eps).all()
            assert z[-2:].tolist() == pytest.approx([3, 3])
            torch.testing.assert_close(encoder(-x[:, None])[:, 0], -z)
