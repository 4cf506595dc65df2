"""One small exported model for all tests that only ask it."""

import pytest

from tests.export.samples import SCHEMAS, build
from tests.serving.test_server import write_version


@pytest.fixture(scope="session")
def films(tmp_path_factory):
    """A folder with version 3 of a model."""
    folder = tmp_path_factory.mktemp("films")
    trained = build(tmp_path_factory.mktemp("data"), "din", SCHEMAS["both"])
    write_version(folder, 3, *trained)
    return folder
