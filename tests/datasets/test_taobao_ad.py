"""Taobao's display ads from constructed files in the published formats, and DMR's sample."""

import dataclasses
import gzip
import hashlib
import io
import json
import tarfile
import zipfile
from collections import Counter
from pathlib import Path

import pytest

from ctr_tf import datasets
from ctr_tf.config import load
from ctr_tf.datasets import DatasetError
from ctr_tf.datasets.taobao_ad import COLUMNS, TAOBAO_AD
from ctr_tf.models.srp4ctr.attributes import pretrained_attributes
from pipelines.prepare import run
from tests.pipelines.jobs import read_split, write_csv

ROOT = Path(__file__).parents[2]
CONFIGS = ROOT / "configs" / "taobao_ad"
SAMPLE = ROOT.parent / "shared/data/taobao_ad_sample/alimama_sampled_train.txt.gz"

# Midnights in China between the days of 11, 12 and 13 May 2017.
VALIDATION, TEST = 1494518400, 1494604800
PUBLISHED = {
    "raw_sample": (
        "user,time_stamp,adgroup_id,pid,nonclk,clk\n"
        f"7,{TEST + 60},2,430539_1007,0,1\n"
        f"7,{VALIDATION - 60},1,430548_1007,0,1\n"
        f"9,{VALIDATION - 50},2,430539_1007,1,0\n"
        f"9,{VALIDATION + 10},1,430548_1007,1,0\n"
        f"8,{VALIDATION - 40},3,430548_1007,1,0\n"
    ),
    "behavior_log": (
        "user,time_stamp,btag,cate,brand\n"
        f"7,{VALIDATION - 90},pv,6250,91286\n"
        f"9,{VALIDATION},cart,4520,7\n"
        f"7,{VALIDATION - 60},fav,11,12\n"
        f"7,{VALIDATION - 70},buy,6250,91286\n"
    ),
    "ad_feature": (
        "adgroup_id,cate_id,campaign_id,customer,brand,price\n"
        "1,6250,83237,1,91286,170.0\n"
        "2,4520,83237,1,NULL,0.99\n"
        "3,6406,9,2,3,1.0\n"
    ),
    # The last name is published with a space behind it.
    "user_profile": (
        "userid,cms_segid,cms_group_id,final_gender_code,age_level,pvalue_level,shopping_level,"
        "occupation,new_user_class_level \n"
        "7,0,5,2,5,,3,0,3\n"
        "9,0,5,2,5,2,3,0,"  # no line end
    ),
}
ROWS = {"raw_sample": 5, "behavior_log": 4, "ad_feature": 3, "user_profile": 2}


@pytest.fixture
def small():
    return dataclasses.replace(TAOBAO_AD, rows=ROWS)


def plain(folder, files):
    folder.mkdir()
    for table, text in files.items():
        (folder / f"{table}.csv").write_text(text)
    return folder


def packed(folder, files):
    """As Tianchi gives them: each file in a gzipped tar archive of its own."""
    folder.mkdir()
    for table, text in files.items():
        with tarfile.open(folder / f"{table}.csv.tar.gz", "w:gz") as archive:
            member = tarfile.TarInfo(f"{table}.csv")
            member.size = len(text)
            archive.addfile(member, io.BytesIO(text.encode()))
    return folder


def zipped(path, files):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for table, text in files.items():
            archive.writestr(f"{table}.csv", text)
    return path


def fetch(tmp_path, dataset, files=PUBLISHED, kind=plain):
    source = kind(tmp_path / "source", files)
    return dataset.fetch(tmp_path / "root", progress=False, source=source)


@pytest.mark.parametrize("kind", [plain, packed, zipped])
def test_rows_stay_as_published_under_one_name_a_column(tmp_path, small, kind):
    folder = fetch(tmp_path, small, kind=kind)
    texts = {table: (folder / f"{table}.csv").read_text() for table in COLUMNS}
    headers = {table: text.split("\n")[0] for table, text in texts.items()}
    assert headers == {
        "raw_sample": "user_id,time_stamp,adgroup_id,pid,nonclk,clk",
        "behavior_log": "user_id,time_stamp,btag,cate_id,brand",
        "ad_feature": "adgroup_id,cate_id,campaign_id,customer,brand,price",
        "user_profile": "user_id,cms_segid,cms_group_id,final_gender_code,age_level,pvalue_level,"
        "shopping_level,occupation,new_user_class_level",
    }
    for table, text in texts.items():
        assert text.split("\n")[1:-1] == PUBLISHED[table].rstrip("\n").split("\n")[1:]
        assert text.endswith("\n")
    described = json.loads((folder / "dataset.json").read_text())
    content = "".join(texts[table] for table in COLUMNS).encode()
    assert described["sha256"] == hashlib.sha256(content).hexdigest()
    assert described["source"] == ("file source" if kind is zipped else "folder source")


def without(table):
    return {name: text for name, text in PUBLISHED.items() if name != table}


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (without("behavior_log"), "source lacks behavior_log.csv, and behavior_log.csv.tar.gz as"),
        (
            PUBLISHED | {"ad_feature": PUBLISHED["ad_feature"].replace("brand", "brands")},
            "ad_feature.csv: expected the columns .*,brand,price, got .*,brands,price",
        ),
        (
            PUBLISHED | {"raw_sample": PUBLISHED["raw_sample"].rsplit("\n", 2)[0]},
            "raw_sample: expected 5, got 4$",
        ),
    ],
)
def test_incomplete_files_are_told(tmp_path, small, files, message):
    with pytest.raises(DatasetError, match=message):
        fetch(tmp_path, small, files)
    assert list((tmp_path / "root").iterdir()) == []


def test_a_truncated_archive_is_named(tmp_path, small):
    source = packed(tmp_path / "source", PUBLISHED)
    path = source / "behavior_log.csv.tar.gz"
    path.write_bytes(path.read_bytes()[:-30])
    message = "behavior_log.csv.tar.gz is truncated, damaged or no tar"
    with pytest.raises(DatasetError, match=message):
        small.fetch(tmp_path / "root", progress=False, source=source)


def test_without_the_files_it_is_said_where_they_are(tmp_path):
    with pytest.raises(DatasetError) as caught:
        TAOBAO_AD.fetch(tmp_path, progress=False)
    said = str(caught.value)
    assert "https://tianchi.aliyun.com/dataset/56: asks for an account; download raw_sample" in said
    assert said.endswith("ctr-tf datasets fetch taobao_ad --source FOLDER")
    with pytest.raises(DatasetError, match="source must be a file, got"):
        datasets.get("movielens_1m").fetch(tmp_path, progress=False, source=tmp_path)
    with pytest.raises(DatasetError, match="source must be a file or a folder, got .*/absent"):
        TAOBAO_AD.fetch(tmp_path, progress=False, source=tmp_path / "absent")


def test_published_counts():
    dataset = datasets.get("taobao_ad")
    assert dataset.description.startswith(f"{dataset.rows['raw_sample']:,} ad impressions")
    assert list(dataset.rows.values()) == [26_557_961, 723_268_134, 846_811, 1_061_768]


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    tmp_path = tmp_path_factory.mktemp("prepared")
    folder = fetch(tmp_path, dataclasses.replace(TAOBAO_AD, rows=ROWS))
    experiment = load(CONFIGS / "din.yaml")
    everyone = experiment.prepare.model_copy(update={"most_active_users": 1.0})
    half = run(experiment.log, experiment.prepare, folder, tmp_path / "half")
    manifest = run(experiment.log, everyone, folder, tmp_path / "out")
    return half, manifest, tmp_path / "out"


def test_the_config_keeps_the_most_active_half_of_users(prepared):
    # User 7 has three behaviours, 9 one, 8 none: two of three are the half.
    half, _, _ = prepared
    assert half.left_out.model_dump() == {"users": 1, "impressions": 1, "below": 1}
    assert [split.requests for split in half.splits.values()] == [2, 1, 1]


def test_the_configs_behaviours_are_those_of_the_log_before_the_impression(prepared):
    _, manifest, out = prepared
    assert manifest.rows["behaviours"].read == 4
    train = read_split(out, "train")
    own = train[f"7:{VALIDATION - 60}"]
    assert own["features/history_cate_id"] == ["6250", "6250"]
    assert own["features/history_brand"] == ["91286", "91286"]
    assert own["features/history_btag"] == ["pv", "buy"]
    assert read_split(out, "test")[f"7:{TEST + 60}"]["features/history_btag"] == [
        "pv", "buy", "fav"
    ]  # fmt: skip
    assert read_split(out, "validation")[f"9:{VALIDATION + 10}"]["features/history_brand"] == ["7"]
    # Of the ads shown in training, one each is of 6250, 4520 and 6406; the behaviours add two.
    vocabulary = out / "vocabularies"
    assert (vocabulary / "cate_id.txt").read_text().split() == ["6250", "4520", "6406"]
    assert (vocabulary / "cate_id.counts").read_text().split() == ["3", "1", "1"]


def test_the_config_splits_by_days_in_china_and_keeps_users_without_profile(prepared):
    _, manifest, out = prepared
    assert manifest.rejects == {}
    assert [split.requests for split in manifest.splits.values()] == [3, 1, 1]
    assert [split.positives["click"] for split in manifest.splits.values()] == [1, 0, 1]
    train = read_split(out, "train")
    own = train[f"7:{VALIDATION - 60}"]
    assert (own["features/pid"], own["features/price"]) == (["430548_1007"], [170.0])
    assert (own["features/age_level"], own["features/pvalue_level"]) == (["5"], [""])
    stranger = train[f"8:{VALIDATION - 40}"]
    assert (stranger["features/user_id"], stranger["features/age_level"]) == (["8"], [""])
    # NULL is a missing brand.
    assert train[f"9:{VALIDATION - 50}"]["features/brand"] == [""]


def test_pre_training_reads_behaviours_from_before_what_is_held_out(tmp_path):
    folder = fetch(tmp_path, dataclasses.replace(TAOBAO_AD, rows=ROWS))
    experiment = load(CONFIGS / "srp4ctr.yaml")
    everyone = experiment.prepare.model_copy(update={"most_active_users": 1.0})
    manifest = run(experiment.log, everyone, folder, tmp_path / "out")
    assert manifest.rejects == {}
    # User 9's only behaviour is at the first instant of validation.
    (own,) = read_split(tmp_path / "out", "histories").values()
    assert own["features/history_cate_id"] == ["6250", "6250", "11"]
    assert own["features/history_btag"] == ["pv", "buy", "fav"]
    # The next item is told by its category.
    attributes = pretrained_attributes(experiment.log, experiment.model)
    assert list(experiment.pretrain.objective.tasks(attributes)) == ["cate_id", "brand", "btag"]
    assert attributes.items[0] == "cate_id"
    assert not experiment.model.freeze


# DMR's columns, of which its first 250 are five blocks of 50: tag, category and brand of each
# behaviour, and two masks. Behaviours are the last ones of their block, 0 in front of them.
TAGS = {"1": "pv", "2": "cart", "3": "fav", "4": "buy"}
USER_AND_AD = [
    "user_id", "cms_segid", "cms_group_id", "final_gender_code", "age_level", "pvalue_level",
    "shopping_level", "occupation", "new_user_class_level", "adgroup_id", "cate_id",
    "campaign_id", "customer", "brand", "price", "pid", "clk",
]  # fmt: skip


def read_sample():
    """DMR's rows with the behaviours joined by blanks, as the schema's `separator` takes them."""
    with gzip.open(SAMPLE, "rt") as lines:
        for line in lines:
            values = line.rstrip("\n").split(",")
            assert len(values) == 267
            tags, categories, brands, mask = (values[at : at + 50] for at in (0, 50, 100, 150))
            length = mask.count("1")
            assert mask == ["0"] * (50 - length) + ["1"] * length
            own = [TAGS[tag] for tag in tags[50 - length :]]
            joined = [own, categories[50 - length :], brands[50 - length :]]
            yield [*values[250:], *map(" ".join, joined)]


@pytest.mark.skipif(not SAMPLE.exists(), reason=f"no sample of the Taobao ad data: {SAMPLE}")
def test_dmrs_sample_is_read_by_the_config_as_far_as_it_goes(tmp_path):
    # It has neither times nor files to join: the split is random, the sequence as the row has it.
    behaviours = ["btag", "cate_id", "brand"]
    columns = [f"behaviours_{name}" for name in behaviours]
    write_csv(tmp_path / "sample.csv", USER_AND_AD + columns, list(read_sample()))
    experiment = load(
        CONFIGS / "din.yaml",
        [
            "schema.keys.time=null",
            "schema.sequences.history.separator=' '",
            *(
                f"schema.sequences.history.attributes.{name}.column=behaviours_{name}"
                for name in behaviours
            ),
            "prepare.impressions.path=sample.csv",
            "prepare.users=null",
            "prepare.items=null",
            "prepare.behaviours=null",
            "prepare.most_active_users=1.0",
            "prepare.split={by: random}",
        ],
    )
    manifest = run(experiment.log, experiment.prepare, tmp_path, tmp_path / "out")
    assert manifest.rejects == {} and manifest.rows["impressions"].read == 500
    splits = manifest.splits.values()
    # Counted with awk over the sample.
    assert sum(split.candidates for split in splits) == 500
    assert sum(split.positives["click"] for split in splits) == 210
    lengths, tags = Counter(), Counter()
    for split in manifest.splits:
        for record in read_split(tmp_path / "out", split).values():
            lengths[record["features/history/length"][0]] += 1
            tags.update(record["features/history_btag"])
    assert lengths == {50: 496, 48: 1, 28: 1, 2: 1, 1: 1}
    assert tags == {"pv": 23587, "fav": 567, "buy": 389, "cart": 336}
