"""Models that pydantic-ai can ask, by name, and its errors in our words.

    openai:NAME      any OpenAI-compatible address, or OpenAI itself where none is given
    anthropic:NAME   Anthropic's Messages interface
    google:NAME      Gemini's interface

Imported only through `engine_choice`, which says how to get pydantic-ai where it is missing. No text of an error from
outside is passed on: it may hold what was said.
"""

from __future__ import annotations

from typing import Final

from pydantic_ai import exceptions
from pydantic_ai.models import Model

from microturn.background_agent._errors import (
    ModelBrokeOffError,
    ModelDownError,
    ModelError,
    ModelRequestError,
    ModelSlowError,
)
from microturn.protocols import UserError

_EXTRAS: Final = {"openai": "agents", "anthropic": "anthropic", "google": "gemini"}
"""The extra with which a provider's client comes."""
_REJECTED = (exceptions.ModelRequestRejectedError, exceptions.ModelQuotaExceededError)
"""Errors that repeating the request cannot mend."""
_NO_TAGS: Final = ("<\0>", "</\0>")
"""pydantic-ai finds a tag only where it comes alone; thoughts in a text are taken out by `thinking` instead."""


def model_of(name: str, *, url: str | None = None, key: str | None = None) -> Model:
    """A model by its name, such as `anthropic:claude-sonnet-5`. Opens no connection.

    Args:
        name: provider and model, parted by the first colon.
        url: base of the interface, where it is not the provider's own.
        key: the key; None for the one in the provider's own variable of the environment.

    Raises:
        UserError: the provider is not known, its client is not installed, or there is no key.
    """
    provider, _, model = name.partition(":")
    if provider not in _EXTRAS or not model:
        raise UserError(f"the model {name!r} must be openai:NAME, anthropic:NAME or google:NAME")
    try:
        return _MAKERS[provider](model, url, key)
    except ImportError:
        extra = _EXTRAS[provider]
        raise UserError(
            f"the model {name!r} needs a client that is not installed: run `pip install 'microturn[{extra}]'`"
        ) from None
    except exceptions.UserError:
        raise UserError(
            f"the model {name!r} has no key: name the variable that holds it with `key_env`, or set "
            f"{provider.upper()}_API_KEY"
        ) from None


def _openai(model: str, url: str | None, key: str | None) -> Model:
    from pydantic_ai.models.openai import OpenAIChatModel

    if url is None:
        from pydantic_ai.providers.openai import OpenAIProvider

        return OpenAIChatModel(model, provider=OpenAIProvider(api_key=key))
    from pydantic_ai.profiles.openai import OpenAIModelProfile
    from pydantic_ai.providers.openai_compatible import OpenAICompatibleProvider

    # Servers of one's own want no key, but the client insists on one.
    profile = OpenAIModelProfile(
        openai_chat_supports_max_completion_tokens=False,  # most such servers know it by its older name
        openai_chat_streaming_requires_finish_reason=True,
        thinking_tags=_NO_TAGS,
    )
    provider = OpenAICompatibleProvider(
        "openai-compatible", base_url=url, api_key=key or "none", profile=profile
    )
    return OpenAIChatModel(model, provider=provider)


def _anthropic(model: str, url: str | None, key: str | None) -> Model:
    from pydantic_ai.models.anthropic import AnthropicModel
    from pydantic_ai.providers.anthropic import AnthropicProvider

    return AnthropicModel(model, provider=AnthropicProvider(api_key=key, base_url=url))


def _google(model: str, url: str | None, key: str | None) -> Model:
    from pydantic_ai.models.google import GoogleModel
    from pydantic_ai.providers.google import GoogleProvider

    if key is None:
        return GoogleModel(model, provider=GoogleProvider(base_url=url) if url else GoogleProvider())
    return GoogleModel(model, provider=GoogleProvider(api_key=key, base_url=url))


_MAKERS: Final = {"openai": _openai, "anthropic": _anthropic, "google": _google}


def in_our_words(error: Exception, model: str, partial: str) -> ModelError | ModelRequestError:
    """What a failed request means.

    Args:
        error: what pydantic-ai, or a client below it, raised.
        model: the model's name.
        partial: what the model had said before.
    """
    if isinstance(error, _REJECTED) and not partial:
        status = getattr(error, "status_code", None)
        said = "the request" if status is None else f"the request with HTTP status {status}"
        return ModelRequestError(
            f"{model!r} refused {said}; check its name, its key and its quota, or shorten the context"
        )
    kind = type(error).__name__.removeprefix("_HTTP")
    if isinstance(error, (exceptions.ModelRequestTimeout, exceptions.ModelTimeoutError, TimeoutError)):
        return ModelSlowError(
            f"{model!r} sent nothing for too long; it is overloaded or stuck", partial=partial
        )
    if isinstance(error, exceptions.ModelAPIError) and not error.in_stream and not partial:
        return ModelDownError(f"{model!r} cannot be reached or cannot serve now ({kind}); try later")
    return ModelBrokeOffError(f"{model!r} broke off its answer ({kind})", partial=partial)
