"""`python -m session_exporter`: the `session-exporter` command."""

from session_exporter.cli.session_exporter import main

main()
