"""The subcommands, one in each file: its attribute `command` is a click command of the file's name.

A new file here is a new subcommand. A command returns its exit status, or None for 0; it raises
what went wrong. `--json` is `json_option` of _output.py.
"""
