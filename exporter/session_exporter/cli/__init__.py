"""The commands: what people type. The only part of the package that exits a process."""
