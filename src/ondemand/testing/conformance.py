"""What every transport must do, as one suite. Whoever implements a protocol of
``ondemand.transport.base`` runs it so, with any test runner that knows pytest's fixtures:

    class TestMine(WorkerConformance, ClientConformance):
        @pytest.fixture
        def harness(self) -> Harness: ...
"""

from ondemand.testing.conformance_client import ClientConformance
from ondemand.testing.conformance_harness import Features, Harness, TransactionHarness
from ondemand.testing.conformance_notes import NoteConformance
from ondemand.testing.conformance_transaction import TransactionConformance
from ondemand.testing.conformance_worker import WorkerConformance

__all__ = [
    "ClientConformance",
    "Features",
    "Harness",
    "NoteConformance",
    "TransactionConformance",
    "TransactionHarness",
    "WorkerConformance",
]
