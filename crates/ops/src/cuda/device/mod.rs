//! Running programs on a device.

mod compile;

use candle_core::cuda_backend::WrapErr as _;
use candle_core::cuda_backend::cudarc::driver::{
    CudaSlice, CudaStream, DevicePtr as _, DevicePtrMut as _, LaunchConfig, PushKernelArg as _, SyncOnDrop,
};
use candle_core::{CudaDevice, CudaStorage, DType, Result, Storage, Tensor};

pub use self::compile::cache_kernels;
use super::program::{Arg, Buffer, Launch, Program, Role, Slot, Word};

/// Runs `program` on the device's stream. Nothing waits for its end.
pub(super) fn run(program: &Program, inputs: &[&Tensor]) -> Result<Vec<Storage>> {
    let Some(first) = inputs.first() else {
        candle_core::bail!("firstsight-ops: a program without inputs");
    };
    let device = first.device().as_cuda_device()?;
    let stream = device.cuda_stream();
    let mut new = allocate(program, device)?;
    let locked: Vec<_> = inputs.iter().map(|tensor| tensor.storage_and_layout()).collect();
    let mut addresses = Vec::with_capacity(program.buffers().len());
    // Reads and writes are recorded when these are dropped, after the launches.
    let mut recorded = Vec::with_capacity(program.buffers().len());
    {
        let (mut given, mut allocated) = (locked.iter(), new.iter_mut());
        for buffer in program.buffers() {
            let (address, guard) = match buffer.role {
                Role::Input | Role::InPlace => {
                    let Some((storage, layout)) = given.next() else {
                        candle_core::bail!("firstsight-ops: {} tensors for more inputs", inputs.len());
                    };
                    let Storage::Cuda(storage) = &**storage else {
                        candle_core::bail!("firstsight-ops: an input that is not on the device");
                    };
                    input(buffer, storage, layout.contiguous_offsets(), &stream)?
                }
                Role::Output | Role::Scratch => match allocated.next() {
                    Some(Values::F32(values)) => values.device_ptr_mut(&stream),
                    Some(Values::U32(values)) => values.device_ptr_mut(&stream),
                    None => candle_core::bail!("firstsight-ops: a buffer was not allocated"),
                },
            };
            addresses.push(address);
            recorded.push(guard);
        }
        for launch in program.launches() {
            self::launch(launch, &addresses, device, &stream)?;
        }
        drop(recorded);
    }
    let roles = program.buffers().iter().map(|buffer| buffer.role);
    let outputs = roles.filter(|role| matches!(role, Role::Output | Role::Scratch)).zip(new);
    let outputs = outputs.filter(|(role, _)| *role == Role::Output);
    Ok(outputs.map(|(_, values)| Storage::Cuda(values.into_storage(device))).collect())
}

/// New values on a device.
enum Values {
    F32(CudaSlice<f32>),
    U32(CudaSlice<u32>),
}

impl Values {
    fn into_storage(self, device: &CudaDevice) -> CudaStorage {
        match self {
            Self::F32(values) => CudaStorage::wrap_cuda_slice(values, device.clone()),
            Self::U32(values) => CudaStorage::wrap_cuda_slice(values, device.clone()),
        }
    }
}

/// The outputs and the scratch of a program, in order.
fn allocate(program: &Program, device: &CudaDevice) -> Result<Vec<Values>> {
    let new = |buffer: &&Buffer| matches!(buffer.role, Role::Output | Role::Scratch);
    program.buffers().iter().filter(new).map(|buffer| uninitialized(buffer, device)).collect()
}

fn uninitialized(buffer: &Buffer, device: &CudaDevice) -> Result<Values> {
    match buffer.dtype {
        // SAFETY: every bit pattern is a float, and the program's kernels write all values that they or later ops read.
        DType::F32 => unsafe { device.alloc(buffer.len) }.map(Values::F32),
        // SAFETY: as above, for integers.
        DType::U32 => unsafe { device.alloc(buffer.len) }.map(Values::U32),
        dtype => candle_core::bail!("firstsight-ops: no buffers of {dtype:?}"),
    }
}

/// The address of a tensor's first value.
fn input<'a>(
    buffer: &Buffer,
    storage: &'a CudaStorage,
    offsets: Option<(usize, usize)>,
    stream: &'a CudaStream,
) -> Result<(u64, SyncOnDrop<'a>)> {
    let Some((start, end)) = offsets.filter(|(start, end)| end - start == buffer.len) else {
        candle_core::bail!("firstsight-ops: expected {} contiguous values, found {offsets:?}", buffer.len);
    };
    debug_assert!(start <= end);
    let (address, guard) = match buffer.dtype {
        DType::U32 => storage.as_cuda_slice::<u32>()?.device_ptr(stream),
        DType::U8 => storage.as_cuda_slice::<u8>()?.device_ptr(stream),
        _ => storage.as_cuda_slice::<f32>()?.device_ptr(stream),
    };
    Ok((address + (start * buffer.dtype.size_in_bytes()) as u64, guard))
}

/// An argument as the driver reads it.
enum Value {
    Word(u64),
    Int(i32),
    Float(f32),
}

fn launch(launch: &Launch, addresses: &[u64], device: &CudaDevice, stream: &CudaStream) -> Result<()> {
    let function = compile::function(launch, device)?;
    let mut tables: Vec<CudaSlice<u64>> = Vec::new();
    let mut values = Vec::with_capacity(launch.args.len());
    for arg in &launch.args {
        values.push(match arg {
            &Arg::Buffer(Slot(buffer)) => Value::Word(addresses[buffer]),
            Arg::Null => Value::Word(0),
            &Arg::Int(value) => Value::Int(value),
            &Arg::Long(value) => Value::Word(value.cast_unsigned()),
            &Arg::Bits(value) => Value::Word(value),
            &Arg::Float(value) => Value::Float(value),
            Arg::Table(words) => {
                let word = |word: &Word| match *word {
                    Word::Address(Slot(buffer), index) => addresses[buffer] + 4 * index as u64,
                    Word::Long(_) | Word::Floats(..) => word.bits(),
                };
                let table = device.clone_htod(&words.iter().map(word).collect::<Vec<u64>>())?;
                let address = table.device_ptr(stream).0;
                tables.push(table);
                Value::Word(address)
            }
        });
    }
    let mut call = stream.launch_builder(&function);
    for value in &values {
        match value {
            Value::Word(value) => call.arg(value),
            Value::Int(value) => call.arg(value),
            Value::Float(value) => call.arg(value),
        };
    }
    let (grid, block) = (launch.geometry.grid, launch.geometry.block);
    let config =
        LaunchConfig { grid_dim: (grid.0, grid.1, 1), block_dim: (block.0, block.1, 1), shared_mem_bytes: 0 };
    // SAFETY: the arguments have the types of the kernel's parameters, and its accesses stay within buffers of these sizes:
    // tests run each program with both checked. The buffers live until the end of the program, whose frees the stream orders
    // behind this launch. Tensors that change in place are written in the stream's order, as all work on them.
    unsafe { call.launch(config) }.w()?;
    Ok(())
}
