"""Compiles each source of crates/ops/src/cuda/kernels by NVRTC and ptxas; see cuda-kernels beside this."""

import ctypes
import pathlib
import re
import subprocess
import sys
import sysconfig
import tempfile

ARCHITECTURES = sys.argv[1:] or ["80", "90", "120"]
KERNELS = pathlib.Path("crates/ops/src/cuda/kernels")
TOOLKIT = pathlib.Path(sysconfig.get_paths()["purelib"]) / "nvidia" / "cu13"

# NVRTC finds its second library by name once that is loaded.
ctypes.CDLL(str(next((TOOLKIT / "lib").glob("libnvrtc-builtins.so.*"))))
nvrtc = ctypes.CDLL(str(next((TOOLKIT / "lib").glob("libnvrtc.so.*"))))


def text_of(program, kind):
    """The log or the PTX of a program."""
    size = ctypes.c_size_t()
    assert getattr(nvrtc, f"nvrtcGet{kind}Size")(program, ctypes.byref(size)) == 0
    buffer = ctypes.create_string_buffer(size.value)
    assert getattr(nvrtc, f"nvrtcGet{kind}")(program, buffer) == 0
    return buffer.value.decode()


def compile_ptx(source, name, architecture):
    """The PTX of a source, and what the compiler says."""
    program = ctypes.c_void_p()
    created = nvrtc.nvrtcCreateProgram(ctypes.byref(program), source.encode(), name.encode(), 0, None, None)
    assert created == 0
    options = [f"--gpu-architecture=compute_{architecture}".encode(), b"--std=c++17"]
    status = nvrtc.nvrtcCompileProgram(program, len(options), (ctypes.c_char_p * len(options))(*options))
    log = text_of(program, "ProgramLog").strip()
    return (text_of(program, "PTX") if status == 0 else None), log


def resources(ptx, architecture):
    """What each kernel takes, by its name, and everything else that ptxas says."""
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "kernels.ptx"
        path.write_text(ptx)
        command = [TOOLKIT / "bin" / "ptxas", "-v", f"-arch=sm_{architecture}", "-o", path.with_suffix(".cubin"), path]
        done = subprocess.run(command, capture_output=True, text=True)
    used, other, name = {}, [], None
    for line in (done.stdout + done.stderr).splitlines():
        if found := re.search(r"Compiling entry function '(\w+)'", line):
            name = found[1]
        elif found := re.search(r"(\d+) bytes stack frame, (\d+) bytes spill stores", line):
            used[name] = {"stack": int(found[1]), "spilled": int(found[2])}
        elif found := re.search(r"Used (\d+) registers", line):
            shared = re.search(r"(\d+) bytes smem", line)
            used[name] |= {"registers": int(found[1]), "shared": int(shared[1]) if shared else 0}
        elif not re.search(r"Function properties for|0 bytes gmem|Compile time", line):
            other.append(line)
    if done.returncode != 0 and not other:
        other.append(f"ptxas: exit code {done.returncode}")
    return used, other


def main():
    prelude = (KERNELS / "prelude.cuh").read_text()
    has_ptxas = (TOOLKIT / "bin" / "ptxas").exists()
    failures, rows = [], {}
    for architecture in ARCHITECTURES:
        for path in sorted(KERNELS.glob("*.cu")):
            ptx, log = compile_ptx(prelude + path.read_text(), path.name, architecture)
            if ptx is None or log:
                failures.append(f"{path.name} for compute_{architecture}:\n{log}")
                continue
            if not has_ptxas:
                continue
            used, other = resources(ptx, architecture)
            failures += [f"{path.name} for sm_{architecture}: {line}" for line in other]
            for kernel, takes in used.items():
                rows.setdefault((path.name, kernel), {})[architecture] = takes
                if takes["spilled"]:
                    failures.append(f"{kernel} for sm_{architecture} spills {takes['spilled']} bytes of registers")
    if not has_ptxas:
        print("ptxas is not installed: the kernels' resources are not known")
    for (source, kernel), by_architecture in rows.items():
        takes = "; ".join(
            f"sm_{architecture} {t['registers']} registers, {t['shared']} B shared, {t['stack']} B stack"
            for architecture, t in by_architecture.items()
        )
        print(f"{source} {kernel}: {takes}")
    print(f"{len(rows)} kernels for {', '.join('sm_' + a for a in ARCHITECTURES)}")
    if failures:
        sys.exit("\n".join(failures))


main()
