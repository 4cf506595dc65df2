"""Our behaviour architectures against DeepCTR's, with its weights copied in."""

from functools import partial

import numpy as np
import pytest

from tests.oracles.blocks import softmax_masked
from tests.oracles.dien import Gru, gru_states
from tests.oracles.din import activation_unit, attention_pooling
from tests.parity.deepctr import UNIT, Peer, dices, head, mlp, tables
from tests.parity.peers import Golden, assert_close, assert_outputs, assign, build, trained

DIN = {"history": True, "units": [6, 5], "attention_units": [5, 3]}


def dice_mlp(golden, path, peer):
    """A `DNN` of two layers with Dice as a split MLP."""
    found = mlp(golden, path, peer)
    for layer, own in enumerate(dices(golden, peer)):
        names = ("alpha", "norm/moving_mean", "norm/moving_variance")
        found |= {f"{path}/rest/dice_{layer}/{name}": value for name, value in zip(names, own)}
    return found


def din(golden):
    """The peer's MLP reads all fields, then the interest; ours has it behind the user's fields."""
    user, context, candidate, interest = np.split(golden["dnn_1/kernel0"], [8, 12, 24])
    first = np.concatenate([user, interest, context, candidate])
    return {
        **tables(golden),
        **dice_mlp(golden, "history_attention/mlp", f"{UNIT}/dnn"),
        **dice_mlp(golden, "mlp", "dnn_1"),
        **head(golden, "dense/kernel"),
        "history_attention/score/kernel": golden[f"{UNIT}/kernel"],
        "history_attention/score/bias": golden[f"{UNIT}/bias"],
        "mlp/split/kernel": first,
    }


def test_din_is_the_peers_padding_and_users_without_behaviours_included():
    """Zhou et al. 2018, equations 3 and 4. The peer's Dice adds 1e-9 to the variance, ours 1e-8."""
    golden, model = Golden("deepctr/din"), build("din", **DIN)
    assign(model, din(golden))
    assert not golden.unread
    assert golden.inputs["history_length"].tolist() == [4, 2, 0, 1]
    assert_outputs(golden, model)
    assert trained(model) == golden.parameters


def test_normalised_attention_of_the_peer_lets_padding_win_where_there_is_nothing_else():
    """Zhou et al. 2018, section 4.3, gives up normalisation; with it, ours is a softmax over valid
    behaviours, and zeros for a user without any.

    The peer writes -2^32 + 1 over the scores of padded behaviours. Where all are padded they are
    equal again, and the interest is the vector of row 0, which is trained as any other.
    """
    golden, model = Golden("deepctr/din_softmax"), build("din", softmax=True, **DIN)
    assign(model, din(golden))
    peer = Peer(golden)
    layers, acts = peer.unit()

    def interest(b, n, valid_alone):
        keys, mask = peer.behaviours(b)
        if not (mask.any() or valid_alone):
            return keys.mean(axis=0)
        return attention_pooling(peer.query(b, n), keys, mask, layers, acts, normalise=True)

    theirs, ours = (peer.logits(partial(interest, valid_alone=own)) for own in (False, True))
    assert_close(theirs, golden.outputs["logit/click"])
    assert_close(model(golden.features(model))["click"], ours)
    assert np.abs(theirs - ours)[2].min() > 0.01
    assert_close(ours[[0, 1, 3]], theirs[[0, 1, 3]])


def gru(golden, name):
    """The weights of a TensorFlow cell; its update gate weighs the old state."""
    (gates, bias), (candidate, own) = (
        [golden[golden.named(name, part, kind)[0]] for kind in ("kernel", "bias")]
        for part in ("gates/", "candidate/")
    )
    width = len(own)
    inputs, states = np.split(gates, [len(gates) - width])
    of_input, of_state = np.split(candidate, [len(candidate) - width])
    return Gru(
        -inputs[:, width:],
        inputs[:, :width],
        of_input,
        -states[:, width:],
        states[:, :width],
        of_state,
        -bias[width:],
        bias[:width],
        own,
    )


@pytest.mark.parametrize("kind", ["gru", "aigru", "agru", "augru"])
def test_what_the_peers_dien_computes_instead(kind):
    """Zhou et al. 2019, equations 2 to 5, 8 and 9 to 12, are ours, and FuxiCTR's is equal to them:
    see the tests of it. The peer's, and the authors' code, part from them:

    - r_t resets the state before the product, U^h (r_t * h), not after it (equation 4);
    - a_t is the softmax of DIN's unit over h_t and the item, not of h_t W e_a (equation 8), and of
      what is compared alone, not of all of the candidate's fields;
    - AUGRU scales what is kept, 1 - u' = (1 - a) (1 - u), where equations 11 and 12 have u' = a u:
      a = 0 does not keep the state but is a plain GRU;
    - without attention in the second GRU its states are pooled by that unit, where ours has the
      last one.
    """
    golden = Golden(f"deepctr/dien_{kind}")
    peer = Peer(golden)
    layers, acts = peer.unit()
    first, second = gru(golden, "gru1"), gru(golden, "gru2")

    def interest(b, n):
        behaviours, mask = peer.behaviours(b)
        if not mask.any():
            return np.zeros(8)
        states = gru_states(behaviours, mask, first, reset="before")
        if kind == "gru":
            states = gru_states(states, mask, second, reset="before")
            return attention_pooling(peer.query(b, n), states, mask, layers, acts, normalise=True)
        scores = activation_unit(peer.query(b, n), states, layers, acts)
        weights = softmax_masked(scores, mask)
        own = "augru_keep" if kind == "augru" else kind
        return gru_states(states, mask, second, weights, own, reset="before")[-1]

    assert_close(peer.logits(interest), golden.outputs["logit/click"])
    assert not golden.unread
