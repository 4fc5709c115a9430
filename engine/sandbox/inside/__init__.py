"""What runs inside the sandbox: the warm process, the confinement of its children and the running of a program.

These modules are sent as text into an interpreter that has the standard library and nothing else, so they import
only that and one another. The host imports `codec` and `protocol`, which both sides must share.
"""
