"""The rules by which the stand-in for a chat model replies. The same messages always get the same reply."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

TOPICS = {
    "refund": ("refund", "money back"),
    "delivery": ("deliver", "arrive", "where is"),
    "complaint": ("broken", "unhappy"),
}


def reply_to(messages: list[dict[str, Any]], response_format: dict[str, Any] | None) -> str:
    """The reply to a chat: JSON of the schema that is asked for, if one of those known here; else a letter."""
    content = messages[-1].get("content") or ""
    text = content if isinstance(content, str) else " ".join(part.get("text", "") for part in content)
    name = ((response_format or {}).get("json_schema") or {}).get("name")
    rule = STRUCTURED.get(name) if isinstance(name, str) else None
    if rule is not None:
        return json.dumps(rule(text))
    if (response_format or {}).get("type") in ("json_object", "json_schema"):
        return json.dumps({"note": "This is a stand-in without a language model; it knows no such schema."})
    return _letter(text)


def _facts(text: str) -> dict[str, Any]:
    order = re.search(r"\b[A-Z]-\d+\b", text)
    amount = re.search(r"(\d+(?:\.\d+)?) ?(?:EUR|€)", text)
    return {
        "order_number": order[0] if order else None,
        "amount": float(amount[1]) if amount else None,
        "language": "de" if re.search(r"\b(und|nicht|ich)\b", text) else "en",
    }


def _topic(text: str) -> dict[str, Any]:
    lower = text.lower()
    return {"topic": next((topic for topic, words in TOPICS.items() if any(word in lower for word in words)), "other")}


def _judgement(text: str) -> dict[str, Any]:
    order = _after("Order number", text)
    if order and order != "null" and order not in _after("Draft", text):
        return {"score": 0.5, "feedback": f"Name the order number {order}."}
    return {"score": 0.9, "feedback": "Nothing to change."}


def _letter(text: str) -> str:
    """An answer to a customer, which forgets the order number unless feedback asks for it. An echo of anything else."""
    if not (topic := _after("Topic", text)):
        return f"This is a stand-in without a language model. You said: {text}"
    named = re.search(r"[A-Z]-\d+", _after("Feedback on your last draft", text))
    matter = f"order {named[0]}" if named else "the matter"
    return (
        f"Hello, thank you for your message about the {topic}. "
        f"We are looking into {matter} and will write to you today. Kind regards"
    )


def _after(label: str, text: str) -> str:
    match = re.search(rf"^{re.escape(label)}: (.*)$", text, re.MULTILINE)
    return match[1].strip() if match else ""


STRUCTURED: dict[str, Callable[[str], dict[str, Any]]] = {"facts": _facts, "topic": _topic, "judgement": _judgement}
