"""The command line, `ctr-tf`. Help and errors need no TensorFlow."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Annotated, Literal, NoReturn

import typer
from rich.console import Console
from rich.table import Table

from ctr_tf import datasets, registry, stages
from ctr_tf.config import Experiment, load
from ctr_tf.data.manifest import SPLITS
from ctr_tf.startup import start_tensorflow
from ctr_tf.workspace import StageError, Workspace

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Trains, evaluates, exports and serves models of click-through rate.",
)
datasets_app = typer.Typer(no_args_is_help=True, help="Public datasets.")
app.add_typer(datasets_app, name="datasets")

Config = Annotated[Path, typer.Argument(help="An experiment, as configs/movielens/din.yaml.")]
Set = Annotated[
    list[str] | None,
    typer.Option("--set", help="Override a key, as train.learning_rate=1e-3. Repeatable."),
]
Root = Annotated[
    Path,
    typer.Option("--workspace", envvar="CTR_TF_WORKSPACE", help="Where data and runs are kept."),
]
Quiet = Annotated[bool, typer.Option("--quiet", help="No progress bars.")]
WORKSPACE = Path("workspace")


def _limit(text: str, least: float = 1):
    return typer.Option(min=least, help=text)


def _size(text: str):
    return typer.Option(min=1, help=text, rich_help_panel="With --flops")


def _open(config: Path, overrides: list[str] | None, root: Path) -> Workspace:
    return Workspace(root.absolute(), load(config, overrides or []))


@datasets_app.command("list")
def list_datasets() -> None:
    """Lists the datasets that can be fetched."""
    table = Table("name", "description", "rows", "licence")
    for name in datasets.names():
        dataset = datasets.get(name)
        rows = ", ".join(f"{count:,} {kind}" for kind, count in dataset.rows.items())
        table.add_row(name, dataset.description, rows, dataset.licence)
    Console().print(table)


@datasets_app.command("fetch")
def fetch_dataset(
    name: Annotated[str, typer.Argument(help="One that `datasets list` shows.")],
    source: Annotated[
        Path | None, typer.Option(exists=True, help="An archive already on disk, or a folder.")
    ] = None,
    workspace: Root = WORKSPACE,
) -> None:
    """Fetches a dataset, verifies it and brings it to CSV files."""
    print(datasets.get(name).fetch(workspace / "datasets", source=source))


@app.command()
def prepare(config: Config, set_: Set = None, workspace: Root = WORKSPACE) -> None:
    """Raw logs to request-shaped TFRecords, by the Beam job."""
    found = _open(config, set_, workspace)
    stages.fetch(found)
    print(stages.prepare(found))


@app.command()
def pretrain(
    config: Config, set_: Set = None, workspace: Root = WORKSPACE, quiet: Quiet = False
) -> None:
    """Pre-trains a model's encoder on user histories, once for all experiments that share it."""
    found = _open(config, set_, workspace)
    if found.experiment.pretrain is None:
        raise StageError(f"{config}: pretrain: the config has no such section")
    print(stages.pretrain(found, not quiet))


@app.command()
def train(
    config: Config, set_: Set = None, workspace: Root = WORKSPACE, quiet: Quiet = False
) -> None:
    """Trains on prepared data; takes up a run that was cut short."""
    found = _open(config, set_, workspace)
    stages.train(found, not quiet)
    print(found.run)


@app.command()
def evaluate(
    config: Config, set_: Set = None, workspace: Root = WORKSPACE, quiet: Quiet = False
) -> None:
    """Metrics of the test split: a table, report.json and report.html."""
    from ctr_tf.evaluation.table import print_report

    found = _open(config, set_, workspace)
    print_report(stages.evaluate(found, not quiet))
    print(found.run / "report.html")


@app.command()
def predict(
    config: Config,
    output: Annotated[Path, typer.Option(help="Folder of the shards, replaced whole.")],
    split: Annotated[Literal[SPLITS], typer.Option(help="Which requests are scored.")] = "test",
    set_: Set = None,
    workspace: Root = WORKSPACE,
    quiet: Quiet = False,
) -> None:
    """Batch scores of a split's TFRecords, one row an impression."""
    print(stages.predict(_open(config, set_, workspace), split, output.resolve(), not quiet))


@app.command()
def export(config: Config, set_: Set = None, workspace: Root = WORKSPACE) -> None:
    """A SavedModel of three signatures, checked in a fresh process, and what its bytes are."""
    from ctr_tf.export.table import print_precision

    found = stages.export(_open(config, set_, workspace))
    print_precision(found)
    print(found)


@app.command()
def run(
    config: Config, set_: Set = None, workspace: Root = WORKSPACE, quiet: Quiet = False
) -> None:
    """All stages of an experiment, skipping what is done and unchanged."""
    from ctr_tf.evaluation.table import print_report

    report = stages.run(_open(config, set_, workspace), print, not quiet)
    print_report(report)


@app.command()
def serve(
    config: Config,
    set_: Set = None,
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free one.")] = 8500,
    max_request_mb: Annotated[int | None, _limit("Largest request, in MiB.")] = None,
    max_candidates: Annotated[int | None, _limit("Most candidates of a call.")] = None,
    max_seconds: Annotated[float | None, _limit("Longest time of a call.", 0.001)] = None,
    max_waiting: Annotated[int | None, _limit("Calls that may wait for a worker.")] = None,
    workers: Annotated[int | None, _limit("Calls computed at the same time.")] = None,
    batch_candidates: Annotated[
        int | None, _limit("Most candidates of waiting calls that are computed as one.", 0)
    ] = None,
    metrics_port: Annotated[
        int | None, typer.Option(min=0, max=65535, help="Of the Prometheus page.")
    ] = None,
    log_format: Annotated[str | None, typer.Option(help="text, or json: a line a call.")] = None,
    request_log: Annotated[Path | None, typer.Option(help="Folder of logged calls.")] = None,
    request_log_share: Annotated[
        float | None, typer.Option(min=0, max=1, help="Share of the calls that is logged.")
    ] = None,
    workspace: Root = WORKSPACE,
) -> None:
    """Serves the exported model over TF Serving's gRPC API, on loopback.

    What is not set is as serving/README.md lists it; `python -m serving.server` takes more options.
    """
    found = _open(config, set_, workspace)
    if not found.exported.exists():
        raise StageError(f"{found.exported}: not exported; run `ctr-tf export` first")
    options = ["--model", found.experiment.name, "--folder", str(found.exported)]
    for name, value in (
        ("port", port),
        ("max-request-mb", max_request_mb),
        ("max-candidates", max_candidates),
        ("max-seconds", max_seconds),
        ("max-waiting", max_waiting),
        ("workers", workers),
        ("batch-candidates", batch_candidates),
        ("metrics-port", metrics_port),
        ("log-format", log_format),
        ("request-log", request_log),
        ("request-log-share", request_log_share),
    ):
        options += [] if value is None else [f"--{name}", str(value)]
    _module("serving.server", options)


@app.command()
def score(
    config: Config,
    user: Annotated[str | None, typer.Option(help="User id; any user by default.")] = None,
    candidates: Annotated[int, typer.Option(min=1, help="Unseen items to score.")] = 500,
    top: Annotated[int, typer.Option(min=1, help="Items shown.")] = 10,
    target: Annotated[str, typer.Option(help="Address of the server.")] = "127.0.0.1:8500",
    set_: Set = None,
    workspace: Root = WORKSPACE,
) -> None:
    """Asks a running server for one user's best unseen items, in one folded call."""
    found = _open(config, set_, workspace)
    options = ["--model", found.experiment.name, "--data", str(found.prepared)]
    options += ["--target", target, "--candidates", str(candidates), "--top", str(top)]
    _module("serving.score", options + (["--user", user] if user else []))


@app.command()
def models(
    context: typer.Context,
    flops: Annotated[
        Path | None,
        typer.Option(metavar="CONFIG", help="What a request costs this experiment's model."),
    ] = None,
    users: Annotated[int, _size("B, users of the call.")] = 1,
    candidates: Annotated[int, _size("N, candidates of each user.")] = 100,
    length: Annotated[int | None, _size("L, behaviours; the schema's most by default.")] = None,
    values: Annotated[int | None, _size("M, of multi-valued features; their most, or 3.")] = None,
    words: Annotated[int | None, _size("Of a text; the schema's most by default.")] = None,
    session: Annotated[int, _size("Behaviours between two pauses of a day.")] = 10,
    set_: Set = None,
) -> None:
    """The registered architectures, with paper and configuration; with --flops the cost of one.

    The cost is counted op by op, with every position valid, and needs no data.
    """
    if flops is not None:
        _print_cost(
            load(flops, set_ or []),
            users=users,
            candidates=candidates,
            length=length,
            values=values,
            words=words,
            session=session,
        )
        return
    for name in context.params:
        if context.get_parameter_source(name).name == "COMMANDLINE":
            raise typer.BadParameter("is of --flops CONFIG", param_hint=f"--{name.strip('_')}")
    table = Table("model", "paper", "configuration")
    for name, entry in registry.entries().items():
        own = [key for key in entry.config.model_fields if key != "name"]
        table.add_row(name, entry.paper, ", ".join(own))
    Console().print(table)


def _print_cost(experiment: Experiment, **sizes: int | None) -> None:
    start_tensorflow()
    from ctr_tf.analysis.cost import bare_model, model_cost
    from ctr_tf.analysis.sizes import Sizes
    from ctr_tf.analysis.table import print_cost

    cost = model_cost(bare_model(experiment.log, experiment.model), Sizes(**sizes))
    print_cost(experiment.name, experiment.log, cost)


def _module(name: str, arguments: list[str]) -> NoReturn:
    """Becomes a tool that stands beside the package, which nothing here imports.

    The same process, so that a signal to it stops the tool.
    """
    sys.stdout.flush()
    os.execv(sys.executable, [sys.executable, "-m", name, *arguments])


def main() -> None:
    """Runs the command line: exit code 2 and one message for what a user can mend.

    With CTR_TF_TRACEBACK set, the error's traceback too.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    # An exception, so that a stage's child process is ended too; training saves first.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        app()
    except stages.Interrupted as error:
        print(error, file=sys.stderr)
        sys.exit(143)
    except (ValueError, RuntimeError, OSError) as error:
        if os.environ.get("CTR_TF_TRACEBACK"):
            raise
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
