r"""Replays logged requests through a server and compares its scores with offline ones.

    python -m serving.parity --target 127.0.0.1:8500 --model films --data PREPARED_FOLDER \
        --reference EXPORT_FOLDER/VERSION --report parity.json

The exit status is 0 where all scores agree, 1 where one does not or a request was refused, and 2
where nothing could be compared.
"""

from __future__ import annotations

import argparse
import sys
from itertools import islice
from pathlib import Path

import grpc
from pydantic import NonNegativeFloat, PositiveFloat, PositiveInt
from rich.console import Console
from rich.progress import track

from ctr_tf.config_base import Config
from ctr_tf.data.manifest import SPLITS
from ctr_tf.data.raw_inputs import Arrays
from serving.asking import newest_available
from serving.client import Client
from serving.options import read_options
from serving.parity.differences import compare
from serving.parity.logged import Logged, LogRequests, PreparedRequests
from serving.parity.offline import ModelReference, open_reference
from serving.parity.report import Report, explained, make_report, print_report, write_report


class ParityConfig(Config):
    """What is replayed, and what counts as a difference.

    Args:
        tolerance: the largest difference of two probabilities that counts as none.
        requests: the most requests that are replayed, the first ones; all by default.
        worst: the requests that differ most that are listed, and looked into for the feature.
        timeout_seconds: of a call.
    """

    tolerance: NonNegativeFloat = 1e-5
    requests: PositiveInt | None = None
    worst: PositiveInt = 10
    timeout_seconds: PositiveFloat = 10.0


def served_version(client: Client, wanted: int | None) -> int:
    """The version to ask for, so that all answers are of one.

    Args:
        client: of the model.
        wanted: by default the newest that is available.

    Raises:
        ValueError: it is not available.
    """
    states = client.status()
    if wanted is None:
        return newest_available(states)
    if states.get(wanted) != "AVAILABLE":
        raise ValueError(f"--version: version {wanted} is not available; versions: {states}")
    return wanted


def run(client: Client, given: argparse.Namespace, config: ParityConfig) -> Report:
    """Replays, compares, and looks for the features behind a difference.

    Args:
        client: of the server.
        given: the command line.
        config: see `ParityConfig`.

    Raises:
        ValueError: nothing was compared, or the two sides do not fit each other.
        OSError: data, log or reference cannot be read.
        grpc.RpcError: there is no such model, or no server any more.
    """
    requests = PreparedRequests(given.data, given.split) if given.data else LogRequests(given.log)
    reference = open_reference(given.reference)
    model = reference if isinstance(reference, ModelReference) else None
    wanted = model.version if model and given.version is None else given.version
    version = served_version(client, wanted)
    if given.explain:
        model = ModelReference(given.explain)
    if model and given.data:
        model.schema.check_fingerprint(requests.schema.fingerprint, given.data)

    def online(request: Logged) -> Arrays:
        return client.predict(request.signature, request.inputs, config.timeout_seconds, version)

    comparison = compare(
        online,
        reference,
        track(
            islice(requests, config.requests),
            "replaying",
            requests.count and min(requests.count, config.requests or requests.count),
            console=Console(stderr=True),
            disable=given.quiet,
        ),
        config.tolerance,
        config.worst,
    )
    if not comparison.requests:
        refused = [f"{n}: {each.first}: {each.details}" for n, each in comparison.refused.items()]
        raise ValueError(
            f"{requests.source}: nothing was compared; {'; '.join(refused) or 'no request'}"
        )
    asked = {
        "model": given.model,
        "version": version,
        "target": given.target,
        "source": requests.source,
        "reference": str(given.reference),
    }
    report = make_report(comparison, asked, model.schema if model else None)
    return explained(report, comparison, online, model) if model else report


def main(arguments: list[str] | None = None) -> int:
    """Runs the command line; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m serving.parity",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--target", default="127.0.0.1:8500", help="host:port of the server")
    parser.add_argument("--model", required=True, help="the model's name in requests")
    parser.add_argument("--version", type=int, help="default: the reference's, or the newest")
    sources = parser.add_mutually_exclusive_group(required=True)
    sources.add_argument("--data", type=Path, help="prepared data, whose requests are replayed")
    sources.add_argument("--log", type=Path, nargs="+", help="files of a server's request log")
    parser.add_argument("--split", choices=SPLITS, default="test", help="of the prepared data")
    parser.add_argument(
        "--reference", type=Path, required=True,
        help="a version's folder, scored in process, or predictions of `ctr-tf predict`",
    )  # fmt: skip
    parser.add_argument(
        "--explain", type=Path,
        help="a version's folder that scores as the predictions do, to find the feature",
    )  # fmt: skip
    parser.add_argument("--report", type=Path, default=Path("parity.json"), help="JSON")
    parser.add_argument("--quiet", action="store_true", help="no progress bar")
    for name, field in ParityConfig.model_fields.items():
        option = "--" + name.replace("_", "-")
        parser.add_argument(option, default=field.default, help=f"default: {field.default}")
    given = parser.parse_args(arguments)
    own = {name: getattr(given, name) for name in ParityConfig.model_fields}
    config = read_options(parser, ParityConfig, own)
    try:
        with Client(given.target, given.model) as client:
            client.wait(timeout=5)
            report = run(client, given, config)
    except grpc.FutureTimeoutError:
        return _failed(f"no server at {given.target}")
    except grpc.RpcError as error:
        return _failed(f"{given.target}: {error.code().name}: {error.details()}")
    except (ValueError, OSError) as error:
        return _failed(str(error))
    write_report(given.report, report)
    print_report(report, Console())
    print(given.report)
    return 0 if report["agrees"] else 1


def _failed(message: str) -> int:
    print(f"error: {message}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main())
