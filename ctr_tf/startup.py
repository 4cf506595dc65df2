"""Starting TensorFlow without the notes that its C++ part prints before any log level counts."""

from __future__ import annotations

import os
import re
import sys
import tempfile

_NOTES = re.compile(
    r"All log messages before absl::InitializeLog|oneDNN custom operations are on|"
    r"Could not find cuda drivers|failed call to cuInit|optimized to use available CPU|"
    r"^To enable the following instructions"
)


def start_tensorflow() -> None:
    """Imports TensorFlow and looks for its devices; what it prints besides known notes is kept."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    # tf.keras, which `keras` is not: TensorFlow Recommenders needs it to be Keras 2.
    os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")
    sys.stderr.flush()
    saved = os.dup(2)
    with tempfile.TemporaryFile() as caught:
        os.dup2(caught.fileno(), 2)
        try:
            import tensorflow as tf

            tf.config.list_physical_devices()
        finally:
            os.dup2(saved, 2)
            os.close(saved)
            caught.seek(0)
            for line in caught.read().decode(errors="replace").splitlines():
                if not _NOTES.search(line):
                    print(line, file=sys.stderr)
