"""Programs for developers, which read the product and write committed files; none of them is in the wheel.

Start with `build_pages` (`make pages`: `man/` and `completions/`) and `build_catalog` (`make catalog`: the catalogue of
checkpoints). Run them from the top of the repository.
"""
