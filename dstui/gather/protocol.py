"""What the controller and the collector on a host say to each other.

The controller opens one exec per host. The command is a small POSIX sh program that looks for a python3 of 3.6 or
newer: found, it becomes the collector (source sent over stdin, nothing is installed); not found, it stays a shell
that reads its script from stdin and carries out the reduced set of operations.

Host to controller: every message is one line, `0x1e` + JSON, so that banners and start-up noise cannot corrupt it;
whatever does not start with 0x1e is noise and kept for the error message only. Controller to host: one JSON object
per line. End of file on stdin makes the collector close its listeners, remove its nonce files and exit.

First message: `{"id": 0, "ok": true, "mode": "python" | "sh", "python": "3.8.10" | null, "version": VERSION}`.
Requests `{"id": n, "verb": v, …}`; every one is answered, out of order if need be, with `{"id": n, "ok": true, …}` or
`{"id": n, "ok": false, "reason": Reason, "why": str}`:

| verb | request | answer |
| --- | --- | --- |
| `facts` | `ops: [{key, kind, args}]`, `deadline` (s) | `answers: {key: {output, value, error, …}}` |
| `drop` | `of` (id of a `facts` request) | none at all: nobody waits any more, and what still runs for it is ended |
| `module` | `name, source` (base64 of zlib) | – ; code that is only needed now and then (`nvml` with pynvml) |
| `listen` | `address, port, nonce, seconds` | `state: listening, busy or failed`, `holder`, `why` |
| `close` | `port` | – |
| `connect` | `endpoints: [[address, port, nonce or null]], timeout` | `tries: [[address, port, outcome, ms]]` |
| `nonce-write` | `dir, run, name, as_user` | `written, error, sha256, as_user, ms, leftovers` |
| `nonce-read` | `dir, run, sha256: {writer: hex}, within` (seconds) | `reads: {writer: [outcome, error, seconds]}` |
| `nonce-clean` | `dir, run, name` | – |
| `sample` | `interval` (0.2 to 10 s), `gpus`, `pcie` (bool) | `interval`; then `{"id": n, "sample": {…}}` lines |
| `sample-stop` | – | – |
| `bye` | – | –, then exit |

In an answer to `facts`, absent keys mean their empty value; `missing` is a Reason and then there is no answer for
that key. `bytes` is the full length of an output that was cut at the operation's limit, `s` seconds on the host.

A session has one stream of samples; `sample` again starts it afresh. A sample is one line, never more than the newest
one waits to be sent, and `lost` counts those that it replaced or that a stopped collector did not take since the last:
`{"lost", "seq", "t" (s, the host's monotonic clock), "hz", "cpu" (%), "load1", "cpus", "mem_total", "mem_available",
"swap_used" (bytes), "oom_kill" (counter), "swap_in", "swap_out" (pages/s), "net": {name: {"rx", "tx" (bytes/s),
"speed" (bit/s)}}, "rdma": {"mlx5_0/1": same} | null, "gpu_source": "nvml" | "nvidia-smi" | null,
"gpu_missing": {"reason", "why", "for" (s)} | null, "gpu_age", "slow_age" (s, of power limits and processes),
"gpus": [gpu]}`, a gpu as `gpuwatch.EMPTY` lists it, with `pcie_age` beside a throughput. Null is: cannot be told.
GPUs are read in a child; while it is stuck the rest goes on, and `gpu_missing` says timeout and since when. With
`gpus: false` they are not looked at, and all three are empty. `pcie: true` reads the throughput of one GPU a sample.
"""

from __future__ import annotations

VERSION = 1
FRAME = "\x1e"
MAX_MESSAGE_BYTES = 32 * 1024 * 1024
