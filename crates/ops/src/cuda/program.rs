//! Programs: buffers, and launches of kernels on them.

use candle_core::DType;

/// The source of kernels, without the prelude.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Source {
    pub(crate) name: &'static str,
    pub(crate) text: &'static str,
}

/// The beginning of every source.
pub(crate) const PRELUDE: &str = include_str!("kernels/prelude.cuh");

macro_rules! sources {
    ($($constant:ident = $name:literal),* $(,)?) => {
        $(pub(crate) const $constant: Source =
            Source { name: $name, text: include_str!(concat!("kernels/", $name, ".cu")) };)*

        /// All sources.
        #[cfg(test)]
        pub(crate) const SOURCES: &[Source] = &[$($constant),*];
    };
}

sources! {
    ACTIVATION = "activation",
    BATCH_NORM = "batch_norm",
    BYTES = "bytes",
    CONV = "conv",
    DEPTHWISE = "depthwise",
    DROPOUT = "dropout",
    LAYER_NORM = "layer_norm",
    LOSS = "loss",
    OPTIM = "optim",
    POOL = "pool",
    REDUCE = "reduce",
    SOFTMAX = "softmax",
}

/// Buffers, and the launches that one after the other read and write them.
#[derive(Debug, Clone, Default)]
pub(crate) struct Program {
    buffers: Vec<Buffer>,
    launches: Vec<Launch>,
}

/// A buffer of a program.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Buffer {
    pub(crate) role: Role,
    pub(crate) dtype: DType,
    pub(crate) len: usize,
}

/// Where the values of a buffer come from and go to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// A tensor that is read.
    Input,
    /// A tensor that changes in place.
    InPlace,
    /// A new tensor.
    Output,
    /// Values between launches.
    Scratch,
}

/// A buffer of one program, by its number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Slot(pub(crate) usize);

/// The launch of a kernel.
#[derive(Debug, Clone)]
pub(crate) struct Launch {
    pub(crate) source: Source,
    pub(crate) kernel: &'static str,
    pub(crate) geometry: Geometry,
    pub(crate) args: Vec<Arg>,
}

/// Blocks of a grid, and threads of a block, in x and y.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Geometry {
    pub(crate) grid: (u32, u32),
    pub(crate) block: (u32, u32),
}

/// An argument of a kernel.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Arg {
    /// A pointer.
    Buffer(Slot),
    /// A null pointer.
    Null,
    /// `int`
    Int(i32),
    /// `long long`
    Long(i64),
    /// `unsigned long long`
    Bits(u64),
    /// `float`
    Float(f32),
    /// A pointer to a table of 8-byte words.
    Table(Vec<Word>),
}

/// An entry of a table.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Word {
    /// The address of a buffer's value of this index, which has 4 bytes.
    Address(Slot, usize),
    /// `long long`
    Long(i64),
    /// Two `float`s.
    Floats(f32, f32),
}

impl Word {
    /// The word's bits, where it is no address.
    pub(crate) fn bits(self) -> u64 {
        match self {
            Self::Address(..) => 0,
            Self::Long(value) => value.cast_unsigned(),
            Self::Floats(first, second) => u64::from(first.to_bits()) | u64::from(second.to_bits()) << 32,
        }
    }
}

impl Program {
    pub(crate) fn buffers(&self) -> &[Buffer] {
        &self.buffers
    }

    pub(crate) fn launches(&self) -> &[Launch] {
        &self.launches
    }

    /// The sizes of the tensors that the program returns.
    pub(crate) fn output_lens(&self) -> impl Iterator<Item = usize> {
        self.buffers.iter().filter(|buffer| buffer.role == Role::Output).map(|buffer| buffer.len)
    }

    /// The next tensor that the program reads, of `len` values.
    pub(crate) fn input(&mut self, len: usize) -> Slot {
        self.buffer(Role::Input, DType::F32, len)
    }

    /// As [`Self::input`], of u32.
    pub(crate) fn input_u32(&mut self, len: usize) -> Slot {
        self.buffer(Role::Input, DType::U32, len)
    }

    /// As [`Self::input`], of u8.
    pub(crate) fn input_u8(&mut self, len: usize) -> Slot {
        self.buffer(Role::Input, DType::U8, len)
    }

    /// The next tensor, which the program changes in place.
    pub(crate) fn in_place(&mut self, len: usize) -> Slot {
        self.buffer(Role::InPlace, DType::F32, len)
    }

    /// The next tensor that the program returns.
    pub(crate) fn output(&mut self, len: usize) -> Slot {
        self.buffer(Role::Output, DType::F32, len)
    }

    /// As [`Self::output`], of u32.
    pub(crate) fn output_u32(&mut self, len: usize) -> Slot {
        self.buffer(Role::Output, DType::U32, len)
    }

    /// Values between launches.
    pub(crate) fn scratch(&mut self, len: usize) -> Slot {
        self.buffer(Role::Scratch, DType::F32, len)
    }

    fn buffer(&mut self, role: Role, dtype: DType, len: usize) -> Slot {
        self.buffers.push(Buffer { role, dtype, len });
        Slot(self.buffers.len() - 1)
    }

    /// Appends a launch.
    pub(crate) fn launch<const N: usize>(
        &mut self,
        source: Source,
        kernel: &'static str,
        geometry: Geometry,
        args: [Arg; N],
    ) {
        self.launches.push(Launch { source, kernel, geometry, args: args.into() });
    }
}

impl From<Slot> for Arg {
    fn from(slot: Slot) -> Self {
        Self::Buffer(slot)
    }
}

impl From<Option<Slot>> for Arg {
    fn from(slot: Option<Slot>) -> Self {
        slot.map_or(Self::Null, Self::Buffer)
    }
}

impl From<f32> for Arg {
    fn from(value: f32) -> Self {
        Self::Float(value)
    }
}

impl From<u64> for Arg {
    fn from(value: u64) -> Self {
        Self::Bits(value)
    }
}

/// A size as `int`. Tensors have kernels only if their sizes fit.
pub(crate) fn int(size: usize) -> Arg {
    Arg::Int(i32::try_from(size).unwrap_or(i32::MAX))
}

/// A size as `long long`.
pub(crate) fn long(size: usize) -> Arg {
    Arg::Long(size as i64)
}
