"""Efficient attention on bank-transaction histories.

Tensors of attention are always (batch, heads, length, head_dim); axes are written as words:

| word | meaning | symbol in the papers |
|---|---|---|
| heads | attention heads | h |
| length, query_length, key_length | events of a history | L |
| head_dim | width of one head | d |
| model_dim | width of the encoder | |
| features | random projections w of the Performer | m |
| basis | radial basis functions of the ∞-former | N |
| samples | points at which the past signal is read back | M |
| contraction | share of [0, 1] that the past keeps in an update | τ |
| key_mask | true where an event is real, false where it is padding | |
"""
