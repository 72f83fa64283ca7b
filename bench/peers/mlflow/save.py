"""Save the pickled estimator of a release as an MLflow model."""

from __future__ import annotations

import sys

import joblib  # type: ignore[import-untyped]
import mlflow.sklearn

if __name__ == "__main__":
    source, into = sys.argv[1:]
    mlflow.sklearn.save_model(
        joblib.load(source),
        into,
        serialization_format=mlflow.sklearn.SERIALIZATION_FORMAT_CLOUDPICKLE,
        pyfunc_predict_fn="predict_proba",
        pip_requirements=[],
    )
