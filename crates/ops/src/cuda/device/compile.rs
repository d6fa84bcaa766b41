//! Compiling kernels by NVRTC for the device's compute capability, on their first use.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use candle_core::cuda_backend::WrapErr as _;
use candle_core::cuda_backend::cudarc::driver::CudaFunction;
use candle_core::cuda_backend::cudarc::nvrtc::{CompileOptions, compile_ptx_with_opts};
use candle_core::{CudaDevice, Result};

use crate::cuda::program::{Launch, PRELUDE, Source};

/// The folder of compiled kernels.
static CACHE: RwLock<Option<PathBuf>> = RwLock::new(None);

/// Keeps compiled CUDA kernels in `folder`, for this process and later ones; the first use of each op is then faster.
///
/// A folder that cannot be written is a warning (`tracing`), no error. The names of files tell source, compute capability and
/// compiler options apart, and none is read that another version of this crate wrote.
pub fn cache_kernels(folder: &Path) {
    *CACHE.write().unwrap_or_else(PoisonError::into_inner) = Some(folder.to_owned());
}

/// A compiled source for a compute capability.
type Compiled = HashMap<(&'static str, (i32, i32)), Arc<str>>;

/// The kernel of a launch, compiled and loaded.
pub(super) fn function(launch: &Launch, device: &CudaDevice) -> Result<CudaFunction> {
    static COMPILED: Mutex<Option<Compiled>> = Mutex::new(None);
    let Launch { source, kernel, .. } = launch;
    let capability = device.cuda_stream().context().compute_capability().w()?;
    let module = format!("firstsight_{}", source.name);
    let load = |ptx: &str| Ok(device.get_or_load_custom_func(kernel, &module, ptx)?.into_cuda_function());
    let known = {
        let mut compiled = COMPILED.lock().unwrap_or_else(PoisonError::into_inner);
        compiled.get_or_insert_default().get(&(source.name, capability)).cloned()
    };
    if let Some(ptx) = known {
        return load(&ptx);
    }
    let keep = |ptx: &str| {
        let mut compiled = COMPILED.lock().unwrap_or_else(PoisonError::into_inner);
        compiled.get_or_insert_default().insert((source.name, capability), ptx.into());
    };
    let options = options(capability);
    let file = cached_file(source, &options);
    if let Some(ptx) = file.as_ref().and_then(|file| std::fs::read_to_string(file).ok()) {
        // A driver that has become older than the compiler refuses it.
        let loaded: Result<CudaFunction> = load(&ptx);
        if let Ok(function) = loaded {
            keep(&ptx);
            return Ok(function);
        }
    }
    let ptx = compile(source, options)?;
    if let Some(file) = &file
        && let Err(error) = store(file, &ptx)
    {
        tracing::warn!(file = %file.display(), %error, "a compiled CUDA kernel could not be kept");
    }
    keep(&ptx);
    load(&ptx)
}

fn options((major, minor): (i32, i32)) -> Vec<String> {
    vec![format!("--gpu-architecture=compute_{major}{minor}"), "--std=c++17".to_owned()]
}

fn compile(source: &Source, options: Vec<String>) -> Result<String> {
    let text = format!("{PRELUDE}{}", source.text);
    tracing::debug!(source = source.name, ?options, "compiling CUDA kernels");
    let name = Some(format!("{}.cu", source.name));
    let ptx = compile_ptx_with_opts(text, CompileOptions { options, name, ..Default::default() }).w()?;
    Ok(ptx.to_src())
}

/// The file of a compiled source, if there is a cache.
fn cached_file(source: &Source, options: &[String]) -> Option<PathBuf> {
    let cache = CACHE.read().unwrap_or_else(PoisonError::into_inner);
    let mut hash = DefaultHasher::new();
    (env!("CARGO_PKG_VERSION"), PRELUDE, source.text, options).hash(&mut hash);
    cache.as_ref().map(|folder| folder.join(format!("{}-{:016x}.ptx", source.name, hash.finish())))
}

/// Writes the file under another name first, so that no process reads half of it.
fn store(file: &Path, ptx: &str) -> std::io::Result<()> {
    if let Some(folder) = file.parent() {
        std::fs::create_dir_all(folder)?;
    }
    let draft = file.with_extension(format!("{}.tmp", std::process::id()));
    std::fs::write(&draft, ptx)?;
    std::fs::rename(&draft, file)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cuda::program::SOURCES;
    use crate::cuda::tests::process::kernel_names;

    /// NVRTC needs no GPU.
    #[test]
    fn every_source_compiles() {
        for capability in [(8, 0), (9, 0), (12, 0)] {
            for source in SOURCES {
                let ptx = compile(source, options(capability)).unwrap();
                for kernel in kernel_names(source.text) {
                    assert!(ptx.contains(&format!(".entry {kernel}(")), "{kernel} for {capability:?}");
                }
            }
        }
    }

    #[test]
    fn compiled_kernels_are_kept_by_source_and_options() {
        let folder = tempfile::tempdir().unwrap();
        cache_kernels(&folder.path().join("kernels"));
        let file = |i: usize, capability| cached_file(&SOURCES[i], &options(capability)).unwrap();
        let names = [file(0, (8, 0)), file(0, (9, 0)), file(1, (9, 0))];
        assert!(names[0] != names[1] && names[1] != names[2]);
        for text in ["first", "second"] {
            store(&names[0], text).unwrap();
            assert_eq!(std::fs::read_to_string(&names[0]).unwrap(), text);
        }
        assert_eq!(std::fs::read_dir(names[0].parent().unwrap()).unwrap().count(), 1);
    }
}
