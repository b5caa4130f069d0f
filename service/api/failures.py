"""Answers to what the rooms below raise where a handler lets it through."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse

from index.errors import IndexingError
from service.audio.limits import AudioError
from service.core.problems import answer_problem
from service.engine import DeadlineExceeded, EngineFailed, Overloaded
from service.jobs.errors import JobError
from service.jobs.reasons import problem_of_job
from service.usecases.failures import problem_of_audio, problem_of_engine, problem_of_index


def install_failure_handlers(app: FastAPI) -> None:
    """Answer the errors of audio, engine and index that handlers let through."""

    async def on_audio(request: Request, error: Any) -> JSONResponse:
        return answer_problem(request, problem_of_audio(error))

    async def on_index(request: Request, error: Any) -> JSONResponse:
        return answer_problem(request, problem_of_index(error))

    async def on_engine(request: Request, error: Any) -> JSONResponse:
        return answer_problem(request, problem_of_engine(error))

    async def on_job(request: Request, error: Any) -> JSONResponse:
        return answer_problem(request, problem_of_job(error))

    app.add_exception_handler(JobError, on_job)
    app.add_exception_handler(AudioError, on_audio)
    app.add_exception_handler(IndexingError, on_index)
    for kind in (Overloaded, DeadlineExceeded, EngineFailed):
        app.add_exception_handler(kind, on_engine)
