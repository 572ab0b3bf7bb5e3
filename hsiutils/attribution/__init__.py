"""Which inputs and activations speak for a logit, and whether what a method says adds up.

`targets` says what is explained and `result` what every method returns. `methods` lists the methods, whose maps are in
`cams`, `gradients`, `perturbation` and `decompose`. `decompose` is exact, for every logit of an image; it stands on
`gates`, any torch network as the affine map that it is at an input, whose operations have a rule each in `rules`, and
on `linearise`, which says what goes through that map. `audit` has the residual of the classical methods at every pixel
and class (`sums`), `checks` and `leaderboard` ask other questions of a map. `hooks` looks into a network and leaves no
trace.
"""
