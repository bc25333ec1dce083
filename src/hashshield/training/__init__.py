"""Training of hash networks: a recipe in, a checkpoint with its card out.

Start with `trainer.train`. `recipe` has the settings, `learner` the losses and initial weights, `images` the photos as
training reads them, and `recipes/` the recipes that come with the package. `copies` trains copy detectors.
"""
