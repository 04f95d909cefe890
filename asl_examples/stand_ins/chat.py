"""An OpenAI-compatible endpoint (`/openai/v1/models`, `/openai/v1/chat/completions`, streamed too) without a language model behind it.

It speaks the real protocol: keys, errors, structured output by `response_format`, usage, server-sent events. Its replies come from a few
rules (`replies.py`), and say so to nobody who asks for more. Two of its models behave like real ones on a bad day:
`stand-in-rate-limited` answers 429 at the first attempt of each step, `stand-in-overloaded` always answers 503.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from asl_examples.stand_ins.replies import reply_to

KEY = "stand-in-chat-key"
MODELS = ("stand-in-large", "stand-in-small", "stand-in-rate-limited", "stand-in-overloaded")


@dataclass
class Chat:
    """The endpoint. `billed` counts completions that were made; a repeated Idempotency-Key gets the one made before."""

    made: dict[str, dict[str, Any]] = field(default_factory=dict)
    billed: int = 0
    seen_steps: set[str] = field(default_factory=set)

    def routes(self) -> list[web.RouteDef]:
        """Its paths."""
        return [web.get("/openai/v1/models", self.models), web.post("/openai/v1/chat/completions", self.complete)]

    async def models(self, request: web.Request) -> web.Response:
        """The models there are."""
        if not _has_key(request):
            return _unauthorized()
        data = [{"id": model, "object": "model", "created": 1_700_000_000, "owned_by": "stand-in"} for model in MODELS]
        return web.json_response({"object": "list", "data": data})

    async def complete(self, request: web.Request) -> web.StreamResponse:
        """Complete a chat."""
        if not _has_key(request):
            return _unauthorized()
        try:
            body = await request.json()
        except ValueError:
            return _error(400, "We could not parse the JSON body of your request.")
        refusal = self._refusal(request, body)
        if refusal is not None:
            return refusal
        key = request.headers.get("Idempotency-Key")
        completion = self.made.get(key) if key else None
        if completion is None:
            self.billed += 1
            completion = _completion(body, self.billed)
            if key:
                self.made[key] = completion
        return await _stream(request, completion) if body.get("stream") else web.json_response(completion)

    def _refusal(self, request: web.Request, body: Any) -> web.Response | None:
        if not isinstance(body, dict) or not isinstance(body.get("messages"), list) or not body["messages"]:
            return _error(
                400, "Missing required parameter: 'messages'.", param="messages", code="missing_required_parameter"
            )
        model = body.get("model")
        if model not in MODELS:
            message = f"The model `{model}` does not exist or you do not have access to it."
            return _error(404, message, code="model_not_found")
        if model == "stand-in-overloaded":
            return _error(503, "The engine is currently overloaded, please try again later.", kind="server_error")
        step = request.headers.get("Stepwell-Step-Id", "")
        if model == "stand-in-rate-limited" and step not in self.seen_steps:
            self.seen_steps.add(step)
            message = f"Rate limit reached for {model}. Please try again in 1s."
            return _error(429, message, kind="requests", code="rate_limit_exceeded", headers={"Retry-After": "1"})
        return None


def _completion(body: dict[str, Any], number: int) -> dict[str, Any]:
    words = reply_to(body["messages"], body.get("response_format")).split(" ")
    most = body.get("max_completion_tokens") or body.get("max_tokens") or len(words)
    content = " ".join(words[:most])
    prompt = sum(len(_text(message).split()) for message in body["messages"])
    return {
        "id": f"chatcmpl-{number:08d}",
        "object": "chat.completion",
        "created": 1_700_000_000 + number,
        "model": body["model"],
        "choices": [
            {
                "index": index,
                "message": {"role": "assistant", "content": content, "refusal": None},
                "logprobs": None,
                "finish_reason": "length" if most < len(words) else "stop",
            }
            for index in range(body.get("n") or 1)
        ],
        "usage": {
            "prompt_tokens": prompt,
            "completion_tokens": len(content.split()),
            "total_tokens": prompt + len(content.split()),
        },
        "system_fingerprint": "stand-in",
    }


async def _stream(request: web.Request, completion: dict[str, Any]) -> web.StreamResponse:
    """The completion as server-sent events, a word at a time."""
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream", "Cache-Control": "no-cache"})
    await response.prepare(request)
    head = {name: completion[name] for name in ("id", "created", "model", "system_fingerprint")}

    async def send(index: int, delta: dict[str, Any], finish: str | None) -> None:
        choice = {"index": index, "delta": delta, "logprobs": None, "finish_reason": finish}
        chunk = {**head, "object": "chat.completion.chunk", "choices": [choice]}
        await response.write(b"data: " + json.dumps(chunk).encode() + b"\n\n")

    for choice in completion["choices"]:
        await send(choice["index"], {"role": "assistant", "content": ""}, None)
        words = choice["message"]["content"].split(" ")
        for place, word in enumerate(words):
            await send(choice["index"], {"content": word if place == 0 else " " + word}, None)
        await send(choice["index"], {}, choice["finish_reason"])
    await response.write(b"data: [DONE]\n\n")
    await response.write_eof()
    return response


def _text(message: dict[str, Any]) -> str:
    content = message.get("content") or ""
    return content if isinstance(content, str) else " ".join(part.get("text", "") for part in content)


def _has_key(request: web.Request) -> bool:
    return request.headers.get("Authorization") == f"Bearer {KEY}"


def _unauthorized() -> web.Response:
    return _error(401, "Incorrect API key provided.", code="invalid_api_key")


def _error(
    status: int,
    message: str,
    *,
    kind: str = "invalid_request_error",
    param: str | None = None,
    code: str | None = None,
    headers: dict[str, str] | None = None,
) -> web.Response:
    error = {"message": message, "type": kind, "param": param, "code": code}
    return web.json_response({"error": error}, status=status, headers=headers)
