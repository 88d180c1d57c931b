"""One measurement in a process of its own: time and peak memory of a call, within limits.

Time is the median over blocks of repeated calls (the framework's benchmark timer, which warms up first), under the
C library's own allocation defaults; a call that lasts as long as many blocks is timed once. Memory is the peak above
what is held before the call (inputs and parameters): on CPU the rise of the process's resident high-water mark, with
every block above 64 KiB mapped on its own so that freed memory counts no longer; on CUDA the allocator's peak.
"""

START_SECONDS = 60.0
LONG_CALL = 10  # blocks: a call that lasts as long has settled within itself
# What children need, so that they import nothing: the framework's first backward pass imports symbolic_shapes.
# Not study.speed.measure, which a command line runs as its main module.
PRELOAD = [
    "study.report",
    *(f"study.speed.{name}" for name in ("benchmark", "epoch_profile", "fresh_process", "streaming")),
]
PRELOAD.append("torch.fx.experimental.symbolic_shapes")
