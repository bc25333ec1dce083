"""Datasets in their official layouts, as lists of files with label sets.

Start with `registry`, which opens a dataset by name. `base` has the common form that every reader returns, and splits.
"""

from hashshield.datasets.base import LabelledFiles, Split
from hashshield.datasets.registry import open_dataset

__all__ = ["LabelledFiles", "Split", "open_dataset"]
