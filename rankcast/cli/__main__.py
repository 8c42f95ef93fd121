"""`python -m rankcast.cli`: the same as `rankcast`."""

from rankcast.cli import main

main(prog_name="rankcast")
