use std::fmt;
use std::path::PathBuf;

use super::Renaming;

/// Differences between a file's tensors and a network's variables.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Mismatch {
    /// File.
    pub path: PathBuf,
    /// The network that the file's tensors are known to be of.
    pub found: Option<&'static str>,
    /// How the file's names were read.
    pub renaming: Renaming,
    /// Names of the network that the file lacks, sorted.
    pub missing: Vec<String>,
    /// Names of the file that the network lacks, sorted.
    pub unexpected: Vec<String>,
    /// Tensors of another shape, sorted.
    pub misshapen: Vec<Misshapen>,
    /// Tensors that are not of a floating-point type, sorted.
    pub mistyped: Vec<Mistyped>,
}

/// A tensor with another shape than the variable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Misshapen {
    /// Name.
    pub name: String,
    /// Shape of the variable.
    pub expected: Vec<usize>,
    /// Shape in the file.
    pub found: Vec<usize>,
}

/// A tensor that is not of a floating-point type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mistyped {
    /// Name.
    pub name: String,
    /// Type in the file.
    pub found: String,
}

impl Mismatch {
    pub(super) fn is_empty(&self) -> bool {
        self.is_about_types() && self.mistyped.is_empty()
    }

    /// Whether names and shapes agree.
    fn is_about_types(&self) -> bool {
        self.missing.is_empty() && self.unexpected.is_empty() && self.misshapen.is_empty()
    }
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.path.display();
        match self.found {
            _ if self.is_about_types() => write!(f, "{path} holds no floating-point weights")?,
            Some(found) => write!(f, "{path} holds another network's weights, {found}")?,
            None => write!(f, "{path} holds another network's weights")?,
        }
        let mut separator = ": ";
        for (what, names) in [("missing", &self.missing), ("unexpected", &self.unexpected)] {
            if let Some(first) = names.first() {
                write!(f, "{separator}{} {what} (first: {first})", names.len())?;
                separator = ", ";
            }
        }
        if let Some(m) = self.misshapen.first() {
            let (n, name) = (self.misshapen.len(), &m.name);
            write!(
                f,
                "{separator}{n} of another shape (first: {name}, expected {:?}, found {:?})",
                m.expected, m.found
            )?;
            separator = ", ";
        }
        if let Some(m) = self.mistyped.first() {
            let n = self.mistyped.len();
            write!(
                f,
                "{separator}{n} of another type (first: {}, expected F32, F16, BF16 or F64, found {})",
                m.name, m.found
            )?;
        }
        match self.renaming.is_none() {
            true => Ok(()),
            false => write!(f, "; {}", self.renaming),
        }
    }
}

/// Weights that are not numbers, or infinite.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotFinite {
    /// File.
    pub path: PathBuf,
    /// The tensors that hold such values, by name.
    pub tensors: Vec<NotFiniteTensor>,
}

/// A tensor that holds values which are no finite numbers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotFiniteTensor {
    /// Name.
    pub name: String,
    /// Values that are NaN.
    pub nan: usize,
    /// Values that are infinite.
    pub infinite: usize,
}

impl fmt::Display for NotFiniteTensor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} holds ", self.name)?;
        match (self.nan, self.infinite) {
            (nan, 0) => write!(f, "{nan} NaN"),
            (0, infinite) => write!(f, "{infinite} Inf"),
            (nan, infinite) => write!(f, "{nan} NaN and {infinite} Inf"),
        }
    }
}

impl fmt::Display for NotFinite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const SHOWN: usize = 3;
        write!(f, "{} cannot be used: ", self.path.display())?;
        for (i, tensor) in self.tensors.iter().take(SHOWN).enumerate() {
            write!(f, "{}{tensor}", if i > 0 { ", " } else { "" })?;
        }
        match self.tensors.len().saturating_sub(SHOWN) {
            0 => write!(f, "; the training that made the weights diverged, or the file is damaged"),
            more => write!(
                f,
                ", and {more} more tensors such values; the training that made the weights diverged, or the file is damaged"
            ),
        }
    }
}
