"""The labelling page."""

from miseg.extras import require

# MLflow brings Starlette, too. What Ray Serve needs and Ray alone does not bring is told by gRPC's reflection.
require("label", "miseg.service.labelling", "ray", "starlette", "grpc_reflection")
