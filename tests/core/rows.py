"""What a state keeps of a ledger, in memory."""

import msgspec

from session_exporter.core.checkpoint import OwnerRow, SessionRow, Waiting, restore
from session_exporter.core.totals import LedgerTotals


class Memory:
    """A long memory that forgets nothing, filled from the ledger's changes."""

    def __init__(self):
        self.known = {}

    def find(self, scope, session):
        return self.known.get((scope, session))


class Rows:
    """What a state would keep, through MessagePack and back."""

    def __init__(self):
        self.sessions, self.owners, self.requests = {}, {}, []

    def store(self, changes, memory):
        self.sessions |= {(row.scope, row.id): encoded(row) for row in changes.sessions}
        self.owners |= {(row.scope, row.id): encoded(row) for row in changes.owners}
        for scope, session, known in changes.left_sessions:
            memory.known.pop((scope, session), None)
            if known is not None:
                memory.known[scope, session] = known
            self.sessions.pop((scope, session), None)
        for entry in changes.left_owners:
            self.owners.pop(entry, None)
        self.requests.append((changes.waiting.epoch, changes.requests))
        self.totals = encoded(changes.totals)
        self.waiting = encoded(changes.waiting)

    def restored(self, make_ledger):
        """A new ledger, made with the stored totals, that goes on from what is stored."""
        ledger = make_ledger(totals=msgspec.msgpack.decode(self.totals, type=LedgerTotals))
        owners = [msgspec.msgpack.decode(row, type=OwnerRow) for row in self.owners.values()]
        sessions = [msgspec.msgpack.decode(row, type=SessionRow) for row in self.sessions.values()]
        waiting = msgspec.msgpack.decode(self.waiting, type=Waiting)
        restore(ledger, owners, sessions, waiting, self.requests)
        return ledger


def encoded(value):
    return msgspec.msgpack.encode(value)
