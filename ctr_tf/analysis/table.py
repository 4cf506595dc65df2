"""The cost of a model as a table in the terminal."""

from rich.console import Console
from rich.table import Table

from ctr_tf.analysis.cost import Cost
from ctr_tf.analysis.sizes import Sizes
from ctr_tf.schema import Schema


def print_cost(name: str, schema: Schema, cost: Cost, console: Console | None = None) -> None:
    """Prints what each part of a call costs, in floating-point operations.

    Args:
        name: of the experiment.
        schema: of the model.
        cost: of the call.
        console: where to print; the standard output by default.
    """
    users = cost.sizes.users
    rows = users * cost.sizes.candidates
    table = Table(
        title=f"{name}: {sizes_text(schema, cost.sizes)}",
        caption=f"A candidate of the folded call: {cost.folded.total / rows:,.0f}, "
        f"{cost.folded.total / cost.row_wise.total:.4f} of row by row.\n"
        f"Folded / one user, one candidate: {cost.folded.total / cost.single.total:.2f}.\n"
        f"{cost.parameters:,} parameters besides tables{_tables(cost.tables)}.",
        title_justify="left",
        caption_justify="left",
    )
    table.add_column("part", no_wrap=True)
    for column in ("matrix products", "others", "FLOPs"):
        table.add_column(column, justify="right", no_wrap=True)
    of_user = "once a request" if users == 1 else f"of {users:,} requests"
    for part, flops, last in (
        (f"user part, {of_user}", cost.user, False),
        ("candidate part, each", cost.candidate, False),
        ("item tower, once a call", cost.once, True),
        ("folded, one call", cost.folded, False),
        ("one user, one candidate", cost.single, False),
        (f"row by row, {rows:,} rows", cost.row_wise, False),
    ):
        numbers = (flops.products, flops.others, flops.total)
        table.add_row(part, *(f"{number:,}" for number in numbers), end_section=last)
    (console or Console()).print(table)


def sizes_text(schema: Schema, sizes: Sizes) -> str:
    """The sizes of a call in words.

    Example:
        >>> schema = Schema(features={"genres": {"kind": "categorical", "multi": True}},
        ...                 tasks={"click": {"column": "click"}})
        >>> sizes_text(schema, Sizes())
        'B = 1, N = 100, M = 3 (genres)'
    """
    found = {"L": {}, "M": {}, "words": {}}
    for spec in schema.inputs:
        for axis, size in sizes.axes(schema, spec).items():
            if axis in found:
                own = spec.sequence if axis == "L" else spec.name
                found[axis].setdefault(size, {})[own] = None
    parts = [f"B = {sizes.users:,}", f"N = {sizes.candidates:,}"]
    for axis, by_size in found.items():
        parts += [f"{axis} = {size:,} ({', '.join(own)})" for size, own in by_size.items()]
    if any(sequence.timestamps for sequence in schema.sequences.values()):
        parts.append(f"{sizes.session:,} behaviours a session")
    return ", ".join(parts)


def _tables(tables: dict[int, int]) -> str:
    counts = [f"{count} of width {width}" for width, count in sorted(tables.items())]
    return f"; tables: {', '.join(counts)}" if counts else ""
