//! The cache's layout: hf-hub knows where things lie, this file puts them there.

use std::fs::{self, File};
use std::path::{Component, Path, PathBuf};
use std::time::{Duration, Instant};

use firstsight_data::files::{self, Draft, write_atomically};
use hf_hub::{Cache, CacheRepo, Repo};

use super::{HubError, is_commit};

/// A repository in the cache.
pub(super) struct CachedRepo {
    cache: PathBuf,
    folder: String,
    repo: CacheRepo,
}

impl CachedRepo {
    pub(super) fn new(cache: &Path, repo: Repo) -> Self {
        let folder = repo.folder_name();
        Self { cache: cache.to_path_buf(), folder, repo: Cache::new(cache.to_path_buf()).repo(repo) }
    }

    /// The file, if the cache holds it for that revision.
    pub(super) fn cached(&self, revision: &str, file: &str) -> Option<PathBuf> {
        if !is_commit(revision) {
            return self.repo.get(file);
        }
        Some(self.repo.pointer_path(revision).join(file)).filter(|path| path.exists())
    }

    pub(super) fn blob(&self, etag: &str) -> PathBuf {
        self.repo.blob_path(etag)
    }

    /// Keeps other processes, Python's too, from fetching the same blob, until the lock is dropped.
    pub(super) fn lock(&self, etag: &str, patience: Duration) -> Result<File, HubError> {
        let path = self.cache.join(".locks").join(&self.folder).join(format!("{etag}.lock"));
        create_parent(&path)?;
        let mut options = File::options();
        let lock = options.create(true).truncate(false).write(true).open(&path);
        let lock = lock.map_err(HubError::io("open", &path))?;
        let started = Instant::now();
        loop {
            match lock.try_lock() {
                Ok(()) => return Ok(lock),
                Err(fs::TryLockError::Error(source)) if source.kind() == std::io::ErrorKind::Unsupported => {
                    return Ok(lock);
                }
                Err(fs::TryLockError::Error(source)) => {
                    return Err(HubError::Io { action: "lock", path, source });
                }
                Err(fs::TryLockError::WouldBlock) if started.elapsed() >= patience => {
                    return Err(HubError::Locked { lock: path, waited: started.elapsed() });
                }
                Err(fs::TryLockError::WouldBlock) => std::thread::sleep(Duration::from_millis(100)),
            }
        }
    }

    /// Makes the snapshot's link to the blob, then the reference from the revision to the commit.
    pub(super) fn publish(
        &self,
        blob: &Path,
        revision: &str,
        commit: &str,
        file: &str,
    ) -> Result<PathBuf, HubError> {
        let pointer = self.repo.pointer_path(commit).join(file);
        create_parent(&pointer)?;
        if !pointer.exists() {
            link(blob, &pointer)?;
        }
        if revision != commit {
            let reference = self.cache.join(&self.folder).join("refs").join(revision);
            create_parent(&reference)?;
            // Not written anew for each file, since what is killed meanwhile leaves a draft that only the next one to write would remove.
            if fs::read(&reference).ok().as_deref() != Some(commit.as_bytes()) {
                write_atomically(&reference, commit.as_bytes()).map_err(HubError::io("write", &reference))?;
            }
        }
        Ok(pointer)
    }
}

pub(super) fn create_parent(path: &Path) -> Result<(), HubError> {
    let Some(folder) = path.parent() else { return Ok(()) };
    fs::create_dir_all(folder).map_err(HubError::io("create", folder))
}

/// A relative symbolic link to the blob; a copy where the file system has no links.
fn link(blob: &Path, pointer: &Path) -> Result<(), HubError> {
    if files::link(&relative(blob, pointer), pointer).is_ok() {
        return Ok(());
    }
    let copy = || {
        let mut draft = Draft::create(pointer)?;
        std::io::copy(&mut File::open(blob)?, &mut draft)?;
        draft.commit().map(drop)
    };
    copy().map_err(HubError::io("write", pointer))
}

/// `target` as seen from the folder that `link` lies in; both share a root.
fn relative(target: &Path, link: &Path) -> PathBuf {
    let (target, link): (Vec<Component<'_>>, Vec<Component<'_>>) =
        (target.components().collect(), link.components().collect());
    let common = target.iter().zip(&link).take_while(|(a, b)| a == b).count();
    let up = link.len().saturating_sub(common + 1);
    std::iter::repeat_n(Component::ParentDir, up).chain(target[common..].iter().copied()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_are_relative_as_pythons_are() {
        let blob = Path::new("/c/models--a--b/blobs/12ab");
        for (pointer, expected) in [
            ("/c/models--a--b/snapshots/f0/config.json", "../../blobs/12ab"),
            ("/c/models--a--b/snapshots/f0/onnx/model.onnx", "../../../blobs/12ab"),
        ] {
            assert_eq!(relative(blob, Path::new(pointer)), Path::new(expected));
        }
    }
}
