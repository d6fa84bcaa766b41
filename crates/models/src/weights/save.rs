//! Writing variables to a file, in float32 or in half as many bytes.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::str::FromStr;

use candle_core::{DType, Tensor, Var};
use firstsight_data::files::write_atomically;

use crate::{Error, Result};

/// The type of the values in a file of weights. A network computes in float32 whatever the file has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SaveDtype {
    /// 4 bytes.
    Float32,
    /// IEEE 754's binary16, 2 bytes: 11 bits of precision, up to 65504.
    Float16,
    /// 2 bytes: 8 bits of precision, float32's range.
    BFloat16,
}

impl SaveDtype {
    /// PyTorch's name: `float32`, `float16`, `bfloat16`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Float32 => "float32",
            Self::Float16 => "float16",
            Self::BFloat16 => "bfloat16",
        }
    }

    fn dtype(self) -> DType {
        match self {
            Self::Float32 => DType::F32,
            Self::Float16 => DType::F16,
            Self::BFloat16 => DType::BF16,
        }
    }

    /// A variable's values, each rounded to the nearest of the type.
    fn rounded(self, name: &str, var: &Var) -> Result<Tensor> {
        let rounded = var.to_dtype(self.dtype())?;
        let largest = |tensor: &Tensor| tensor.abs()?.max_all()?.to_dtype(DType::F64)?.to_scalar::<f64>();
        if largest(&rounded)?.is_infinite() {
            let largest = largest(var)?;
            if largest.is_finite() {
                return Err(Error::Overflow { tensor: name.to_owned(), largest, dtype: self });
            }
        }
        Ok(rounded)
    }
}

impl fmt::Display for SaveDtype {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for SaveDtype {
    type Err = String;

    /// PyTorch's names and their usual short forms.
    fn from_str(name: &str) -> Result<Self, String> {
        match name.to_ascii_lowercase().as_str() {
            "float32" | "f32" | "fp32" => Ok(Self::Float32),
            "float16" | "f16" | "fp16" => Ok(Self::Float16),
            "bfloat16" | "bf16" => Ok(Self::BFloat16),
            _ => Err(format!("'{name}' is none of float32, float16, bfloat16")),
        }
    }
}

/// Rounds variables to the values of a type; all or, after an error, none.
pub(crate) fn round(vars: &BTreeMap<String, Var>, dtype: SaveDtype) -> Result<()> {
    if dtype == SaveDtype::Float32 {
        return Ok(());
    }
    let rounded = vars.iter().map(|(name, var)| Ok((var, dtype.rounded(name, var)?)));
    for (var, value) in rounded.collect::<Result<Vec<_>>>()? {
        var.set(&value.to_dtype(var.dtype())?)?;
    }
    Ok(())
}

/// Writes variables to a safetensors file in a type.
pub(crate) fn save(path: &Path, vars: &BTreeMap<String, Var>, dtype: SaveDtype) -> Result<()> {
    let tensors = vars.iter().map(|(name, var)| Ok((name.as_str(), dtype.rounded(name, var)?)));
    let tensors = tensors.collect::<Result<Vec<_>>>()?;
    let bytes = safetensors::serialize(tensors, None)
        .map_err(|source| Error::Safetensors { path: path.to_path_buf(), source })?;
    write_atomically(path, &bytes).map_err(|source| Error::Io { path: path.to_path_buf(), source })
}
