"""Records and their files, against TensorFlow's own readers."""

import pytest

from ctr_tf.data.example_proto import Example, serialise
from ctr_tf.data.records import CorruptRecordError, RecordWriter, read_records

RECORDS = [b"one", b"", b"x" * 5000, bytes(range(256))]


@pytest.fixture(params=["gzip", "none"])
def path(request, tmp_path):
    found = tmp_path / "part-0.tfrecord"
    with RecordWriter(found, request.param) as writer:
        for record in RECORDS:
            writer.write(record)
    return found


def test_what_is_written_is_read(path):
    assert list(read_records(path)) == RECORDS


def test_tensorflow_reads_files_and_examples(path, tmp_path):
    import tensorflow as tf

    kind = "GZIP" if path.read_bytes()[:2] == b"\x1f\x8b" else ""
    assert [r.numpy() for r in tf.data.TFRecordDataset(str(path), kind)] == RECORDS
    with tf.io.TFRecordWriter(str(tmp_path / "theirs")) as writer:
        for record in RECORDS:
            writer.write(record)
    assert list(read_records(tmp_path / "theirs")) == RECORDS

    example = Example()
    feature = example.features.feature
    feature["ids"].int64_list.value.extend([-(2**63), 3])
    feature["names"].bytes_list.value.extend([b"", "é".encode()])
    feature["weights"].float_list.value.append(0.5)
    feature["none"].bytes_list.SetInParent()
    data = serialise(example)
    parsed = tf.io.parse_single_example(
        data,
        {
            "ids": tf.io.FixedLenFeature([2], tf.int64),
            "names": tf.io.VarLenFeature(tf.string),
            "weights": tf.io.FixedLenFeature([1], tf.float32),
            "none": tf.io.VarLenFeature(tf.string),
        },
    )
    assert parsed["ids"].numpy().tolist() == [-(2**63), 3]
    assert parsed["names"].values.numpy().tolist() == [b"", "é".encode()]
    assert parsed["weights"].numpy().tolist() == [0.5]
    assert parsed["none"].values.numpy().tolist() == []
    theirs = tf.train.Example.FromString(data)
    assert serialise(Example.FromString(theirs.SerializeToString())) == data


def test_files_of_equal_records_are_equal(tmp_path):
    for name in ("a", "b"):
        with RecordWriter(tmp_path / name) as writer:
            writer.write(b"same")
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_features_are_serialised_in_the_order_of_their_names():
    one, other = Example(), Example()
    for example, names in ((one, "abcdefgh"), (other, "hgfedcba")):
        for name in names:
            example.features.feature[name].int64_list.value.append(ord(name))
    assert serialise(one) == serialise(other)


def test_truncated_files_name_file_and_record(path):
    whole = path.read_bytes()
    path.write_bytes(whole[:-20] if whole[:2] != b"\x1f\x8b" else whole[:-9])
    with pytest.raises(CorruptRecordError, match=r"part-0\.tfrecord: record [34]: "):
        list(read_records(path))


def test_records_before_the_damage_are_read(tmp_path):
    with RecordWriter(tmp_path / "a", "none") as writer:
        writer.write(b"good")
        writer.write(b"damaged")
        writer.write(b"after")
    data = bytearray((tmp_path / "a").read_bytes())
    data[20 + 12] ^= 1
    (tmp_path / "a").write_bytes(data)
    records = read_records(tmp_path / "a")
    assert next(records) == b"good"
    with pytest.raises(CorruptRecordError, match="a: record 1: its checksum does not match"):
        next(records)


def test_a_damaged_length_is_found(tmp_path):
    (tmp_path / "a").write_bytes(b"\xff" * 40)
    with pytest.raises(CorruptRecordError, match="record 0: the checksum of its length"):
        list(read_records(tmp_path / "a"))


def test_damaged_gzip_is_found(tmp_path):
    with RecordWriter(tmp_path / "a") as writer:
        for n in range(2000):
            writer.write(b"%d" % n)
    data = bytearray((tmp_path / "a").read_bytes())
    data[len(data) // 2] ^= 0xFF
    (tmp_path / "a").write_bytes(data)
    with pytest.raises(CorruptRecordError, match=r"a: record \d+: "):
        list(read_records(tmp_path / "a"))


def test_a_plain_file_that_starts_as_gzip_does_is_read(tmp_path):
    record = b"x" * 0x8B1F  # the length's first bytes are 1f 8b
    with RecordWriter(tmp_path / "a", "none") as writer:
        writer.write(record)
    assert (tmp_path / "a").read_bytes()[:2] == b"\x1f\x8b"
    assert list(read_records(tmp_path / "a")) == [record]


def test_unknown_compression(tmp_path):
    with pytest.raises(ValueError, match="compression must be 'gzip' or 'none', not 'zip'"):
        RecordWriter(tmp_path / "a", "zip")
