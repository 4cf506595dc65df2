"""Where a step's time goes: the operations of a TensorFlow profile, the dearest first."""

from __future__ import annotations

import argparse
from collections import Counter
from pathlib import Path

from tensorflow.tsl.profiler.protobuf import xplane_pb2


def dearest(folder: Path) -> list[tuple[str, float, int]]:
    """(operation type, milliseconds over all threads, executions) of the newest profile below."""
    newest = max(folder.rglob("*.xplane.pb"), key=lambda path: path.stat().st_mtime)
    space = xplane_pb2.XSpace.FromString(newest.read_bytes())
    spent, count = Counter(), Counter()
    for plane in space.planes:
        if plane.name != "/host:CPU":
            continue
        names = {key: meta.name for key, meta in plane.event_metadata.items()}
        for line in plane.lines:
            for event in line.events:
                name = names[event.metadata_id]
                if ":" in name and "::" not in name:
                    kind = name.rsplit(":", 1)[1]
                    spent[kind] += event.duration_ps / 1e9
                    count[kind] += 1
    return [(kind, ms, count[kind]) for kind, ms in spent.most_common()]


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--top", type=int, default=25)
    options = parser.parse_args()
    found = dearest(options.folder)
    total = sum(ms for _, ms, _ in found)
    for kind, ms, executions in found[: options.top]:
        print(f"{kind:32s} {ms:10.1f} ms {100 * ms / total:5.1f} %  {executions:7,} times")


if __name__ == "__main__":
    main()
