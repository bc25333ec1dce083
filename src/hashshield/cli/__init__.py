"""The command line: thin commands over the library. Only this package imports typer and rich.

`app` registers the commands. Most have a module of their name; `restore` is in `originals`, `evaluate` in `verify`,
`ui` in `watch`, and `config`, `integrate` and `doctor` are in `setup`. They share `options`, `prompts` (questions and
downloads), `output` (the report and its exit code), `terminal` (lines and tables), `layouts`, `summaries` and
`survival` (how rows about photos are shown), `progress` (bars), and `command_line` (checks before parsing). Start with
`app`, then read `protect`.
"""
