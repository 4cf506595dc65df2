"""Trains our models, with lazy and with dense Adam, and FuxiCTR's on the same rows.

    make -C benchmarks/peers
    python benchmarks/peers/compare.py --workspace workspace

One training at a time. A finished run is a JSON file and is not repeated.
"""

from __future__ import annotations

import argparse
import hashlib
import itertools
import json
import os
import subprocess
import sys
import time
from functools import cache
from pathlib import Path

import numpy as np

# A script sees its own folder alone.
sys.path.insert(0, str(Path(__file__).parents[2]))

from benchmarks.files import read_result, write_text
from benchmarks.peers import rows, summary, translate
from ctr_tf import metrics, stages
from ctr_tf.config import load
from ctr_tf.data.manifest import Manifest
from ctr_tf.workspace import Workspace

ROOT = Path(__file__).parents[2]
HERE = Path(__file__).parent
CONFIGS = {"time": "{}.yaml", "last": "{}_last.yaml"}
MODELS = tuple(translate.MODELS)
SCRIPTS = {"ctr_tf": "ours_run.py", "ctr_tf_dense": "ours_run.py", "fuxictr": "fuxictr_run.py"}
# Of our stack, besides the configuration of the model.
OVERRIDES = {"ctr_tf_dense": ["train.tables.rows=all"]}


def config_of(split: str, model: str) -> Path:
    """The experiment of a model on a split."""
    return ROOT / "configs" / "movielens" / CONFIGS[split].format(model)


def measure(predictions: Path, split: str = "test") -> dict:
    """Metrics of what a run wrote of a split, the same code for both sides."""
    with np.load(predictions) as found:
        label, score, user = (found[f"{split}/{name}"] for name in ("label", "score", "user"))
        gauc = metrics.gauc(label, score, user)
        return {
            "auc": metrics.auc(label, score).value,
            "gauc": gauc.value,
            "log_loss": metrics.log_loss(label, score).value,
            "users_one_class": gauc.details["users_left_out"],
            "impressions": len(label),
            "positives": int(label.sum()),
            "users": len(np.unique(user)),
            "parameters": int(found["parameters"]),
            "versions": json.loads(str(found["versions"])),
        }


@cache
def _file_digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def digest(prepared: Path, manifest: Manifest) -> str:
    """Of the records of every split: what both sides train on, however it was prepared."""
    found = [
        _file_digest(path) for split in rows.SPLITS for path in manifest.paths(prepared, split)
    ]
    return hashlib.sha256("".join(found).encode()).hexdigest()[:16]


class Comparison:
    """Runs of both sides, kept below `<workspace>/peers`.

    Args:
        options: the command line.
    """

    def __init__(self, options: argparse.Namespace):
        self.options = options
        self.root = options.workspace.absolute()
        self.folder = self.root / "peers"
        self.folder.mkdir(parents=True, exist_ok=True)

    def run(self, split: str, model: str, seed: int, stack: str) -> dict:
        """The result of one run, of the file where it is there."""
        options = self.options
        config = config_of(split, model)
        overrides = [f"train.seed={seed}", f"train.epochs={options.epochs}"]
        overrides += OVERRIDES.get(stack, []) + translate.overrides(model)
        if options.max_steps:
            overrides.append(f"train.max_steps={options.max_steps}")
        workspace = Workspace(self.root, load(config, overrides))
        stages.fetch(workspace)
        prepared = stages.prepare(workspace)
        experiment = workspace.experiment
        settings = {
            "split": split,
            "model": model,
            "stack": stack,
            **translate.peer_training(experiment.train),
            "batch_size": experiment.input.batch_size,
            "data": digest(prepared, Manifest.read(prepared, experiment.log)),
            "arguments": translate.peer_arguments(experiment),
        }
        if SCRIPTS[stack] == "ours_run.py":
            # Runs of other defaults are others.
            settings["resolved"] = {
                "model": experiment.model.model_dump(mode="json"),
                "train": experiment.train.model_dump(mode="json"),
                "input": experiment.input.model_dump(mode="json"),
            }
        name = f"{split}-{model}-{stack}-{seed}" + f"-{options.max_steps}" * bool(options.max_steps)
        path = self.folder / f"{name}.json"
        found = read_result(path, settings)
        if found:
            print(f"{name}: done before")
            return found
        spec = settings | {"output": str(self.folder / f"{name}.npz")}
        if SCRIPTS[stack] == "ours_run.py":
            spec |= {"workspace": str(self.root), "config": str(config), "overrides": overrides}
        else:
            spec |= {"rows": str(self._rows(prepared))}
        print(f"{name}: training", flush=True)
        start = time.monotonic()
        self._train(name, stack, spec)
        test = Manifest.read(prepared, experiment.log).split("test")
        result = settings | measure(Path(spec["output"]))
        result |= {"users_without_training_rows": test.users_without_training_rows}
        result |= {"seconds": round(time.monotonic() - start, 1)}
        write_text(path, json.dumps(result, indent=2))
        print(f"{name}: AUC {result['auc']:.4f}, GAUC {result['gauc']:.4f}, {result['seconds']} s")
        return result

    def _rows(self, prepared: Path) -> Path:
        path = self.folder / f"{prepared.name}.npz"
        if not path.exists():
            print(f"{path.name}: converting", flush=True)
            rows.save(path, rows.convert(prepared))
        return path

    def _train(self, name: str, stack: str, spec: dict) -> None:
        path = self.folder / f"{name}.spec.json"
        write_text(path, json.dumps(spec, indent=2))
        python, environment = str(self.options.peer_python), os.environ
        if SCRIPTS[stack] == "ours_run.py":
            python, environment = sys.executable, os.environ | {"PYTHONPATH": str(ROOT)}
        command = [python, str(HERE / SCRIPTS[stack]), str(path)]
        done = subprocess.run(command, env=environment)
        if done.returncode:
            raise SystemExit(f"{name}: {SCRIPTS[stack]} failed with exit code {done.returncode}")


def check_same_rows(runs: list[dict]) -> None:
    """Both sides were tested on the same rows.

    Raises:
        ValueError: a count differs.
    """
    for key in ("impressions", "positives", "users", "users_one_class"):
        for split in {run["split"] for run in runs}:
            found = {run["stack"]: run[key] for run in runs if run["split"] == split}
            if len(set(found.values())) > 1:
                raise ValueError(f"{split}: {key} of the test rows must be equal, got {found}")


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--workspace", type=Path, default=Path("workspace"))
    parser.add_argument("--splits", nargs="+", choices=CONFIGS, default=list(CONFIGS))
    parser.add_argument("--models", nargs="+", choices=MODELS, default=["din", "dcn_v2"])
    parser.add_argument("--stacks", nargs="+", choices=SCRIPTS, default=list(SCRIPTS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[1, 2, 3])
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--max-steps", type=int, help="a bound for a trial of both sides")
    parser.add_argument("--peer-python", type=Path, default=HERE / ".venv" / "bin" / "python")
    parser.add_argument("--output", type=Path, default=ROOT / "benchmarks" / "results")
    options = parser.parse_args()
    if "fuxictr" in options.stacks and not options.peer_python.exists():
        parser.error(f"--peer-python {options.peer_python}: not there; run `make -C {HERE}`")
    for config in (config_of(*pair) for pair in itertools.product(options.splits, options.models)):
        if not config.exists():
            parser.error(f"{config}: not there; choose other --splits or --models")
    comparison = Comparison(options)
    wanted = [
        (split, model, seed, stack)
        # A seed at a time, so that an interrupted comparison has whole columns.
        for seed in options.seeds
        for split in options.splits
        for model in options.models
        for stack in options.stacks
    ]
    runs = []
    for each in wanted:
        runs.append(comparison.run(*each))
        check_same_rows(runs)
        page = summary.write(options.output, "movielens_1m", runs)
    print(page)


if __name__ == "__main__":
    main()
