"""The command line: thin commands over the library; typer and rich are imported here only."""
