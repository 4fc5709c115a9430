"""Who ranks: annotators, the links that sign them in, and their sessions."""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import dataclass

from sqlalchemy import delete, insert, select

from engine.errors import InputError, UnknownName
from engine.ranking.store import RankingStore
from engine.ranking.tables import annotators, sessions, tokens

SESSION_S = 30 * 24 * 3600.0


@dataclass(frozen=True)
class Annotator:
    """Who ranks."""

    id: int
    name: str


class Members:
    """The annotators of a store. It keeps their secrets as hashes alone."""

    def __init__(self, store: RankingStore) -> None:
        self.store = store

    def invite(self, name: str) -> str:
        """A secret that signs the annotator in, beside those that they have. Raises InputError for a name that is
        empty, longer than 80 or not printable."""
        name = name.strip()
        if not 0 < len(name) <= 80 or not name.isprintable():
            raise InputError(f"an annotator's name is {name!r:.100}", allowed="1 to 80 printable characters")
        token = secrets.token_urlsafe(24)
        with self.store.database.writing() as connection:
            known = connection.execute(select(annotators.c.id).where(annotators.c.name == name)).scalar()
            if known is None:
                known = connection.execute(insert(annotators).values(name=name).returning(annotators.c.id)).scalar_one()
            connection.execute(insert(tokens).values(token=_hashed(token), annotator=known))
        return token

    def revoke(self, name: str) -> None:
        """End the annotator's sessions and make their links void. Raises UnknownName."""
        with self.store.database.writing() as connection:
            known = connection.execute(select(annotators.c.id).where(annotators.c.name == name)).scalar()
            if known is None:
                raise UnknownName("annotator", name, connection.execute(select(annotators.c.name)).scalars())
            for table in (tokens, sessions):
                connection.execute(delete(table).where(table.c.annotator == known))

    def sign_in(self, token: str) -> tuple[Annotator, str] | None:
        """The annotator whom the token names, and the secret of a new session; None for a token that is not known."""
        secret, now = secrets.token_urlsafe(32), self.store.clock()
        with self.store.database.writing() as connection:
            found = (
                connection.execute(select(annotators).where(annotators.c.token == _hashed(token))).mappings().first()
            )
            if found is None:
                return None
            connection.execute(delete(sessions).where(sessions.c.expires < now))
            session = {"secret": _hashed(secret), "annotator": found["id"], "expires": now + SESSION_S}
            connection.execute(insert(sessions).values(session))
        return Annotator(found["id"], found["name"]), secret

    def signed_in(self, secret: str) -> Annotator | None:
        """Whose session it is; None where it is not known or has expired."""
        chosen = select(annotators).join(sessions, sessions.c.annotator == annotators.c.id)
        of = (sessions.c.secret == _hashed(secret), sessions.c.expires > self.store.clock())
        with self.store.database.reading() as connection:
            found = connection.execute(chosen.where(*of)).mappings().first()
        return None if found is None else Annotator(found["id"], found["name"])


def _hashed(secret: str) -> str:
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()
