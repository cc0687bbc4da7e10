"""What a host runs to load a model on one GPU: a program for the runtime's own Python, started with `-c`."""

from __future__ import annotations

from dstui.facts.model_load import MARK

TOKENS = 8

SCRIPT = r"""
import json, os, re, sys, time
path, framework, length, share = sys.argv[1], sys.argv[2], int(sys.argv[3]), float(sys.argv[4])
told = {"framework": framework, "seconds": 0.0, "tokens": 0, "peak": None, "version": None, "device": None}
began = time.monotonic()
log = os.memfd_create("dstui-load")
ear, mouth = os.pipe()

def with_vllm():
    import vllm
    from vllm.platforms import current_platform
    told["version"] = vllm.__version__
    told["device"] = current_platform.device_type
    model = vllm.LLM(model=path, tensor_parallel_size=1, enforce_eager=True, max_model_len=length,
                     gpu_memory_utilization=share)
    told["seconds"] = time.monotonic() - began
    wanted = vllm.SamplingParams(max_tokens=@TOKENS@, temperature=0, ignore_eos=True)
    told["tokens"] = len(model.generate(["The quick brown fox"], wanted)[0].outputs[0].token_ids)

def with_safetensors():
    import glob, safetensors, torch
    told["version"] = safetensors.__version__
    told["device"] = "cuda" if torch.cuda.is_available() else "cpu"
    kept = []
    for name in sorted(glob.glob(os.path.join(glob.escape(path), "*.safetensors"))):
        with safetensors.safe_open(name, framework="pt", device=told["device"]) as file:
            kept += [file.get_tensor(key) for key in file.keys()]
    told["seconds"] = time.monotonic() - began

def first_words(error):
    return (type(error).__name__ + ": " + str(error).strip().partition("\n")[0])[:400]

def load():
    try:
        with_vllm() if framework == "vllm" else with_safetensors()
    except ModuleNotFoundError as error:
        lost = (error.name or "").partition(".")[0] in ("vllm", "torch", "safetensors")
        told["missing" if lost else "fault"] = "the runtime's Python has no %s" % error.name
    except BaseException as error:
        told["fault"] = first_words(error)
    told["seconds"] = told["seconds"] or time.monotonic() - began
    try:
        import torch
        told["peak"] = torch.cuda.max_memory_reserved() if torch.cuda.is_available() else None
    except Exception:
        pass

# A child does it, so that one that is killed or crashes is told of as well. Both are in one process group.
pid = os.fork()
if not pid:
    os.close(ear)
    os.dup2(log, 1)
    os.dup2(log, 2)
    sys.stdout.reconfigure(line_buffering=True)
    load()
    sys.stdout.flush()
    os.write(mouth, json.dumps(told).encode())
    os._exit(0)
os.close(mouth)
heard = b""
while True:
    part = os.read(ear, 65536)
    if not part:
        break
    heard += part
status = os.waitpid(pid, 0)[1]
size = os.lseek(log, 0, os.SEEK_END)
lines = [line[:400] for line in os.pread(log, min(size, 8 << 20), 0).decode("utf-8", "replace").splitlines()]
if heard:
    told = json.loads(heard)
else:
    how = "signal %d" % os.WTERMSIG(status) if os.WIFSIGNALED(status) else "exit %d" % os.WEXITSTATUS(status)
    told.update(seconds=time.monotonic() - began, fault="the process was ended by %s" % how)
worth = re.compile("KV cache (memory|size)|Maximum concur|Using .{1,60} backend|ERROR|Error:|CUDA|[Ff]all(ing)? back")
fallback = re.compile("(?i)fall(ing|s)? back.*(attention|attn|eager|backend|triton)|cannot use .{1,60} backend")
told["lines"] = [line for line in lines if worth.search(line)][:40]
told["fallback"] = next((line for line in lines if fallback.search(line) and "sampl" not in line), "")
if told.get("fault"):
    told["first"] = next((line for line in lines if re.search(r"ERROR|Error:|error:", line)), "")
    told["lines"] += lines[-20:]
sys.stdout.write("\n@MARK@" + json.dumps(told) + "\n")
""".replace("@MARK@", MARK).replace("@TOKENS@", str(TOKENS))
"""Arguments: the model's directory, `vllm` or `safetensors`, tokens of a sequence, the share of GPU memory.

It prints one line that begins with MARK; vLLM's own output goes into memory, and of it the lines worth keeping come
back. Nothing is written to disk.
"""
