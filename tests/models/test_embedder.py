"""Which tables and projections are trained."""

from tests.cases import SMALL, build


def of_embedder(model):
    """Table or projection to whether it is trained."""
    embedder = model.embedder
    found = {name: spec.trainable for name, spec in embedder.tables.specs.items()}
    return found | {name: layer.trainable for name, layer in embedder.projections.items()}


def test_further_embeddings_are_trained_where_the_first_one_is(rng):
    tables = {name: {"trainable": False} for name in ("item_id", "poster")}
    found = of_embedder(build("deepfm", "full", rng, embedding={"width": 4, "tables": tables}))
    frozen = {name for name, trained in found.items() if not trained}
    assert frozen == {"item_id", "item_id/linear", "poster", "poster/linear"}
    assert {"genres", "genres/linear", "price/linear"} <= set(found) - frozen


def test_one_table_is_trained_where_no_other_is(rng):
    tables = {"item_id": {"trainable": True}}
    embedding = {"width": 4, "trainable": False, "tables": tables}
    found = of_embedder(build("deepfm", "full", rng, embedding=embedding))
    assert {name for name, trained in found.items() if trained} == {"item_id", "item_id/linear"}


def test_an_architecture_may_ask_for_tables_that_are_trained_beside_frozen_ones(rng):
    embedding = {**SMALL["embedding"], "trainable": False}
    model = build("srp4ctr", "full", rng, embedding=embedding, freeze=True, own_tables=True)
    found = of_embedder(model)
    assert {name for name, trained in found.items() if trained} == {"item_id/own", "genres/own"}
