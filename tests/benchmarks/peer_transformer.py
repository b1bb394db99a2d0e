"""The usual build, to be compared with: KServe's Python transformer, Feast's SDK, Triton.

    python peer_transformer.py --repo FOLDER --predictor_host HOST:GRPC_PORT --http_port PORT

Written as KServe's and Feast's documentation would have one write it today: features through
`get_online_features` (the on-demand view included), the row in the order of the model's columns,
the predictor over gRPC, one process. Feast's call blocks, so it goes through a thread.
"""

from __future__ import annotations

import asyncio
from typing import Any

import numpy as np
from feast import FeatureStore
from kserve import InferInput, InferRequest, InferResponse, Model, ModelServer, model_server
from kserve.predictor_config import PredictorConfig
from kserve.protocol.infer_type import InferOutput
from serving_stack import NUMERIC


class Transformer(Model):
    """`bench`: user and amount in, score out."""

    def __init__(self, repo: str) -> None:
        super().__init__("bench")
        self._store = FeatureStore(repo)
        self._service = self._store.get_feature_service("bench")
        self.ready = True

    def _features(self, users: list[int], amounts: list[float]) -> np.ndarray:
        rows = [{"user_id": u, "amount": a} for u, a in zip(users, amounts, strict=True)]
        found = self._store.get_online_features(self._service, rows).to_dict()
        columns = [
            [np.nan if value is None else value for value in found[name]] for name in NUMERIC
        ]
        return np.array(columns, np.float32).T

    async def preprocess(self, payload: InferRequest, headers: Any = None) -> InferRequest:
        users = payload.get_input_by_name("user_id").as_numpy().ravel().tolist()
        amounts = payload.get_input_by_name("amount").as_numpy().ravel().tolist()
        numeric = await asyncio.to_thread(self._features, users, amounts)
        tensor = InferInput("numeric", list(numeric.shape), "FP32")
        tensor.set_data_from_numpy(numeric, binary_data=True)
        return InferRequest("bench_net", [tensor])

    async def postprocess(self, result: InferResponse, headers: Any = None) -> InferResponse:
        scores = result.outputs[0].as_numpy()
        output = InferOutput("score", list(scores.shape), "FP32", scores.ravel().tolist())
        return InferResponse(result.id, "bench", [output])


def main() -> None:
    parser = model_server.parser
    parser.add_argument("--repo", required=True)
    arguments, _ = parser.parse_known_args()
    config = PredictorConfig(
        predictor_host=arguments.predictor_host,
        predictor_protocol="grpc-v2",
        predictor_use_ssl=False,
        predictor_request_timeout_seconds=30,
        predictor_request_retries=0,
    )
    ModelServer(predictor_config=config, enable_grpc=False).start([Transformer(arguments.repo)])


if __name__ == "__main__":
    main()
