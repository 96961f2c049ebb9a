"""OpenAPI document of the HTTP service."""

from typing import Any

from stavis.app.options import PredictForm
from stavis.version import __version__

_STRING, _NUMBER = {"type": "string"}, {"type": "number"}
_ERROR = {"type": "object", "properties": {"error": _STRING}, "required": ["error"]}
_JOB = {
    "type": "object",
    "required": ["id", "name", "status", "progress", "results"],
    "properties": {
        "id": _STRING,
        "name": {**_STRING, "description": "The file name that the client gave."},
        "status": {"enum": ["queued", "running", "finished", "failed", "cancelled", "interrupted"]},
        "progress": {**_NUMBER, "minimum": 0, "maximum": 1},
        "frames_per_second": {"type": ["number", "null"]},
        "seconds_left": {"type": ["number", "null"]},
        "error": {"type": ["string", "null"]},
        "results": {"type": "array", "items": _STRING},
        "created": {**_NUMBER, "description": "Seconds since 1970."},
        "info": {"type": "object"},
        "outcome": {"type": "object"},
    },
}


def describe_service() -> dict[str, Any]:
    """The OpenAPI 3.1 document."""
    form = PredictForm.model_json_schema(by_alias=True)
    form["properties"] = {
        "video": {"type": "string", "format": "binary", "description": "The video file."},
        **form["properties"],
    }
    form["required"] = ["video"]
    job_id = {"name": "id", "in": "path", "required": True, "schema": _STRING}
    job = _json("#/components/schemas/Job")
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "stavis",
            "version": __version__,
            "description": "Predicts where people look in a video with its sound.",
        },
        "paths": {
            "/v1/predict": {
                "post": {
                    "summary": "Upload a video and queue it for prediction",
                    "requestBody": {"required": True, "content": {"multipart/form-data": {"schema": form}}},
                    "responses": {
                        "202": {"description": "The queued job.", **job},
                        **_errors(
                            **{
                                "408": "The client stalled.",
                                "413": "The file is too large.",
                                "415": "The file is not a video.",
                                "422": "An option is invalid, or the video is too long or its pictures are too large.",
                                "429": "Too many jobs are waiting.",
                                "507": "The server's disk is nearly full.",
                            }
                        ),
                    },
                }
            },
            "/v1/jobs": {
                "get": {
                    "summary": "All jobs, the newest first",
                    "responses": {
                        "200": {
                            "description": "The jobs.",
                            "content": {
                                "application/json": {
                                    "schema": {
                                        "type": "array",
                                        "items": {"$ref": "#/components/schemas/Job"},
                                    }
                                }
                            },
                        }
                    },
                }
            },
            "/v1/jobs/{id}": {
                "parameters": [job_id],
                "get": {
                    "summary": "One job",
                    "responses": {
                        "200": {"description": "The job.", **job},
                        **_errors(**{"404": "No such job."}),
                    },
                },
                "delete": {
                    "summary": "Cancel a job that waits or runs; remove one that has ended, with its results",
                    "responses": {
                        "200": {"description": "The cancelled job.", **job},
                        "204": {"description": "Removed."},
                        **_errors(**{"404": "No such job."}),
                    },
                },
            },
            "/v1/jobs/{id}/results/{name}": {
                "parameters": [
                    job_id,
                    {
                        "name": "name",
                        "in": "path",
                        "required": True,
                        "schema": _STRING,
                        "description": "One of the job's `results`; `all.zip` has everything.",
                    },
                ],
                "get": {
                    "summary": "A result; byte ranges work for everything but zip archives",
                    "responses": {
                        "200": {"description": "The file."},
                        "206": {"description": "A part of it."},
                        **_errors(**{"404": "No such job or result."}),
                    },
                },
            },
        },
        "components": {
            "schemas": {"Job": _JOB, "Error": _ERROR},
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
        "security": [{}, {"token": []}],
    }


def _json(reference: str) -> dict[str, Any]:
    return {"content": {"application/json": {"schema": {"$ref": reference}}}}


def _errors(**descriptions: str) -> dict[str, Any]:
    return {
        status: {"description": text, **_json("#/components/schemas/Error")}
        for status, text in descriptions.items()
    }
