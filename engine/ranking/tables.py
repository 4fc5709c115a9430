"""The tables of a ranking store."""

from __future__ import annotations

from sqlalchemy import (
    JSON,
    Boolean,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
)

metadata = MetaData()

questions = Table(
    "questions",
    metadata,
    Column("seq", Integer, primary_key=True, autoincrement=True),
    Column("id", String(24), unique=True, nullable=False),
    Column("original", String(24), nullable=False),
    Column("repeat", Integer, nullable=False),
    Column("prompt", Text, nullable=False),
    Column("mode", String(8), nullable=False),
    Column("k", Integer),
    Column("votes", Integer, nullable=False),
    Column("gold", JSON(none_as_null=True)),
    Column("asked", Float, nullable=False),
    Column("deadline", Float),  # seconds since the epoch
    Column("taken", Float),  # when somebody used the answers
    Column("is_open", Boolean, nullable=False),  # whether it is still asked
    Index("open_questions", "is_open", "seq"),
)

candidates = Table(
    "candidates",
    metadata,
    Column("question", ForeignKey("questions.id"), primary_key=True),
    Column("id", String(24), primary_key=True),
    Column("shown", JSON, nullable=False),
)

blobs = Table(
    "blobs",
    metadata,
    Column("sha256", String(64), primary_key=True),
    Column("mime", String(32), nullable=False),
    Column("data", LargeBinary, nullable=False),
)

annotators = Table(
    "annotators",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("name", String(80), unique=True, nullable=False),
)

tokens = Table(
    "tokens",
    metadata,
    Column("token", String(64), primary_key=True),  # its SHA-256
    Column("annotator", ForeignKey("annotators.id"), nullable=False),
)

sessions = Table(
    "sessions",
    metadata,
    Column("secret", String(64), primary_key=True),  # its SHA-256
    Column("annotator", ForeignKey("annotators.id"), nullable=False),
    Column("expires", Float, nullable=False),
)

leases = Table(
    "leases",
    metadata,
    Column("question", ForeignKey("questions.id"), primary_key=True),
    Column("annotator", ForeignKey("annotators.id"), primary_key=True),
    Column("since", Float, nullable=False),
    Column("expires", Float, nullable=False),
)

drafts = Table(
    "drafts",
    metadata,
    Column("question", ForeignKey("questions.id"), primary_key=True),
    Column("annotator", ForeignKey("annotators.id"), primary_key=True),
    Column("entries", JSON, nullable=False),
)

answers = Table(
    "answers",
    metadata,
    Column("seq", Integer, primary_key=True, autoincrement=True),
    Column("question", ForeignKey("questions.id"), nullable=False, index=True),
    Column("annotator", ForeignKey("annotators.id"), nullable=False),
    Column("form", String(64), unique=True, nullable=False),  # of the form that sent it: sent twice it counts once
    Column("ranking", JSON, nullable=False),
    Column("shown", JSON, nullable=False),
    Column("at", Float, nullable=False),
    Column("seconds", Float, nullable=False),
    Column("is_late", Boolean, nullable=False),
    Column("undone", Float),
)
# One answer of each annotator to each question, beside those taken back.
Index(
    "one_answer",
    answers.c.question,
    answers.c.annotator,
    unique=True,
    sqlite_where=answers.c.undone.is_(None),
    postgresql_where=answers.c.undone.is_(None),
)

servers = Table(
    "servers",
    metadata,
    Column("url", String(200), primary_key=True),
    Column("pid", Integer, nullable=False),
    Column("beat", Float, nullable=False),
)
