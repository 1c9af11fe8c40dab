"""`session-exporter audit`: what an existing application has of the race, before anything is installed in it."""

import click

from session_exporter.cli.audit_code import code
from session_exporter.cli.audit_db import db


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def audit() -> None:
    """Look for the race in an existing application.

    Nothing needs to be installed in it, and nothing is changed.
    """


audit.add_command(db)
audit.add_command(code)
