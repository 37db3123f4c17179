"""Several actors at one address: each answers its own transactions, and for its own defects."""

from collections.abc import Mapping, Sequence

from ihe.transactions import Transaction
from wire.messages import Actor, Handler, Reply, Request, StagedPart

__all__ = ["Joined"]


class Joined:
    """An Actor made of others; no two of them answer the same transaction, the first one stages attachments."""

    def __init__(self, actors: Sequence[Actor]) -> None:
        self._actors = tuple(actors)
        self._owner = {transaction: actor for actor in self._actors for transaction in actor.handlers}
        # Made once: the wire asks for it several times in each request.
        self._handlers = {transaction: actor.handlers[transaction] for transaction, actor in self._owner.items()}
        if len(self._owner) != sum(len(actor.handlers) for actor in self._actors):
            raise ValueError("two actors answer the same transaction")

    @property
    def handlers(self) -> Mapping[Transaction, Handler]:
        """Of all, in the order of the actors."""
        return self._handlers

    def stage(self, request_id: str, wanted: int | None) -> StagedPart:
        """As the first actor does."""
        return self._actors[0].stage(request_id, wanted)

    def failure(self, request: Request, error: Exception) -> Reply:
        """As the actor does whose transaction failed."""
        return self._owner[request.transaction].failure(request, error)
