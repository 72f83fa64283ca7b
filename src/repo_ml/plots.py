"""Owns the pictures of a model card; what is drawn was measured by `train`."""

from io import BytesIO

import numpy as np
from matplotlib.figure import Figure  # noqa: TID251

from repo_ml.release import Trained

_SIZE = (4.8, 4.8)  # inches
_INK, _ACCENT = "#555555", "#0b6e99"


def roc(trained: Trained) -> bytes:
    """Draw the receiver operating characteristic of the held-out records, as PNG."""
    order = np.argsort(-trained.held_out_probability, kind="stable")
    outcome = trained.held_out_outcome[order]
    hits = np.concatenate([[0], np.cumsum(outcome) / outcome.sum()])
    false_alarms = np.concatenate([[0], np.cumsum(~outcome) / (~outcome).sum()])
    figure, axes = _figure("False positive rate", "True positive rate")
    axes.plot(false_alarms, hits, color=_ACCENT, linewidth=2)
    axes.set_title(f"ROC, held-out records: AUC {trained.held_out.auc:.3f}", fontsize=11)
    return _png(figure)


def calibration(trained: Trained) -> bytes:
    """Draw how often the outcome came against the probability given, in tenths of the records."""
    order = np.argsort(trained.held_out_probability, kind="stable")
    tenths = [tenth for tenth in np.array_split(order, 10) if len(tenth)]
    given = [trained.held_out_probability[tenth].mean() for tenth in tenths]
    came = [trained.held_out_outcome[tenth].mean() for tenth in tenths]
    figure, axes = _figure("Mean probability", "Share that it came true for")
    axes.plot(given, came, color=_ACCENT, linewidth=2, marker="o")
    top = 1.08 * max(*given, *came)
    axes.set_xlim(0, top)
    axes.set_ylim(0, top)
    axes.set_title(
        f"Calibration, held-out records: Brier {trained.held_out.brier:.3f}", fontsize=11
    )
    return _png(figure)


def _figure(x_label: str, y_label: str):  # type: ignore[no-untyped-def]  # noqa: ANN202  # matplotlib has no public type for it
    figure = Figure(figsize=_SIZE, dpi=110, layout="constrained")
    axes = figure.subplots()
    axes.plot([0, 1], [0, 1], color=_INK, linestyle=":", linewidth=1)
    axes.set(xlim=(0, 1), ylim=(0, 1), xlabel=x_label, ylabel=y_label, aspect="equal")
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _png(figure: Figure) -> bytes:
    content = BytesIO()
    figure.savefig(content, format="png", metadata={"Software": None})
    return content.getvalue()
