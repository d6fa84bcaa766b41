//! Files that people take for weights and that are none, known by their first bytes.

use std::fmt;
use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};

/// Bytes of the beginning that are looked at.
const HEAD: u64 = 4096;
/// Bytes of the end that are looked at: a zip file lists its members there.
const TAIL: u64 = 1 << 16;

/// A file that is no safetensors file, with what it is and how to get weights from it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ForeignFile {
    /// The file.
    pub path: PathBuf,
    /// What it is, such as `a PyTorch file (a pickle)`.
    pub kind: &'static str,
    /// How to get weights from it.
    pub way_out: WayOut,
}

/// How to get weights from a file that is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WayOut {
    /// A line of Python that writes its tensors as safetensors.
    Convert,
    /// `git lfs pull` in its folder.
    GitLfs,
    /// Another download.
    Download,
    /// Another tool that unpacks it.
    Unpack(&'static str),
    /// None: the same network is published in safetensors elsewhere.
    Elsewhere,
    /// A sentence.
    Say(&'static str),
}

/// Converts what `torch.save` wrote. It reads no code from the file (`weights_only`), finds the tensors where trainings put
/// them, and gives each its own memory, as safetensors wants it.
const CONVERT: &str = "import sys, torch; from safetensors.torch import save_file; \
    d = torch.load(sys.argv[1], map_location='cpu', weights_only=True); \
    d = next((d[k] for k in ('state_dict', 'model_state_dict', 'model', 'net') if k in d), d); \
    save_file({k: v.contiguous().clone() for k, v in d.items() if hasattr(v, 'clone')}, sys.argv[2])";

const NUMPY: &str = "write its arrays with safetensors.numpy.save_file, under the network's names";

impl ForeignFile {
    /// What the file is, if it is known and no safetensors file. A file that cannot be read is not known.
    pub fn recognize(path: &Path) -> Option<Self> {
        let mut file = File::open(path).ok()?;
        let (mut head, mut tail) = (Vec::new(), Vec::new());
        file.by_ref().take(HEAD).read_to_end(&mut head).ok()?;
        let length = file.metadata().ok()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(TAIL))).ok()?;
        file.take(TAIL).read_to_end(&mut tail).ok()?;
        let (kind, way_out) = kind(&head, &tail)?;
        Some(Self { path: path.to_path_buf(), kind, way_out })
    }
}

fn kind(head: &[u8], tail: &[u8]) -> Option<(&'static str, WayOut)> {
    // After the header's length, a safetensors file goes on with JSON.
    if head.get(8) == Some(&b'{') {
        return None;
    }
    let begins = |with: &[u8]| head.starts_with(with);
    let at = |place: usize, with: &[u8]| head.get(place..).is_some_and(|rest| rest.starts_with(with));
    let text = head.trim_ascii_start();
    let text = text.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(text).trim_ascii_start();
    let opens = |with: &str| text.get(..with.len()).is_some_and(|t| t.eq_ignore_ascii_case(with.as_bytes()));
    Some(match head {
        [] => ("an empty file", WayOut::Download),
        _ if begins(b"version https://git-lfs.github.com/spec/") => {
            ("a Git LFS pointer, which stands for the file", WayOut::GitLfs)
        }
        _ if ["<!doctype", "<html", "<head", "<?xml"].iter().any(|start| opens(start)) => {
            ("a web page, perhaps of a login or an error", WayOut::Download)
        }
        _ if is_text(head) && (opens("{") || opens("[")) => ("a JSON document", WayOut::Download),
        _ if begins(b"PK\x03\x04") => zip(head, tail),
        // The protocol, then an operation that begins a file: a frame, a number, a name, a container.
        [0x80, 2..=5, 0x95 | 0x8A | 0x8C | b'c' | b'}' | b']' | b'(', ..] => {
            ("a PyTorch file (a pickle)", WayOut::Convert)
        }
        _ if begins(b"\x89HDF\r\n\x1A\n") => ("a Keras file (HDF5)", WayOut::Elsewhere),
        _ if begins(b"\x93NUMPY") => ("a NumPy array", WayOut::Say(NUMPY)),
        _ if begins(b"\x1F\x8B") => ("compressed with gzip", WayOut::Unpack("gunzip")),
        _ if begins(b"\x28\xB5\x2F\xFD") => ("compressed with zstd", WayOut::Unpack("unzstd")),
        _ if begins(b"\xFD7zXZ\0") => ("compressed with xz", WayOut::Unpack("unxz")),
        _ if begins(b"BZh") => ("compressed with bzip2", WayOut::Unpack("bunzip2")),
        _ if begins(b"7z\xBC\xAF\x27\x1C") => ("a 7-Zip archive", WayOut::Unpack("7z x")),
        _ if begins(b"Rar!") => ("a RAR archive", WayOut::Unpack("unrar x")),
        _ if at(257, b"ustar") => ("a tar archive", WayOut::Unpack("tar -xf")),
        _ if begins(b"GGUF") => ("a GGUF file", WayOut::Elsewhere),
        _ if at(4, b"TFL3") => ("a TensorFlow Lite file", WayOut::Elsewhere),
        // An ONNX file is a protobuf message: field 1 is a small number, field 2 the producer's name.
        [0x08, 1..=30, 0x12, ..] => ("an ONNX file", WayOut::Elsewhere),
        _ if head.len() > 8 && is_text(head) => ("a text file", WayOut::Download),
        _ => return None,
    })
}

fn is_text(bytes: &[u8]) -> bool {
    let whole = match std::str::from_utf8(bytes) {
        Ok(text) => text,
        // The last character may be cut.
        Err(e) if e.valid_up_to() + 4 > bytes.len() => return is_text(&bytes[..e.valid_up_to()]),
        Err(_) => return false,
    };
    whole.chars().all(|c| !c.is_control() || c.is_ascii_whitespace())
}

/// What a zip file is, by the names in it.
fn zip(head: &[u8], tail: &[u8]) -> (&'static str, WayOut) {
    let holds = |name: &[u8]| [head, tail].iter().any(|part| part.windows(name.len()).any(|w| w == name));
    if holds(b"constants.pkl") {
        return ("a TorchScript file", WayOut::Say("save the module's state_dict() as safetensors"));
    }
    if holds(b"data.pkl") {
        return ("a PyTorch file (a pickle)", WayOut::Convert);
    }
    if holds(b"model.weights.h5") {
        return ("a Keras file (.keras)", WayOut::Elsewhere);
    }
    if holds(b".npy") {
        return ("a NumPy archive", WayOut::Say(NUMPY));
    }
    ("a zip archive", WayOut::Unpack("unzip"))
}

impl fmt::Display for ForeignFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.path.display();
        write!(f, "{path} is {}, and weights are read from safetensors files alone: ", self.kind)?;
        match self.way_out {
            WayOut::Convert => {
                write!(
                    f,
                    "convert it: python -c \"{CONVERT}\" \"{path}\" \"{}\"",
                    self.path.with_extension("safetensors").display()
                )
            }
            WayOut::GitLfs => {
                let folder = self.path.parent().filter(|folder| !folder.as_os_str().is_empty());
                write!(f, "run `git lfs pull` in {}", folder.unwrap_or(Path::new(".")).display())
            }
            WayOut::Download => f.write_str(
                "download it again; on the hub the file's own address has /resolve/, its page's has /blob/",
            ),
            WayOut::Unpack(tool) => write!(f, "unpack it first ({tool})"),
            WayOut::Elsewhere => f.write_str(
                "its names and layouts are other ones; the hub's timm organization publishes the networks in safetensors",
            ),
            WayOut::Say(sentence) => f.write_str(sentence),
        }
    }
}
