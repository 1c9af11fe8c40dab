"""The database that keeps the sessions: what is read of it, without ever being in its way."""
