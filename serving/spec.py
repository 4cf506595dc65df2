"""Which model and version a call asks for, and which answered it."""

from __future__ import annotations

from contextlib import AbstractContextManager

import grpc
from tensorflow_serving.apis import model_pb2

from serving.model import SavedModel
from serving.refusals import Refused
from serving.versions import Versions


def asked(
    versions: Versions, spec: model_pb2.ModelSpec
) -> AbstractContextManager[tuple[int, SavedModel]]:
    """The version that a call asks for by number or label, kept loaded."""
    choice = spec.WhichOneof("version_choice")
    return versions.use(
        version=spec.version.value if choice == "version" else None,
        label=spec.version_label if choice == "version_label" else None,
    )


def check_name(name: str, spec: model_pb2.ModelSpec) -> None:
    """Checks that a call is for the model that is served.

    Raises:
        Refused: it is for another.
    """
    if spec.name != name:
        raise Refused(grpc.StatusCode.NOT_FOUND, f"no model {spec.name!r}; served: {name!r}")


def model_spec(name: str, version: int, signature: str = "") -> model_pb2.ModelSpec:
    """What answered a call."""
    spec = model_pb2.ModelSpec(name=name, signature_name=signature)
    spec.version.value = version
    return spec
