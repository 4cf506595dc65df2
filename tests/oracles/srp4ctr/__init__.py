"""Oracles of SRP4CTR (Han et al. 2024), one part a file, in one width W from tables to encoder.

- `fg_bert`: the input of FG-BERT and its encoder; BERT4Rec is one item attribute and no behaviours.
- `masking`, `cloze`: what is masked, how much of it, and the losses.
- `electra`, `s3_rec`: the other objectives of Table 1.
- `cross`, `uni_attention`, `querying`: attention from outside (section 2.2).
- `patch`, `head`: transfer by a model patch, and what the MLP sees.
- `model`: all of it put together.
- `ranking`: next-item metrics.
- `flops`: operations of both towers.
"""
