"""Talking to language models over the OpenAI chat API: settings, retries, pacing, several endpoints as one."""

from training.captions.endpoint.answers import Answer, Usage
from training.captions.endpoint.client import Endpoint
from training.captions.endpoint.errors import AnswerError, EndpointError, EndpointStoppedError, RequestRefusedError
from training.captions.endpoint.pool import Chat, EndpointPool
from training.captions.endpoint.settings import EndpointSettings
from training.captions.endpoint.spending import Spending

__all__ = [
    "Answer",
    "AnswerError",
    "Chat",
    "Endpoint",
    "EndpointError",
    "EndpointPool",
    "EndpointSettings",
    "EndpointStoppedError",
    "RequestRefusedError",
    "Spending",
    "Usage",
]
