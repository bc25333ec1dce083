"""Benches, which reproduce the measurements in the documentation. Protecting photos does not need this package.

Start with `config`, the options of each bench with their defaults. A bench is a function `run_<name>(config, progress)`
that returns rows, and an entry of `COLUMNS` in the same module: the keys of a row to show on a terminal.
`hashshield.cli.bench` makes the commands.

- `targeted` (tables 1 and 2 and figure 2 of the paper), `untargeted` (table 3 and figures 3 and 4), `retrieval` (figure
  1 and the MAP of a checkpoint).
- `goals`, `methods`, `transfer`, `survival`, `copies`, `visible`: questions beyond the paper.
- `speed`, `device`: time and memory.

They share `experiment` (networks, dataset and attacked queries), `searches` (trials: photos changed by a method),
`hashstash` (a published method whose loss depends on the database), `protecting` (photos protected in memory),
`evaluation` (retrieval scores), `distortions` (what people and services do to photos), `results` (cached trials, result
files and plots), and `judges` and `copy_judges` (networks and measures that take no part in a search).
"""
