"""URLs of servers whose passwords are kept elsewhere: in the environment, or in a file."""

from collections.abc import Mapping
from pathlib import Path
from string import Template
from typing import Final
from urllib.parse import quote

from session_exporter.errors import ConfigError

URL_BYTES_MAX: Final = 4096


def read_url(url: str, url_file: Path | None, environ: Mapping[str, str], key: str) -> str:
    """The URL to connect to.

    A `${VARIABLE}` between `//` and `@` stands for a user or a password as it is, whatever characters are in it; one
    elsewhere, and what a file holds, for a part of the URL that is written as URLs are.

    Args:
        url: With variables; `""` when a file holds it.
        url_file: The file; None when there is none.
        environ: The variables.
        key: What the configuration calls it, `stream.url`, and the file `stream.url_file`; or the options, `--url` and
            `--url-file`.

    Raises:
        ConfigError: There is none, its file cannot be read, or a variable is not set.
    """
    file_key = f"{key}-file" if key.startswith("--") else f"{key}_file"
    if url_file is not None:
        return _read(url_file, file_key)
    if not url:
        raise ConfigError(f"{key}: not set; expected a URL, or {file_key}")
    beginning, slashes, rest = url.partition("//")
    who, at, where = rest.rpartition("@")
    quoted = {name: quote(value, safe="") for name, value in environ.items()}
    try:
        parts = (Template(beginning + slashes).substitute(environ), Template(who).substitute(quoted))
        return "".join((*parts, at, Template(where).substitute(environ)))
    except KeyError as error:
        raise ConfigError(f"{key}: the environment has no variable {error.args[0]}") from error
    except ValueError as error:
        raise ConfigError(f"{key}: expected $ only as in ${{VARIABLE}}, else $$") from error


def _read(path: Path, key: str) -> str:
    try:
        with path.open("rb") as file:
            return file.read(URL_BYTES_MAX).decode().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{key}: {path}: {getattr(error, 'strerror', None) or 'not UTF-8'}") from error
