"""Owns the model card, the page that people read before they trust a release."""

from repo_ml.release import Description, Trained
from repo_ml.schema import Property

_SCORES = {
    "auc": "Area under the ROC curve",
    "average_precision": "Average precision",
    "brier": "Brier score (less is better)",
    "log_loss": "Log loss (less is better)",
}


def card(trained: Trained, description: Description) -> str:
    """Write the model card as Markdown (Mitchell et al. 2019, Model Cards for Model Reporting)."""
    rows = [
        f"| {p.title} | `{p.name}` | {_values(p)} | {'yes' if p.required else 'no'} |"
        for p in trained.schema.properties
    ]
    folded, held = trained.cross_validation, trained.held_out
    scores = [
        f"| {label} | {getattr(folded, name)} | {getattr(held, name)} |"
        for name, label in _SCORES.items()
    ]
    baseline = (
        f"\nWith the inputs of the schema before this one, the cross-validated AUC on the same "
        f"records is {trained.baseline_auc}.\n"
        if trained.baseline_auc is not None
        else ""
    )
    libraries = ", ".join(f"{name} {number}" for name, number in description.libraries.items())
    return f"""# {description.name} {description.version}

Gives the probability that `{description.target}` comes true.

A gradient-boosted tree ensemble, fitted on four fifths of {trained.rows} records;
`{description.target}` is true for {trained.base_rate:.1%} of them.

- revision: {description.origin.git_revision or "unknown"}, {description.origin.created}
- made with: {libraries}

## How good it is

| | cross-validation, five folds | held-out fifth |
| --- | --- | --- |
{chr(10).join(scores)}
{baseline}
![ROC](roc.png) ![Calibration](calibration.png)

## When to act

Threshold **{description.threshold}**: the one with the highest F1, the harmonic mean of
precision and recall, over the cross-validated probabilities. Where a false alarm and a miss
do not cost about the same, choose another.

## What it takes

| input | property | values | required |
| --- | --- | --- | --- |
{chr(10).join(rows)}

A property that is absent or null counts as missing; properties that are not listed are ignored.
"""


def _values(p: Property) -> str:
    if p.kind == "string":
        values = ", ".join(f"`{member}`" for member in p.members)
    elif p.minimum is None and p.maximum is None:
        values = p.kind
    else:
        low = "" if p.minimum is None else f"{p.minimum} "
        high = "" if p.maximum is None else f" {p.maximum}"
        values = f"{p.kind}, {low}to{high}"
    return f"{values}, or null" if p.nullable else values
