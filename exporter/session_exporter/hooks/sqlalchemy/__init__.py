"""Sessions in the statements that an application executes through SQLAlchemy."""
