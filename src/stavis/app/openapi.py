"""OpenAPI document of the HTTP service."""

import json
from importlib import resources
from typing import Any

from stavis.app.options import PredictForm
from stavis.version import __version__


def describe_service() -> dict[str, Any]:
    """The OpenAPI 3.1 document: `openapi.json` with the version and the fields of `PredictForm`."""
    document: dict[str, Any] = json.loads((resources.files("stavis.app") / "openapi.json").read_text("utf-8"))
    document["info"]["version"] = __version__
    form = PredictForm.model_json_schema(by_alias=True)
    video = {"type": "string", "format": "binary", "description": "The video file."}
    form |= {"properties": {"video": video, **form["properties"]}, "required": ["video"]}
    content = document["paths"]["/v1/predict"]["post"]["requestBody"]["content"]
    content["multipart/form-data"]["schema"] = form
    return document
