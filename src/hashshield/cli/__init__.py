"""The command line: thin commands over the library. Only this package imports typer and rich.

`app` registers the commands, each of which has a module of its name (`restore` is in `originals`). What they share:
`options`, `prompts` (questions and downloads), `output` (the report and its exit code), `layouts` and `survival` (how
rows about photos are shown), `progress` (bars), and `command_line` (checks before parsing). Start with `app`, then
`protect`.
"""
