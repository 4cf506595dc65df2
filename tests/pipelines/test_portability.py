"""One job, several runners: the records and the rejects are the same."""

import apache_beam as beam
import pytest
from apache_beam.metrics import MetricsFilter
from apache_beam.options.pipeline_options import PipelineOptions
from distributed import LocalCluster

from pipelines.transforms.ingest import Folders, GroupUser, ReadRows, ReadTask
from tests.pipelines.jobs import (
    SHOP,
    SHOP_COLUMNS,
    layout,
    prepare,
    read_rejects,
    read_split,
    write_csv,
)

DASK = "apache_beam.runners.dask.dask_runner.DaskRunner"
TWO_WORKERS = ["--direct_num_workers=2", "--direct_running_mode=multi_processing"]


def write_shop(root):
    """Twelve users in two files, of whom one is not in users, and two bad rows."""
    rows = [[f"u{n % 12}", f"i{n * n % 11}", n // 3, n % 2] for n in range(200)]
    write_csv(root / "log-a.csv", SHOP_COLUMNS, rows[:120] + [["u1", "i1", "never", 1]])
    write_csv(root / "log-b.csv", SHOP_COLUMNS, rows[120:] + [["u1", "i1", 5, "maybe"]])
    write_csv(root / "users.csv", ["user_id"], [[f"u{n}"] for n in range(11)])
    write_csv(root / "items.csv", ["item_id", "price"], [[f"i{n}", n] for n in range(20)])
    past = [[f"u{n * n % 11}", f"i{n % 25}", n // 5] for n in range(300)]
    write_csv(root / "past.csv", ["user_id", "item_id", "time"], past)


BEHAVIOURS = {"behaviours": {"path": "past.csv"}, "most_active_users": 0.5, "histories": True}


def outcomes(root, **config):
    return [outcome(root, **config), outcome(root, **config, **BEHAVIOURS)]


def outcome(root, **config):
    manifest = prepare(
        root,
        {**SHOP, "features": {**SHOP["features"], "price": {"kind": "numeric"}}},
        impressions={"path": "log-*.csv"},
        users={"path": "users.csv", "key": "user_id"},
        items={"path": "items.csv", "key": "item_id"},
        negatives={"per_positive": 2, "popularity": 0.75},
        split={"by": "time"},
        max_bad_share=0.5,
        **config,
    )
    out = root / "out"
    learned = [out / "statistics.json", *sorted((out / "vocabularies").iterdir())]
    return {
        "splits": {split: read_split(out, split) for split in manifest.splits},
        "rejects": read_rejects(out / "rejects"),
        "reasons": manifest.rejects,
        "left_out": manifest.left_out,
        "learned": [path.read_bytes() for path in learned],
    }


@pytest.fixture(scope="module")
def expected(tmp_path_factory):
    root = tmp_path_factory.mktemp("one")
    write_shop(root)
    both = found, past = outcomes(root)
    assert sum(map(len, found["splits"].values())) > 100
    # The squares modulo 11 are six numbers: of eleven users with attributes five did nothing.
    assert past["splits"]["histories"] and past["splits"]["next"]
    assert past["left_out"].users == 5 and past["left_out"].below > 0
    assert past["reasons"]["item_id: not in items"] == 60
    assert found["reasons"] == {
        "click: not a number": 1,
        "time: not a number": 1,
        "user_id: not in users": 16,
    }
    return list(both)


def test_two_worker_processes(expected, tmp_path):
    write_shop(tmp_path)
    assert outcome(tmp_path, runner_options=TWO_WORKERS, **BEHAVIOURS) == expected[1]


def test_dask_with_a_cluster_of_two(expected, tmp_path):
    write_shop(tmp_path)
    with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster:
        options = [f"--dask_client_address={cluster.scheduler_address}", "--dask_npartitions=3"]
        assert outcomes(tmp_path, runner=DASK, runner_options=options) == expected


def test_no_step_holds_more_than_one_users_rows(tmp_path):
    sizes = [3, 2500, 40, 1]
    rows = [[f"u{u}", "i", n, 1] for u, size in enumerate(sizes) for n in range(size)]
    write_csv(tmp_path / "log.csv", SHOP_COLUMNS, rows)
    found = layout(tmp_path, SHOP)
    task = ReadTask("impressions", found.files["impressions"][0])
    pipeline = beam.Pipeline(runner="FnApiRunner", options=PipelineOptions([]))
    grouped = (
        pipeline
        | beam.Create([task])
        | beam.ParDo(ReadRows(found, Folders(tmp_path, tmp_path)))
        | beam.GroupByKey()
    )
    grouped | beam.ParDo(GroupUser(found, Folders(tmp_path, tmp_path)))
    result = pipeline.run()
    result.wait_until_finish()
    metrics = {
        metric.key.metric.name: metric.committed
        for metric in result.metrics().query(MetricsFilter().with_namespace("prepare"))[
            "distributions"
        ]
    }
    assert (metrics["rows_held"].max, metrics["rows_held"].sum) == (2500, sum(sizes))
    # A reader hands rows on in runs of one user, of a thousand at most.
    assert metrics["rows_read_ahead"].max == 1000
    assert metrics["rows_read_ahead"].sum == sum(sizes)
    manifest = prepare(tmp_path, SHOP)
    assert manifest.largest_user == 2500
