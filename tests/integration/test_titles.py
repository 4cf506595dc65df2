"""Film titles as text, end to end: words decide the label, and the served model reads them."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from ctr_tf import stages
from ctr_tf.config import load
from ctr_tf.workspace import Workspace

CONFIG = Path(__file__).parents[2] / "configs" / "movielens" / "titles.yaml"
GOOD, BAD = ("Étoile", "Voyage", "Spring"), ("Doom", "Crash", "Night")


@pytest.fixture(scope="module")
def workspace(tmp_path_factory):
    """A run of the titles config on films that are liked for one word of their title."""
    folder = tmp_path_factory.mktemp("titles")
    rng = random.Random(3)
    films = [
        (f"f{i}", f"The {rng.choice(GOOD if i % 2 else BAD)}, of {rng.choice('xyz')} ({1990 + i})")
        for i in range(40)
    ]
    items = ["item_id,title,year,genres"]
    items += [f'{item},"{title}",1990,Drama' for item, title in films]
    ratings = ["user_id,item_id,rating,timestamp"]
    for time in range(1200):
        i = rng.randrange(40)
        ratings.append(f"{rng.randrange(15)},f{i},{5 if i % 2 else 1},{time}")
    users = ["user_id,gender,age,occupation,zip_code"]
    users += [f"{user},F,25,1,0" for user in range(15)]
    for name, lines in (("items", items), ("ratings", ratings), ("users", users)):
        (folder / f"{name}.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    experiment = load(
        CONFIG,
        [
            "dataset=null",
            f"prepare.impressions.path={folder / 'ratings.csv'}",
            f"prepare.users.path={folder / 'users.csv'}",
            f"prepare.items.path={folder / 'items.csv'}",
            "model.units=[8]",
            "model.cross_layers=1",
            "input.batch_size=64",
            "train.epochs=4",
            "train.learning_rate=0.02",
            "export.check_requests=2",
            "export.warmup_requests=1",
        ],
    )
    found = Workspace(folder / "workspace", experiment)
    stages.run(found, lambda line: None, progress=False)
    return found


def test_the_vocabulary_holds_the_folded_words_of_training_titles(workspace):
    words = (workspace.prepared / "vocabularies" / "title.txt").read_text(encoding="utf-8").split()
    assert words[0] in ("the", "of")
    assert {"étoile", "doom", "x"} <= set(words)
    assert not any("," in word or "(" in word for word in words)


def test_a_served_model_scores_unseen_films_by_their_words(workspace):
    (version,) = workspace.exported.iterdir()
    serve = tf.saved_model.load(str(version)).signatures["serving_default"]
    schema = workspace.experiment.log
    titles = ["The ÉTOILE: of x", "the doom... OF x", "the (voyage) of y", ""]
    values = {
        "user_id": ["1"],
        "gender": ["F"],
        "age": ["25"],
        "occupation": ["1"],
        "history_item_id": [["f1"]],
        "history_genres": [[["Drama"]]],
        "history_rating": [[5]],
        "history_mask": [[True]],
        "item_id": [["new"] * 4],
        "genres": [[["Drama"]] * 4],
        "title": [titles],
        "candidates_mask": [[True] * 4],
    }
    dtypes = {spec.name: spec.dtype for spec in schema.inputs}
    scores = serve(**{k: tf.constant(v, dtypes[k]) for k, v in values.items()})["like"].numpy()[0]
    # Everything but the title is the same, and the item is unknown.
    logits = np.log(scores / (1 - scores))
    assert min(logits[0], logits[2]) > logits[1] + 1
    assert np.isfinite(scores[3])
