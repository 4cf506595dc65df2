"""The folders of an experiment, each named by all that it depends on."""

from __future__ import annotations

import glob
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from ctr_tf import datasets
from ctr_tf.config import Experiment, fingerprint
from ctr_tf.data.manifest import MANIFEST, RECORD_FORMAT
from ctr_tf.datasets.dataset import DESCRIPTION, recorded_sha256
from ctr_tf.schema import Vector

PRETRAINED = ("sequence", "attributes", "encoder", "embedding")
"""Keys of a model's configuration that pre-training depends on."""


class StageError(RuntimeError):
    """A stage cannot run: what it needs is not there, or the job behind it failed."""


@dataclass(frozen=True)
class Workspace:
    """The folders of one experiment under a root.

    `datasets/<name>/` raw files, `prepared/<name>-<fingerprint>/` TFRecords,
    `pretrained/<objective>-<fingerprint>/` a pre-training, which experiments share,
    `runs/<name>/<fingerprint>/` everything of one training run: a changed config is another folder,
    so that nothing is ever mixed.

    Args:
        root: of all experiments.
        experiment: whose folders.
    """

    root: Path
    experiment: Experiment

    @property
    def dataset(self) -> Path:
        """Where relative paths of `prepare` begin."""
        name = self.experiment.dataset
        return self.root / "datasets" / name if name else Path.cwd()

    def sources(self) -> list[Path]:
        """The raw files.

        Raises:
            StageError: a path matches no file.
        """
        prepare = self.experiment.prepare
        if prepare.impressions is None:
            raise StageError("prepare.impressions: the config names no log")
        found: list[Path] = []
        for source in (prepare.impressions, prepare.users, prepare.items, prepare.behaviours):
            if source is None:
                continue
            for pattern in [source.path] if isinstance(source.path, str) else source.path:
                files = sorted(glob.glob(str(self.dataset / pattern), recursive=True))
                if not files:
                    hint = "; fetch the dataset first" if self.experiment.dataset else ""
                    raise StageError(f"{self.dataset / pattern}: no such file{hint}")
                found += map(Path, files)
        return found

    @cached_property
    def data_fingerprint(self) -> str:
        """Of the raw files and of all that preparation depends on, or of the prepared folder."""
        if self.experiment.prepared:
            manifest = self.prepared / MANIFEST
            if not manifest.exists():
                raise StageError(f"prepared: {manifest}: no such file")
            return fingerprint(manifest.read_text(encoding="utf-8"))
        own = self.experiment.dump()
        ignored = ("runner", "runner_options")
        settings = {key: value for key, value in own["prepare"].items() if key not in ignored}
        contents = [self._contents(path) for path in self.sources()]
        return fingerprint([RECORD_FORMAT, own["schema"], settings, contents])

    def _contents(self, path: Path) -> list[str | int]:
        """What tells the contents of a raw file from others.

        `Dataset.fetch`, before each preparation by the command line, verifies a dataset against its
        checksum: its runs have the same names wherever they are trained. Of another file, size and
        time stand for them.
        """
        name, described = self.experiment.dataset, self.dataset / DESCRIPTION
        verified = [f"{table}.csv" for table in datasets.get(name).tables] if name else []
        if path.parent == self.dataset and path.name in verified and described.exists():
            return [path.name, recorded_sha256(described)]
        return [path.name, path.stat().st_size, path.stat().st_mtime_ns]

    @property
    def prepared(self) -> Path:
        """The folder of TFRecords."""
        if self.experiment.prepared:
            return Path(self.experiment.prepared).absolute()
        name = self.experiment.dataset or self.experiment.name
        return self.root / "prepared" / f"{name}-{self.data_fingerprint[:12]}"

    @cached_property
    def run_fingerprint(self) -> str:
        """Of the data and of all that training depends on."""
        own = self.experiment.dump()
        tables = [
            (f.table, Path(f.table).stat().st_size, Path(f.table).stat().st_mtime_ns)
            for f in self.experiment.log.features.values()
            if isinstance(f, Vector) and Path(f.table).exists()
        ]
        # In which variables the tables lie may change between two parts of one run.
        del own["model"]["embedding"]["shard_rows"]
        parts = [own[section] for section in ("input", "model", "train")]
        before = [self.pretrain_fingerprint] if self.experiment.pretrain else []
        return fingerprint([self.data_fingerprint, *parts, tables, *before])

    @cached_property
    def pretrain_fingerprint(self) -> str:
        """Of the data and of all that pre-training depends on."""
        own = self.experiment.dump()
        model = {key: own["model"][key] for key in PRETRAINED}
        del model["embedding"]["shard_rows"]
        # Defaults are left out: what was pre-trained before the input counted keeps its folder.
        batches = self.experiment.input.model_dump(
            mode="json", exclude={"batch_size", "parallel", "prefetch"}, exclude_defaults=True
        )
        return fingerprint(
            [self.data_fingerprint, own["pretrain"], model, *([batches] if batches else [])]
        )

    @property
    def pretrained(self) -> Path:
        """The folder of the pre-training."""
        name = self.experiment.pretrain.objective.name
        return self.root / "pretrained" / f"{name}-{self.pretrain_fingerprint[:12]}"

    @property
    def run(self) -> Path:
        """The folder of the training run."""
        return self.root / "runs" / self.experiment.name / self.run_fingerprint[:12]

    @property
    def exported(self) -> Path:
        """The folder of model versions, as TF Serving wants it."""
        return self.run / "export" / self.experiment.name
