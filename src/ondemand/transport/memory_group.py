"""A consumer group of the memory broker: who reads which partition, and up to where it is finished.

Eager, as the worker's group on Kafka is: a change makes every member give up all of its partitions
before anyone gets new ones. Nothing here waits, locks or calls a listener.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from ondemand.contract.record import Partition
from ondemand.transport.base import Note


@dataclass(slots=True, eq=False)
class Member:
    """One worker in the group."""

    topic: str
    assigned: tuple[Partition, ...] = ()
    generation: int = 0  # of the assignment that it holds; 0 for none yet


@dataclass(slots=True)
class Group:
    """Members in the order in which they joined, and the committed positions."""

    committed: dict[Partition, int] = field(default_factory=dict)
    members: list[Member] = field(default_factory=list)
    generation: int = 0
    rebalancing: bool = False
    _notes: dict[Partition, Note] = field(default_factory=dict)
    _ready: list[Member] = field(default_factory=list)

    def join(self, member: Member) -> None:
        """*member* wants partitions, and has none now."""
        self.members.append(member)
        self.start_rebalance()

    def leave(self, member: Member) -> None:
        """*member* is gone, by itself or thrown out."""
        if member in self.members:
            self.members.remove(member)
            self.start_rebalance()

    def start_rebalance(self) -> None:
        """Ask every member to give up its partitions."""
        self.rebalancing = True
        self._ready.clear()

    def must_give_up(self, member: Member) -> bool:
        """Whether a rebalance waits for *member*."""
        return self.rebalancing and member not in self._ready

    def give_up(self, member: Member, partitions: Iterable[Partition]) -> None:
        """*member* has let go. The last one to do so ends the rebalance; *partitions* are the
        topics' partitions of now."""
        member.assigned = ()
        self._ready.append(member)
        if len(self._ready) == len(self.members):
            self._assign(sorted(partitions))

    def must_take(self, member: Member) -> bool:
        """Whether an assignment waits for *member*."""
        return not self.rebalancing and member.generation != self.generation

    def may_commit(self, member: Member, partitions: Collection[Partition]) -> bool:
        """Whether *member* still owns all of *partitions*."""
        return member in self.members and set(partitions) <= set(member.assigned)

    def stored(self, partition: Partition) -> Note | None:
        """The position of *partition* and the text beside it, which lasts until that moves."""
        position = self.committed.get(partition)
        if position is None:
            return None
        note = self._notes.get(partition)
        return note if note is not None and note.position == position else Note(position, "")

    def store(self, notes: Mapping[Partition, Note]) -> None:
        """Store positions and texts."""
        self._notes.update(notes)
        self.committed.update({each: note.position for each, note in notes.items()})

    def forget(self, topic: str) -> None:
        """*topic* was deleted: its offsets mean nothing any more."""
        for partition in [each for each in self.committed if each.topic == topic]:
            del self.committed[partition]

    def _assign(self, partitions: Sequence[Partition]) -> None:
        """Ranges: the first members get one more where the count does not divide evenly."""
        self.generation += 1
        self.rebalancing = False
        for topic in {member.topic for member in self.members}:
            readers = [member for member in self.members if member.topic == topic]
            mine = [partition for partition in partitions if partition.topic == topic]
            share, more = divmod(len(mine), len(readers))
            start = 0
            for rank, reader in enumerate(readers):
                end = start + share + (rank < more)
                reader.assigned = tuple(mine[start:end])
                start = end
