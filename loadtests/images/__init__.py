"""Image routes under load, side by side with what a team would otherwise have built: `python -m loadtests.images`.

`messages` are the bytes on the wire, `load` a cheap closed loop in a process of its own, `peers` the other servers,
`servers` starts and stops them and ours, `figures` says what came out.
"""
