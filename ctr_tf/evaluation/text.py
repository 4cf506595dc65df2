"""How metrics read in a table and on the page."""

from typing import Any

_TITLES = {
    "auc": "AUC",
    "gauc": "GAUC, by impressions",
    "gauc_by_clicks": "GAUC, by clicks",
    "auc_long_tail": "AUC, long tail",
    "log_loss": "log loss",
    "normalised_entropy": "normalised entropy",
    "calibration_ratio": "calibration ratio",
}
_PRECISION = "precision_at_"


def metric_title(name: str) -> str:
    """The title of a metric.

    Example:
        >>> metric_title("gauc_by_clicks"), metric_title("precision_at_5")
        ('GAUC, by clicks', 'precision@5')
    """
    if name.startswith(_PRECISION):
        return "precision@" + name.removeprefix(_PRECISION)
    return _TITLES.get(name, name)


def value_text(metric: dict[str, Any]) -> tuple[str, str]:
    """A metric's value and interval, as text.

    Example:
        >>> value_text({"value": 0.75, "low": 0.7, "high": 0.8})
        ('0.7500', '0.7000 to 0.8000')
    """
    if metric["value"] is None:
        return "undefined", ""
    interval = "" if metric["low"] is None else f"{metric['low']:.4f} to {metric['high']:.4f}"
    return f"{metric['value']:.4f}", interval


def note_of(name: str, metric: dict[str, Any]) -> str:
    """What a metric's value rests on: why it is undefined, what was left out."""
    if metric["reason"]:
        return metric["reason"]
    details = metric["details"]
    parts = []
    if name == "gauc_by_clicks":
        return "the same users, weighted by their positives"
    if "users_left_out" in details:
        parts.append(f"{details['users']:,} users")
        parts.append(
            f"{details['users_left_out']:,} with one class left out "
            f"({details['impressions_left_out']:,} impressions)"
        )
        if details["impressions_without_user"]:
            parts.append(f"{details['impressions_without_user']:,} impressions without user")
    if "tail_items" in details:
        parts.append(f"{details['tail_items']:,} least frequent of {details['items']:,} items")
    if name.startswith(_PRECISION) and details.get("requests"):
        parts.append(f"{details['requests']:,} requests")
        if details["requests_shorter_than_n"]:
            parts.append(f"{details['requests_shorter_than_n']:,} with fewer candidates")
    if details.get("clipped"):
        parts.append(f"{details['clipped']:,} scores clipped")
    return ", ".join(parts)
