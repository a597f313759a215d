"""A real Apache Kafka on this computer, from a Java wheel and pinned jars.

``kafka``         one broker or three: start, ready, kill, restart, stop
``memory``        is there enough of it to start
``jars``          the pinned jars: in the cache, checked, fetched
``repositories``  where a person's own Maven settings say to fetch from
``java``          which Java runs them
``properties``    what a broker is told to be
``security``      listeners that ask who you are
``ports``         free ports, and ports that are taken
``broker``        one JVM and the guard that ends it with its owner
``guard``         that guard, a program of its own
``metadata``      the one question that tells whether a broker is ready
``daemon``        a broker that outlives the command that started it
"""

from ondemand.local.kafka import LocalKafka
from ondemand.local.security import BrokerSecurity, Listener

__all__ = ["BrokerSecurity", "Listener", "LocalKafka"]
