"""What `explanations` and `storytelling` are made of: incidents read for people."""
