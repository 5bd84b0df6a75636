"""What runs on CPU workers: ffmpeg, a program of the system, over pictures and sound."""

from typing import Any

from runpod_flash import CpuLiveServerless, remote

cpu_config = CpuLiveServerless(
    name="05_02_media_processing_cpu",
    workersMin=0,
    workersMax=3,
    idleTimeout=300,
)


@remote(resource_config=cpu_config, system_dependencies=["ffmpeg"], timeout=120)
async def thumbnail(picture: bytes, width: int) -> bytes:
    """A JPEG of that width, its height in proportion. ValueError for what is no picture."""
    import asyncio

    process = await asyncio.create_subprocess_exec(
        "ffmpeg", "-hide_banner", "-loglevel", "error", "-i", "pipe:0", "-frames:v", "1",
        "-vf", f"scale={width}:-2", "-f", "mjpeg", "-q:v", "4", "pipe:1",
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    output, errors = await process.communicate(picture)
    if process.returncode or not output:
        raise ValueError((errors.decode(errors="replace").strip() or "no picture").splitlines()[-1])
    return output


@remote(resource_config=cpu_config, system_dependencies=["ffmpeg"], timeout=120)
async def measure_sound(sound: bytes) -> dict[str, Any]:
    """Length, loudness (EBU R 128) and a curve of 60 levels of a recording. ValueError for what is no sound."""
    import array
    import asyncio
    import re

    rate = 8000

    async def ffmpeg(*arguments: str) -> tuple[bytes, str]:
        """What ffmpeg gives and says for this recording."""
        process = await asyncio.create_subprocess_exec(
            "ffmpeg", "-hide_banner", "-nostats", "-i", "pipe:0", *arguments,
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        output, words = await process.communicate(sound)
        if process.returncode:
            raise ValueError((words.decode(errors="replace").strip() or "no sound").splitlines()[-1])
        return output, words.decode(errors="replace")

    (raw, _), (_, words) = await asyncio.gather(
        ffmpeg("-ac", "1", "-ar", str(rate), "-f", "s16le", "pipe:1"),
        ffmpeg("-af", "ebur128=framelog=verbose", "-f", "null", "-"),
    )
    samples = array.array("h", raw)
    step = max(1, len(samples) // 60)
    peaks = [
        max(map(abs, samples[at : at + step])) / 32768 for at in range(0, step * 60, step) if samples[at : at + step]
    ]
    loudness = re.findall(r"I:\s+(-?[\d.]+) LUFS", words)
    return {
        "seconds": round(len(samples) / rate, 2),
        "loudness_lufs": float(loudness[-1]) if loudness else None,
        "levels": [round(peak, 2) for peak in peaks],
    }
