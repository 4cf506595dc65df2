"""Public datasets: fetch, verify and bring to one normal form of CSV files."""

import difflib

from ctr_tf.datasets.census_income import CENSUS_INCOME
from ctr_tf.datasets.dataset import Dataset
from ctr_tf.datasets.fetching import DatasetError
from ctr_tf.datasets.movielens import MOVIELENS_1M, MOVIELENS_100K
from ctr_tf.datasets.movielens_20m import MOVIELENS_20M
from ctr_tf.datasets.taobao_ad import TAOBAO_AD

__all__ = ["Dataset", "DatasetError", "get", "names"]

_ALL = (CENSUS_INCOME, MOVIELENS_100K, MOVIELENS_1M, MOVIELENS_20M, TAOBAO_AD)
_DATASETS = {each.name: each for each in _ALL}


def names() -> list[str]:
    """Lists the datasets that `get` knows.

    Example:
        >>> names()
        ['census_income', 'movielens_100k', 'movielens_1m', 'movielens_20m', 'taobao_ad']
    """
    return list(_DATASETS)


def get(name: str) -> Dataset:
    """Returns one dataset by name.

    Args:
        name: One of `names()`.

    Raises:
        ValueError: If no dataset has that name.

    Example:
        >>> get("movielens_1m").rows["ratings"]
        1000209
    """
    if name not in _DATASETS:
        nearest = difflib.get_close_matches(name, _DATASETS, n=1, cutoff=0.0)[0]
        raise ValueError(
            f"dataset must be one of {names()}, got {name!r}; the nearest is {nearest!r}"
        )
    return _DATASETS[name]
