"""What the tables of an existing application say of the race: read once, and never written."""
