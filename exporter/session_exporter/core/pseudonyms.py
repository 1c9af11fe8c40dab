"""Ids as keyed digests: how they rest in the state and leave the sidecar."""

from hashlib import blake2b
from typing import Final

# 120 bits: among ten million known ids two share a digest with a probability below 1e-22, and a Python object of
# this length takes 48 bytes where one of 16 takes 64.
DIGEST_BYTES: Final = 15
LABEL_CHARS: Final = 12
MEMO_MAX: Final = 1 << 15


class Pseudonyms(dict[str, bytes]):
    """A mapping from an id to its keyed BLAKE2b digest, computed when first asked for and remembered for a while.

    Args:
        key: The secret, 16 to 64 bytes. Digests of two sidecars can be compared only when they share it.
        show_ids: Hand out the ids themselves (UTF-8) instead of digests; for owners who want them in the open.
        memo_max: How many are remembered; the memory is emptied when it is full.
    """

    def __init__(self, key: bytes, *, show_ids: bool = False, memo_max: int = MEMO_MAX) -> None:
        super().__init__()
        self.show_ids = show_ids
        self._keyed = blake2b(key=key, digest_size=DIGEST_BYTES)
        self._memo_max = memo_max

    def __missing__(self, identifier: str) -> bytes:
        if len(self) >= self._memo_max:
            self.clear()
        digest = self.digest(identifier)
        self[identifier] = digest
        return digest

    def digest(self, identifier: str) -> bytes:
        """The digest of an id, computed without being remembered; empty for an empty id. Any thread may call."""
        if not identifier:
            return b""
        encoded = identifier.encode("utf-8", "surrogatepass")
        if self.show_ids:
            return encoded
        keyed = self._keyed.copy()
        keyed.update(encoded)
        return keyed.digest()

    def keyed_user(self, user: bytes, key: str) -> bytes:
        """The timeline of a user on one device, app or thread: `user` and `key` under one digest."""
        return self.digest(f"{user.hex()}/{key}")

    def label(self, prefix: str, identifier: bytes) -> str:
        """What people are shown, such as `u:3f9a0c41be77`; `""` for an id that is not known."""
        if not identifier:
            return ""
        if self.show_ids:
            return identifier.decode("utf-8", "replace")
        return f"{prefix}:{identifier.hex()[:LABEL_CHARS]}"
