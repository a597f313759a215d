"""Several processes of one worker under one parent, which is all that an orchestrator sees.

1. ``lifecycle``   the parent: starts what follows, passes signals on, leaves when all have left
2. ``loop``        what becomes of each process: started, started again, drained, given up
3. ``restarts``    when one that ended is started again
4. ``member``      one process, as its parent holds it
5. ``lifeline``    the parent, as a process holds it: where it ends, whoever hangs on it drains
6. ``scrape``      asks all processes the same at once, within a bound
7. ``exposition``  their metrics as one page
8. ``probes``      how all of them are, from how each is

It knows processes: neither models nor brokers. A process is ``ondemand worker run`` without it.
"""
