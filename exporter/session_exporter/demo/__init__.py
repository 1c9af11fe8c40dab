"""A small chat application with a session race in it, the same one repaired, and users to show the difference."""
