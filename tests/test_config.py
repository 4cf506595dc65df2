"""Experiments: what is read, and what is said of a mistake."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Annotated

import pytest
from pydantic import TypeAdapter

from ctr_tf.config import ConfigError, load
from ctr_tf.config_base import Config

CONFIGS = Path(__file__).parents[1] / "configs"

GOOD = """\
schema:
  features:
    item_id: {kind: categorical}
  tasks:
    click: {column: click}
model:
  name: dcn_v2
"""


@pytest.fixture
def write(tmp_path):
    def write(text: str, name: str = "experiment.yaml") -> Path:
        path = tmp_path / name
        path.write_text(text)
        return path

    return write


@pytest.mark.parametrize(
    "path", sorted(CONFIGS.glob("**/*.yaml")), ids=lambda p: str(p.relative_to(CONFIGS))
)
def test_every_config_of_the_repository_is_read(path):
    overrides = [] if "model:" in path.read_text() else ["model.name=din"]
    experiment = load(path, overrides)
    assert experiment.name == path.stem


def test_defaults_overrides_and_the_resolved_config(write, tmp_path):
    path = write(GOOD + "train: {epochs: 3}\n")
    experiment = load(path, ["train.learning_rate=1e-3", "model.units=[8, 4]", "name=x"])
    assert (experiment.train.epochs, experiment.train.learning_rate) == (3, 0.001)
    assert (experiment.model.units, experiment.model.cross_layers) == ([8, 4], 3)
    experiment.save(tmp_path / "resolved.yaml")
    assert load(tmp_path / "resolved.yaml") == experiment


def test_a_section_given_in_part_keeps_what_its_architecture_has_set():
    narrow = load(CONFIGS / "srp4ctr" / "scratch.yaml", ["model.encoder.width=32"]).model.encoder
    assert (narrow.width, narrow.activation, narrow.dropout, narrow.use_bias) == (
        32, "gelu", 0.1, True,
    )  # fmt: skip
    ffm = load(CONFIGS / "movielens" / "ffm.yaml", ["model.embedding.scale=0.1"]).model.embedding
    assert (ffm.width, ffm.scale) == (4, 0.1)


def test_every_section_given_in_part_keeps_the_rest_of_its_default():
    def below(kind):
        return {each for own in kind.__subclasses__() for each in {own, *below(own)}}

    for kind in below(Config):
        for name, field in kind.model_fields.items():
            if isinstance(field.default, Config) and field.default.model_fields_set:
                section = TypeAdapter(Annotated[field.annotation, *field.metadata])
                assert section.validate_python({}) == field.default, (kind, name)


def test_keys_that_came_later_are_not_written_out_at_their_defaults(write):
    # The fingerprint of what was prepared before there were these keys is that of the others.
    path = write(GOOD)
    written = load(path).dump()["prepare"]
    assert not written.keys() & {"behaviours", "most_active_users", "histories"}
    overrides = ["prepare.histories=true", "prepare.most_active_users=0.5"]
    changed = load(path, overrides).dump()["prepare"]
    assert changed == written | {"histories": True, "most_active_users": 0.5}


def test_numbers_are_read_as_people_write_them_and_quoted_ones_stay_text(write):
    path = write(GOOD.replace("{column: click}", "{column: click, equals: '1e3'}"))
    assert load(path, ["train.learning_rate=5e-4"]).train.learning_rate == 0.0005
    assert load(path).log.tasks["click"].equals == "1e3"


def test_an_included_file_is_overridden_key_by_key(write):
    write(GOOD, "base.yaml")
    path = write("include: base.yaml\nmodel: {rank: 2}\ninput: {batch_size: 7}\n")
    experiment = load(path)
    assert (experiment.model.name, experiment.model.rank) == ("dcn_v2", 2)
    assert (experiment.input.batch_size, experiment.name) == (7, "experiment")


def test_a_null_takes_an_included_key_away(write):
    write(GOOD.replace("{column: click}", "{column: click}\n    buy: {column: buy}"), "base.yaml")
    alone = "include: base.yaml\nschema: {tasks: {click: null}}\n"
    assert list(load(write(alone)).log.tasks) == ["buy"]
    with pytest.raises(ConfigError, match=r"yaml:2: model.name: required key"):
        load(write("include: base.yaml\nmodel: {name: null}\n"))
    with pytest.raises(ConfigError, match=r"yaml:2: schema.tasks.like: .*got None"):
        load(write("include: base.yaml\nschema: {tasks: {like: null}}\n"))
    # So does one of the command line, of whichever file the key is.
    path = write("include: base.yaml\nmodel: {rank: 2}\n")
    overrides = ["schema.tasks.click=null", "model.rank=null"]
    experiment = load(path, overrides)
    assert list(experiment.log.tasks) == ["buy"]
    assert experiment.model.rank == type(experiment.model).model_fields["rank"].default
    with pytest.raises(ConfigError, match=r"--set model.name=null: model.name: required key"):
        load(path, ["model.name=null"])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (GOOD + "trian: {}\n", r"yaml:8: trian: unknown key; did you mean 'train'\?"),
        (GOOD + "train:\n  epoch: 2\n", r"yaml:9: train.epoch: unknown key; did you mean 'epochs'"),
        (GOOD + "train: {epochs: two}\n", r"yaml:8: train.epochs: .*integer.*got 'two'"),
        (GOOD + "train: {epochs: true}\n", r"yaml:8: train.epochs: .*integer, got True"),
        (GOOD + "input: {shuffle_buffer: '10'}\n", r"yaml:8: input.shuffle_buffer: .*got '10'"),
        (GOOD + "train: {learning_rate: 1e400}\n", r"yaml:8: train.learning_rate: .*got inf"),
        (GOOD + "train: {epochs: 0}\n", r"yaml:8: train.epochs: .*greater than 0, got 0"),
        (GOOD + "  unit: [3]\n", r"yaml:8: model.unit: unknown key; did you mean 'units'\?"),
        (GOOD.replace("dcn_v2", "dcnv2"), r"yaml:7: model.name: no model 'dcnv2'; .*'dcn_v2'"),
        (GOOD.replace("  name: dcn_v2", "  rank: 2"), r"yaml:6: model.name: required key"),
        (
            GOOD.replace("{kind: categorical}", "{kind: categorical, encodng: hashed}"),
            r"yaml:3: schema.features.item_id.encodng: unknown key; did you mean 'encoding'\?",
        ),
        (
            GOOD.replace("{kind: categorical}", "{kind: categorial}"),
            r"yaml:3: schema.features.item_id: .*'categorial'",
        ),
        (
            GOOD.replace("{kind: categorical}", "{kind: categorical, encoding: hashed}"),
            r"yaml:3: schema.features.item_id: encoding: hashed needs a size",
        ),
        (GOOD + "dataset: movielens\n", r"yaml:8: dataset .*'movielens'; the nearest is"),
        (GOOD + "name: a\nname: b\n", r"yaml:9: name: key given twice"),
        (GOOD + "train: {\n", r"yaml:9: not YAML"),
        ("- 1\n", r"yaml:1: must be a mapping"),
        (GOOD.replace("dcn_v2", "3"), r"yaml:7: model.name: .*valid string, got 3"),
        (GOOD.replace("dcn_v2", ""), r"yaml:7: model.name: .*valid string, got None"),
        (GOOD + "include: 3\n", r"yaml:8: include: must be file names, got 3"),
        (GOOD + "train: {epochs: 2024-13-45}\n", r"yaml:8: '2024-13-45': month must be in 1..12"),
        (GOOD + "train: {epochs: !twice 3}\n", r"yaml:8: '3': could not determine a constructor"),
        (GOOD + "train: &a {b: *a}\n", r"yaml:8: nested over 50 deep"),
        (GOOD + "name: a/b\n", r"yaml:8: name: .*pattern.*got 'a/b'"),
        (GOOD.replace("item_id", "item id"), r"yaml:3: schema.features.item id: names are"),
        (
            GOOD + "prepare: {split: {fractions: [.nan, 0.1, 0.1]}}\n",
            r"yaml:8: prepare.split.fractions.0: .*finite number, got nan",
        ),
        (
            GOOD + "prepare: {split: {fractions: [0.5, 0.1, 0.1]}}\n",
            r"yaml:8: prepare.split: fractions must be >= 0 and sum to 1",
        ),
    ],
)
def test_a_mistake_names_key_file_and_line(write, text, message):
    path = write(text)
    with pytest.raises(ConfigError, match=message) as caught:
        load(path)
    assert str(path) in str(caught.value)


RATED = """\
schema:
  keys: {user: user, time: time}
  features:
    item_id: {kind: categorical}
    hour: {kind: categorical, side: context}
  sequences:
    history:
      attributes:
        rating: {encoder: {dtype: int, encoding: identity, size: 6}}
  tasks:
    click: {column: click}
model:
  name: dcn_v2
"""


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            ["train: {early_stopping: {metric: clik_auc}}"],
            r"yaml:14: train.early_stopping.metric: no metric 'clik_auc'; did you mean 'click_auc'",
        ),
        (
            ["train:", "  task_weights:", "    clik: 2.0"],
            r"yaml:16: train.task_weights.clik: no task 'clik'; did you mean 'click'\?",
        ),
        (
            ["  embedding:", "    tables:", "      itm_id: {width: 4}"],
            r"yaml:16: model.embedding.tables.itm_id: no table 'itm_id'; did you mean 'item_id'\?",
        ),
        (
            ["  user_context:", "    - hour", "    - hours"],
            r"yaml:16: model.user_context.1: no context feature 'hours'; did you mean 'hour'\?",
        ),
        (
            ["  user_context: [item_id]"],
            r"yaml:14: model.user_context.0: no context feature 'item_id'; context features: hour",
        ),
        (
            ["  embedding:", "    tables:", "      item_id:", "        width: 4"],
            r"yaml:17: model.embedding.tables.item_id.width: .*one width, 16, got 4",
        ),
    ],
)
def test_a_section_that_does_not_fit_another_names_key_file_and_line(write, change, message):
    architecture = "deepfm" if "one width" in message else "dcn_v2"
    path = write(RATED.replace("dcn_v2", architecture) + "\n".join(change))
    with pytest.raises(ConfigError, match=message) as caught:
        load(path)
    assert str(path) in str(caught.value) and len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("objective.name=electro", r".*'electro'.*'fg_bert', 'electra', 's3_rec'"),
        ("objective.generator_wide=8", r"unknown key; did you mean 'generator_width'"),
        ("objective.item_rate=2", r".*less than or equal to 1, got 2"),
        ("objective.generator_width=5", r"must be a multiple of the encoder's heads, 2; got 5"),
        ("train.task_weights.item_id=1.0", r"no task 'item_id'; tasks: generator, discriminator"),
    ],
)
def test_a_mistake_in_an_objective_names_its_key(override, message):
    """Those of the objective that is named, not of the others."""
    key = override.partition("=")[0].removesuffix(".name")
    with pytest.raises(ConfigError, match=f" pretrain.{key}: {message}") as caught:
        load(CONFIGS / "srp4ctr" / "electra.yaml", [f"pretrain.{override}"])
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            ["model.attributes=[rating]", "model.uni_attention=none", "model.own_tables=false"],
            r" schema.sequences.history.attributes: .*\['rating'\] has no",
        ),
        (
            ["schema.sequences.history.attributes.item_id=null", "model.attributes=[genres]"],
            r" schema.sequences.history.attributes: s3_rec .* there is none besides genres",
        ),
        (
            ["model.embedding.tables.genres.width=8"],
            r" model.embedding.tables.genres.width: s3_rec needs the encoder's, 64; got 8",
        ),
        (
            ["schema.features.item_id.multi=true"],
            r" schema.sequences.history.attributes.item_id: .*the item's first attribute has one",
        ),
        (
            [
                "schema.sequences.history.attributes.genres=null",
                "schema.sequences.history.attributes.kind={like: genres}",
            ],
            r" schema.sequences.history.attributes.kind: .*the candidate's name, genres",
        ),
        (["model.attributes=[item_id, item_id]"], r" model.attributes: .*given twice: item_id"),
        (["model.attributes=[film]"], r" model.attributes.0: no attribute 'film'; .*item_id"),
        (["model.sequence=clicks"], r" model.sequence: no sequence 'clicks'; sequences: history"),
        (
            ["schema.sequences.history.separator='|'"],
            r" schema.sequences.history.separator: the log states the sequence, .*model.sequence",
        ),
        (
            ["schema.sequences.history.attributes.item_id={encoder: {}}"],
            r" model.embedding.tables: item_id is summed .* encoder's width, 64; got 16",
        ),
        (
            [
                "schema.sequences.history.attributes.item_id={encoder: {}}",
                "model.embedding.width=64",
            ],
            r" schema.sequences.history.attributes.item_id: .*an encoder of its own",
        ),
    ],
)
def test_what_cannot_be_pre_trained_names_its_key(overrides, message):
    with pytest.raises(ConfigError, match=message) as caught:
        load(CONFIGS / "srp4ctr" / "s3_rec.yaml", overrides)
    assert len(str(caught.value).splitlines()) == 1


def test_what_is_frozen_has_to_be_pre_trained():
    with pytest.raises(
        ConfigError, match=r" model.freeze: nothing is pre-trained, .*set pretrain$"
    ):
        load(CONFIGS / "srp4ctr" / "scratch.yaml", ["model.freeze=true"])


@pytest.mark.parametrize("name", ["movielens/transformer", "srp4ctr/scratch"])
def test_heads_that_do_not_divide_the_width_name_their_key(name):
    message = r" model.encoder.heads: must divide the width, 64; got 5$"
    with pytest.raises(ConfigError, match=message) as caught:
        load(CONFIGS / f"{name}.yaml", ["model.encoder.heads=5"])
    assert len(str(caught.value).splitlines()) == 1


def test_an_architecture_that_does_not_fit_the_schema_names_key_file_and_line(write):
    with pytest.raises(ConfigError, match=r"yaml:7: model.name: din needs a behaviour sequence"):
        load(write(GOOD.replace("dcn_v2", "din")))
    din = RATED.replace("dcn_v2", "din")
    message = r"yaml:8: schema.sequences.history.attributes: din compares .*\['rating'\].*'item_id'"
    with pytest.raises(ConfigError, match=message):
        load(write(din))
    # The candidate's rating has a table of its own, of the default width.
    both = din.replace("    hour:", "    rating: {kind: categorical}\n    hour:")
    message = r"yaml:10: schema.sequences.history.attributes.rating: .*one width, got 4 and 16"
    with pytest.raises(ConfigError, match=message):
        load(write(both + "  embedding: {tables: {history_rating: {width: 4}}}\n"))
    assert load(write(both)).model.name == "din"


def test_sections_that_do_not_fit_are_told_without_a_framework(write, tmp_path):
    path = write(GOOD + "train: {task_weights: {clik: 1.0}}\n")
    code = (
        "import sys; from ctr_tf.config import load\n"
        f"try: load({str(path)!r})\n"
        "except ValueError as error: print(error)\n"
        "print({'tensorflow', 'keras'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert "no task 'clik'" in done.stdout and done.stdout.endswith("set()\n"), done.stderr


def test_a_mistake_in_an_included_file_names_that_file(write):
    write(GOOD + "train: {epoch: 2}\n", "base.yaml")
    with pytest.raises(ConfigError, match=r"base\.yaml:8: train\.epoch"):
        load(write("include: base.yaml\n"))


def test_a_mistaken_override_names_itself(write):
    with pytest.raises(ConfigError, match=r"--set train.epoch=2: train.epoch: unknown key"):
        load(write(GOOD), ["train.epoch=2"])
    with pytest.raises(ConfigError, match="KEY=VALUE"):
        load(write(GOOD), ["train.epochs"])
    with pytest.raises(ConfigError, match="train.epochs=2024-13-45: the value is not YAML"):
        load(write(GOOD), ["train.epochs=2024-13-45"])


@pytest.mark.parametrize(
    ("override", "message"),
    [
        # The file sets no rate: the key is the option's own.
        ("train.learning_rate.foo=1", r"^--set train.learning_rate.foo=1: train.learning_rate: "),
        ("train.trian.epochs=1", r"^--set train.trian.epochs=1: train.trian: unknown key"),
        ("model.name.foo=1", r"^--set model.name.foo=1: model.name holds no keys, it is 'dcn_v2'$"),
        ("model.units.0=1", r"^--set model.units.0=1: model.units holds no keys, it is \[8\]$"),
        ("a..b=1", r"^--set a..b=1: must read KEY=VALUE"),
        (".a=1", r"^--set .a=1: must read KEY=VALUE"),
        ("schema.tasks={click: {colum: x}}", r"^--set schema.tasks=.*click.colum: unknown key"),
    ],
)
def test_a_mistaken_override_blames_itself_not_the_file(write, override, message):
    path = write(GOOD + "  units: [8]\n")
    with pytest.raises(ConfigError) as caught:
        load(path, [override])
    assert re.search(message, str(caught.value), re.MULTILINE)
    assert str(path) not in str(caught.value)


@pytest.mark.parametrize(
    ("attribute", "message"),
    [
        (
            "        titel: {}",
            r"yaml:12: schema.sequences.history.attributes.titel: no categorical feature 'titel'; "
            "did you mean 'title'",
        ),
        (
            "        film: {like: itemid}",
            r"yaml:12: schema.sequences.history.attributes.film.like: no categorical feature "
            "'itemid'; did you mean 'item_id'",
        ),
        (
            "    other:\n      attributes: {item_id: {}}\n      positive: clik",
            r"yaml:14: schema.sequences.other.positive: no task 'clik'; did you mean 'click'",
        ),
    ],
)
def test_a_mistake_in_a_sequence_names_its_line_and_the_nearest_feature(write, attribute, message):
    text = """\
schema:
  keys: {user: user, time: time}
  features:
    item_id: {kind: categorical}
    title: {kind: categorical}
  tasks:
    click: {column: click}
  sequences:
    history:
      attributes:
        item_id: {}
"""
    with pytest.raises(ConfigError, match=message):
        load(write(f"{text}{attribute}\nmodel: {{name: dcn_v2}}\n"))


def test_every_mistake_is_reported_at_once(write):
    with pytest.raises(ConfigError) as caught:
        load(write(GOOD + "  unit: 3\ntrain: {epoch: 2}\n"))
    assert len(str(caught.value).splitlines()) == 2


def test_a_missing_file_suggests_its_neighbour(write):
    path = write(GOOD)
    with pytest.raises(ConfigError, match="did you mean .*experiment.yaml"):
        load(path.with_name("experimnt.yaml"))


def test_a_missing_include_says_which_file_and_line_names_it(write, tmp_path):
    (tmp_path / "nowhere.yml").mkdir()
    path = write(GOOD + "include:\n  nowhere.yaml\n")
    message = rf"^{path}:8: include: {tmp_path}/nowhere.yaml: no such file$"
    with pytest.raises(ConfigError, match=message):
        load(path)
    with pytest.raises(ConfigError, match=rf"^{path}:8: include: {tmp_path}: Is a directory$"):
        load(write(GOOD + "include: .\n"))


def test_a_file_that_includes_itself_is_an_error(write):
    with pytest.raises(ConfigError, match="includes itself"):
        load(write("include: experiment.yaml\n"))
