"""Architectures: one file each, registered by its import here. Importing them needs no Keras."""

from ctr_tf.models.behaviour import bst as bst
from ctr_tf.models.behaviour import can as can
from ctr_tf.models.behaviour import dien as dien
from ctr_tf.models.behaviour import din as din
from ctr_tf.models.behaviour import dsin as dsin
from ctr_tf.models.behaviour import mian as mian
from ctr_tf.models.behaviour import transformer as transformer
from ctr_tf.models.interaction import autoint as autoint
from ctr_tf.models.interaction import dcn as dcn
from ctr_tf.models.interaction import dcn_v2 as dcn_v2
from ctr_tf.models.interaction import deepfm as deepfm
from ctr_tf.models.interaction import ffm as ffm
from ctr_tf.models.interaction import fibinet as fibinet
from ctr_tf.models.interaction import finalmlp as finalmlp
from ctr_tf.models.interaction import flat_dnn as flat_dnn
from ctr_tf.models.interaction import fm as fm
from ctr_tf.models.interaction import fmfm as fmfm
from ctr_tf.models.interaction import fwfm as fwfm
from ctr_tf.models.interaction import pnn as pnn
from ctr_tf.models.interaction import wide_deep as wide_deep
from ctr_tf.models.interaction import xdeepfm as xdeepfm
from ctr_tf.models.retrieval import two_tower as two_tower
from ctr_tf.models.srp4ctr import transfer as transfer
