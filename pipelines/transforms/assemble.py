"""Puts what the steps said together: rejects, statistics and the manifest."""

from __future__ import annotations

import importlib.metadata
import json
import math
from collections import Counter
from pathlib import Path

from ctr_tf.data.manifest import (
    ITEM_FREQUENCY,
    STATISTICS,
    VOCABULARIES,
    LeftOut,
    Manifest,
    RecordFile,
    Rows,
    SplitManifest,
    digest_of,
)
from ctr_tf.schema import Categorical, Text
from pipelines.transforms.errors import PrepareError
from pipelines.transforms.ingest import NOBODY, Folders, load_summaries
from pipelines.transforms.layout import Layout
from pipelines.transforms.rows import MICROSECONDS, least_active

VERSIONS = ("apache-beam", "protobuf", "pyarrow")


class Ingested:
    """What the first pipeline read.

    Args:
        folders: where the job writes.
        items: item rows read before it.
        share: of users that is kept, the most active ones.

    Raises:
        PrepareError: a file could not be read to its end.
    """

    def __init__(self, folders: Folders, items: int, share: float):
        self.reasons: Counter[str] = Counter()
        self._rejected: Counter[str] = Counter()
        self._read = Counter({"items": items} if items else {})
        for summary in load_summaries(folders.work, "rejects-*.summary"):
            if summary["failures"]:
                raise PrepareError(summary["failures"][0])
            self.reasons.update(summary["reasons"])
            self._rejected.update(summary["rejected"])
            self._read.update(summary["read"])
        self.largest = 0
        users: Counter[int] = Counter()
        rows: Counter[int] = Counter()
        for summary in load_summaries(folders.work, "rows-*.summary"):
            self.largest = max(self.largest, summary["largest"])
            for active, (number, own) in summary["counts"].items():
                users[active] += number
                rows[active] += own
        self.left_out = _left_out(users, rows, share)
        self.times: Counter[int] = Counter()
        for summary in load_summaries(folders.work, "rows-*.summary"):
            for active, times in summary["times"].items():
                if active >= self.left_out.below:
                    self.times.update(times)

    @property
    def rows(self) -> dict[str, Rows]:
        """Rows read and rejected, by source."""
        return {
            source: Rows(read=read, rejected=self._rejected[source])
            for source, read in sorted(self._read.items())
        }

    def check(self, layout: Layout, rejects: Path) -> None:
        """Checks that enough rows were good.

        Raises:
            PrepareError: no row, or more bad ones than `max_bad_share` of a source; names
                the reasons and the first rejects.
        """
        most = layout.config.max_bad_share
        for source, rows in self.rows.items():
            if rows.read == 0:
                raise PrepareError(f"prepare.{source}: no rows")
            if rows.rejected > most * rows.read:
                reasons = ", ".join(f"{n:,} x {why}" for why, n in self.reasons.most_common(5))
                raise PrepareError(
                    f"prepare.{source}: {rows.rejected:,} of {rows.read:,} rows rejected, more "
                    f"than max_bad_share {most:g}: {reasons}; first: {_first(rejects, source)}"
                )


def _left_out(users: Counter[int], rows: Counter[int], share: float) -> LeftOut:
    if share == 1:
        return LeftOut()
    least = least_active(share, {own: n for own, n in users.items() if own != NOBODY})
    return LeftOut(
        users=sum(count for active, count in users.items() if active < least),
        impressions=sum(count for active, count in rows.items() if active < least),
        below=least,
    )


def _first(folder: Path, source: str, most: int = 3) -> str:
    found = []
    for path in sorted(folder.glob("*.jsonl")):
        with open(path, encoding="utf-8") as lines:
            for line in lines:
                reject = json.loads(line)
                if reject["source"] == source and len(found) < most:
                    unit = "line" if "line" in reject else "row"
                    where = f"{reject['file']} {unit} {reject[unit]}"
                    found.append(f"{where}: {reject['reason']} ({reject['value']!r})")
    return "; ".join(found)


def write_statistics(folders: Folders) -> None:
    """Writes the statistics of all numeric features as one JSON file."""
    summaries = load_summaries(folders.work / "statistics.summary", "*.summary")
    found = {summary["encoder"]: summary["statistics"] for summary in summaries}
    text = json.dumps(dict(sorted(found.items())), indent=2)
    (folders.output / STATISTICS).write_text(text + "\n", encoding="utf-8")


def vocabularies(layout: Layout) -> list[str]:
    """The encoders whose vocabularies are learned."""
    return [
        name
        for name, encoder in layout.schema.encoders.items()
        if isinstance(encoder, (Categorical, Text)) and encoder.encoding == "vocabulary"
    ]


def make_manifest(
    layout: Layout, folders: Folders, ingested: Ingested, boundaries: tuple[float, float]
) -> Manifest:
    """The manifest of what was written.

    Args:
        layout: where everything was read from.
        folders: where the job writes.
        ingested: what was read.
        boundaries: Unix microseconds at which validation and test begin.
    """
    shards = list(load_summaries(folders.work, "records-*.summary"))
    warnings: Counter[str] = Counter()
    for shard in shards:
        warnings.update(shard["warnings"])
    splits = {split: _split(layout, [shard[split] for shard in shards]) for split in layout.splits}
    for task, labelled in splits["train"].labelled.items():
        positives = splits["train"].positives[task]
        if labelled and positives in (0, labelled):
            kind = "positive" if positives else "negative"
            warnings[f"tasks.{task}: every label in training is {kind}"] = labelled
    seconds = tuple(None if math.isinf(time) else time / MICROSECONDS for time in boundaries)
    return Manifest(
        schema_fingerprint=layout.schema.fingerprint,
        splits=splits,
        rows=ingested.rows,
        left_out=ingested.left_out,
        rejects=dict(sorted(ingested.reasons.items())),
        warnings=dict(sorted(warnings.items())),
        learned={
            path.relative_to(folders.output).as_posix(): digest_of(path)
            for path in _learned(folders.output)
        },
        boundaries=seconds if layout.config.split.by == "time" else None,
        largest_user=ingested.largest,
        config=layout.config.model_dump(mode="json"),
        versions={name: importlib.metadata.version(name) for name in VERSIONS},
    )


def _learned(folder: Path) -> list[Path]:
    found = [
        folder / STATISTICS,
        folder / ITEM_FREQUENCY,
        *sorted((folder / VOCABULARIES).iterdir()),
    ]
    return [path for path in found if path.exists()]


def _split(layout: Layout, parts: list[dict]) -> SplitManifest:
    counts: Counter[str] = Counter()
    for part in parts:
        counts.update(part["counts"])
    timed = layout.schema.keys.time is not None
    times = [time for part in parts for time in part["times"]] if timed else []
    return SplitManifest(
        files=[RecordFile(**part["file"]) for part in parts if part["file"]],
        requests=counts["requests"],
        candidates=counts["candidates"],
        negatives=counts["negatives"],
        labelled={task: counts[f"labelled {task}"] for task in layout.schema.tasks},
        positives={task: counts[f"positives {task}"] for task in layout.schema.tasks},
        behaviours=counts["behaviours"],
        users=counts["users"],
        users_without_training_rows=counts["users_without_training_rows"],
        first_time=min(times, default=None),
        last_time=max(times, default=None),
    )
