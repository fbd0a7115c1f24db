"""A linear regression on scikit-learn's real diabetes data; fitted anew each time, in 10 ms."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.datasets import load_diabetes
from sklearn.linear_model import LinearRegression
from sklearn.model_selection import train_test_split
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler


def rows() -> tuple[Any, Any, Any, Any]:
    """Return training and held-out rows (float32) and their targets, [rows, 1].

    The targets are a column: the regression then predicts a column, as the ONNX operator does.
    """
    features, progression = load_diabetes(return_X_y=True)
    return tuple(
        train_test_split(
            features.astype(np.float32), progression[:, None], test_size=0.25, random_state=0
        )
    )


def build() -> Pipeline:
    """Return the fitted pipeline; its coefficients are float64."""
    features, _, progression, _ = rows()
    pipeline = make_pipeline(StandardScaler(), LinearRegression())
    return pipeline.fit(features.astype(np.float64), progression)
