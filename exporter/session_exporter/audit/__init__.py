"""Looking for the race in an existing application: in its database, and in its code."""
