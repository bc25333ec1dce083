"""Training of hash networks: a recipe in, a checkpoint with its card out.

Start with `trainer.train`. `recipe` has what can be set, `losses` what a network learns from, and `recipes/` those that
come with the package.
"""
