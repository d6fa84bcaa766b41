//! A guard around codecs, so that one file that breaks a codec is one error.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Once;

use super::failure::Failure;

thread_local! {
    /// Whether a panic of this thread is caught and reported as an error.
    static GUARDED: Cell<bool> = const { Cell::new(false) };
}

/// Runs a codec. Its panic becomes a failure, without a message on the terminal.
pub(super) fn guarded<T>(decode: impl FnOnce() -> Result<T, Failure>) -> Result<T, Failure> {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if !GUARDED.get() {
                before(info);
            }
        }));
    });
    let outer = GUARDED.replace(true);
    // What a codec leaves half done is dropped with it.
    let result = catch_unwind(AssertUnwindSafe(decode));
    GUARDED.set(outer);
    result.unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or(panic.downcast_ref::<&str>().copied()).unwrap_or("no reason given");
        Err(Failure::Undecodable(format!("the decoder broke off: {text}")))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_an_error_of_one_file() {
        let broken = guarded::<u8>(|| panic!("index out of bounds"));
        assert!(matches!(broken, Err(Failure::Undecodable(text)) if text.ends_with("index out of bounds")));
        assert!(matches!(guarded(|| Ok(3)), Ok(3)));
        assert!(!GUARDED.get());
    }
}
