"""Training of hash networks: a recipe in, a checkpoint with its card out.

Start with `trainer.train`. `recipe` has what can be set, `learner` the losses, `recipes/` what comes with the package.
"""
