"""What was asked and what was acknowledged: the side of the story that must hold, whatever was killed."""

import threading
from collections import Counter
from dataclasses import dataclass, field

__all__ = ["Document", "Ledger", "StoredSet"]


@dataclass
class Document:
    """A document of an acknowledged submission; ``replaced`` once an acknowledged RPLC names it."""

    unique_id: str
    patient: str
    sha1: str
    size: int
    repository: str
    submission_set: str
    replaced: bool = False


@dataclass(frozen=True)
class StoredSet:
    """An acknowledged submission set; ``provided`` by ITI-41, else registered by our own ITI-42."""

    unique_id: str
    patient: str
    provided: bool


@dataclass
class Ledger:
    """Thread safe by one lock; counters count requests.

    feeds       MSH-10 of acknowledged ITI-8 messages
    queries     marker of each ITI-18: how often it was sent, and whether it was answered
    retrieved   how often each document came back whole, and how often it was asked for
    """

    lock: threading.Lock = field(default_factory=threading.Lock)
    documents: dict[str, Document] = field(default_factory=dict)
    sets: dict[str, StoredSet] = field(default_factory=dict)
    by_patient: dict[str, set[str]] = field(default_factory=dict)
    feeds: set[str] = field(default_factory=set)
    queries: Counter = field(default_factory=Counter)
    answered: set[str] = field(default_factory=set)
    retrieved: Counter = field(default_factory=Counter)
    asked: Counter = field(default_factory=Counter)
    acknowledged: Counter = field(default_factory=Counter)
    again: Counter = field(default_factory=Counter)
    violations: list[str] = field(default_factory=list)

    def violation(self, text):
        with self.lock:
            self.violations.append(text)

    def retry(self, transaction, reason):
        with self.lock:
            self.again[f"{transaction} {reason}"] += 1

    def fed(self, control_id, patient):
        with self.lock:
            self.feeds.add(control_id)
            self.by_patient.setdefault(patient, set())
            self.acknowledged["ITI-8"] += 1

    def stored(self, stored_set, documents, replaced=None):
        """An ITI-41 or ITI-42 was acknowledged."""
        with self.lock:
            self.sets[stored_set.unique_id] = stored_set
            for document in documents:
                self.documents[document.unique_id] = document
                self.by_patient[document.patient].add(document.unique_id)
            if replaced is not None:
                self.documents[replaced].replaced = True
            self.acknowledged["ITI-41" if stored_set.provided else "ITI-42"] += 1

    def patients(self):
        with self.lock:
            return list(self.by_patient)

    def of_patient(self, patient):
        """Documents of a patient that are acknowledged by now, copied."""
        with self.lock:
            return {unique_id: self.documents[unique_id] for unique_id in self.by_patient.get(patient, ())}

    def retrievable(self, repository):
        """Unique ids of acknowledged documents that lie in this repository."""
        with self.lock:
            return [one.unique_id for one in self.documents.values() if one.repository == repository]
