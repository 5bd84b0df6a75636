"""Names that sound like secrets. A wrong alarm stops a program, so only words that hardly mean anything else count."""

from __future__ import annotations

import re
from typing import Final

_WORDS: Final = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")
_ALWAYS: Final = frozenset({
    "password", "passwd", "passphrase", "pwd", "secret", "secrets", "credential", "credentials", "apikey", "authtoken",
    "accesstoken", "secretkey", "privatekey",
})  # fmt: skip
_OF_A_KEY: Final = frozenset({
    "api", "access", "secret", "private", "auth", "encryption", "signing", "account", "service", "master", "license",
    "aws", "openai", "anthropic", "stripe", "runpod", "azure", "gcp", "google", "github", "hf", "huggingface", "wandb",
    "cohere", "mistral", "deepl", "sendgrid", "twilio", "ssh", "deploy", "webhook",
})  # fmt: skip
_NO_SECRET_TOKEN: Final = frozenset({
    "pad", "eos", "bos", "unk", "mask", "sep", "cls", "stop", "start", "end", "special", "separator", "begin", "first",
    "last", "next", "image", "audio", "prompt", "system", "user", "assistant", "num", "max", "min", "per", "count",
    "new", "delimiter", "continuation", "cancellation", "parse",
})  # fmt: skip
_HARMLESS_ENDINGS: Final = frozenset({
    "name", "names", "id", "ids", "url", "uri", "path", "file", "field", "env", "var", "variable", "header", "label",
    "prompt", "message", "help", "hint", "length", "len", "type", "pattern", "regex", "placeholder", "title", "format",
})  # fmt: skip


def sounds_secret(name: str) -> bool:
    """Whether such a name probably holds a secret: API_KEY, hf_token, dbPassword; but not sort_key or max_tokens."""
    words = [word.lower() for word in _WORDS.findall(name)]
    if not words or words[-1] in _HARMLESS_ENDINGS:
        return False
    if _ALWAYS.intersection(words):
        return True
    *before, last = words
    if last == "key":
        return bool(_OF_A_KEY.intersection(before))
    if last == "token":
        return not _NO_SECRET_TOKEN.intersection(before)
    return False
