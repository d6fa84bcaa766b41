use std::path::PathBuf;
use std::time::Duration;

/// Errors when fetching from the Hub. Each message names the address or the file, and says what helps.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HubError {
    /// The name of a repository, revision or file that can't be one.
    #[error("'{found}' is not the name of a hub {what}: {rule}")]
    Name {
        /// The kind of name.
        what: &'static str,
        /// The name.
        found: String,
        /// The form of such names.
        rule: &'static str,
    },
    /// The file is not in the cache, and the network may not be used.
    #[error("{file} of {repository} is not in {cache}, and the hub is switched off (HF_HUB_OFFLINE)", cache = cache.display())]
    Offline {
        /// The repository.
        repository: String,
        /// The file.
        file: String,
        /// The cache.
        cache: PathBuf,
    },
    /// A repository cannot be written without a token.
    #[error("writing to {repository} needs a token of the hub: set HF_TOKEN to one that may write")]
    Token {
        /// The repository.
        repository: String,
    },
    /// A repository cannot be written without the network.
    #[error("{repository} cannot be written: the hub is switched off (HF_HUB_OFFLINE)")]
    PushOffline {
        /// The repository.
        repository: String,
    },
    /// The host could not be reached.
    #[error("{url} can't be reached: {reason}")]
    Unreachable {
        /// The address.
        url: String,
        /// The cause.
        reason: String,
    },
    /// The host shows a certificate that nobody known vouches for, or that is not for it.
    #[error(
        "{url} shows a certificate that is not trusted here ({reason}); behind a company's proxy, or for a hub of one's own, set \
         SSL_CERT_FILE to the file of its certificate authority (PEM)"
    )]
    Certificate {
        /// The address.
        url: String,
        /// The cause.
        reason: String,
    },
    /// A file or folder of certificate authorities that cannot be used.
    #[error("the certificates of {path} cannot be used: {reason}", path = path.display())]
    Authorities {
        /// The file or folder.
        path: PathBuf,
        /// The cause.
        reason: String,
    },
    /// The connection was lost, or fell silent, again and again.
    #[error(
        "{url} broke off after {received} of {expected} bytes, {tries} times: {reason}; what has arrived is kept, and the \
         next try goes on from it",
        expected = expected.map_or("unknown".to_owned(), |n| n.to_string())
    )]
    BrokenOff {
        /// The address.
        url: String,
        /// Bytes that have arrived in all.
        received: u64,
        /// Bytes of the whole file, where the hub says.
        expected: Option<u64>,
        /// Tries in a row that brought next to nothing.
        tries: u32,
        /// The cause of the last failure.
        reason: String,
    },
    /// The hub wants a token, or other rights than the token has.
    #[error("{url} is not open to {who}: HTTP {status}{message}; accept the repository's terms on the hub if it asks for that, and set HF_TOKEN", who = if *with_token { "this token" } else { "callers without a token" })]
    Forbidden {
        /// The address.
        url: String,
        /// 401 or 403.
        status: u16,
        /// Whether a token was sent.
        with_token: bool,
        /// The Hub's message after a colon, or nothing.
        message: String,
    },
    /// There is no such repository, revision or file.
    #[error("there is no such {what}: {url}{message}")]
    NotFound {
        /// Which of the three.
        what: &'static str,
        /// The address.
        url: String,
        /// The Hub's message after a colon, or nothing.
        message: String,
    },
    /// The hub asks for patience, more than was granted.
    #[error("{url} asks to wait {} s before the next request: too many requests (HTTP 429)", wait.as_secs())]
    TooManyRequests {
        /// The address.
        url: String,
        /// The wait it asks for.
        wait: Duration,
    },
    /// Any other refusal.
    #[error("{url} answered HTTP {status}{message}")]
    Status {
        /// The address.
        url: String,
        /// The status.
        status: u16,
        /// Its message after a colon, or nothing.
        message: String,
    },
    /// The answer is not a hub's.
    #[error("{url} does not answer as a hub does: {reason}; is HF_ENDPOINT a hub or a mirror of one?")]
    NotAHub {
        /// The address.
        url: String,
        /// The missing or malformed part.
        reason: String,
    },
    /// The bytes are not those that they should be. They have been deleted.
    #[error(
        "{url} sent other bytes than it should: expected sha256 {expected}, found {found}; they were deleted"
    )]
    Checksum {
        /// The address.
        url: String,
        /// The hash that the registry or the hub states.
        expected: String,
        /// The hash of what arrived.
        found: String,
    },
    /// Another process has been fetching the same file for too long.
    #[error("another process is fetching this file: {lock} has been locked for {} s", waited.as_secs(), lock = lock.display())]
    Locked {
        /// The lock file.
        lock: PathBuf,
        /// The time waited.
        waited: Duration,
    },
    /// The cache could not be read or written.
    #[error("cannot {action} {path}: {source}", path = path.display())]
    Io {
        /// The action.
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
}

impl HubError {
    /// For `map_err`.
    pub(super) fn io(action: &'static str, path: &std::path::Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_path_buf();
        move |source| Self::Io { action, path, source }
    }

    /// Whether the network, rather than the request, is at fault.
    pub fn is_about_the_network(&self) -> bool {
        matches!(
            self,
            Self::Offline { .. }
                | Self::Unreachable { .. }
                | Self::Certificate { .. }
                | Self::BrokenOff { .. }
                | Self::TooManyRequests { .. }
                | Self::NotAHub { .. }
        ) || matches!(self, Self::Status { status, .. } if *status >= 500)
    }

    /// Whether the same call may succeed at another time: the network, the hub or another process was in the way.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Unreachable { .. }
            | Self::BrokenOff { .. }
            | Self::TooManyRequests { .. }
            | Self::Checksum { .. }
            | Self::Locked { .. } => true,
            Self::Status { status, .. } => *status >= 500,
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::HubError;

    #[test]
    fn what_may_succeed_later_is_told_from_what_will_not() {
        let status = |status| HubError::Status { url: "hub".to_owned(), status, message: String::new() };
        let unreachable = HubError::Unreachable { url: "hub".to_owned(), reason: "no route".to_owned() };
        assert!(unreachable.is_transient() && status(500).is_transient());
        let token = HubError::Token { repository: "owner/name".to_owned() };
        assert!(!token.is_transient() && !status(499).is_transient());
    }
}
