"""Programs for developers, which generate committed files and check the product; none of them is in the wheel.

Start with `build_pages` (`make pages`: `man/`, `completions/` and `docs/cli.md`) and `build_catalog` (`make catalog`:
the catalogue of checkpoints). Run them from the top of the repository.
"""
