//! The program that runs kernels on the CPU: compiled once, and started for each emulation.

use std::fmt::Write as _;
use std::io::{Read as _, Write as _};
use std::path::Path;
use std::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::OnceLock;

use crate::cuda::program::{Arg, Launch, PRELUDE, Program, Role, SOURCES, Source, Word};

/// The order in which the threads of a block, and the blocks of a grid, run.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Order {
    Forward,
    Backward,
    Shuffled(u64),
}

/// The emulation as a program, in its folder.
pub(crate) struct Emulator(tempfile::TempDir);

pub(crate) struct Process {
    child: Child,
    to: ChildStdin,
    from: ChildStdout,
    errors: ChildStderr,
}

impl Process {
    /// `None` without a C++ compiler, or where this is not Linux.
    pub(crate) fn start() -> Option<Self> {
        static EMULATOR: OnceLock<Option<Emulator>> = OnceLock::new();
        Some(Self::of(EMULATOR.get_or_init(|| Emulator::compile(SOURCES, &|text| text.to_owned())).as_ref()?))
    }

    pub(crate) fn of(emulator: &Emulator) -> Self {
        let mut command = Command::new(emulator.0.path().join("emulation"));
        command.env("ASAN_OPTIONS", "detect_leaks=0:detect_stack_use_after_return=0");
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let (to, from) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        let errors = child.stderr.take().unwrap();
        Self { child, to, from, errors }
    }

    /// Runs `program` on the contents of its tensors, and returns those of all buffers.
    pub(crate) fn run(
        &mut self,
        program: &Program,
        contents: &[Option<Vec<u8>>],
        order: Order,
    ) -> Vec<Vec<u8>> {
        let mut request = Vec::new();
        let mut put = |bytes: &[u8]| request.extend_from_slice(bytes);
        // A view that is not aligned to 16 bytes.
        let shift: u64 = if order == Order::Backward { 4 } else { 0 };
        put(&(contents.len() as u32).to_le_bytes());
        for (buffer, contents) in program.buffers().iter().zip(contents) {
            put(&(buffer.len as u64 * buffer.dtype.size_in_bytes() as u64).to_le_bytes());
            let shift = if buffer.role == Role::Scratch { 0 } else { shift };
            put(&shift.to_le_bytes());
            put(&[u8::from(contents.is_some())]);
            put(contents.as_deref().unwrap_or_default());
        }
        put(&(program.launches().len() as u32).to_le_bytes());
        for launch in program.launches() {
            put_launch(launch, order, &mut put);
        }
        let sent = self.to.write_all(&request).and_then(|()| self.to.flush());
        let mut answer = |len: usize| {
            let mut bytes = vec![0; len];
            self.from.read_exact(&mut bytes).map(|()| bytes)
        };
        let kernels = || program.launches().iter().map(|launch| launch.kernel).collect::<Vec<_>>();
        let failure = match (sent, answer(4)) {
            (Ok(()), Ok(len)) => {
                let len = u32::from_le_bytes(len.try_into().unwrap());
                String::from_utf8(answer(len as usize).unwrap()).unwrap()
            }
            _ => {
                let mut errors = String::new();
                self.errors.read_to_string(&mut errors).unwrap();
                format!("the process ended\n{errors}")
            }
        };
        assert!(failure.is_empty(), "{:?}: {failure}", kernels());
        let len = |i: usize| program.buffers()[i].len * program.buffers()[i].dtype.size_in_bytes();
        (0..contents.len()).map(|i| answer(len(i)).unwrap()).collect()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn put_launch(launch: &Launch, order: Order, put: &mut dyn FnMut(&[u8])) {
    let Launch { source, kernel, geometry, args } = launch;
    assert!(kernel_names(source.text).any(|name| name == *kernel), "{} has no {kernel}", source.name);
    put(&(kernel.len() as u32).to_le_bytes());
    put(kernel.as_bytes());
    let (kind, seed) = match order {
        Order::Forward => (0, 0),
        Order::Backward => (1, 0),
        Order::Shuffled(seed) => (2, seed),
    };
    for number in [geometry.grid.0, geometry.grid.1, geometry.block.0, geometry.block.1, kind] {
        put(&number.to_le_bytes());
    }
    put(&u64::to_le_bytes(seed));
    put(&(args.len() as u32).to_le_bytes());
    for arg in args {
        let (kind, bits) = match arg {
            Arg::Buffer(slot) => (b'b', slot.0 as u64),
            Arg::Null => (b'p', 0),
            Arg::Int(value) => (b'i', u64::from(value.cast_unsigned())),
            Arg::Long(value) => (b'l', value.cast_unsigned()),
            Arg::Bits(value) => (b'u', *value),
            Arg::Float(value) => (b'f', u64::from(value.to_bits())),
            Arg::Table(words) => (b't', words.len() as u64),
        };
        put(&[kind]);
        put(&bits.to_le_bytes());
        if let Arg::Table(words) = arg {
            for word in words {
                let (kind, value, index) = match *word {
                    Word::Address(slot, index) => (b'b', slot.0 as u64, index as u64),
                    Word::Long(_) | Word::Floats(..) => (b'l', word.bits(), 0),
                };
                put(&[kind]);
                put(&value.to_le_bytes());
                put(&index.to_le_bytes());
            }
        }
    }
}

impl Emulator {
    /// Compiles the kernels of `sources` as `change` leaves them, with sanitizers where the compiler has them.
    pub(crate) fn compile(sources: &[Source], change: &dyn Fn(&str) -> String) -> Option<Self> {
        if !cfg!(target_os = "linux") {
            eprintln!("skipped: the emulation of a GPU runs on Linux alone");
            return None;
        }
        let folder = tempfile::tempdir().unwrap();
        let mut kernels = format!("#line 1 \"prelude.cuh\"\n{}\n", change(PRELUDE));
        let mut names = String::new();
        for source in sources {
            let (name, text) = (source.name, change(source.text));
            writeln!(kernels, "namespace {name} {{\n#line 1 \"{name}.cu\"\n{text}\n}}").unwrap();
            for kernel in kernel_names(source.text) {
                writeln!(names, "KERNEL({name}, {kernel})").unwrap();
            }
        }
        for (name, text) in [
            ("kernels.inc", kernels.as_str()),
            ("names.inc", &names),
            ("threads.h", include_str!("threads.h")),
            ("main.cpp", include_str!("main.cpp")),
        ] {
            std::fs::write(folder.path().join(name), text).unwrap();
        }
        let sanitizers = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all"];
        for compiler in ["g++", "c++", "clang++"] {
            for flags in [&sanitizers[..], &[]] {
                let Some(errors) = build(compiler, flags, folder.path()) else { break };
                if errors.is_empty() {
                    return Some(Self(folder));
                }
                assert!(!flags.is_empty(), "{compiler} does not compile the kernels:\n{errors}");
            }
        }
        eprintln!("skipped: there is no C++ compiler for the emulation of a GPU");
        None
    }
}

/// What the compiler says of an error; `None` if there is no such compiler.
fn build(compiler: &str, flags: &[&str], folder: &Path) -> Option<String> {
    let mut command = Command::new(compiler);
    command.args(["-std=c++17", "-O1", "-g", "-w", "main.cpp", "-o", "emulation"]);
    let done = command.args(flags).current_dir(folder).output().ok()?;
    let errors = String::from_utf8_lossy(&done.stderr).into_owned();
    Some(if done.status.success() { String::new() } else { format!("{errors} ({})", done.status) })
}

/// The kernels of a source.
pub(crate) fn kernel_names(source: &str) -> impl Iterator<Item = &str> {
    source.split("__global__ void ").skip(1).filter_map(|rest| rest.split('(').next())
}
