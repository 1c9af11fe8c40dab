"""What in a Python code base makes sessions race: read from its source alone, nothing is imported or run.

`auditing.audit_code` reads the files; every other module knows one fault. Most faults stand in one function or class;
three are seen over all files, and by names alone: classes of one name (SE101), one file under two module names (SE102),
and functions that nobody calls (SE108).
"""
