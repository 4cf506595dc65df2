"""Times a training step of ours and of other libraries on the same arrays, and tabulates all.

    python benchmarks/training.py --workspace workspace

One process at a time, every side once before any side twice. A finished run is a JSON file below
`<workspace>/speed` and is not repeated.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import resource
import subprocess
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

# A script sees its own folder alone.
sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.files import read_result, write_text
from benchmarks.speed import summary
from benchmarks.speed.workloads import WORKLOADS, path

ROOT = Path(__file__).parents[1]
SPEED = Path(__file__).parent / "speed"
W1_MODELS = ("deepfm", "dcn_v2")


@dataclass(frozen=True)
class Side:
    """One library.

    Args:
        module: below `benchmarks.speed`, which prints the result.
        models: that it has.
        peer: whose environment it runs in; ours for none.
        arguments: of its command line.
        variables: of its process.
        dense: its optimiser passes over whole tables at every step.
    """

    module: str
    models: tuple[str, ...]
    peer: str | None = None
    arguments: tuple[str, ...] = ()
    variables: tuple[tuple[str, str], ...] = ()
    dense: bool = False


ROW_WISE = json.dumps({"tables": {"name": "row_wise_adagrad"}})
SIDES = {
    "ours": Side("ours", (*W1_MODELS, "din")),
    "ours_row_wise": Side("ours", W1_MODELS, arguments=("--set", ROW_WISE)),
    "fuxictr": Side("fuxictr_run", (*W1_MODELS, "din"), "fuxictr", dense=True),
    "deepctr": Side("deepctr_run", (*W1_MODELS, "din"), "deepctr", dense=True),
    "torchrec": Side("torchrec_run", W1_MODELS, "torchrec"),
    "keras": Side("keras_run", W1_MODELS, "keras", dense=True),
}
OUT_OF_MEMORY = (
    "MemoryError",
    "bad_alloc",
    "can't allocate memory",
    "not enough memory",
    "ResourceExhaustedError",
    "OOM when allocating",
)


def arguments(side: Side, workload: str, seconds: float) -> list[str]:
    """The command line of a run behind workload, model and arrays.

    Example:
        >>> arguments(SIDES["keras"], "w1_large", 10)[:2]
        ['--steps', '3']
    """
    steps, warm_up, per_call = 10, 20, 10
    if workload in ("w1_large", "rows_10m", "rows_50m") and side.dense:
        # Seconds a step.
        steps, warm_up, per_call = 3, 2, 1
    elif workload.startswith("w2"):
        # Numbers of behaviours differ from batch to batch, and each new size is compiled.
        warm_up = 20 if "200" in workload else 60
    elif workload.startswith("w3"):
        warm_up, per_call = 5, 5
    found = ["--steps", steps, "--warm-up", warm_up, "--steps-per-call", per_call]
    return [*map(str, found), "--seconds", f"{seconds:g}", *side.arguments]


def outcome(code: int, errors: str) -> str | None:
    """What a finished process says of its run; None for an error that is a mistake of ours.

    Example:
        >>> outcome(0, ""), outcome(-9, ""), outcome(1, "std::bad_alloc"), outcome(1, "KeyError")
        ('done', 'out of memory', 'out of memory', None)
    """
    if code == 0:
        return "done"
    if code == -9 or any(sign in errors for sign in OUT_OF_MEMORY):
        return "out of memory"
    return None


def bound_memory() -> None:
    """Leaves the machine a seventh of its memory: a run that needs more fails by itself."""
    whole = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    resource.setrlimit(resource.RLIMIT_DATA, (whole * 6 // 7, whole * 6 // 7))


def digest(files: Iterable[Path]) -> str:
    """Of the files' names and contents."""
    found = hashlib.sha256()
    for file in sorted(files):
        found.update(file.name.encode())
        found.update(file.read_bytes())
    return found.hexdigest()[:12]


def machine() -> str:
    """This machine, in words."""
    name = platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                name = line.partition(":")[2].strip()
                break
    return f"{len(os.sched_getaffinity(0))} cores of {name}"


def environment(peer: str) -> Path:
    """The Python of a peer's environment, which is made if its requirements are new."""
    folder = SPEED / ".venvs" / peer
    python = folder / "bin" / "python"
    files = sorted((SPEED / "requirements").glob(f"{peer}*.txt"))
    marker = folder / f"installed-{digest(files)}"
    if marker.exists():
        return python
    print(f"{peer}: installing", flush=True)
    subprocess.run([sys.executable, "-m", "venv", "--clear", str(folder)], check=True)
    for file in files:
        # What would bring in a GPU's packages comes without its dependencies.
        own = ["--no-deps"] if file.stem.endswith("-no-deps") else []
        command = [str(python), "-m", "pip", "install", "--quiet", *own, "-r", str(file)]
        subprocess.run(command, check=True)
    marker.touch()
    return python


def run_module(python: Path, module: str, *arguments: str) -> None:
    """Runs a module of the benchmarks in a peer's environment.

    Raises:
        SystemExit: it failed; what it said is shown.
    """
    done = subprocess.run(
        [str(python), "-m", module, *arguments],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    if done.returncode:
        print(done.stderr[-4000:], file=sys.stderr)
        raise SystemExit(f"{module} failed with exit code {done.returncode}")


class Comparison:
    """Runs of every side, kept below `<workspace>/speed`.

    Args:
        options: the command line.
        sides: by name.
    """

    def __init__(self, options: argparse.Namespace, sides: dict[str, Side] = SIDES):
        self.options = options
        self.sides = sides
        self.folder = options.workspace.absolute() / "speed"
        self.folder.mkdir(parents=True, exist_ok=True)
        self.machine = machine()
        self._sources: dict[str, str] = {}

    def run(self, workload: str, model: str, name: str, repeat: int) -> dict:
        """The result of one run, of the file where it is there."""
        side = self.sides[name]
        settings = {
            "workload": workload,
            "model": model,
            "side": name,
            "repeat": repeat,
            "arguments": arguments(side, workload, self.options.seconds),
            "limit": self.options.limit,
            "machine": self.machine,
            "source": self._source(name),
        }
        if side.variables:
            settings["variables"] = dict(side.variables)
        title = f"{workload}-{model}-{name}-{repeat}"
        file = self.folder / f"{title}.json"
        found = read_result(file, settings)
        if found:
            print(f"{title}: {self._said(found)}, done before")
            return found
        result = settings | self._train(title, side, settings)
        write_text(file, json.dumps(result, indent=2))
        print(f"{title}: {self._said(result)}", flush=True)
        return result

    def _train(self, title: str, side: Side, settings: dict) -> dict:
        arrays = path(self.folder / "arrays", WORKLOADS[settings["workload"]])
        python = environment(side.peer) if side.peer else sys.executable
        command = [str(python), "-m", f"benchmarks.speed.{side.module}"]
        command += [settings["workload"], settings["model"], str(arrays), *settings["arguments"]]
        variables = os.environ | {"PYTHONPATH": str(ROOT)} | dict(side.variables)
        try:
            done = subprocess.run(
                command,
                cwd=ROOT,
                env=variables,
                preexec_fn=bound_memory,
                capture_output=True,
                text=True,
                timeout=self.options.limit,
            )
        except subprocess.TimeoutExpired:
            return {"outcome": "out of time"}
        said = outcome(done.returncode, done.stderr)
        if said is None:
            print(done.stderr[-4000:], file=sys.stderr)
            raise SystemExit(f"{title}: {side.module} failed with exit code {done.returncode}")
        if said != "done":
            return {"outcome": said}
        return {"outcome": said} | json.loads(done.stdout.splitlines()[-1])

    def _source(self, name: str) -> str:
        """Of the code that a run depends on: a result of other code is no result."""
        if name not in self._sources:
            side = self.sides[name]
            files = [SPEED / f"{part}.py" for part in (side.module, "measure", "workloads")]
            if side.peer:
                files += (SPEED / "requirements").glob(f"{side.peer}*.txt")
            if side.peer in (None, "keras", "deepctr"):
                files.append(SPEED / "tf_loop.py")
            if not side.peer:
                files += (ROOT / "ctr_tf").rglob("*.py")
            self._sources[name] = digest(files)
        return self._sources[name]

    @staticmethod
    def _said(result: dict) -> str:
        if result["outcome"] != "done":
            return result["outcome"]
        return f"{result['samples_per_second']:,.0f} samples/s, {result['peak_mib']:,} MiB"


def command_line(doc: str, repeats: int, seconds: float) -> argparse.ArgumentParser:
    """What the command lines of all comparisons of steps have.

    Args:
        doc: of the script.
        repeats, seconds: the defaults.
    """
    parser = argparse.ArgumentParser(description=doc.splitlines()[0])
    parser.add_argument("--workspace", type=Path, default=Path("workspace"))
    parser.add_argument("--repeats", type=int, default=repeats)
    parser.add_argument("--seconds", type=float, default=seconds, help="the least time of a run")
    parser.add_argument("--limit", type=float, default=600.0, help="the most seconds of a process")
    parser.add_argument("--output", type=Path, default=ROOT / "benchmarks" / "results")
    return parser


def wanted(options: argparse.Namespace) -> list[tuple[str, str, str, int]]:
    """(workload, model, side, repeat) of each run, a repeat of all before the next."""
    return [
        (workload, model, side, repeat)
        for repeat in range(1, options.repeats + 1)
        for workload, model in summary.CASES
        for side in options.sides
        if workload in options.workloads and model in options.models
        if model in SIDES[side].models
    ]


def main() -> None:
    """The command line."""
    models = list(dict.fromkeys(model for _, model in summary.CASES))
    parser = command_line(__doc__, repeats=5, seconds=5.0)
    parser.add_argument("--sides", nargs="+", choices=SIDES, default=list(SIDES))
    workloads = list(dict.fromkeys(workload for workload, _ in summary.CASES))
    parser.add_argument("--workloads", nargs="+", choices=workloads, default=workloads)
    parser.add_argument("--models", nargs="+", choices=models, default=models)
    options = parser.parse_args()
    for peer in dict.fromkeys(SIDES[side].peer for side in options.sides):
        if peer:
            environment(peer)
    comparison = Comparison(options)
    began = time.monotonic()
    runs = []
    for each in wanted(options):
        runs.append(comparison.run(*each))
        page = summary.write(options.output, runs)
    print(f"{page}: {len(runs)} runs in {time.monotonic() - began:,.0f} s")


if __name__ == "__main__":
    main()
