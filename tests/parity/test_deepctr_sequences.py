"""Sequence layers of ours against DeepCTR's, and what its BST and DSIN compute instead of ours."""

import numpy as np
import pytest
import tensorflow as tf

from ctr_tf.layers import BiLSTM, EncoderBlock, NextBehaviourLoss, Packing
from tests.oracles.dien import auxiliary_loss
from tests.oracles.din import attention_pooling
from tests.oracles.dsin import bi_lstm, lstm_from_keras
from tests.parity.deepctr import Peer
from tests.parity.peers import Golden, assert_close, assign, trained


def lstm(golden, name):
    """Kernel, recurrent kernel and bias of a Keras LSTM, whose gates are in our order."""
    at = f"bi_lstm/{name}/lstm_cell"
    return [golden[f"{at}/{part}"] for part in ("kernel", "recurrent_kernel", "bias")]


@pytest.mark.parametrize("merge", ["concat", "sum"])
def test_bi_lstm_is_the_peers(merge):
    """Feng et al. 2019, equation 8, with the gates of Keras: equation 7 without W_c, the cell."""
    golden = Golden("deepctr/bi_lstm")
    layer, values = BiLSTM(4, inputs=4, merge=merge, peepholes=False, name="layer"), {}
    for direction, name in (("ahead", "lstm"), ("back", "lstm_1")):
        for part, value in zip(("kernel", "recurrent", "bias"), lstm(golden, name)):
            values[f"{direction}/{part}"] = value
    assign(layer, values)
    assert not golden.unread
    x = golden.inputs["x"]
    wanted = golden.outputs["states"]
    if merge == "sum":
        wanted = wanted[..., :4] + wanted[..., 4:]
    assert_close(layer(x, np.ones(x.shape[:2], bool)), wanted)
    assert trained(layer) == golden.parameters


def test_transformer_block_is_the_peers():
    """Vaswani et al. 2017, section 3.1. Of the peer's block ours is a case: W^O is the identity,
    the feed-forward part has no biases, and both normalisations share their weights."""
    golden = Golden("deepctr/transformer")
    block = EncoderBlock(4, heads=2, name="block")
    block.build((None, 4))
    projection = [golden[f"transformer/{part}"] for part in ("query", "key", "value")]
    norm = [golden[f"transformer/layer_normalization/{part}"] for part in ("gamma", "beta")]
    values = {
        "attention/kernel": np.concatenate(projection, axis=1),
        "attention/output/kernel": np.eye(4),
        "inner/kernel": golden["transformer/fw1"],
        "inner/bias": np.zeros(16),
        "outer/kernel": golden["transformer/fw2"],
        "outer/bias": np.zeros(4),
    }
    for number in (0, 1):
        values |= dict(zip((f"norm_{number}/gamma", f"norm_{number}/beta"), norm))
    assign(block, values)
    assert not golden.unread
    mask = np.arange(4) < golden.inputs["lengths"]
    packing = Packing.of(tf.constant(mask))
    rows = block(packing.pack(tf.constant(golden.inputs["x"])), packing=packing)
    assert_close(packing.unpack(rows).numpy()[mask], golden.outputs["rows"][mask])
    assert trained(block) == golden.parameters + 4 * 4 + 16 + 4 + 2 * 4


def test_auxiliary_loss_is_the_peers_by_what_it_is_divided_by():
    """Zhou et al. 2019, equation 6: a sum over the steps of a sequence, divided by the number of
    sequences N; ours.

    The peer divides by N (L - 1), padding included: its loss is L - 1 times smaller, and the
    smaller the longer the longest history that a model is made for. (FuxiCTR's DIEN has none.)
    """
    golden = Golden("deepctr/dien_auxiliary")
    layer, values = NextBehaviourLoss(4, 4, [100, 50], name="layer"), {}
    for number, path in enumerate(["mlp/dense_0", "mlp/dense_1", "score"]):
        values[f"{path}/kernel"] = golden[f"dnn/kernel{number}"]
        values[f"{path}/bias"] = golden[f"dnn/bias{number}"]
    assign(layer, values)
    assert not golden.unread
    of, peer = golden.inputs, golden.outputs["loss"]
    # The fourth sequence, of one behaviour, predicts nothing but would be drawn from.
    mask = np.arange(4) < np.where(np.arange(4) < 2, of["lengths"][:, 0], 0)[:, None]
    packing = Packing.of(tf.constant(mask))
    states, behaviours = (packing.pack(tf.constant(of[name])) for name in ("states", "behaviours"))
    ours = layer(states, behaviours, packing=packing).numpy()
    assert_close(ours.sum() / 4, 3 * peer)

    layers = [(golden[f"dnn/kernel{i}"], golden[f"dnn/bias{i}"]) for i in range(3)]
    given = [of[name] for name in ("states", "behaviours", "negatives")]
    assert_close(auxiliary_loss(*given, mask, layers, reduction="positions"), peer)
    assert_close(auxiliary_loss(*given, mask, layers, reduction="sequences"), ours.sum() / 4)


def test_what_the_peers_bst_computes_instead():
    """Chen et al. 2019, section 2 and equations 2 to 6, are ours. The peer's parts from them:

    - the candidate is no item of the sequence (section 2.2), but attends to the encoded behaviours
      by DIN's unit under a softmax; without behaviours it averages encoded padding;
    - a position is a place in the sequence, not a time to the request (section 2.1), times
      sqrt(W), added to the item, by a table for queries and another for keys and values;
    - heads are joined without W^H (equation 3), the feed-forward part is a ReLU without biases
      where equation 6 has LeakyReLU, and both normalisations share their weights.
    """
    golden = Golden("deepctr/bst")
    peer = Peer(golden)
    layers, act = peer.unit()
    tables = [golden[f"transformer/position_encoding{at}/lookup_table"] for at in ("", "_1")]

    def interest(b, n):
        behaviours, mask = peer.behaviours(b)
        queries, keys = (behaviours + table * np.sqrt(8) for table in tables)
        rows = peer.transformer(queries, keys, mask, heads=2, norm=True)
        if not mask.any():
            return rows.mean(axis=0)
        return attention_pooling(peer.query(b, n), rows, mask, layers, act, normalise=True)

    assert_close(peer.logits(interest), golden.outputs["logit/click"])
    assert not golden.unread


def test_what_the_peers_dsin_computes_instead():
    """Feng et al. 2019, equations 2 to 10, are ours. The peer's bias encoding is that of equation
    2; the rest parts from them:

    - a behaviour does not attend to itself (equation 4 has no such exception), and where nothing
      else is there it attends to all slots evenly, padding included;
    - heads are joined without W^O (equation 5), and nothing is normalised;
    - an interest is the mean over all slots of a session: padded rows, which take the bias encoding
      and pass through the feed-forward part, count in it, where ours averages behaviours
      (equation 6);
    - the Bi-LSTM has two layers, no W_c (equation 7), and averages its directions where equation 8
      joins them; it reads sessions that there are not, backwards even first;
    - sessions are activated by DIN's unit under a softmax, not by I_k W X^I (equation 9); without a
      session they are averaged.
    """
    golden = Golden("deepctr/dsin")
    peer = Peer(golden)
    by_session, position, unit = (
        golden[f"bias_encoding/{part}_bias_embedding"] for part in ("sess", "seq", "item")
    )
    directions = [lstm_from_keras(*lstm(golden, name)) for name in ("lstm", "lstm_1")]
    further = [lstm_from_keras(*lstm(golden, name)) for name in ("lstm_2", "lstm_3")]
    every = np.ones(2, bool)

    def pooled(query, rows, present, number):
        if not present.any():
            return rows.mean(axis=0)
        layers, act = peer.unit(number)
        return attention_pooling(query, rows, present, layers, act, normalise=True)

    def interest(b, n):
        behaviours, mask = peer.behaviours(b)
        found = []
        for k, (rows, valid) in enumerate(zip(np.split(behaviours, 2), np.split(mask, 2))):
            rows = rows + unit[0] + position[0] + by_session[k]
            found.append(peer.transformer(rows, rows, valid, 2, blinding=True).mean(axis=0))
        found, present = np.array(found), mask.reshape(2, 2).any(axis=1)
        course = bi_lstm(found, every, *directions, merge="concat")
        ahead = bi_lstm(course[:, :8], every, further[0], further[0])[:, :8]
        back = bi_lstm(course[:, 8:], every, further[1], further[1])[:, 8:]
        query = peer.query(b, n)
        parts = (found, 0), ((ahead + back) / 2, 1)
        return np.concatenate([pooled(query, rows, present, number) for rows, number in parts])

    assert_close(peer.logits(interest, "dnn_2"), golden.outputs["logit/click"])
    assert not golden.unread
