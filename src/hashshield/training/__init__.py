"""Training of hash networks: a recipe in, a checkpoint with its card out.

Start with `trainer.train`. `recipe` has what can be set, `learner` the losses and the weights to begin with, and
`recipes/` those that come with the package.
"""
