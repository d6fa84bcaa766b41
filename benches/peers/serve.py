"""`firstsight serve` beside ONNX Runtime behind FastAPI and uvicorn, with the same network: requests per second and latency.

    python serve.py --firstsight BIN --weights FOLDER --photos PHOTOS [--concurrency 1 8 32] [--seconds 8] [--rounds 3] [--threads 2] [--client wrk]

FOLDER has a network in timm's layout, with its last layer; PHOTOS are sent in turn, each as the body of a POST. The Python service
is the usual one: Pillow and NumPy prepare a photo in a worker thread, then ONNX Runtime runs it. Both services are processes of their
own on loopback and live throughout; one client, of this file or wrk, sends to one at a time over connections that stay open, and the sides take
turns. Printed, for each number of connections: requests per second, the median and the 99th percentile of the latency in milliseconds, medians of the
rounds; the largest difference of a probability; and the memory that each process ends with. Needs onnxruntime, onnx, torch, timm, fastapi,
uvicorn and Pillow.
"""

import argparse
import asyncio
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path


def export(weights, file):
    import timm
    import torch

    model = timm.create_model(f"local-dir:{weights}", pretrained=True).eval()
    dynamic = {"x": {0: "batch"}}
    torch.onnx.export(model, (torch.zeros(2, 3, 224, 224),), file, input_names=["x"], dynamic_axes=dynamic, dynamo=False)


def python_service(args):
    import io

    import numpy as np
    import onnxruntime
    import timm
    import uvicorn
    from fastapi import FastAPI, Request
    from fastapi.concurrency import run_in_threadpool
    from PIL import Image

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = args.threads
    session = onnxruntime.InferenceSession(args.onnx, options, providers=["CPUExecutionProvider"])
    config = json.loads((args.weights / "config.json").read_text())["pretrained_cfg"]
    size, share = config["input_size"][1], config["crop_pct"]
    mean, std = (np.array(config[key], np.float32) for key in ("mean", "std"))
    filters = {"bilinear": Image.BILINEAR, "bicubic": Image.BICUBIC}
    app = FastAPI()

    def classify(body):
        image = Image.open(io.BytesIO(body)).convert("RGB")
        short = int(size / share)
        scale = short / min(image.size)
        image = image.resize([max(short, int(side * scale)) for side in image.size], filters[config["interpolation"]])
        left, top = (round((side - size) / 2) for side in image.size)
        image = image.crop((left, top, left + size, top + size))
        x = (np.asarray(image, np.float32) / 255 - mean) / std
        logits = session.run(None, {"x": x.transpose(2, 0, 1)[None]})[0][0]
        p = np.exp(logits - logits.max())
        p /= p.sum()
        return [{"index": int(i), "probability": float(p[i])} for i in np.argsort(-p)[:5]]

    @app.post("/predict")
    async def predict(request: Request):
        return [{"image": "image", "predictions": await run_in_threadpool(classify, await request.body())}]

    @app.get("/health")
    async def health():
        return {"status": "ok"}

    uvicorn.run(app, port=args.port, log_level="error", access_log=False)


class Connection:
    """A connection that stays open; asks one thing after the other."""

    async def open(self, port):
        self.reader, self.writer = await asyncio.open_connection("127.0.0.1", port)

    async def post(self, body):
        head = f"POST /predict HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: image/jpeg\r\nContent-Length: {len(body)}\r\n\r\n"
        self.writer.write(head.encode() + body)
        head = await self.reader.readuntil(b"\r\n\r\n")
        length = next(int(line.split(b":")[1]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length"))
        answer = await self.reader.readexactly(length)
        return int(head.split(b" ", 2)[1]), answer


async def load(port, photos, concurrency, seconds):
    """Requests per second, and latencies."""
    latencies, end = [], time.perf_counter() + seconds

    async def client(first):
        connection, i = Connection(), first
        await connection.open(port)
        while (started := time.perf_counter()) < end:
            status, _ = await connection.post(photos[i % len(photos)])
            assert status == 200, status
            latencies.append(time.perf_counter() - started)
            i += concurrency
        connection.writer.close()

    started = time.perf_counter()
    await asyncio.gather(*(client(i) for i in range(concurrency)))
    return len(latencies) / (time.perf_counter() - started), latencies


LUA = """
local bodies, i = {}, 0
for line in io.lines(os.getenv("PHOTOS")) do
  local file = io.open(line, "rb")
  bodies[#bodies + 1] = file:read("*a")
  file:close()
end
request = function()
  i = i % #bodies + 1
  return wrk.format("POST", "/predict", {["Content-Type"] = "image/jpeg"}, bodies[i])
end
done = function(summary, latency)
  local errors = summary.errors
  local failed = errors.connect + errors.read + errors.write + errors.status + errors.timeout
  local rate = summary.requests / summary.duration * 1e6
  print(string.format("RESULT %f %f %f %d", rate, latency:percentile(50) / 1e3, latency:percentile(99) / 1e3, failed))
end
"""


def load_by_wrk(port, photos, concurrency, seconds):
    """Requests per second, and the median and the 99th percentile of the latency in ms."""
    with tempfile.TemporaryDirectory() as folder:
        names, script = Path(folder, "photos"), Path(folder, "load.lua")
        names.write_text("".join(f"{path}\n" for path in photos))
        script.write_text(LUA)
        command = ["wrk", "--threads", "1", "--connections", str(concurrency), "--duration", f"{seconds:.0f}s"]
        said = subprocess.run(
            [*command, "--timeout", "30s", "--script", script, f"http://127.0.0.1:{port}"],
            env={**os.environ, "PHOTOS": str(names)}, check=True, capture_output=True, text=True,
        ).stdout
    rate, p50, p99, failed = next(line for line in said.splitlines() if line.startswith("RESULT")).split()[1:]
    assert failed == "0", said
    return float(rate), float(p50), float(p99)


async def answers(port, photos):
    connection = Connection()
    await connection.open(port)
    return [json.loads((await connection.post(photo))[1])[0]["predictions"] for photo in photos]


def wait(port):
    for _ in range(600):
        try:
            import http.client

            connection = http.client.HTTPConnection("127.0.0.1", port)
            connection.request("GET", "/health")
            if connection.getresponse().status == 200:
                return
        except OSError:
            time.sleep(0.1)
    raise SystemExit(f"nothing answers at port {port}")


def memory(process):
    lines = Path(f"/proc/{process.pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) // 1024 for line in lines if line.startswith("VmRSS:"))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--firstsight", type=Path)
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--photos", type=Path)
    parser.add_argument("--concurrency", type=int, nargs="+", default=[1, 8, 32])
    parser.add_argument("--seconds", type=float, default=8)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--client", choices=["asyncio", "wrk"], default="asyncio")
    parser.add_argument("--onnx", type=str, help=argparse.SUPPRESS)
    parser.add_argument("--port", type=int, default=8731)
    args = parser.parse_args()
    if args.onnx:
        return python_service(args)
    paths = sorted(path.absolute() for path in args.photos.iterdir())
    photos = [path.read_bytes() for path in paths]
    with tempfile.TemporaryDirectory() as folder:
        onnx = os.path.join(folder, "network.onnx")
        export(args.weights, onnx)
        ports = {"firstsight": args.port, "onnxruntime": args.port + 1}
        shared = ["--weights", args.weights, "--threads", str(args.threads)]
        processes = {
            "firstsight": subprocess.Popen(
                [args.firstsight, "serve", args.weights, "--port", str(args.port), "--threads", str(args.threads)],
                stdout=subprocess.DEVNULL,
            ),
            "onnxruntime": subprocess.Popen([sys.executable, __file__, *shared, "--onnx", onnx, "--port", str(args.port + 1)]),
        }
        try:
            for port in ports.values():
                wait(port)
            both = [asyncio.run(answers(port, photos)) for port in ports.values()]
            off = max(
                abs(a["probability"] - b["probability"])
                for ours, theirs in zip(*both)
                for a in ours
                for b in theirs
                if a["index"] == b["index"]
            )
            same = sum(ours[0]["index"] == theirs[0]["index"] for ours, theirs in zip(*both))
            print(f"{len(photos)} photos: the best class is the same for {same}, probabilities at most {off:.1e} off", flush=True)
            print(f"{'connections':>11} {'service':>12} {'requests/s':>11} {'p50 ms':>8} {'p99 ms':>8}")
            for concurrency in args.concurrency:
                found = {name: [] for name in ports}
                for round in range(args.rounds):
                    order = list(ports) if round % 2 == 0 else list(ports)[::-1]
                    for name in order:
                        if args.client == "wrk":
                            load_by_wrk(ports[name], paths, concurrency, 1)
                            found[name].append(load_by_wrk(ports[name], paths, concurrency, args.seconds))
                            continue
                        asyncio.run(load(ports[name], photos, concurrency, 0.5))
                        rate, latencies = asyncio.run(load(ports[name], photos, concurrency, args.seconds))
                        cut = statistics.quantiles(latencies, n=100)
                        found[name].append((rate, cut[49] * 1000, cut[98] * 1000))
                for name, rows in found.items():
                    rate, p50, p99 = (statistics.median(column) for column in zip(*rows))
                    print(f"{concurrency:>11} {name:>12} {rate:>11.1f} {p50:>8.1f} {p99:>8.1f}", flush=True)
            print("memory in MB: " + ", ".join(f"{name} {memory(process)}" for name, process in processes.items()))
        finally:
            for process in processes.values():
                process.terminate()
                process.wait()


main()
