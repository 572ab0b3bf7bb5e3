"""Which inputs and activations speak for a logit, and whether what a method says adds up.

`targets` says what is explained and `result` what every method returns; `capture` looks into a network and leaves no
trace. `affine` is the network as the exact affine map that it is at an input; on it stand `linear`, the exact
decomposition of every logit of an image, its approximate `path` version, and `audit`, the residual of the classical
methods at every pixel and class.
"""
