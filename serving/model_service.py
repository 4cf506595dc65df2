"""TensorFlow Serving's ModelService: which versions are loaded, and which are to be."""

from __future__ import annotations

from pathlib import Path

import grpc
from tensorflow_serving.apis import (
    get_model_status_pb2,
    model_management_pb2,
    model_pb2,
    model_service_pb2_grpc,
)
from tensorflow_serving.config import model_server_config_pb2

from serving.refusals import Refused, refusals
from serving.spec import check_name
from serving.validation import InvalidInput
from serving.versions import Policy, VersionNotFound, Versions


class ModelService(model_service_pb2_grpc.ModelServiceServicer):
    """GetModelStatus and HandleReloadConfigRequest.

    Args:
        name: the model's name.
        versions: its versions.
    """

    def __init__(self, name: str, versions: Versions):
        self.name = name
        self.versions = versions

    def GetModelStatus(self, request, context):
        """The state of each version, or of the one that is named."""
        with refusals(context):
            check_name(self.name, request.model_spec)
            found = self.versions.statuses()
            number = self._named(request.model_spec)
            if number is not None:
                if number not in found:
                    raise VersionNotFound(f"no version {number} of {self.name!r}")
                found = {number: found[number]}
            response = get_model_status_pb2.GetModelStatusResponse()
            for number, (state, error) in found.items():
                status = response.model_version_status.add(version=number, state=state)
                if error:
                    status.status.error_code = grpc.StatusCode.INTERNAL.value[0]
                    status.status.error_message = error
            return response

    def HandleReloadConfigRequest(self, request, context):
        """Takes the versions to serve and their labels, and answers once they are loaded.

        Where one of them cannot be loaded, versions and labels stay as they were.
        """
        with refusals(context):
            policy, labels = read_config(request.config, self.name, self.versions.folder)
            try:
                self.versions.configure(policy, labels)
            except VersionNotFound as error:
                raise Refused(grpc.StatusCode.FAILED_PRECONDITION, str(error)) from error
            return model_management_pb2.ReloadConfigResponse()

    def _named(self, spec: model_pb2.ModelSpec) -> int | None:
        choice = spec.WhichOneof("version_choice")
        if choice == "version_label":
            return self.versions.labelled(spec.version_label)
        return spec.version.value if choice else None


def read_config(
    config: model_server_config_pb2.ModelServerConfig, name: str, folder: Path
) -> tuple[Policy, dict[str, int]]:
    """The version policy and the labels of a `models.config` of one model.

    Args:
        config: one entry, the same as for `--model_config_file` of TensorFlow Serving.
        name: the model that is served.
        folder: where its versions are; `base_path` may be left out.

    Raises:
        InvalidInput: the entry is not of that model and folder, or names no version.

    Example:
        >>> from google.protobuf import text_format
        >>> text = '''model_config_list { config {
        ...     name: "films" model_version_policy { specific { versions: [3, 4] } }
        ...     version_labels { key: "stable" value: 3 } } }'''
        >>> config = text_format.Parse(text, model_server_config_pb2.ModelServerConfig())
        >>> policy, labels = read_config(config, "films", Path("films"))
        >>> sorted(policy.specific), labels
        ([3, 4], {'stable': 3})
    """
    models = [each.name for each in config.model_config_list.config]
    if models != [name]:
        raise InvalidInput(f"model_config_list must be of model {name!r} alone, got {models}")
    (entry,) = config.model_config_list.config
    if entry.base_path and Path(entry.base_path) != folder:
        raise InvalidInput(f"base_path must be {str(folder)!r}, got {entry.base_path!r}")
    asked = entry.model_version_policy
    labels = dict(entry.version_labels)
    match asked.WhichOneof("policy_choice"):
        case "specific":
            if not asked.specific.versions:
                raise InvalidInput("model_version_policy: specific must name a version")
            return Policy(latest=None, specific=frozenset(asked.specific.versions)), labels
        case "all":
            return Policy(latest=None), labels
        case _:
            return Policy(latest=asked.latest.num_versions or 1), labels
