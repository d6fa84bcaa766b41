"""What TensorBoard and MLflow read of a run's logs, as JSON: `read_logs.py RUN [MLFLOW_URL]`.

Written for tensorboard 2.21.0 and mlflow 3.17.2.
"""

import json
import pathlib
import sys

run = pathlib.Path(sys.argv[1])
found = {}

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

for part in sorted((run / "tensorboard").glob("*")):
    events = EventAccumulator(str(part), size_guidance={"scalars": 0, "tensors": 0}).Reload()
    scalars = {tag: [[e.step, e.value] for e in events.Scalars(tag)] for tag in events.Tags()["scalars"]}
    texts = {
        tag: [[e.step, e.tensor_proto.string_val[0].decode()] for e in events.Tensors(tag)]
        for tag in events.Tags()["tensors"]
    }
    found[part.name] = {"scalars": scalars, "texts": texts}

if len(sys.argv) > 2:
    from mlflow import MlflowClient

    client = MlflowClient(sys.argv[2])
    record = json.loads((run / "mlflow.json").read_text())
    of = client.get_run(record["run_id"])
    found["mlflow"] = {
        "experiment": client.get_experiment(of.info.experiment_id).name,
        "runs": len(client.search_runs([of.info.experiment_id])),
        "status": of.info.status,
        "name": of.info.run_name,
        "params": of.data.params,
        "tags": of.data.tags,
        "metrics": {
            key: [[m.step, m.value] for m in client.get_metric_history(record["run_id"], key)]
            for key in of.data.metrics
        },
        "artifacts": [file.path for file in client.list_artifacts(record["run_id"])],
    }

print(json.dumps(found))
