//! The header of a safetensors file, validated before anything is read or allocated for it.

use std::fmt;
use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};

use super::{ForeignFile, shards};
use crate::{Error, Result};

/// The format's own limit.
const LARGEST_HEADER: u64 = 100_000_000;

/// The validated header of a safetensors file.
///
/// The format: the header's length as eight little-endian bytes; the header, a JSON object from names to types, shapes
/// and offsets; the tensors' bytes without gaps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WeightsHeader {
    /// Sorted by name.
    pub tensors: Vec<TensorHeader>,
}

/// A tensor of a safetensors file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorHeader {
    /// Name.
    pub name: String,
    /// Type of its values, in the format's terms: `F32`, `BF16`, `I64`, ….
    pub dtype: String,
    /// Shape.
    pub shape: Vec<usize>,
}

impl TensorHeader {
    /// Whether its values are floating-point numbers that a variable can take.
    pub fn is_float(&self) -> bool {
        matches!(self.dtype.as_str(), "F16" | "BF16" | "F32" | "F64")
    }
}

impl WeightsHeader {
    /// Reads the header of a file, and no tensor. Of an index (`model.safetensors.index.json`) it reads the headers of
    /// all files that this names.
    ///
    /// # Errors
    ///
    /// [`Error::Io`]; [`Error::Foreign`] for a file of another format, and [`Error::WeightsHeader`] for one that is not in
    /// this one: truncated or with bytes left over, with a header that exceeds the file or is not JSON, with a name twice,
    /// or with tensors that overlap, leave gaps, exceed the file or have another size than their shape needs.
    pub fn read(path: &Path) -> Result<Self> {
        if !shards::is_index(path) {
            return Self::read_one(path);
        }
        let mut tensors = Vec::new();
        for file in shards::files(path)? {
            tensors.extend(Self::read_one(&file)?.tensors);
        }
        Self::sorted(tensors).map_err(|reason| Error::WeightsHeader { path: path.to_path_buf(), reason })
    }

    fn read_one(path: &Path) -> Result<Self> {
        let io = |source| Error::Io { path: path.to_path_buf(), source };
        let bad = |reason| match ForeignFile::recognize(path) {
            Some(foreign) => Error::Foreign(Box::new(foreign)),
            None => Error::WeightsHeader { path: path.to_path_buf(), reason },
        };
        let mut file = File::open(path).map_err(io)?;
        let size = file.metadata().map_err(io)?.len();
        let mut length = [0; 8];
        if size < length.len() as u64 {
            return Err(bad(format!("it has {size} bytes, fewer than the 8 of a header's length")));
        }
        file.read_exact(&mut length).map_err(io)?;
        let length = u64::from_le_bytes(length);
        let rest = size - 8;
        if length > rest {
            return Err(bad(format!(
                "it says that its header has {length} bytes, and {rest} follow: the file is truncated or no \
                 safetensors file"
            )));
        }
        if length > LARGEST_HEADER {
            return Err(bad(format!("its header has {length} bytes, at most {LARGEST_HEADER} are allowed")));
        }
        let mut text = vec![0; length as usize];
        file.read_exact(&mut text).map_err(io)?;
        Self::parse(&text, rest - length).map_err(bad)
    }

    /// The tensor called `name`.
    pub fn get(&self, name: &str) -> Option<&TensorHeader> {
        let place = self.tensors.binary_search_by(|tensor| tensor.name.as_str().cmp(name)).ok()?;
        self.tensors.get(place)
    }

    /// Validates a header that `n_bytes` follow.
    fn parse(text: &[u8], n_bytes: u64) -> Result<Self, String> {
        let entries: Entries = serde_json::from_slice(text)
            .map_err(|e| format!("its header is not as the format has it: {e}"))?;
        let mut places = Vec::with_capacity(entries.0.len());
        let mut tensors = Vec::with_capacity(entries.0.len());
        for (name, entry) in entries.0 {
            places.push((entry.place(&name)?, name.clone()));
            tensors.push(TensorHeader { name, dtype: entry.dtype, shape: entry.shape });
        }
        let header = Self::sorted(tensors)?;
        places.sort_unstable();
        let mut end = 0;
        for ((from, to), name) in &places {
            if *from != end {
                let what =
                    if *from < end { "overlaps the tensor before it" } else { "leaves a gap before it" };
                return Err(format!("{name} at {from}..{to} {what}, which ends at {end}"));
            }
            end = *to;
        }
        if end != n_bytes {
            let what = if end > n_bytes { "the file is truncated" } else { "some belong to no tensor" };
            return Err(format!("its tensors have {end} bytes, and {n_bytes} follow the header: {what}"));
        }
        Ok(header)
    }

    fn sorted(mut tensors: Vec<TensorHeader>) -> Result<Self, String> {
        tensors.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        match tensors.windows(2).find(|pair| pair[0].name == pair[1].name) {
            Some(pair) => Err(format!("its header names {} twice", pair[0].name)),
            None => Ok(Self { tensors }),
        }
    }
}

/// A tensor's entry in the header's JSON.
#[derive(Deserialize)]
struct Entry {
    dtype: String,
    shape: Vec<usize>,
    data_offsets: (u64, u64),
}

impl Entry {
    /// Range of its bytes, of the length that its shape and type need.
    fn place(&self, name: &str) -> Result<(u64, u64), String> {
        let bits: u64 = match self.dtype.as_str() {
            "BOOL" | "U8" | "I8" | "F8_E5M2" | "F8_E4M3" | "F8_E8M0" => 8,
            "U16" | "I16" | "F16" | "BF16" => 16,
            "U32" | "I32" | "F32" => 32,
            "U64" | "I64" | "F64" | "C64" => 64,
            other => return Err(format!("{name} is of the unknown type {other:?}")),
        };
        let (from, to) = self.data_offsets;
        if to < from {
            return Err(format!("{name} ends at {to}, before its beginning at {from}"));
        }
        let count = self.shape.iter().try_fold(1, |n: u64, side| n.checked_mul(*side as u64));
        match count.and_then(|n| n.checked_mul(bits / 8)) {
            Some(size) if size == to - from => Ok((from, to)),
            Some(size) => Err(format!(
                "{name} of shape {:?} and type {} takes {size} bytes, and has {}",
                self.shape,
                self.dtype,
                to - from
            )),
            None => Err(format!("{name} of shape {:?} is larger than any file", self.shape)),
        }
    }
}

/// All entries without the metadata, including those of the same name.
struct Entries(Vec<(String, Entry)>);

impl<'de> Deserialize<'de> for Entries {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct All;
        impl<'de> Visitor<'de> for All {
            type Value = Entries;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object from names to tensors")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Entries, A::Error> {
                let mut entries = Vec::new();
                while let Some(name) = map.next_key::<String>()? {
                    if name == "__metadata__" {
                        map.next_value::<serde::de::IgnoredAny>()?;
                    } else {
                        entries.push((name, map.next_value()?));
                    }
                }
                Ok(Entries(entries))
            }
        }
        deserializer.deserialize_map(All)
    }
}
