"""The Ledger: the one writer of resources, their history, and the events that tell of it."""

from steersman.state.ledger.ledger import Ledger
from steersman.state.ledger.machines import Machine, Machines, Move
from steersman.state.ledger.reading import HistoryPage, ResourcePage, Selection

__all__ = ["HistoryPage", "Ledger", "Machine", "Machines", "Move", "ResourcePage", "Selection"]
